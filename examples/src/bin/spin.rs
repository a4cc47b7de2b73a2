//! Never yields. A signal ends it all the same.

use std::hint::black_box;

fn main() {
    println!("spinning");
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}
