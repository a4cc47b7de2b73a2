//! A pseudo-terminal of the container's own.
//!
//! It comes from a devpts instance that is mounted nowhere: the node's `/dev/pts` gets no entry that another
//! container or user could open, and the instance goes with the terminal's last descriptor.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, Uid};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use skiff_sandbox::sys::mount::{Context, attribute};

/// The group `tty`, in every distribution.
const TTY_GROUP: &str = "5";

/// Both ends of a terminal.
#[derive(Debug)]
pub struct Device {
    /// The shim's end, which does not wait.
    pub master: OwnedFd,
    /// The container's end.
    pub slave: OwnedFd,
}

/// Why there is no terminal.
#[derive(Debug, thiserror::Error)]
#[error("could not {step} for its terminal")]
pub struct DeviceError {
    step: &'static str,
    #[source]
    source: io::Error,
}

impl Device {
    /// A new terminal that belongs to `uid`. A size of zero is one that nobody knows.
    ///
    /// # Errors
    /// The node has no terminals left (`kernel.pty.max`), or the shim may not mount.
    pub fn open(uid: u32, rows: u16, columns: u16) -> Result<Self, DeviceError> {
        let tree = instance(uid).map_err(failed("mount a devpts of its own"))?;
        Self::of(tree.as_fd(), rows, columns)
    }

    /// One of an instance that is mounted in a container.
    ///
    /// # Errors
    /// As [`Device::open`].
    pub fn open_in(
        terminals: BorrowedFd<'_>,
        uid: u32,
        rows: u16,
        columns: u16,
    ) -> Result<Self, DeviceError> {
        let device = Self::of(terminals, rows, columns)?;
        // In a user namespace the number means somebody else, who gets nothing by it.
        let owner = Some(Uid::from_raw(uid));
        rustix::fs::fchown(&device.slave, owner, None).map_err(failed("give the user its end"))?;
        Ok(device)
    }

    fn of(tree: BorrowedFd<'_>, rows: u16, columns: u16) -> Result<Self, DeviceError> {
        // NOCTTY: the shim has no controlling terminal, and must not get this one.
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let master = rustix::fs::openat(tree, "ptmx", flags, Mode::empty())
            .map_err(failed("open /dev/ptmx"))?;
        rustix::pty::unlockpt(&master).map_err(failed("unlock the pty"))?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)
            .map_err(failed("open the container's end"))?;
        let device = Self { master, slave };
        if rows > 0 && columns > 0 {
            resize(&device.master, rows, columns).map_err(failed("set the size"))?;
        }
        Ok(device)
    }
}

/// Sets the size of a terminal; the processes in its foreground get SIGWINCH.
pub(super) fn resize(terminal: impl AsFd, rows: u16, columns: u16) -> io::Result<()> {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(rustix::termios::tcsetwinsize(terminal, size)?)
}

fn instance(uid: u32) -> io::Result<OwnedFd> {
    let context = Context::open("devpts")?;
    context.set("uid", &uid.to_string())?;
    context.set("gid", TTY_GROUP)?;
    context.set("mode", "0620")?;
    context.set("ptmxmode", "0600")?;
    context.mount(attribute::NO_SUID | attribute::NO_EXEC)
}

pub(super) fn failed<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> DeviceError {
    move |error| DeviceError {
        step,
        source: error.into(),
    }
}
