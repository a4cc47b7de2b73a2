//! Sleeps: `sleep [seconds]`, an hour by default.

use std::{env, thread, time::Duration};

fn main() {
    let seconds = env::args()
        .nth(1)
        .and_then(|seconds| seconds.parse().ok())
        .unwrap_or(3600.0);
    println!("sleeping {seconds} s");
    thread::sleep(Duration::from_secs_f64(seconds));
    println!("awake");
}
