//! The compile driver with a worker that can be told to misbehave. Needs root: workers get namespaces,
//! cgroups and mounts of their own.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod cache;
mod limits;
mod works;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use skiff_engine::compile::{Code, CompileError, CompileOptions, Compiler, Settings, Source};
use tempfile::TempDir;

/// Tests of one process share its children and descriptors, which the residue check counts.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A compiler with the fake worker and a cache of its own. At its end nothing may be left behind.
struct Fixture {
    directory: TempDir,
    cache: PathBuf,
    compiler: Compiler,
    open_files: Vec<PathBuf>,
    _guard: MutexGuard<'static, ()>,
}

impl Fixture {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        // The first event loop of a process makes a pair of sockets for signals that is never closed.
        run(async {});
        let open_files = open_files();
        let directory = tempfile::tempdir().unwrap();
        let mut settings = settings(&directory);
        change(&mut settings);
        let cache = settings.cache.directory.clone();
        let compiler = Compiler::new(settings).unwrap();
        Self {
            directory,
            cache,
            compiler,
            open_files,
            _guard: guard,
        }
    }

    /// What was opened since the start and is not the compiler's: its program, the directories of the cache, and
    /// the read-only view of one of them.
    fn left_open(&self) -> Vec<PathBuf> {
        let mut left = open_files();
        left.retain(|file| {
            !self.open_files.contains(file)
                && !file.starts_with(&self.cache)
                && !file.ends_with("skiff-compile-fake")
                && file.to_str() != Some("/")
        });
        left
    }

    /// The code of a file with these bytes.
    fn code(&self, bytes: &[u8]) -> Result<Code, CompileError> {
        run(self.compiler.code_for(
            Source::File(file(bytes)),
            "/app.wasm",
            CompileOptions::default(),
        ))
    }

    fn error(&self, bytes: &[u8]) -> String {
        chain(&self.code(bytes).unwrap_err())
    }

    /// Entries with code.
    fn entries(&self) -> usize {
        self.compiler.cache().unwrap().list().unwrap().len()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        // A thread of the test's own event loop may still be on its way out.
        let begin = Instant::now();
        // So may the removal of a cgroup, which nobody waits for.
        while !(self.left_open().is_empty() && cgroups(&self.cache).is_empty())
            && begin.elapsed() < Duration::from_secs(2)
        {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(
            self.left_open(),
            Vec::<PathBuf>::new(),
            "descriptors are left"
        );
        assert_eq!(children(), "", "processes are left");
        assert_eq!(
            cgroups(&self.cache),
            Vec::<PathBuf>::new(),
            "cgroups are left"
        );
    }
}

fn settings(directory: &TempDir) -> Settings {
    let mut settings = Settings::beside_own_executable("fake").unwrap();
    settings.programs = PathBuf::from(env!("CARGO_BIN_EXE_skiff-compile-fake"))
        .parent()
        .unwrap()
        .to_path_buf();
    settings.cache = skiff_cache::Settings {
        directory: directory.path().join("cache"),
        limit: 1 << 30,
    };
    settings.time = Duration::from_secs(20);
    settings
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

fn file(bytes: &[u8]) -> OwnedFd {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    // Whoever has looked at its first bytes may have left it anywhere.
    file.into()
}

/// A module in the text format that tells the worker what to do.
fn text(what: &str) -> Vec<u8> {
    format!("(module)\n;; do {what}\n").into_bytes()
}

/// A module in the binary format that does the same, from within a custom section.
fn binary(what: &str) -> Vec<u8> {
    let body = [b"\x01x;; do ", what.as_bytes(), b"\n"].concat();
    [
        b"\0asm\x01\0\0\0\0".as_slice(),
        &[u8::try_from(body.len()).unwrap()],
        &body,
    ]
    .concat()
}

/// The code that the worker makes of a module.
fn made(module: &[u8]) -> Vec<u8> {
    [b"code of: ".as_slice(), module].concat()
}

fn bytes_of(code: &Code) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(code.length).unwrap()];
    File::from(code.file.try_clone().unwrap())
        .read_exact_at(&mut bytes, 0)
        .unwrap();
    bytes
}

fn chain(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(
        || error.to_string(),
        |cause| format!("{error}: {}", chain(cause)),
    )
}

/// What is open, by the names that the kernel gives.
fn open_files() -> Vec<PathBuf> {
    let files = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    files
        .filter_map(|file| std::fs::read_link(file.path()).ok())
        .collect()
}

fn children() -> String {
    let mut all = String::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        if let Ok(mut file) = File::open(task.path().join("children")) {
            file.read_to_string(&mut all).unwrap();
        }
    }
    all
}

/// Cgroups of this cache's workers: others on the machine may have theirs.
fn cgroups(cache: &Path) -> Vec<PathBuf> {
    let Ok(metadata) = std::fs::metadata(cache) else {
        return Vec::new();
    };
    let prefix = format!("{:x}-{:x}-", metadata.dev(), metadata.ino());
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
    let places =
        hierarchies.filter_map(|entry| std::fs::read_dir(entry.path().join("skiff-compile")).ok());
    let found = places.flat_map(Iterator::flatten).map(|entry| entry.path());
    found
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with(&prefix)
        })
        .collect()
}
