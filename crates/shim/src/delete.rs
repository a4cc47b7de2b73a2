//! `delete`: cleans up after a shim, and says how its task ended.
//!
//! containerd runs it when the connection to a shim has ended, be it that the shim was done (nothing is
//! left then, and this must be fast) or that it died. It acts on what the shim wrote down in the bundle
//! and on nothing else, and twice is the same as once.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::protobuf::{Message, MessageField};
use rustix::fs::{AtFlags, StatxAttributes, StatxFlags};
use rustix::mount::UnmountFlags;
use skiff_engine::compile::CacheSettings;
use skiff_sandbox::cgroup::{Cgroup, Layout};
use skiff_sandbox::sys::process;

use crate::command_line::Flags;
use crate::exit_record::{Exit, KILLED};
use crate::leftovers::{self, Leftover};
use crate::start::ADDRESS_FILE;
use crate::{runc, serve, socket, status};

/// Mounts over mounts at one place are taken down so often at most.
const DEEPEST_MOUNTS: usize = 16;
/// How long the container's own shim may take to end by itself, and then by being killed.
const SHIM_PATIENCE: Duration = Duration::from_secs(1);
/// How often is looked for the socket of a shim that has ended, 10 ms each.
const SOCKET_LOOKS: usize = 50;

/// Why nothing was deleted.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// No id.
    #[error("containerd did not say which container: -id is needed")]
    NoId,
    /// The bundle.
    #[error("could not find the bundle")]
    Bundle(#[source] io::Error),
    /// A bundle of something else.
    #[error("{} is not the bundle of container {id}", path.display())]
    Stranger {
        /// The directory.
        path: PathBuf,
        /// The container.
        id: String,
    },
}

/// Carries out `delete`. Gives what to print. What cannot be removed is a warning in the log: containerd
/// needs the exit code all the same.
///
/// # Errors
/// See [`DeleteError`].
pub fn delete(flags: &Flags) -> Result<Vec<u8>, DeleteError> {
    if flags.id.is_empty() {
        return Err(DeleteError::NoId);
    }
    let bundle = serve::bundle_of(flags).map_err(DeleteError::Bundle)?;
    // containerd names a bundle after its container.
    if bundle
        .file_name()
        .is_none_or(|name| name != flags.id.as_str())
    {
        return Err(DeleteError::Stranger {
            path: bundle,
            id: flags.id.clone(),
        });
    }
    let notes = leftovers::all(&bundle);
    let alone = notes.iter().all(|(id, _)| *id == flags.id);
    let served = end_shim(flags, &bundle, alone);
    let mut was_there = false;
    for (id, leftover) in notes {
        // The notes of other containers are in the bundle of the shim that serves them, which may be alive.
        if id == flags.id || !served {
            was_there |= id == flags.id;
            clean_up(&bundle, &id, &leftover);
            if leftover.bundle != bundle {
                unmount(&leftover.bundle.join("rootfs"));
            }
        }
    }
    unmount(&bundle.join("rootfs"));
    // It may have died while a module was compiled for it.
    skiff_engine::compile::sweep(&CacheSettings::from_environment());
    let exit = Exit::read(&bundle).unwrap_or_else(|| {
        let exit = Exit::now(0, KILLED);
        // Asked again, the answer is the same.
        if was_there && let Err(error) = exit.write(&bundle) {
            log::warn!(
                "could not write the exit record of container {}: {error}",
                flags.id
            );
        }
        exit
    });
    let mut response = DeleteResponse::new();
    response.pid = exit.pid;
    response.exit_status = exit.code.into();
    response.exited_at = MessageField::some(exit.timestamp());
    Ok(response
        .write_to_bytes()
        .expect("a message without required fields can always be written"))
}

