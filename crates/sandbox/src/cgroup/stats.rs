//! What a cgroup has used: every figure of containerd's `io.containerd.cgroups.v1.Metrics`, and, of cgroup v2, those
//! of `io.containerd.cgroups.v2.Metrics` ([`unified`]).

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

pub use unified::{IoEntry, Pressure, PressureLine, RdmaEntry, UnifiedHugetlb, UnifiedStats};

use super::directory::read;
use super::{Cgroup, CgroupError};

mod unified;

/// Figures of one cgroup. Absent where the node has no such controller.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Processor time.
    pub cpu: Option<CpuStats>,
    /// Memory.
    pub memory: Option<MemoryStats>,
    /// Processes and threads.
    pub pids: Option<PidsStats>,
    /// Block devices.
    pub blkio: Option<BlkioStats>,
    /// Huge pages, one entry for each size.
    pub hugetlb: Vec<HugetlbStats>,
    /// On a node with cgroup v2 there is this instead of all above.
    pub unified: Option<UnifiedStats>,
}

/// Processor time in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuStats {
    /// All of it.
    pub total: u64,
    /// In the kernel.
    pub kernel: u64,
    /// Outside of it.
    pub user: u64,
    /// By processor.
    pub per_cpu: Vec<u64>,
    /// Periods of the quota that have passed.
    pub periods: u64,
    /// Periods in which the quota was used up.
    pub throttled_periods: u64,
    /// Time spent waiting for the next period.
    pub throttled_time: u64,
}

/// Memory in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// `memory.stat`, by the kernel's names: `cache`, `rss`, `total_inactive_file` …
    pub stat: BTreeMap<String, u64>,
    /// Memory.
    pub usage: MemoryUsage,
    /// Memory and swap together; absent where the kernel does not count swap.
    pub swap: Option<MemoryUsage>,
    /// The kernel's own memory for the cgroup.
    pub kernel: MemoryUsage,
    /// The kernel's network buffers.
    pub kernel_tcp: MemoryUsage,
    /// Processes wait instead of being killed when memory is out.
    pub oom_kill_disable: u64,
    /// Processes are waiting now.
    pub under_oom: u64,
    /// How many were killed.
    pub oom_kill: u64,
}

/// One counter of memory with its limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUsage {
    /// Most that may be used.
    pub limit: u64,
    /// In use.
    pub usage: u64,
    /// Most that was ever in use.
    pub max: u64,
    /// How often the limit was met.
    pub failcnt: u64,
}

/// Processes and threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PidsStats {
    /// How many there are.
    pub current: u64,
    /// How many there may be; 0 means no limit, as in containerd's metrics.
    pub limit: u64,
}

/// Block devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlkioStats {
    /// Bytes.
    pub io_service_bytes_recursive: Vec<BlkioEntry>,
    /// Requests.
    pub io_serviced_recursive: Vec<BlkioEntry>,
    /// Requests waiting.
    pub io_queued_recursive: Vec<BlkioEntry>,
    /// Nanoseconds being served.
    pub io_service_time_recursive: Vec<BlkioEntry>,
    /// Nanoseconds waiting.
    pub io_wait_time_recursive: Vec<BlkioEntry>,
    /// Requests merged into others.
    pub io_merged_recursive: Vec<BlkioEntry>,
    /// Milliseconds of device time.
    pub io_time_recursive: Vec<BlkioEntry>,
    /// Sectors.
    pub sectors_recursive: Vec<BlkioEntry>,
}

/// One figure of one device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlkioEntry {
    /// Device number.
    pub major: u64,
    /// Device number.
    pub minor: u64,
    /// `Read`, `Write` … as the kernel says it; empty where there is one figure for all.
    pub op: String,
    /// The figure.
    pub value: u64,
}

/// Huge pages of one size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HugetlbStats {
    /// `2MB`.
    pub page_size: String,
    /// Bytes in use.
    pub usage: u64,
    /// Most that was ever in use.
    pub max: u64,
    /// How often the limit was met.
    pub failcnt: u64,
}

