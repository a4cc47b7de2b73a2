//! The node's `runc`, which runs the Linux containers of a pod beside its Wasm containers.
//!
//! [`Runc`] calls it, as containerd's own shim for runc does: the same state directory, the same arguments, its errors
//! out of its log. [`container`] makes a container with it, and the rest of the shim treats that like any other task:
//! its first process is waited for by pidfd, its cgroup, which runc has made, is measured, frozen and watched. Nothing
//! here is touched in a pod without Linux containers.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use call::RuncError;
use call::{Call, Log, Streams};

mod call;
mod console;
mod container;
mod exec;
mod features;
mod options;
mod orphans;

pub(crate) use container::{Wanted, create, own_pids, remove};
pub(crate) use exec::start as start_exec;
pub use features::features;
pub use options::RuncOptions;
pub(crate) use orphans::Orphans;

/// Where runc keeps the state of containers, in a directory for each namespace of containerd's. The same place as that
/// of containerd's own shim, so that `runc --root … list` shows all containers of a node.
const ROOT: &str = "/run/containerd/runc";
/// The executable's name, if the options name none.
const NAME: &str = "runc";
/// runc's log, in the container's bundle.
const LOG: &str = "log.json";

/// How runc is called for one container. Written down in the bundle, for `delete` after a crash of the shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runc {
    /// The executable.
    program: PathBuf,
    /// Its state directory.
    root: PathBuf,
    /// Cgroups are made by systemd.
    #[serde(default)]
    systemd_cgroup: bool,
    /// User and group of the streams of its containers; 0 and 0 leaves them as they are.
    #[serde(default)]
    owner: (u32, u32),
    /// Its log.
    log: PathBuf,
}

/// What `runc create` is told besides the bundle.
#[derive(Clone, Copy, Debug)]
struct Create<'a> {
    bundle: &'a Path,
    pid_file: &'a Path,
    console: Option<&'a Path>,
    options: &'a RuncOptions,
}

/// What `runc exec` is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exec<'a> {
    /// The `process` of an OCI spec, as a file.
    pub(crate) process: &'a Path,
    /// Where the number of its process goes.
    pub(crate) pid_file: &'a Path,
    /// A socket for the terminal.
    pub(crate) console: Option<&'a Path>,
    /// A log of its own: several may run at a time.
    pub(crate) log: &'a Path,
}

impl Runc {
    /// The runc of a handler's options, for the container of a bundle.
    ///
    /// # Errors
    /// It is not installed.
    pub(crate) fn find(
        options: &RuncOptions,
        systemd_cgroup: bool,
        namespace: &str,
        bundle: &Path,
    ) -> Result<Self, RuncError> {
        let root = if options.root.is_empty() {
            ROOT
        } else {
            &options.root
        };
        Ok(Self {
            program: program(&options.binary_name)?,
            root: Path::new(root).join(namespace),
            systemd_cgroup,
            owner: (options.io_uid, options.io_gid),
            log: bundle.join(LOG),
        })
    }

    /// Creates a container, whose first process waits for `start`. Its streams are those of the container.
    async fn create(
        &self,
        id: &str,
        create: Create<'_>,
        stdio: [BorrowedFd<'_>; 3],
    ) -> Result<(), RuncError> {
        let mut call = self.call("create", &self.log);
        call.option("--bundle", create.bundle);
        call.option("--pid-file", create.pid_file);
        if let Some(console) = create.console {
            call.option("--console-socket", console);
        }
        if create.options.no_pivot_root {
            call.argument("--no-pivot");
        }
        if create.options.no_new_keyring {
            call.argument("--no-new-keyring");
        }
        call.argument(id);
        call.run(Streams::Container(stdio)).await
    }

    /// Lets a created container run.
    pub(crate) async fn start(&self, id: &str) -> Result<(), RuncError> {
        let mut call = self.call("start", &self.log);
        call.argument(id);
        call.run(Streams::Nothing).await
    }

    /// Runs another process in a container. Returns when it runs.
    pub(crate) async fn exec(
        &self,
        id: &str,
        exec: Exec<'_>,
        stdio: [BorrowedFd<'_>; 3],
    ) -> Result<(), RuncError> {
        let mut call = self.call("exec", exec.log);
        call.option("--process", exec.process);
        call.option("--pid-file", exec.pid_file);
        call.argument("--detach");
        if let Some(console) = exec.console {
            call.option("--console-socket", console);
        }
        call.argument(id);
        call.run(Streams::Container(stdio)).await
    }

    /// Changes limits: `linux.resources` of an OCI spec, as JSON. Waits for it.
    pub(crate) fn update(&self, id: &str, resources: &[u8]) -> Result<(), RuncError> {
        let mut call = self.call("update", &self.log);
        call.argument("--resources");
        call.argument("-");
        call.argument(id);
        call.run_and_wait(Streams::Input(resources))
    }

    /// Takes away a container that has ended. One that is not there is no error.
    pub(crate) async fn delete(&self, id: &str) -> Result<(), RuncError> {
        let mut call = self.call("delete", &self.log);
        call.argument(id);
        unless_gone(call.run(Streams::Nothing).await)
    }

    /// Takes away a container in whatever state it is, and waits for that.
    fn delete_by_force(&self, id: &str) -> Result<(), RuncError> {
        let mut call = self.call("delete", &self.log);
        call.argument("--force");
        call.argument(id);
        unless_gone(call.run_and_wait(Streams::Nothing))
    }

    fn call<'a>(&'a self, command: &'static str, log: &'a Path) -> Call<'a> {
        let mut call = Call::new(&self.program, command, Log::of(log));
        call.before("--root", &self.root);
        call.before("--log", log);
        call.before("--log-format", "json");
        if self.systemd_cgroup {
            call.flag("--systemd-cgroup");
        }
        call
    }
}

/// A container that `runc` does not know.
fn unless_gone(result: Result<(), RuncError>) -> Result<(), RuncError> {
    match result {
        Err(RuncError::Failed { message, .. }) if message.contains("does not exist") => Ok(()),
        other => other,
    }
}

/// The executable of this name, or of runc's if it is empty.
fn program(name: &str) -> Result<PathBuf, RuncError> {
    let name = if name.is_empty() { NAME } else { name };
    let path = std::env::var_os("PATH").unwrap_or_default();
    find_in(name, &path).ok_or_else(|| RuncError::NotInstalled {
        name: name.to_owned(),
        folders: path.to_string_lossy().into_owned(),
    })
}

fn find_in(name: &str, path: &OsStr) -> Option<PathBuf> {
    let executable = |path: PathBuf| {
        let runs = rustix::fs::access(&path, rustix::fs::Access::EXEC_OK).is_ok() && path.is_file();
        runs.then_some(path)
    };
    if name.contains('/') {
        return executable(std::path::absolute(name).ok()?);
    }
    std::env::split_paths(path)
        .filter(|folder| folder.is_absolute())
        .find_map(|folder| executable(folder.join(name)))
}

/// The environment of runc is the shim's, but for the socket on which runc would tell a service manager that it is up.
fn environment() -> Vec<CString> {
    std::env::vars_os()
        .filter(|(name, _)| name != "NOTIFY_SOCKET")
        .filter_map(|(name, value)| {
            let mut line: OsString = name;
            line.push("=");
            line.push(value);
            CString::new(line.into_vec()).ok()
        })
        .collect()
}

fn c_string(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes()).map_err(io::Error::from)
}

fn borrowed(strings: &[CString]) -> Vec<&CStr> {
    strings.iter().map(CString::as_c_str).collect()
}

#[cfg(test)]
mod tests;
