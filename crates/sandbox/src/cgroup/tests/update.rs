//! Limits changed while processes run.

use super::*;

fn setting(controller: &'static str, file: &str, value: &impl ToString) -> Setting {
    Setting {
        controller,
        file: file.to_owned(),
        value: value.to_string(),
        field: "a limit",
        check: Check::Written,
    }
}

fn memory(limit: u64, both: u64) -> [Setting; 2] {
    [
        setting("memory", "memory.limit_in_bytes", &limit),
        setting("memory", "memory.memsw.limit_in_bytes", &both),
    ]
}

impl Scratch {
    fn memory(&self) -> (String, String) {
        (
            self.read("memory", "memory.limit_in_bytes"),
            self.read("memory", "memory.memsw.limit_in_bytes"),
        )
    }
}

#[test]
fn memory_and_swap_are_raised_and_lowered_in_either_order() {
    let mut scratch = Scratch::new(|plan| plan.memory(64 << 20));
    scratch.run("exec sleep 60");
    for megabytes in [128_u64, 32, 256, 32] {
        let mut settings = memory(megabytes << 20, megabytes << 20);
        for _ in 0..2 {
            scratch.cgroup.update(&settings).unwrap();
            let value = (megabytes << 20).to_string();
            assert_eq!(scratch.memory(), (value.clone(), value));
            scratch.cgroup.update(&memory(64 << 20, 64 << 20)).unwrap();
            settings.reverse();
        }
    }
}

#[test]
fn period_and_quota_fit_the_cgroup_above_at_every_step() {
    let scratch = Scratch::new(|plan| plan);
    let above = scratch.cgroup.directory("cpu").unwrap().parent().unwrap();
    // Half a processor for the pod, and as much for the container.
    fs::write(above.join("cpu.cfs_quota_us"), "50000").unwrap();
    let half = |period: u64| {
        [
            setting("cpu", "cpu.cfs_period_us", &period),
            setting("cpu", "cpu.cfs_quota_us", &(period / 2)),
        ]
    };
    for period in [100_000, 20_000, 200_000, 10_000] {
        scratch.cgroup.update(&half(period)).unwrap();
        assert_eq!(scratch.read("cpu", "cpu.cfs_period_us"), period.to_string());
        let quota = (period / 2).to_string();
        assert_eq!(scratch.read("cpu", "cpu.cfs_quota_us"), quota);
    }
}

#[test]
fn nothing_of_an_update_is_left_that_the_kernel_refuses() {
    let mut scratch = Scratch::new(|plan| plan.memory(64 << 20).pids(9).cpu_shares(100));
    scratch.run("exec sleep 60");
    let before = || {
        let memory = scratch.memory();
        let pids = scratch.read("pids", "pids.max");
        let shares = scratch.read("cpu", "cpu.shares");
        let cpus = scratch.read("cpuset", "cpuset.cpus");
        (memory, pids, shares, cpus)
    };
    let expected = before();
    let mut clamped = setting("cpu", "cpu.shares", &1);
    clamped.check = Check::ReadBack;
    for refused in [
        setting("pids", "pids.max", &"many"),
        setting("cpuset", "cpuset.cpus", &"0-4095"),
        clamped,
        setting("memory", "memory.nothing", &1),
    ] {
        let [limit, both] = memory(128 << 20, 128 << 20);
        let settings = [
            setting("pids", "pids.max", &5),
            limit,
            setting("cpu", "cpu.shares", &200),
            refused,
            both,
        ];
        scratch.cgroup.update(&settings).unwrap_err();
        assert_eq!(before(), expected, "{:?}", settings[3]);
    }
    // The file of another kernel.
    let mut other = setting("cpu", "cpu.shared", &300);
    other.check = Check::OrFile("cpu.shares");
    // No limit at all, on a kernel that does not count swap.
    let mut missing = setting("memory", "memory.nothing", &-1);
    missing.check = Check::IfPresent;
    let unlimited = setting("memory", "memory.memsw.limit_in_bytes", &-1);
    let limit = setting("memory", "memory.limit_in_bytes", &-1);
    let settings = [limit, unlimited, missing, other];
    scratch.cgroup.update(&settings).unwrap();
    let (memory, both) = scratch.memory();
    assert_eq!((memory.len(), both.len()), (19, 19), "{memory} {both}");
    assert_eq!(scratch.read("cpu", "cpu.shares"), "300");
}

#[test]
fn what_stands_in_the_way_is_told() {
    let mut scratch = Scratch::new(|plan| plan.memory(64 << 20));
    // A tmpfs' pages would do; a shell's variable needs no mount.
    scratch.run(
        "x=aaaaaaaa; while [ ${#x} -lt 8000000 ]; do x=$x$x; done; echo filled; sleep 60; echo $x",
    );
    let usage = || scratch.cgroup.stats().unwrap().memory.unwrap().usage.usage;
    within("eight megabytes", || usage() > 8 << 20);
    let tell = |settings: &[Setting]| scratch.cgroup.update(settings).unwrap_err().to_string();
    let busy = tell(&memory(1 << 20, 1 << 20));
    assert!(
        busy.starts_with("could not set a limit to 1048576: its processes use ")
            && busy.ends_with(" bytes, and the kernel could not take enough of them away"),
        "{busy}"
    );
    assert_eq!(
        tell(&memory(128 << 20, 0)[..1]),
        "could not set a limit to 134217728: memory and swap together are limited to 67108864 bytes: \
         raise linux.resources.memory.swap with it"
    );
    assert_eq!(
        tell(&memory(0, 32 << 20)[1..]),
        "could not set a limit to 33554432: it is for memory and swap together, and memory alone is limited to \
         67108864 bytes"
    );
    let outside = tell(&[setting("cpuset", "cpuset.cpus", &"4095")]);
    assert!(
        outside.contains("the cgroup above it has only "),
        "{outside}"
    );
    let value = (64_u64 << 20).to_string();
    assert_eq!(scratch.memory(), (value.clone(), value));
}
