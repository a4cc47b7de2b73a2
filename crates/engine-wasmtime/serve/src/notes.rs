//! Limits of the container that may change while it serves: the shim writes them down, see [`skiff_engine::notes`], and
//! the file is watched, so that nobody reads it in vain.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::inotify;
use skiff_engine::notes;
use skiff_wasi_wasmtime::watch_readable;

/// The container's notes.
#[derive(Debug)]
pub(crate) struct Notes {
    file: &'static File,
    watch: &'static OwnedFd,
}

impl Notes {
    /// Watches `file`, by its path in the `/proc` of the node.
    ///
    /// # Errors
    /// The kernel has no watch left for the user.
    pub(crate) fn watch(file: &'static File) -> io::Result<Self> {
        let watch = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        inotify::add_watch(&watch, path, inotify::WatchFlags::MODIFY)?;
        Ok(Self {
            file,
            watch: Box::leak(Box::new(watch)),
        })
    }

    /// The file.
    pub(crate) fn file(&self) -> &'static File {
        self.file
    }

    /// Threads that the limit of processor time is good for: fractions round up; without a limit, as many as there are
    /// processors.
    pub(crate) fn threads(&self) -> usize {
        const MOST: usize = 64;
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let limit = notes::processors(self.file).map(|limit| limit.div_ceil(1000));
        let limit = limit.and_then(|limit| usize::try_from(limit).ok());
        limit.unwrap_or(processors).clamp(1, processors.min(MOST))
    }

    /// The cap on the memory of all instances together.
    pub(crate) fn memory_cap(&self) -> Option<u64> {
        notes::memory_cap(self.file)
    }

    /// Calls `changed` after each change, for ever.
    pub(crate) async fn follow(&self, changed: impl Fn(&Self)) -> io::Result<()> {
        let watch = watch_readable(self.watch.as_fd())?;
        let mut events = [MaybeUninit::<u8>::uninit(); 512];
        loop {
            watch.readable().await?.clear_ready();
            // What happened does not matter: something did.
            while rustix::io::read(watch.get_ref(), &mut events).is_ok() {}
            changed(self);
        }
    }
}