impl Cgroup {
    /// The figures of now.
    ///
    /// # Errors
    /// The cgroup is gone, or a file holds something unexpected.
    pub fn stats(&self) -> Result<Stats, CgroupError> {
        if let Some(directory) = self.unified_directory(super::plan::CORE) {
            return Ok(Stats {
                unified: Some(UnifiedStats::read(directory)?),
                ..Stats::default()
            });
        }
        Ok(Stats {
            cpu: self.cpu_stats()?,
            memory: self.directory("memory").map(memory_stats).transpose()?,
            pids: self.directory("pids").map(pids_stats).transpose()?,
            blkio: self.directory("blkio").map(blkio_stats).transpose()?,
            hugetlb: self
                .directory("hugetlb")
                .map(hugetlb_stats)
                .transpose()?
                .unwrap_or_default(),
            unified: None,
        })
    }

    fn cpu_stats(&self) -> Result<Option<CpuStats>, CgroupError> {
        let mut stats = CpuStats::default();
        let cpu = self.directory("cpu");
        if let Some(directory) = cpu {
            let stat = pairs(&directory.join("cpu.stat"))?;
            let figure = |name: &str| stat.get(name).copied().unwrap_or(0);
            stats.periods = figure("nr_periods");
            stats.throttled_periods = figure("nr_throttled");
            stats.throttled_time = figure("throttled_time");
        }
        let Some(directory) = self.directory("cpuacct") else {
            return Ok(cpu.map(|_| stats));
        };
        stats.total = number(&directory.join("cpuacct.usage"))?;
        stats.user = number(&directory.join("cpuacct.usage_user"))?;
        stats.kernel = number(&directory.join("cpuacct.usage_sys"))?;
        let file = directory.join("cpuacct.usage_percpu");
        let per_cpu = contents(&file)?.unwrap_or_default();
        stats.per_cpu = per_cpu
            .split_ascii_whitespace()
            .filter_map(|value| value.parse().ok())
            .collect();
        Ok(Some(stats))
    }
}

fn memory_stats(directory: &Path) -> Result<MemoryStats, CgroupError> {
    let usage = |name: &str| -> Result<Option<MemoryUsage>, CgroupError> {
        let file = |end: &str| directory.join(format!("{name}.{end}"));
        if contents(&file("usage_in_bytes"))?.is_none() {
            return Ok(None);
        }
        Ok(Some(MemoryUsage {
            limit: number(&file("limit_in_bytes"))?,
            usage: number(&file("usage_in_bytes"))?,
            max: number(&file("max_usage_in_bytes"))?,
            failcnt: number(&file("failcnt"))?,
        }))
    };
    let oom = pairs(&directory.join("memory.oom_control"))?;
    let oom = |name: &str| oom.get(name).copied().unwrap_or(0);
    Ok(MemoryStats {
        stat: pairs(&directory.join("memory.stat"))?,
        usage: usage("memory")?.unwrap_or_default(),
        swap: usage("memory.memsw")?,
        kernel: usage("memory.kmem")?.unwrap_or_default(),
        kernel_tcp: usage("memory.kmem.tcp")?.unwrap_or_default(),
        oom_kill_disable: oom("oom_kill_disable"),
        under_oom: oom("under_oom"),
        oom_kill: oom("oom_kill"),
    })
}

fn pids_stats(directory: &Path) -> Result<PidsStats, CgroupError> {
    let limit = contents(&directory.join("pids.max"))?.unwrap_or_default();
    Ok(PidsStats {
        current: number(&directory.join("pids.current"))?,
        limit: limit.trim().parse().unwrap_or(0),
    })
}

