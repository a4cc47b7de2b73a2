//! `skiff doctor`: facts about a node and one [`Finding`] for each thing that Skiff needs of it.
//!
//! Every area is a module with a `Facts` struct, a `gather` that fills it and a pure `judge` that turns
//! it into findings. The command line prints what [`examine`] returns.

pub mod cache;
pub mod cgroups;
pub mod containerd;
pub mod cri;
pub mod kernel;
pub mod mounts;
pub mod privileges;
pub(crate) mod probe;
pub mod shims;
#[expect(
    unsafe_code,
    reason = "raw system calls that no safe wrapper offers, made with arguments that the kernel refuses"
)]
mod sys;

use std::path::PathBuf;

use serde::Serialize;

/// How a thing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Containers run, but something is worse than it could be, or could not be looked at.
    Warn,
    /// Containers do not run, or some of them do not.
    Fail,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Stable name, for scripts: `kernel.openat2`, `containerd.version`.
    pub id: String,
    /// How it stands.
    pub status: Status,
    /// What was found: half a sentence, begins with the thing it is about.
    pub finding: String,
    /// What to do. Always there when the status is not [`Status::Ok`].
    pub next_step: Option<String>,
}

impl Finding {
    pub(crate) fn ok(id: impl Into<String>, finding: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            status: Status::Ok,
            finding: finding.into(),
            next_step: None,
        }
    }

    pub(crate) fn warn(
        id: impl Into<String>,
        finding: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self {
            id: id.into(),
            status: Status::Warn,
            finding: finding.into(),
            next_step: Some(next.into()),
        }
    }

    pub(crate) fn fail(
        id: impl Into<String>,
        finding: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self {
            id: id.into(),
            status: Status::Fail,
            finding: finding.into(),
            next_step: Some(next.into()),
        }
    }
}

/// Where to look.
#[derive(Clone, Debug)]
pub struct Subject {
    /// containerd's socket.
    pub address: PathBuf,
    /// The cache's folder for want of a containerd whose environment says it.
    pub cache: Option<PathBuf>,
}

/// Looks at everything and judges it. Takes well under a second on a healthy node; a containerd that
/// hangs is given five seconds.
pub fn examine(subject: &Subject) -> Vec<Finding> {
    let kernel = kernel::gather();
    let cgroups = cgroups::gather();
    let containerd = containerd::gather(&subject.address);
    let cri = containerd.process().map(cri::gather);
    let config = cri.as_ref().and_then(|cri| cri.config.as_ref().ok());
    let shims = containerd
        .process()
        .and_then(|process| shims::gather(process, config));
    let cache = cache::gather(&cache::place(
        subject.cache.as_deref(),
        containerd.process(),
    ));

    let mut findings = kernel::judge(&kernel);
    findings.extend(cgroups::judge(&cgroups, config));
    findings.extend(containerd::judge(&containerd));
    findings.extend(privileges::judge(&privileges::Facts {
        containerd: containerd
            .process()
            .and_then(|process| process.capabilities),
        restrict_oom_score_adj: config.map(|config| config.restrict_oom_score_adj),
        kubelet: cri.as_ref().is_some_and(|cri| cri.kubelet),
        own: privileges::own(),
    }));
    if let Some(cri) = &cri {
        findings.extend(cri::judge(cri, containerd.version()));
    }
    if let Some(shims) = &shims {
        findings.extend(shims::judge(shims));
    }
    let run = mounts::run_directory(containerd.process());
    findings.extend(mounts::judge(&mounts::gather(&run)));
    findings.extend(cache::judge(&cache));
    if privileges::may_mount() {
        findings
    } else {
        without_privileges(findings)
    }
}

/// A command without privileges is told so once, and not again for each thing that it could not try.
fn without_privileges(mut findings: Vec<Finding>) -> Vec<Finding> {
    let before = findings.len();
    findings.retain(|finding| finding.next_step.as_deref() != Some(RUN_AS_ROOT));
    let untried = before - findings.len();
    findings.insert(
        0,
        Finding::warn(
            "privileges.self",
            format!("this command lacks CAP_SYS_ADMIN; {untried} checks could not be made"),
            RUN_AS_ROOT,
        ),
    );
    findings
}

/// The cure of everything that could not be looked at for want of privileges.
const RUN_AS_ROOT: &str = "run doctor as root on the node itself, outside of any container";

/// An error and its causes as one sentence.
pub fn sentence(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |sentence, cause| {
        format!("{sentence}: {cause}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn want_of_privileges_is_told_once() {
        let findings = vec![
            Finding::ok("a", "a"),
            Finding::warn("b", "b", RUN_AS_ROOT),
            Finding::warn("c", "c", RUN_AS_ROOT),
            Finding::fail("d", "d", "mend it"),
        ];
        let findings = without_privileges(findings);
        let ids: Vec<&str> = findings.iter().map(|finding| finding.id.as_str()).collect();
        assert_eq!(ids, ["privileges.self", "a", "d"]);
        assert!(findings[0].finding.contains("2 checks"), "{findings:?}");
    }

    #[test]
    fn whatever_is_wrong_has_a_next_step() {
        let nowhere = tempfile::tempdir().unwrap();
        let subject = Subject {
            address: nowhere.path().join("no.sock"),
            cache: Some(nowhere.path().join("cache")),
        };
        let findings = examine(&subject);
        assert!(
            findings
                .iter()
                .any(|finding| finding.status == Status::Fail),
            "no containerd must be a failure"
        );
        for finding in findings {
            assert_eq!(
                finding.status == Status::Ok,
                finding.next_step.is_none(),
                "{finding:?}"
            );
            assert!(!finding.finding.ends_with('.'), "{finding:?}");
        }
    }
}
