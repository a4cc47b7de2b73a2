//! What verification costs: every start pays it.

use std::time::Duration;

use super::*;

const MIB: u32 = 16;

/// Processor time of this thread: others use the machine, too.
fn busy() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap(),
    )
}

#[test]
fn verification_takes_at_most_a_millisecond_for_a_mebibyte() {
    let fixture = Fixture::new();
    let code = vec![0x90; usize::try_from(MIB).unwrap() << 20];
    drop(
        fixture
            .cache
            .publish_bytes(&key(1), &about(), &code)
            .unwrap(),
    );
    let lookup = |_| {
        let begin = busy();
        fixture.cache.lookup(&key(1)).unwrap().unwrap();
        busy() - begin
    };
    let best = (0..7).map(lookup).min().unwrap();
    let line = format!("verification: {:?} for a mebibyte\n", best / MIB);
    std::io::Write::write_all(&mut std::io::stdout(), line.as_bytes()).unwrap();
    assert!(best < Duration::from_millis(1) * MIB, "{line}");
}

#[test]
fn a_small_entry_costs_next_to_nothing() {
    let fixture = Fixture::new();
    drop(
        fixture
            .cache
            .publish_bytes(&key(1), &about(), &code(4096))
            .unwrap(),
    );
    let begin = busy();
    for _ in 0..100 {
        fixture.cache.lookup(&key(1)).unwrap().unwrap();
    }
    let each = (busy() - begin) / 100;
    let line = format!("lookup of 4 KiB: {each:?}\n");
    std::io::Write::write_all(&mut std::io::stdout(), line.as_bytes()).unwrap();
    assert!(each < Duration::from_millis(1), "{line}");
}
