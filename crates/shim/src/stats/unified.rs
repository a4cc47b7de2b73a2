//! Figures of cgroup v2 as containerd's message of them.

use std::collections::BTreeMap;

use containerd_shim_protos::cgroups_v2::metrics::{
    CPUStat, HugeTlbStat, IOEntry, IOStat, MemoryEvents, MemoryStat, Metrics, PSIData, PSIStats,
    PidsStat, RdmaEntry, RdmaStat,
};
use containerd_shim_protos::protobuf::MessageField;
use skiff_sandbox::cgroup::{self, Pressure, PressureLine, UnifiedStats};

pub(super) fn message(stats: &UnifiedStats) -> Metrics {
    let mut metrics = Metrics::new();
    metrics.pids = MessageField::some(PidsStat {
        current: stats.pids_current,
        limit: stats.pids_limit,
        ..PidsStat::default()
    });
    metrics.cpu = MessageField::some(cpu(stats));
    metrics.memory = MessageField::some(memory(stats));
    if !stats.memory_events.is_empty() {
        metrics.memory_events = MessageField::some(events(&stats.memory_events));
    }
    metrics.io = MessageField::some(IOStat {
        usage: stats.io.iter().map(io).collect(),
        psi: psi(stats.io_pressure),
        ..IOStat::default()
    });
    metrics.rdma = MessageField::some(RdmaStat {
        current: stats.rdma_current.iter().map(rdma).collect(),
        limit: stats.rdma_limit.iter().map(rdma).collect(),
        ..RdmaStat::default()
    });
    let huge = |huge: &cgroup::UnifiedHugetlb| HugeTlbStat {
        current: huge.current,
        max: huge.max,
        pagesize: huge.page_size.clone(),
        failcnt: huge.failcnt,
        ..HugeTlbStat::default()
    };
    metrics.hugetlb = stats.hugetlb.iter().map(huge).collect();
    metrics
}

/// A figure by the kernel's name for it; 0 if this kernel does not have it.
fn figure<K: std::borrow::Borrow<str> + Ord>(figures: &BTreeMap<K, u64>, name: &str) -> u64 {
    figures.get(name).copied().unwrap_or(0)
}

fn cpu(stats: &UnifiedStats) -> CPUStat {
    let of = |name: &str| figure(&stats.cpu, name);
    CPUStat {
        usage_usec: of("usage_usec"),
        user_usec: of("user_usec"),
        system_usec: of("system_usec"),
        nr_periods: of("nr_periods"),
        nr_throttled: of("nr_throttled"),
        throttled_usec: of("throttled_usec"),
        nr_bursts: of("nr_bursts"),
        burst_usec: of("burst_usec"),
        psi: psi(stats.cpu_pressure),
        ..CPUStat::default()
    }
}

fn memory(stats: &UnifiedStats) -> MemoryStat {
    let of = |name: &str| figure(&stats.memory, name);
    let usage = |name: &str| figure(&stats.memory_usage, name);
    MemoryStat {
        anon: of("anon"),
        file: of("file"),
        kernel_stack: of("kernel_stack"),
        slab: of("slab"),
        sock: of("sock"),
        shmem: of("shmem"),
        file_mapped: of("file_mapped"),
        file_dirty: of("file_dirty"),
        file_writeback: of("file_writeback"),
        anon_thp: of("anon_thp"),
        inactive_anon: of("inactive_anon"),
        active_anon: of("active_anon"),
        inactive_file: of("inactive_file"),
        active_file: of("active_file"),
        unevictable: of("unevictable"),
        slab_reclaimable: of("slab_reclaimable"),
        slab_unreclaimable: of("slab_unreclaimable"),
        pgfault: of("pgfault"),
        pgmajfault: of("pgmajfault"),
        workingset_refault: of("workingset_refault"),
        workingset_activate: of("workingset_activate"),
        workingset_nodereclaim: of("workingset_nodereclaim"),
        pgrefill: of("pgrefill"),
        pgscan: of("pgscan"),
        pgsteal: of("pgsteal"),
        pgactivate: of("pgactivate"),
        pgdeactivate: of("pgdeactivate"),
        pglazyfree: of("pglazyfree"),
        pglazyfreed: of("pglazyfreed"),
        thp_fault_alloc: of("thp_fault_alloc"),
        thp_collapse_alloc: of("thp_collapse_alloc"),
        usage: usage("current"),
        usage_limit: usage("max"),
        max_usage: usage("peak"),
        swap_usage: usage("swap.current"),
        swap_limit: usage("swap.max"),
        swap_max_usage: usage("swap.peak"),
        psi: psi(stats.memory_pressure),
        ..MemoryStat::default()
    }
}

