//! A socket on which runc hands over the terminal of a process that it has made.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix,
    SocketFlags, SocketType,
};
use skiff_sandbox::sys::process::wait_readable;

use super::RuncError;

/// It is sent before runc ends, which is before it is asked for.
const PATIENCE: Duration = Duration::from_secs(5);

/// A socket that listens, in a bundle. Its file goes when it is dropped.
#[derive(Debug)]
pub(super) struct ConsoleSocket {
    directory: OwnedFd,
    name: String,
    socket: OwnedFd,
    path: PathBuf,
}

impl ConsoleSocket {
    pub(super) fn listen(bundle: &Path, name: String) -> Result<Self, RuncError> {
        Self::make(bundle, name).map_err(RuncError::io("make a socket for the terminal"))
    }

    fn make(bundle: &Path, name: String) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(bundle, flags, Mode::empty())?;
        // A socket's path has 107 bytes, and the bundle's may have more.
        let path = PathBuf::from(format!(
            "/proc/{}/fd/{}/{name}",
            std::process::id(),
            directory.as_raw_fd()
        ));
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(&path)?)?;
        let console = Self {
            directory,
            name,
            socket,
            path,
        };
        // Nobody else can look into a bundle; but to be sure.
        rustix::fs::chmod(&console.path, Mode::RUSR | Mode::WUSR)?;
        rustix::net::listen(&console.socket, 1)?;
        Ok(console)
    }

    /// What runc is told.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The terminal's master, which runc has sent. Reads and writes of it do not wait.
    pub(super) fn receive(&self) -> Result<OwnedFd, RuncError> {
        self.take().map_err(RuncError::io("take over the terminal"))
    }

    fn take(&self) -> std::io::Result<OwnedFd> {
        if !wait_readable(self.socket.as_fd(), Some(PATIENCE))? {
            return Err(Errno::TIMEDOUT.into());
        }
        let connection = rustix::net::accept_with(&self.socket, SocketFlags::CLOEXEC)?;
        if !wait_readable(connection.as_fd(), Some(PATIENCE))? {
            return Err(Errno::TIMEDOUT.into());
        }
        // With it comes the name of the terminal.
        let mut name = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        rustix::net::recvmsg(
            &connection,
            &mut [IoSliceMut::new(&mut name)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
        )?;
        let master = control
            .drain()
            .find_map(|message| match message {
                RecvAncillaryMessage::ScmRights(mut files) => files.next(),
                _ => None,
            })
            .ok_or(Errno::BADMSG)?;
        let flags = rustix::fs::fcntl_getfl(&master)?;
        rustix::fs::fcntl_setfl(&master, flags | OFlags::NONBLOCK)?;
        Ok(master)
    }
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        if let Err(error) = rustix::fs::unlinkat(&self.directory, &self.name, AtFlags::empty()) {
            log::debug!("could not remove {}: {error}", self.path.display());
        }
    }
}
