//! `cat`.

use std::io::{Read, Write};

use crate::failure::{Done, words};
use crate::options::Options;
use crate::streams::{Input, Io};

pub(super) const HELP: &str =
    "cat [-n] [FILE]...: writes files, or standard input, one after the other
  -n  with the number of each line";

pub(super) fn run(args: &[String], io: &mut Io) -> Done {
    let mut options = Options::parse(args, "nu", &[("number", 'n')])?;
    if options.operands.is_empty() {
        options.operands.push("-".to_owned());
    }
    let mut code = 0;
    let mut line = 0;
    for path in &options.operands {
        match io.open(path) {
            Ok(input) if options.has("n") => numbered(&input, &mut line, path, io, &mut code)?,
            Ok(input) => code |= copy(input, path, io, "cat")?,
            Err(error) => {
                io.complain(&format!("cat: can't open '{path}': {}", words(&error)));
                code = 1;
            }
        }
    }
    Ok(code)
}

/// Copies to the output, as bytes come: a terminal's reader sees them at once.
pub(super) fn copy(mut input: impl Read, path: &str, io: &mut Io, tool: &str) -> Done {
    let mut buffer = vec![0; 32 * 1024];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return Ok(0),
            Ok(length) => {
                io.output.write_all(&buffer[..length])?;
                if path == "-" {
                    io.output.flush()?;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => {
                io.complain(&format!("{tool}: {path}: {}", words(&error)));
                return Ok(1);
            }
        }
    }
}

fn numbered(
    input: &Input,
    number: &mut u64,
    path: &str,
    io: &mut Io,
    code: &mut u8,
) -> std::io::Result<()> {
    loop {
        match input.line() {
            Ok(line) if line.is_empty() => return Ok(()),
            Ok(line) => {
                *number += 1;
                write!(io.output, "{number:6}\t")?;
                io.output.write_all(&line)?;
            }
            Err(error) => {
                io.complain(&format!("cat: {path}: {}", words(&error)));
                *code = 1;
                return Ok(());
            }
        }
    }
}
