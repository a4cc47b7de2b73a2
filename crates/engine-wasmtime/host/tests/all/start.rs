//! How long a start takes, printed; judged only where it would be absurd.

use std::time::{Duration, Instant};

use skiff_engine::options::CodeOptions;

use crate::harness::{Container, compile};

#[test]
fn a_start_is_short() {
    let (code, kind) = compile(
        br#"(module (func (export "_start")))"#,
        CodeOptions::default(),
    )
    .unwrap();
    let mut created = Vec::new();
    let mut ended = Vec::new();
    for _ in 0..50 {
        let code = code.try_clone().unwrap();
        let container = Container::new("").compiled(code, kind).create().unwrap();
        created.push(container.latency);
        let go = Instant::now();
        container.launched.control.go().unwrap();
        assert_eq!(container.wait().code(), 0);
        ended.push(go.elapsed());
    }
    created.sort();
    ended.sort();
    println!(
        "created after {:?} at best, {:?} at the median of 50; ended {:?}, {:?} after its start",
        created[0], created[25], ended[0], ended[25]
    );
    assert!(created[25] + ended[25] < Duration::from_secs(1));
}

/// Sums the fields of `smaps_rollup`, in KiB.
fn memory(pid: u32, field: &str) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = rollup.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_ascii_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
fn a_sleeping_guest_takes_little_memory() {
    let (code, kind) = compile(crate::signals::SLEEP.as_bytes(), CodeOptions::default()).unwrap();
    let containers: Vec<_> = (0..10)
        .map(|_| {
            Container::new("")
                .compiled(code.try_clone().unwrap(), kind)
                .start()
        })
        .collect();
    std::thread::sleep(Duration::from_millis(500));
    let pid = containers[9].launched.pid;
    let private = memory(pid, "Private_Dirty:");
    println!(
        "one of ten: {} KiB PSS, {private} KiB of its own",
        memory(pid, "Pss:")
    );
    assert!(private < 1024, "{private} KiB");
    for container in containers {
        container.signal(9);
        container.wait();
    }
}
