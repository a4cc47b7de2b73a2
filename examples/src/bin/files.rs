//! Copies a file of the image to a volume: `files [from] [to]`.

use std::{env, fs, process::ExitCode};

fn main() -> ExitCode {
    let from = env::args().nth(1).unwrap_or_else(|| "/etc/motd".to_owned());
    let to = env::args()
        .nth(2)
        .unwrap_or_else(|| "/data/motd".to_owned());
    match fs::read_to_string(&from) {
        Ok(text) => println!("{from}: {}", text.trim_end()),
        Err(error) => {
            eprintln!("could not read {from}: {error}");
            return ExitCode::FAILURE;
        }
    }
    match fs::copy(&from, &to) {
        Ok(bytes) => println!("{to}: {bytes} bytes written"),
        Err(error) => {
            eprintln!("could not write {to}: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