/// Sees to it that the shim of this container is gone, with its socket, if this is the last container that
/// it has (`alone`). `true` if it is there, and serves others.
fn end_shim(flags: &Flags, bundle: &Path, alone: bool) -> bool {
    let Ok(address) = fs::read_to_string(bundle.join(ADDRESS_FILE)) else {
        return false;
    };
    let path = Path::new(address.strip_prefix("unix://").unwrap_or(&address));
    // Only a name that `start` makes is ours to touch.
    let name = path.file_name().and_then(|name| name.to_str());
    let made_by_start =
        |name: &str| name.len() == 32 && name.bytes().all(|b| b.is_ascii_hexdigit());
    if !path.is_absolute() || !name.is_some_and(made_by_start) {
        return false;
    }
    let served = if socket::is_of(path, &flags.address, &flags.namespace, &flags.id) {
        !wait_for_shim(path, alone)
    } else {
        socket::server(path).is_ok_and(|server| server.is_some())
    };
    for _ in 0..SOCKET_LOOKS {
        if let Err(error) = socket::remove_dead(path) {
            log::warn!("{}", status::chain(&error));
        }
        // A process that the shim was just starting has its descriptors until it has become its program.
        if served || !path.exists() {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    served
}

/// containerd has no connection to the container's own shim any more. It is about to end, which is waited
/// for; or it hangs, which is ended; or it goes on for the other containers of a pod whose sandbox alone
/// is deleted. `false` if it is still there.
fn wait_for_shim(path: &Path, alone: bool) -> bool {
    let Some(shim) = shim_at(path) else {
        return matches!(socket::server(path), Ok(None));
    };
    let ended = || process::wait_readable(shim.as_fd(), Some(SHIM_PATIENCE)).unwrap_or(false);
    // One that has let its socket go is only telling containerd its last events.
    if ended() || matches!(socket::server(path), Ok(None)) {
        return true;
    }
    if !alone {
        return false;
    }
    log::warn!("the shim of this container does not end: it is killed");
    if let Err(error) = process::send_signal(shim.as_fd(), libc::SIGKILL) {
        log::warn!("could not kill the shim: {error}");
    }
    ended()
}

/// The process that serves at `path`.
fn shim_at(path: &Path) -> Option<OwnedFd> {
    let start = Instant::now();
    while start.elapsed() < SHIM_PATIENCE {
        // Not asked more often than its queue of connections can bear.
        match socket::server(path) {
            Ok(None) => return None,
            Ok(Some(pid)) => {
                // It has this number as long as it serves, and it serves still: the descriptor is its.
                if let Ok(pidfd) = process::open_pidfd(pid)
                    && matches!(socket::server(path), Ok(Some(now)) if now == pid)
                {
                    return Some(pidfd);
                }
            }
            Err(error) => {
                log::warn!("{}", status::chain(&error));
                return None;
            }
        }
        // A daemon that has yet to make the socket its own, or one that is just going.
        thread::sleep(Duration::from_millis(20));
    }
    None
}

/// The container's processes are gone with the shim, or are killed now; its cgroup goes.
fn clean_up(bundle: &Path, id: &str, leftover: &Leftover) {
    if let Some(runc) = &leftover.runc {
        runc::remove(id, runc);
    }
    let removed = Layout::of_node()
        .and_then(|layout| Cgroup::open(&leftover.cgroup, layout))
        .and_then(|cgroup| {
            cgroup.kill().and_then(|()| cgroup.remove())?;
            cgroup.remove_above(&leftover.above);
            Ok(())
        });
    if let Err(error) = removed {
        log::warn!("container {id}: {}", status::chain(&error));
        return;
    }
    leftovers::forget(bundle, id);
}

/// Takes down what is mounted at `path`. Without symlinks: the bundle is ours, but cheap to be sure.
fn unmount(path: &Path) {
    for _ in 0..DEEPEST_MOUNTS {
        if !is_mount(path) {
            return;
        }
        if let Err(error) =
            rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
        {
            log::warn!("could not unmount {}: {error}", path.display());
            return;
        }
    }
}

fn is_mount(path: &Path) -> bool {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    rustix::fs::statx(rustix::fs::CWD, path, flags, StatxFlags::TYPE)
        .is_ok_and(|stat| stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use skiff_engine::exit::EarlyRecord;

    use super::*;
    use crate::exit_record::EARLY_FILE;

    fn run(bundle: &Path, id: &str) -> Result<DeleteResponse, DeleteError> {
        let arguments = ["-id", id, "-bundle", bundle.to_str().unwrap(), "delete"];
        let flags = Flags::parse(arguments.iter().map(OsString::from)).unwrap();
        delete(&flags).map(|bytes| DeleteResponse::parse_from_bytes(&bytes).unwrap())
    }

    #[test]
    fn the_code_comes_from_the_best_record() {
        let directory = tempfile::tempdir().unwrap();
        let bundle = directory.path().join("c");
        fs::create_dir(&bundle).unwrap();
        let response = run(&bundle, "c").unwrap();
        assert_eq!(response.exit_status, 137);
        assert!(response.exited_at.seconds > 0);
        fs::write(
            bundle.join(EARLY_FILE),
            EarlyRecord {
                code: 9,
                unix_nanos: 1_000_000_000,
            }
            .encode(),
        )
        .unwrap();
        assert_eq!(run(&bundle, "c").unwrap().exit_status, 9);
        Exit {
            pid: 8,
            code: 7,
            unix_nanos: 2_000_000_003,
        }
        .write(&bundle)
        .unwrap();
        for _ in 0..2 {
            let response = run(&bundle, "c").unwrap();
            assert_eq!((response.pid, response.exit_status), (8, 7));
            assert_eq!(
                (response.exited_at.seconds, response.exited_at.nanos),
                (2, 3)
            );
        }
    }

    #[test]
    fn only_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let bundle = directory.path().join("c");
        fs::create_dir(&bundle).unwrap();
        assert!(matches!(
            run(&bundle, "d"),
            Err(DeleteError::Stranger { .. })
        ));
        assert!(matches!(run(&bundle, ""), Err(DeleteError::NoId)));
        // An address that no start wrote is left alone.
        let other = directory.path().join("other.sock");
        drop(std::os::unix::net::UnixListener::bind(&other).unwrap());
        fs::write(
            bundle.join(ADDRESS_FILE),
            format!("unix://{}", other.display()),
        )
        .unwrap();
        run(&bundle, "c").unwrap();
        assert!(other.exists());
        // One that a start wrote, dead, goes.
        let own = directory.path().join("0123456789abcdef0123456789abcdef");
        drop(std::os::unix::net::UnixListener::bind(&own).unwrap());
        fs::write(
            bundle.join(ADDRESS_FILE),
            format!("unix://{}", own.display()),
        )
        .unwrap();
        run(&bundle, "c").unwrap();
        assert!(!own.exists());
    }

    #[test]
    fn a_cgroup_that_is_left_goes() {
        // Needs root, as all of this.
        let Ok(layout) = Layout::of_node() else {
            return;
        };
        let directory = tempfile::tempdir().unwrap();
        let bundle = directory.path().join("c");
        fs::create_dir(&bundle).unwrap();
        let path = format!("/skiff-delete-test-{}", std::process::id());
        let plan = skiff_sandbox::cgroup::CgroupPlan::new(&path);
        let cgroup = Cgroup::create(&plan, layout).unwrap();
        let leftover = Leftover {
            bundle: bundle.clone(),
            cgroup: path.clone(),
            above: Vec::new(),
            runc: None,
        };
        leftovers::remember(&bundle, "c", &leftover).unwrap();
        run(&bundle, "c").unwrap();
        assert!(cgroup.tasks().is_err(), "the directories are gone");
        assert!(leftovers::all(&bundle).is_empty());
        run(&bundle, "c").unwrap();
    }
}
