//! How compile workers are run on a node, and within which limits.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Engines whose compilers have no way to write into a descriptor.
const WRITE_PATHS: &[&str] = &["wasmedge"];

/// How workers are run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The engine's name, `wasmtime`.
    pub engine: String,
    /// Which version of it, where a node has several; `None` is the newest.
    pub version: Option<String>,
    /// The engine's compiler can write its output to a path only, and gets a private file system to do so.
    pub writes_paths: bool,
    /// The folder with `skiff-compile-<engine>`.
    pub programs: PathBuf,
    /// The cache.
    pub cache: skiff_cache::Settings,
    /// Threads of one worker.
    pub threads: u16,
    /// Workers at once on the node.
    pub slots: u16,
    /// Memory of one worker, in bytes. What it writes counts.
    pub memory: u64,
    /// Processes and threads of one worker.
    pub processes: u64,
    /// Wall time of one compilation.
    pub time: Duration,
    /// Wall time of waiting for others' compilations.
    pub waiting: Duration,
    /// Largest compiled code, in bytes.
    pub output: u64,
    /// For how long a module that failed at a limit is not tried again.
    pub remember_failure: Duration,
}

impl Settings {
    /// Defaults of this node: workers beside the running executable, the cache of the environment.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn beside_own_executable(engine: &str) -> io::Result<Self> {
        let mut programs = std::fs::read_link("/proc/self/exe")?;
        programs.pop();
        // Not the standard library's count, which reads the cgroup of the caller: the worker is in another.
        let processors = rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count());
        let processors = u16::try_from(processors).unwrap_or(u16::MAX).max(1);
        // More threads than that hardly make one compilation faster.
        let threads = processors.min(8);
        Ok(Self {
            engine: engine.to_owned(),
            version: None,
            writes_paths: WRITE_PATHS.contains(&engine),
            programs,
            cache: skiff_cache::Settings::from_environment(),
            threads,
            // Two at least: a module that takes all of its time must not keep all others waiting.
            slots: (processors / threads).max(2),
            memory: 2 << 30,
            processes: 64,
            time: Duration::from_secs(120),
            waiting: Duration::from_secs(300),
            output: 1 << 30,
            remember_failure: Duration::from_secs(60),
        })
    }
}
