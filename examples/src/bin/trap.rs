//! Traps, three calls deep: the log shows the functions' names, the exit code is 134.

use std::hint::black_box;

fn main() {
    println!("about to trap");
    outer(3);
}

#[inline(never)]
fn outer(depth: u32) {
    if black_box(depth) == 0 {
        inner();
    }
    outer(depth - 1);
    black_box(depth);
}

#[inline(never)]
fn inner() -> ! {
    core::arch::wasm32::unreachable()
}
