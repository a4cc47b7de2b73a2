//! What a cgroup of v2 has used.

use std::collections::BTreeMap;
use std::path::Path;

use super::super::CgroupError;
use super::{contents, pairs};

/// Figures of one cgroup of v2. What a kernel or a cgroup does not count is absent, or 0 in a map.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UnifiedStats {
    /// `cpu.stat`, by the kernel's names: `usage_usec`, `nr_throttled` …
    pub cpu: BTreeMap<String, u64>,
    /// Time spent waiting for a processor.
    pub cpu_pressure: Option<Pressure>,
    /// `memory.stat`, by the kernel's names: `anon`, `inactive_file` …
    pub memory: BTreeMap<String, u64>,
    /// `memory.current`, `.max`, `.peak`, `.swap.current` …, by what follows the first dot. No limit is [`u64::MAX`].
    pub memory_usage: BTreeMap<&'static str, u64>,
    /// Time spent waiting for memory.
    pub memory_pressure: Option<Pressure>,
    /// `memory.events`: `oom_kill` …; empty without the controller.
    pub memory_events: BTreeMap<String, u64>,
    /// How many processes and threads there are.
    pub pids_current: u64,
    /// How many there may be. No limit is [`u64::MAX`].
    pub pids_limit: u64,
    /// Block devices.
    pub io: Vec<IoEntry>,
    /// Time spent waiting for them.
    pub io_pressure: Option<Pressure>,
    /// RDMA devices: what is in use.
    pub rdma_current: Vec<RdmaEntry>,
    /// RDMA devices: what may be used.
    pub rdma_limit: Vec<RdmaEntry>,
    /// Huge pages, one entry for each size of the node.
    pub hugetlb: Vec<UnifiedHugetlb>,
}

/// `….pressure`: how long processes have waited for something.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// At least one of them.
    pub some: Option<PressureLine>,
    /// All of them.
    pub full: Option<PressureLine>,
}

/// One line of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PressureLine {
    /// Per cent of the last 10 seconds.
    pub avg10: f64,
    /// Per cent of the last minute.
    pub avg60: f64,
    /// Per cent of the last 5 minutes.
    pub avg300: f64,
    /// Microseconds.
    pub total: u64,
}

/// What went to and from one block device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IoEntry {
    /// Device number.
    pub major: u64,
    /// Device number.
    pub minor: u64,
    /// `rbytes`, `wbytes`, `rios`, `wios` …
    pub figures: BTreeMap<String, u64>,
}

/// One RDMA device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RdmaEntry {
    /// Its name.
    pub device: String,
    /// Handles; no limit is [`u32::MAX`].
    pub handles: u32,
    /// Objects; no limit is [`u32::MAX`].
    pub objects: u32,
}

/// Huge pages of one size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnifiedHugetlb {
    /// `2MB`.
    pub page_size: String,
    /// Bytes in use.
    pub current: u64,
    /// Most that may be; no limit is [`u64::MAX`].
    pub max: u64,
    /// How often the limit was met.
    pub failcnt: u64,
}

const USAGE: [(&str, &str); 6] = [
    ("current", "memory.current"),
    ("max", "memory.max"),
    ("peak", "memory.peak"),
    ("swap.current", "memory.swap.current"),
    ("swap.max", "memory.swap.max"),
    ("swap.peak", "memory.swap.peak"),
];

impl UnifiedStats {
    pub(super) fn read(directory: &Path) -> Result<Self, CgroupError> {
        let file = |name: &str| directory.join(name);
        let text = |name: &str| Ok::<_, CgroupError>(contents(&file(name))?.unwrap_or_default());
        let mut memory_usage = BTreeMap::new();
        for (key, name) in USAGE {
            memory_usage.insert(key, limit(&text(name)?));
        }
        let mut hugetlb = Vec::new();
        for page_size in page_sizes() {
            let of = |end: &str| text(&format!("hugetlb.{page_size}.{end}"));
            hugetlb.push(UnifiedHugetlb {
                current: limit(&of("current")?),
                max: limit(&of("max")?),
                failcnt: pairs(&file(&format!("hugetlb.{page_size}.events")))?
                    .get("max")
                    .copied()
                    .unwrap_or(0),
                page_size,
            });
        }
        Ok(Self {
            cpu: pairs(&file("cpu.stat"))?,
            cpu_pressure: pressure(&text("cpu.pressure")?),
            memory: pairs(&file("memory.stat"))?,
            memory_usage,
            memory_pressure: pressure(&text("memory.pressure")?),
            memory_events: pairs(&file("memory.events"))?,
            pids_current: limit(&text("pids.current")?),
            pids_limit: limit(&text("pids.max")?),
            io: text("io.stat")?.lines().filter_map(io_entry).collect(),
            io_pressure: pressure(&text("io.pressure")?),
            rdma_current: text("rdma.current")?
                .lines()
                .filter_map(rdma_entry)
                .collect(),
            rdma_limit: text("rdma.max")?.lines().filter_map(rdma_entry).collect(),
            hugetlb,
        })
    }
}

