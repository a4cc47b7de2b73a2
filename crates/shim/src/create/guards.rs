//! What `Create` has made so far, each part held by something that takes it away again unless all went well.

use std::path::{Path, PathBuf};

use containerd_shim_protos::api::CreateTaskRequest;
use skiff_sandbox::cgroup::{Cgroup, CgroupPlan, Layout};

use super::CreateError;
use crate::leftovers::{self, Leftover};
use crate::pod::Pod;
use crate::runc::Runc;

/// What is written down before it is made; see [`leftovers`].
pub(super) struct Notes {
    bundles: Vec<PathBuf>,
    id: String,
    keep: bool,
}

/// Who makes the cgroup.
#[derive(Clone, Copy)]
pub(super) enum Maker<'a> {
    Shim(&'a Layout),
    Runc(&'a Runc),
}

impl Notes {
    pub(super) fn write(
        pod: &Pod,
        request: &CreateTaskRequest,
        bundle: &Path,
        cgroup: &str,
        maker: Maker<'_>,
    ) -> Result<Self, CreateError> {
        let mut bundles = vec![bundle.to_owned()];
        // A container that joined the pod of another bundle.
        if pod.bundle != bundle {
            bundles.push(pod.bundle.clone());
        }
        let notes = Self {
            bundles,
            id: request.id.clone(),
            keep: false,
        };
        let (above, runc) = match maker {
            Maker::Shim(layout) => {
                let cgroup = Cgroup::open(cgroup, layout).map_err(CreateError::Cgroup)?;
                (cgroup.missing_above(), None)
            }
            Maker::Runc(runc) => (Vec::new(), Some(runc.clone())),
        };
        let leftover = Leftover {
            bundle: bundle.to_owned(),
            cgroup: cgroup.to_owned(),
            above,
            runc,
        };
        for bundle in &notes.bundles {
            leftovers::remember(bundle, &request.id, &leftover).map_err(|source| {
                CreateError::Bundle {
                    path: bundle.clone(),
                    source,
                }
            })?;
        }
        Ok(notes)
    }

    pub(super) fn keep(mut self) {
        self.keep = true;
    }
}

impl Drop for Notes {
    fn drop(&mut self) {
        if !self.keep {
            for bundle in &self.bundles {
                leftovers::forget(bundle, &self.id);
            }
        }
    }
}

/// A cgroup that goes away unless it is kept.
pub(super) struct CgroupGuard {
    pub(super) cgroup: Cgroup,
    keep: bool,
}

impl CgroupGuard {
    /// `first` is a process to make a scope of systemd for.
    pub(super) fn create(
        plan: &CgroupPlan,
        layout: &Layout,
        first: Option<u32>,
    ) -> Result<Self, CreateError> {
        let cgroup = Cgroup::create_with(plan, layout, first).map_err(CreateError::Cgroup)?;
        Ok(Self {
            cgroup,
            keep: false,
        })
    }

    pub(super) fn keep(mut self) -> Cgroup {
        self.keep = true;
        self.cgroup.clone()
    }
}

impl Drop for CgroupGuard {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = self.cgroup.kill().and_then(|()| self.cgroup.remove())
        {
            log::warn!("could not remove the cgroup of a container that was not created: {error}");
        }
    }
}
