//! How long a start takes, printed; judged only where it would be absurd.

use std::time::{Duration, Instant};

use crate::harness::Container;

#[test]
fn a_start_is_short() {
    let mut created = Vec::new();
    let mut ended = Vec::new();
    for _ in 0..20 {
        let container = Container::new(r#"(module (func (export "_start")))"#)
            .create()
            .unwrap();
        created.push(container.latency);
        let go = Instant::now();
        container.launched.control.go().unwrap();
        assert_eq!(container.wait().code(), 0);
        ended.push(go.elapsed());
    }
    created.sort();
    ended.sort();
    println!(
        "created after {:?} (median of 20), ended {:?} after its start",
        created[10], ended[10]
    );
    assert!(created[10] + ended[10] < Duration::from_secs(1));
}
