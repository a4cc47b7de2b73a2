//! A container's figures as containerd's metrics of cgroup v1, or of v2 where the node has that ([`unified`]).

use containerd_shim_protos::cgroups::metrics::{
    BlkIOEntry, BlkIOStat, CPUStat, CPUUsage, HugetlbStat, MemoryEntry, MemoryOomControl,
    MemoryStat, Metrics, PidsStat, Throttle,
};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use skiff_sandbox::cgroup::{BlkioEntry, BlkioStats, CpuStats, MemoryStats, MemoryUsage, Stats};

mod unified;

/// The figures, packed as `Stats` answers them.
pub fn metrics(stats: &Stats) -> Any {
    let mut any = Any::new();
    let (name, bytes) = match &stats.unified {
        None => (
            "io.containerd.cgroups.v1.Metrics",
            message(stats).write_to_bytes(),
        ),
        Some(stats) => (
            "io.containerd.cgroups.v2.Metrics",
            unified::message(stats).write_to_bytes(),
        ),
    };
    name.clone_into(&mut any.type_url);
    any.value = bytes.expect("a message without required fields can always be written");
    any
}

fn message(stats: &Stats) -> Metrics {
    let mut metrics = Metrics::new();
    metrics.cpu = stats.cpu.as_ref().map(cpu).into();
    metrics.pids = stats
        .pids
        .map(|pids| PidsStat {
            current: pids.current,
            limit: pids.limit,
            ..PidsStat::default()
        })
        .into();
    if let Some(memory) = &stats.memory {
        metrics.memory = MessageField::some(memory_stat(memory));
        metrics.memory_oom_control = MessageField::some(MemoryOomControl {
            oom_kill_disable: memory.oom_kill_disable,
            under_oom: memory.under_oom,
            oom_kill: memory.oom_kill,
            ..MemoryOomControl::default()
        });
    }
    metrics.blkio = stats.blkio.as_ref().map(blkio).into();
    let huge = |huge: &skiff_sandbox::cgroup::HugetlbStats| HugetlbStat {
        usage: huge.usage,
        max: huge.max,
        failcnt: huge.failcnt,
        pagesize: huge.page_size.clone(),
        ..HugetlbStat::default()
    };
    metrics.hugetlb = stats.hugetlb.iter().map(huge).collect();
    metrics
}

fn cpu(cpu: &CpuStats) -> CPUStat {
    let usage = CPUUsage {
        total: cpu.total,
        kernel: cpu.kernel,
        user: cpu.user,
        per_cpu: cpu.per_cpu.clone(),
        ..CPUUsage::default()
    };
    let throttling = Throttle {
        periods: cpu.periods,
        throttled_periods: cpu.throttled_periods,
        throttled_time: cpu.throttled_time,
        ..Throttle::default()
    };
    CPUStat {
        usage: MessageField::some(usage),
        throttling: MessageField::some(throttling),
        ..CPUStat::default()
    }
}

fn memory_stat(memory: &MemoryStats) -> MemoryStat {
    let of = |name: &str| memory.stat.get(name).copied().unwrap_or(0);
    let entry = |usage: MemoryUsage| {
        MessageField::some(MemoryEntry {
            limit: usage.limit,
            usage: usage.usage,
            max: usage.max,
            failcnt: usage.failcnt,
            ..MemoryEntry::default()
        })
    };
    MemoryStat {
        cache: of("cache"),
        rss: of("rss"),
        rss_huge: of("rss_huge"),
        mapped_file: of("mapped_file"),
        dirty: of("dirty"),
        writeback: of("writeback"),
        pg_pg_in: of("pgpgin"),
        pg_pg_out: of("pgpgout"),
        pg_fault: of("pgfault"),
        pg_maj_fault: of("pgmajfault"),
        inactive_anon: of("inactive_anon"),
        active_anon: of("active_anon"),
        inactive_file: of("inactive_file"),
        active_file: of("active_file"),
        unevictable: of("unevictable"),
        hierarchical_memory_limit: of("hierarchical_memory_limit"),
        hierarchical_swap_limit: of("hierarchical_memsw_limit"),
        total_cache: of("total_cache"),
        total_rss: of("total_rss"),
        total_rss_huge: of("total_rss_huge"),
        total_mapped_file: of("total_mapped_file"),
        total_dirty: of("total_dirty"),
        total_writeback: of("total_writeback"),
        total_pg_pg_in: of("total_pgpgin"),
        total_pg_pg_out: of("total_pgpgout"),
        total_pg_fault: of("total_pgfault"),
        total_pg_maj_fault: of("total_pgmajfault"),
        total_inactive_anon: of("total_inactive_anon"),
        total_active_anon: of("total_active_anon"),
        total_inactive_file: of("total_inactive_file"),
        total_active_file: of("total_active_file"),
        total_unevictable: of("total_unevictable"),
        usage: entry(memory.usage),
        swap: memory.swap.map_or_else(MessageField::none, entry),
        kernel: entry(memory.kernel),
        kernel_tcp: entry(memory.kernel_tcp),
        ..MemoryStat::default()
    }
}

fn blkio(blkio: &BlkioStats) -> BlkIOStat {
    let list = |entries: &[BlkioEntry]| {
        let entry = |entry: &BlkioEntry| BlkIOEntry {
            op: entry.op.clone(),
            major: entry.major,
            minor: entry.minor,
            value: entry.value,
            ..BlkIOEntry::default()
        };
        entries.iter().map(entry).collect()
    };
    BlkIOStat {
        io_service_bytes_recursive: list(&blkio.io_service_bytes_recursive),
        io_serviced_recursive: list(&blkio.io_serviced_recursive),
        io_queued_recursive: list(&blkio.io_queued_recursive),
        io_service_time_recursive: list(&blkio.io_service_time_recursive),
        io_wait_time_recursive: list(&blkio.io_wait_time_recursive),
        io_merged_recursive: list(&blkio.io_merged_recursive),
        io_time_recursive: list(&blkio.io_time_recursive),
        sectors_recursive: list(&blkio.sectors_recursive),
        ..BlkIOStat::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_their_places() {
        let memory = MemoryStats {
            stat: [
                ("total_inactive_file".to_owned(), 7),
                ("pgpgin".to_owned(), 8),
            ]
            .into(),
            usage: MemoryUsage {
                limit: 1,
                usage: 2,
                max: 3,
                failcnt: 4,
            },
            oom_kill: 5,
            ..MemoryStats::default()
        };
        let stats = Stats {
            memory: Some(memory),
            cpu: Some(CpuStats {
                total: 9,
                per_cpu: vec![4, 5],
                throttled_periods: 6,
                ..CpuStats::default()
            }),
            ..Stats::default()
        };
        let any = metrics(&stats);
        assert_eq!(any.type_url, "io.containerd.cgroups.v1.Metrics");
        let metrics = Metrics::parse_from_bytes(&any.value).unwrap();
        assert_eq!(
            (metrics.memory.total_inactive_file, metrics.memory.pg_pg_in),
            (7, 8)
        );
        assert_eq!(
            (metrics.memory.usage.limit, metrics.memory.usage.failcnt),
            (1, 4)
        );
        assert!(metrics.memory.swap.is_none() && metrics.pids.is_none() && metrics.blkio.is_none());
        assert_eq!(metrics.memory_oom_control.oom_kill, 5);
        assert_eq!(
            (
                metrics.cpu.usage.total,
                metrics.cpu.throttling.throttled_periods
            ),
            (9, 6)
        );
        assert_eq!(metrics.cpu.usage.per_cpu, [4, 5]);
    }
}