fn events(events: &BTreeMap<String, u64>) -> MemoryEvents {
    let of = |name: &str| figure(events, name);
    MemoryEvents {
        low: of("low"),
        high: of("high"),
        max: of("max"),
        oom: of("oom"),
        oom_kill: of("oom_kill"),
        oom_group_kill: of("oom_group_kill"),
        ..MemoryEvents::default()
    }
}

fn psi(pressure: Option<Pressure>) -> MessageField<PSIStats> {
    let line = |line: PressureLine| PSIData {
        avg10: line.avg10,
        avg60: line.avg60,
        avg300: line.avg300,
        total: line.total,
        ..PSIData::default()
    };
    let stats = pressure.map(|pressure| PSIStats {
        some: pressure.some.map(line).into(),
        full: pressure.full.map(line).into(),
        ..PSIStats::default()
    });
    stats.into()
}

fn io(entry: &cgroup::IoEntry) -> IOEntry {
    let of = |name: &str| figure(&entry.figures, name);
    IOEntry {
        major: entry.major,
        minor: entry.minor,
        rbytes: of("rbytes"),
        wbytes: of("wbytes"),
        rios: of("rios"),
        wios: of("wios"),
        ..IOEntry::default()
    }
}

fn rdma(entry: &cgroup::RdmaEntry) -> RdmaEntry {
    RdmaEntry {
        device: entry.device.clone(),
        hca_handles: entry.handles,
        hca_objects: entry.objects,
        ..RdmaEntry::default()
    }
}

#[cfg(test)]
mod tests {
    use containerd_shim_protos::protobuf::Message;
    use skiff_sandbox::cgroup::Stats;

    use super::*;

    #[test]
    fn figures_have_their_places() {
        let map = |pairs: &[(&str, u64)]| {
            let pair = |(name, value): &(&str, u64)| ((*name).to_owned(), *value);
            pairs.iter().map(pair).collect()
        };
        let stats = UnifiedStats {
            cpu: map(&[("usage_usec", 5), ("burst_usec", 6)]),
            memory: map(&[("anon", 7), ("pgmajfault", 8)]),
            memory_usage: [("current", 9), ("max", u64::MAX), ("swap.peak", 3)].into(),
            memory_events: map(&[("oom_kill", 2)]),
            memory_pressure: Some(Pressure {
                some: Some(PressureLine {
                    avg10: 0.5,
                    total: 4,
                    ..PressureLine::default()
                }),
                full: None,
            }),
            pids_limit: 12,
            ..UnifiedStats::default()
        };
        let any = super::super::metrics(&Stats {
            unified: Some(stats),
            ..Stats::default()
        });
        assert_eq!(any.type_url, "io.containerd.cgroups.v2.Metrics");
        let metrics = Metrics::parse_from_bytes(&any.value).unwrap();
        assert_eq!((metrics.cpu.usage_usec, metrics.cpu.burst_usec), (5, 6));
        assert_eq!((metrics.memory.anon, metrics.memory.pgmajfault), (7, 8));
        assert_eq!(
            (metrics.memory.usage, metrics.memory.usage_limit),
            (9, u64::MAX)
        );
        assert_eq!(
            (
                metrics.memory.swap_max_usage,
                metrics.memory_events.oom_kill
            ),
            (3, 2)
        );
        assert_eq!((metrics.memory.psi.some.total, metrics.pids.limit), (4, 12));
        assert!(metrics.memory.psi.full.is_none() && metrics.cpu.psi.is_none());
    }
}
