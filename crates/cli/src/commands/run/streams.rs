//! Input and output between this command and the container's FIFOs, and the terminal.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use anyhow::Context;
use rustix::fs::{CWD, FileType, Mode};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::sync::oneshot;

/// The FIFOs of a container, of which stderr is missing at a terminal.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) stdin: PathBuf,
    pub(super) stdout: PathBuf,
    pub(super) stderr: Option<PathBuf>,
}

impl Streams {
    pub(super) fn make(bundle: &Path, terminal: bool) -> anyhow::Result<Self> {
        let make = |name: &str| {
            let path = bundle.join(name);
            rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
                .with_context(|| format!("could not make {}", path.display()))?;
            Ok::<_, anyhow::Error>(path)
        };
        Ok(Self {
            stdin: make("stdin")?,
            stdout: make("stdout")?,
            stderr: (!terminal).then(|| make("stderr")).transpose()?,
        })
    }

    /// Rows and columns of the terminal that this command is at.
    pub(super) fn size(&self) -> Option<(u16, u16)> {
        if self.stderr.is_some() {
            return None;
        }
        let size = tcgetwinsize(rustix::stdio::stdin()).ok()?;
        Some((size.ws_row, size.ws_col))
    }

    /// Begins to move bytes, once the container has opened its ends. `closed` is told when the input has ended.
    pub(super) fn begin(&self, closed: oneshot::Sender<()>) -> anyhow::Result<Outputs> {
        let open = |path: &Path| {
            File::open(path).with_context(|| format!("could not open {}", path.display()))
        };
        let stdout = copy(open(&self.stdout)?, rustix::stdio::stdout());
        let stderr = self
            .stderr
            .as_deref()
            .map(|path| Ok::<_, anyhow::Error>(copy(open(path)?, rustix::stdio::stderr())))
            .transpose()?;
        let path = self.stdin.clone();
        // Never waited for: it may sit in a read for ever.
        std::thread::spawn(move || {
            if let Ok(mut fifo) = File::options().write(true).open(path) {
                drop(pump(rustix::stdio::stdin(), &mut fifo));
            }
            closed.send(()).ok();
        });
        Ok(Outputs { stdout, stderr })
    }
}

/// The copies of what the container writes.
#[derive(Debug)]
pub(super) struct Outputs {
    stdout: JoinHandle<()>,
    stderr: Option<JoinHandle<()>>,
}

impl Outputs {
    /// Waits until all is written that the container has written.
    pub(super) fn finish(self) {
        drop(self.stdout.join());
        drop(self.stderr.map(JoinHandle::join));
    }
}

fn copy(mut from: File, to: BorrowedFd<'static>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        let mut readable = true;
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return,
                // Where nobody reads it, it is thrown away: the container does not wait for ever.
                Ok(length) => readable = readable && write_all(to, &buffer[..length]).is_ok(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    })
}

fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn pump(from: BorrowedFd<'_>, to: &mut File) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match rustix::io::read(from, buffer.as_mut_slice()) {
            Ok(0) => return Ok(()),
            Ok(length) => to.write_all(&buffer[..length])?,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The terminal, given over to the container: what is typed goes there as it is. Put back when dropped.
pub(super) struct Raw(Termios);

impl Raw {
    /// `None` if this command is at no terminal.
    pub(super) fn begin() -> Option<Self> {
        let before = tcgetattr(rustix::stdio::stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(rustix::stdio::stdin().as_fd(), OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        tcsetattr(
            rustix::stdio::stdin().as_fd(),
            OptionalActions::Now,
            &self.0,
        )
        .ok();
    }
}
