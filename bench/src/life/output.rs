//! Reads what containers write and shims log, at once, as containerd does: a shim may hold the news of an exit
//! back until its container's output has been read. One thread for all FIFOs.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use anyhow::{Context as _, Result};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};

/// A FIFO that is read. Dropping it closes it.
#[derive(Debug)]
pub(crate) struct Fifo {
    key: u64,
}

#[derive(Debug)]
struct Open {
    file: File,
    read: Vec<u8>,
}

#[derive(Debug)]
struct Reader {
    set: OwnedFd,
    open: Mutex<HashMap<u64, Open>>,
}

static READER: OnceLock<Arc<Reader>> = OnceLock::new();

impl Fifo {
    /// Makes a FIFO, which from now on is read.
    pub(crate) fn make(path: &Path) -> Result<Self> {
        mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0)
            .with_context(|| format!("could not make the FIFO {}", path.display()))?;
        let flags = i32::try_from(OFlags::NONBLOCK.bits())?;
        // Open for writing, too, it has no end between two writers.
        let file = File::options()
            .read(true)
            .write(true)
            .custom_flags(flags)
            .open(path)?;
        let key = u64::try_from(file.as_raw_fd())?;
        let reader = reader()?;
        epoll::add(
            &reader.set,
            &file,
            EventData::new_u64(key),
            EventFlags::IN | EventFlags::ET,
        )?;
        let read = Vec::new();
        reader.lock().insert(key, Open { file, read });
        Ok(Self { key })
    }

    /// What was written so far, and not taken yet.
    pub(crate) fn take(&self) -> String {
        let Some(reader) = READER.get() else {
            return String::new();
        };
        let mut open = reader.lock();
        let Some(fifo) = open.get_mut(&self.key) else {
            return String::new();
        };
        fifo.drain();
        String::from_utf8_lossy(&std::mem::take(&mut fifo.read)).into_owned()
    }
}

impl Drop for Fifo {
    fn drop(&mut self) {
        if let Some(reader) = READER.get() {
            // Closing it takes it out of the set.
            reader.lock().remove(&self.key);
        }
    }
}

impl Open {
    fn drain(&mut self) {
        // It ends with "would block", since there is always a writer.
        self.file.read_to_end(&mut self.read).ok();
    }
}

impl Reader {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reader; the first who asks starts its thread, which ends with the process.
fn reader() -> Result<&'static Arc<Reader>> {
    if let Some(reader) = READER.get() {
        return Ok(reader);
    }
    let made = Arc::new(Reader {
        set: epoll::create(CreateFlags::CLOEXEC)?,
        open: Mutex::default(),
    });
    let reader = READER.get_or_init(|| made.clone());
    if Arc::ptr_eq(reader, &made) {
        std::thread::Builder::new()
            .name("output".to_owned())
            .spawn(move || read(&made))
            .context("could not start the thread that reads output")?;
    }
    Ok(reader)
}

fn read(reader: &Reader) {
    let mut ready = Vec::with_capacity(64);
    loop {
        ready.clear();
        let spare = rustix::buffer::spare_capacity(&mut ready);
        if epoll::wait(&reader.set, spare, None).is_err() {
            continue;
        }
        let mut open = reader.lock();
        for event in &ready {
            if let Some(fifo) = open.get_mut(&event.data.u64()) {
                fifo.drain();
            }
        }
    }
}
