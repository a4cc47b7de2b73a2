//! What runc leaves to the shim: the first processes of containers, and what loses its parent on the node.
//!
//! Made with the first Linux container of a pod. From then on the shim is told of each child's end, and reaps those
//! that nobody waits for.

use std::os::fd::BorrowedFd;

use skiff_sandbox::orphans;
use tokio::task::AbortHandle;

use super::RuncError;
use crate::sys::{child_bell, watch_readable};

/// The watch over orphans.
#[derive(Debug)]
pub(crate) struct Orphans {
    bell: BorrowedFd<'static>,
    watch: AbortHandle,
}

/// While this lives, the first process of a container may be on its way to the shim, and no orphan is reaped.
#[derive(Debug)]
pub(super) struct Hold {
    hold: Option<orphans::Hold>,
    bell: BorrowedFd<'static>,
}

impl Orphans {
    /// Begins.
    ///
    /// # Errors
    /// The kernel cannot tell the children of a process, or the event loop has no room.
    pub(crate) fn adopt() -> Result<Self, RuncError> {
        let failed = || RuncError::io("take over the processes of Linux containers");
        let bell = child_bell().map_err(failed())?;
        let watched = watch_readable(bell).map_err(failed())?;
        orphans::adopt().map_err(failed())?;
        let watch = tokio::spawn(async move {
            while let Ok(mut rung) = watched.readable().await {
                let mut number = [0; 8];
                // Reading makes it wait for the next ring; who cannot read it has done so.
                let _: Option<usize> = rustix::io::read(bell, &mut number).ok();
                rung.clear_ready();
                match orphans::reap() {
                    Ok(0) => {}
                    Ok(count) => log::debug!("reaped {count} orphans"),
                    Err(error) => log::warn!("could not look for orphans: {error}"),
                }
            }
        });
        Ok(Self {
            bell,
            watch: watch.abort_handle(),
        })
    }

    /// Nothing is reaped until a process is claimed, or is known not to come.
    pub(super) fn hold(&self) -> Hold {
        Hold {
            hold: Some(orphans::hold()),
            bell: self.bell,
        }
    }
}

impl Drop for Orphans {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl Hold {
    /// A process that the shim waits for.
    pub(super) fn claim(&self, pid: u32) {
        if let Some(hold) = &self.hold {
            hold.claim(pid);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        drop(self.hold.take());
        // Who ended meanwhile.
        if let Err(error) = rustix::io::write(self.bell, &1_u64.to_ne_bytes()) {
            log::debug!("could not look for orphans: {error}");
        }
    }
}