/// A number, or `max`; 0 if there is none.
fn limit(text: &str) -> u64 {
    match text.trim() {
        "max" => u64::MAX,
        number => number.parse().unwrap_or(0),
    }
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and the same with `full`.
fn pressure(text: &str) -> Option<Pressure> {
    let line = |kind: &str| {
        let words = text
            .lines()
            .find_map(|line| line.strip_prefix(kind)?.strip_prefix(' '))?;
        let mut found = PressureLine::default();
        for (key, value) in words
            .split_whitespace()
            .filter_map(|word| word.split_once('='))
        {
            match key {
                "avg10" => found.avg10 = value.parse().ok()?,
                "avg60" => found.avg60 = value.parse().ok()?,
                "avg300" => found.avg300 = value.parse().ok()?,
                "total" => found.total = value.parse().ok()?,
                _ => {}
            }
        }
        Some(found)
    };
    let (some, full) = (line("some"), line("full"));
    (some.is_some() || full.is_some()).then_some(Pressure { some, full })
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`
fn io_entry(line: &str) -> Option<IoEntry> {
    let mut words = line.split_whitespace();
    let (major, minor) = words.next()?.split_once(':')?;
    let figures: BTreeMap<String, u64> = words
        .filter_map(|word| {
            let (key, value) = word.split_once('=')?;
            Some((key.to_owned(), value.parse().ok()?))
        })
        .collect();
    // Devices that were never used are listed by some kernels, with nothing behind.
    (!figures.is_empty()).then_some(())?;
    Some(IoEntry {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        figures,
    })
}

/// `mlx4_0 hca_handle=2 hca_object=max`
fn rdma_entry(line: &str) -> Option<RdmaEntry> {
    let mut words = line.split_whitespace();
    let mut entry = RdmaEntry {
        device: words.next()?.to_owned(),
        ..RdmaEntry::default()
    };
    for (key, value) in words.filter_map(|word| word.split_once('=')) {
        let number = u32::try_from(limit(value)).unwrap_or(u32::MAX);
        match key {
            "hca_handle" => entry.handles = number,
            "hca_object" => entry.objects = number,
            _ => {}
        }
    }
    Some(entry)
}

/// The sizes of the node's huge pages, as cgroups name them.
fn page_sizes() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/sys/kernel/mm/hugepages") else {
        return Vec::new();
    };
    let mut sizes: Vec<u64> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            name.strip_prefix("hugepages-")?
                .strip_suffix("kB")?
                .parse()
                .ok()
        })
        .collect();
    sizes.sort_unstable();
    sizes.into_iter().map(page_size).collect()
}

fn page_size(kilobytes: u64) -> String {
    match kilobytes {
        size if size >= 1 << 20 => format!("{}GB", size >> 20),
        size if size >= 1 << 10 => format!("{}MB", size >> 10),
        size => format!("{size}KB"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel() {
        let text = "some avg10=1.50 avg60=0.25 avg300=0.00 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=5\n";
        let found = pressure(text).unwrap();
        let some = found.some.unwrap();
        assert!((some.avg10 - 1.5).abs() < 1e-9 && (some.avg60 - 0.25).abs() < 1e-9);
        assert_eq!((some.total, found.full.unwrap().total), (77, 5));
        assert_eq!(pressure(""), None);
        let entry = io_entry("254:16 rbytes=4096 wbytes=0 rios=1 wios=2").unwrap();
        assert_eq!(
            (entry.major, entry.minor, entry.figures["wios"]),
            (254, 16, 2)
        );
        assert_eq!(io_entry("254:16"), None);
        let entry = rdma_entry("mlx4_0 hca_handle=2 hca_object=max").unwrap();
        assert_eq!((entry.handles, entry.objects), (2, u32::MAX));
        assert_eq!((limit("max\n"), limit("5\n"), limit("")), (u64::MAX, 5, 0));
        assert_eq!(
            [page_size(64), page_size(2048), page_size(1 << 20)],
            ["64KB", "2MB", "1GB"]
        );
    }

    #[test]
    fn a_cgroup_without_files_counts_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let stats = UnifiedStats::read(directory.path()).unwrap();
        assert!(stats.memory.is_empty() && stats.io.is_empty() && stats.cpu_pressure.is_none());
        assert_eq!(stats.memory_usage["max"], 0);
    }
}
