//! What processes have used: processor time of all their threads, and memory.

use std::fs;
use std::time::Duration;

/// The processor time of these processes so far.
pub(super) fn processor_time(processes: &[u32]) -> Duration {
    let nanoseconds = processes
        .iter()
        .flat_map(|process| fs::read_dir(format!("/proc/{process}/task")))
        .flatten()
        .flatten()
        .filter_map(|thread| {
            // Time on a processor, time of waiting for one, turns.
            let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        });
    Duration::from_nanos(nanoseconds.sum())
}

/// Their memory in megabytes, shared pages divided by those who share them.
pub(super) fn pss(processes: &[u32]) -> f64 {
    let kibibytes = processes.iter().filter_map(|process| {
        let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()
    });
    kibibytes.sum::<f64>() * 1024.0 / 1e6
}
