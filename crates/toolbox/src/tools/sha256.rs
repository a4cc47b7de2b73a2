//! `sha256sum`.

use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};

use crate::failure::{Done, words};
use crate::options::Options;
use crate::streams::{Input, Io};

pub(super) const HELP: &str = "sha256sum [FILE]...: SHA-256 of files, or of standard input
sha256sum -c [-s] [LIST]...: checks the files of such lists
  -s  only by the exit code";

pub(super) fn run(args: &[String], io: &mut Io) -> Done {
    let mut options = Options::parse(args, "csbw", &[("check", 'c'), ("status", 's')])?;
    if options.operands.is_empty() {
        options.operands.push("-".to_owned());
    }
    let mut code = 0;
    for path in &options.operands {
        if options.has("c") {
            code |= check(path, options.has("s"), io)?;
        } else {
            match io.open(path).and_then(sum) {
                Ok(sum) => writeln!(io.output, "{sum}  {path}")?,
                Err(error) => {
                    io.complain(&format!(
                        "sha256sum: can't open '{path}': {}",
                        words(&error)
                    ));
                    code = 1;
                }
            }
        }
    }
    Ok(code)
}

fn sum(mut input: Input) -> io::Result<String> {
    let mut state = Sha256::new();
    let mut buffer = vec![0; 32 * 1024];
    loop {
        match input.read(&mut buffer)? {
            0 => break,
            length => state.update(&buffer[..length]),
        }
    }
    Ok(state
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

fn check(list: &str, silent: bool, io: &mut Io) -> Done {
    let lines = match io.open(list) {
        Ok(lines) => lines,
        Err(error) => {
            io.complain(&format!(
                "sha256sum: can't open '{list}': {}",
                words(&error)
            ));
            return Ok(1);
        }
    };
    let (mut total, mut wrong) = (0, 0);
    loop {
        let line = match lines.line() {
            Ok(line) if line.is_empty() => break,
            Ok(line) => String::from_utf8_lossy(&line)
                .trim_end_matches('\n')
                .to_owned(),
            Err(error) => {
                io.complain(&format!("sha256sum: {list}: {}", words(&error)));
                return Ok(1);
            }
        };
        let Some((expected, path)) = line.split_once("  ").or_else(|| line.split_once(" *")) else {
            io.complain("sha256sum: invalid format");
            return Ok(1);
        };
        total += 1;
        let verdict = match io.open(path).and_then(sum) {
            Ok(actual) if actual.eq_ignore_ascii_case(expected) => "OK",
            Ok(_) => "FAILED",
            Err(error) => {
                io.complain(&format!(
                    "sha256sum: can't open '{path}': {}",
                    words(&error)
                ));
                "FAILED"
            }
        };
        wrong += u32::from(verdict != "OK");
        if !silent {
            writeln!(io.output, "{path}: {verdict}")?;
        }
    }
    if wrong > 0 && !silent {
        io.complain(&format!(
            "sha256sum: WARNING: {wrong} of {total} computed checksums did NOT match"
        ));
    }
    if total == 0 {
        io.complain("sha256sum: no checksum lines found");
    }
    Ok(u8::from(wrong > 0 || total == 0))
}
