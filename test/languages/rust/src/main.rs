//! What every guest of `test/languages` does, in Rust: README.md beside says what.

use std::env;
use std::fs;
use std::io::{self, Read as _};
use std::process::ExitCode;

fn main() -> ExitCode {
    println!(
        "arguments: {}",
        env::args().skip(1).collect::<Vec<_>>().join("|")
    );
    println!("COLOUR: {}", env::var("COLOUR").unwrap_or_default());
    let read = fs::read_to_string("/data/in").unwrap_or_else(|error| error.to_string());
    println!("read: {}", read.trim_end());
    match fs::write("/data/out", "written by a guest\n") {
        Ok(()) => println!("written: /data/out"),
        Err(error) => println!("written: {error}"),
    }
    println!("checksum: {:08x}", checksum());
    let mut input = Vec::new();
    match io::stdin().read_to_end(&mut input) {
        Ok(length) => println!("input: {length} bytes"),
        Err(error) => println!("input: {error}"),
    }
    eprintln!("a line of standard error");
    ExitCode::from(7)
}

fn checksum() -> u32 {
    let mut a = 0x6a09_e667_u32;
    let mut b = 0xbb67_ae85_u32;
    for i in 0..100_000_u32 {
        a = (a.rotate_right(6) ^ a.rotate_right(11) ^ a.rotate_right(25))
            .wrapping_add(b)
            .wrapping_add(i);
        b = (b.rotate_right(2) ^ b.rotate_right(13) ^ b.rotate_right(22)) ^ a;
    }
    a ^ b
}