fn blkio_stats(directory: &Path) -> Result<BlkioStats, CgroupError> {
    let entries = |name: &str| blkio_entries(&directory.join(name));
    let bfq = |name: &str| {
        let found = entries(&format!("blkio.bfq.{name}"))?;
        // Kernels before 5.3 have the CFQ scheduler, whose files lack the word.
        if found.is_empty() {
            entries(&format!("blkio.{name}"))
        } else {
            Ok(found)
        }
    };
    let mut stats = BlkioStats {
        io_service_bytes_recursive: bfq("io_service_bytes_recursive")?,
        io_serviced_recursive: bfq("io_serviced_recursive")?,
        io_queued_recursive: bfq("io_queued_recursive")?,
        io_service_time_recursive: bfq("io_service_time_recursive")?,
        io_wait_time_recursive: bfq("io_wait_time_recursive")?,
        io_merged_recursive: bfq("io_merged_recursive")?,
        io_time_recursive: bfq("time_recursive")?,
        sectors_recursive: bfq("sectors_recursive")?,
    };
    // The schedulers count only what they schedule; the throttle layer sees every request.
    if stats.io_serviced_recursive.is_empty() {
        stats.io_service_bytes_recursive = entries("blkio.throttle.io_service_bytes_recursive")?;
        stats.io_serviced_recursive = entries("blkio.throttle.io_serviced_recursive")?;
    }
    Ok(stats)
}

/// Lines `254:0 Read 4096` or `254:0 4096`; the line `Total 4096` is left out, it can be added up.
fn blkio_entries(file: &Path) -> Result<Vec<BlkioEntry>, CgroupError> {
    let text = contents(file)?.unwrap_or_default();
    let entry = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (major, minor) = words.next()?.split_once(':')?;
        let second = words.next()?;
        let (op, value) = words.next().map_or(("", second), |third| (second, third));
        let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
        Some(BlkioEntry {
            major,
            minor,
            op: op.to_owned(),
            value: value.parse().ok()?,
        })
    };
    Ok(text.lines().filter_map(entry).collect())
}

fn hugetlb_stats(directory: &Path) -> Result<Vec<HugetlbStats>, CgroupError> {
    let mut sizes: Vec<String> = std::fs::read_dir(directory)
        .map_err(CgroupError::io("read", directory))?
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            Some(
                name.strip_prefix("hugetlb.")?
                    .strip_suffix(".limit_in_bytes")?
                    .to_owned(),
            )
        })
        .filter(|size| !size.ends_with(".rsvd"))
        .collect();
    sizes.sort_unstable();
    let figures = |page_size: String| {
        let file = |end: &str| directory.join(format!("hugetlb.{page_size}.{end}"));
        Ok(HugetlbStats {
            usage: number(&file("usage_in_bytes"))?,
            max: number(&file("max_usage_in_bytes"))?,
            failcnt: number(&file("failcnt"))?,
            page_size,
        })
    };
    sizes.into_iter().map(figures).collect()
}

/// The text of a file; `None` if this kernel has no such file.
fn contents(file: &Path) -> Result<Option<String>, CgroupError> {
    match read(file) {
        Ok(text) => Ok(Some(text)),
        Err(error)
            if error.kind() == ErrorKind::NotFound && file.parent().is_some_and(Path::exists) =>
        {
            Ok(None)
        }
        // Some files exist and cannot be read with some configurations.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(None),
        Err(error) => Err(CgroupError::io("read", file)(error)),
    }
}

/// A file with one number; 0 if this kernel has no such file.
fn number(file: &Path) -> Result<u64, CgroupError> {
    let Some(text) = contents(file)? else {
        return Ok(0);
    };
    text.trim().parse().map_err(|error| {
        CgroupError::io("read", file)(std::io::Error::new(
            ErrorKind::InvalidData,
            format!("{:?}: {error}", text.trim()),
        ))
    })
}

/// A file of lines `name number`.
fn pairs(file: &Path) -> Result<BTreeMap<String, u64>, CgroupError> {
    let text = contents(file)?.unwrap_or_default();
    let pair = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    };
    Ok(text.lines().filter_map(pair).collect())
}
