//! What every runtime runs: one line of output, or a long sleep. The bench compiles it for Wasm, and for this
//! machine as a static program, with the same options.

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("sleep") => std::thread::sleep(std::time::Duration::from_secs(1_000_000)),
        _ => println!("hello from a container"),
    }
}
