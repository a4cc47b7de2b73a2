//! `head`.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

use crate::failure::{Done, words};
use crate::options::Options;
use crate::streams::{Input, Io};
use crate::text::size;

pub(super) const HELP: &str =
    "head [-n LINES] [-c BYTES] [-q] [-v] [FILE]...: writes the beginning of files (10 lines)
  -n -N, -c -N  all but the last N";

#[derive(Clone, Copy)]
enum Part {
    Lines(usize),
    LinesButLast(usize),
    Bytes(usize),
    BytesButLast(usize),
}

pub(super) fn run(args: &[String], io: &mut Io) -> Done {
    let args = numbered(args);
    let mut options = Options::parse(&args, "n:c:qv", &[("lines", 'n'), ("bytes", 'c')])?;
    let number =
        |text: &str| size(text).map(|number| usize::try_from(number).unwrap_or(usize::MAX));
    let part = match options
        .last_of("nc")
        .and_then(|letter| Some((letter, options.value(letter)?)))
    {
        None => Part::Lines(10),
        Some((letter, text)) => match (letter, text.strip_prefix('-')) {
            ('n', None) => Part::Lines(number(text)?),
            ('n', Some(text)) => Part::LinesButLast(number(text)?),
            (_, None) => Part::Bytes(number(text)?),
            (_, Some(text)) => Part::BytesButLast(number(text)?),
        },
    };
    if options.operands.is_empty() {
        options.operands.push("-".to_owned());
    }
    let titles = options.has("v") || options.operands.len() > 1 && !options.has("q");
    let mut code = 0;
    let mut first = true;
    for path in &options.operands {
        let input = match io.open(path) {
            Ok(input) => input,
            Err(error) => {
                io.complain(&format!("head: {path}: {}", words(&error)));
                code = 1;
                continue;
            }
        };
        if titles {
            title(path, first, io)?;
        }
        first = false;
        let mut wanted = Vec::new();
        match write(input, part, &mut wanted, io) {
            Ok(()) => {}
            Err(Failure::Input(error)) => {
                io.complain(&format!("head: {path}: {}", words(&error)));
                code = 1;
            }
            Err(Failure::Output(error)) => return Err(error.into()),
        }
    }
    Ok(code)
}

/// `-5` is `-n 5`.
pub(super) fn numbered(args: &[String]) -> Vec<String> {
    let mut args = args.to_vec();
    if let Some(first) = args.first_mut()
        && let Some(digits) = first.strip_prefix('-')
        && !digits.is_empty()
        && digits.bytes().all(|byte| byte.is_ascii_digit())
    {
        *first = format!("-n{digits}");
    }
    args
}

/// What stands above the part of one file of several.
pub(super) fn title(path: &str, first: bool, io: &mut Io) -> io::Result<()> {
    let name = if path == "-" { "standard input" } else { path };
    writeln!(io.output, "{}==> {name} <==", if first { "" } else { "\n" })
}

enum Failure {
    Input(io::Error),
    Output(io::Error),
}

fn write(mut input: Input, part: Part, buffer: &mut Vec<u8>, io: &mut Io) -> Result<(), Failure> {
    match part {
        Part::Lines(count) => {
            for _ in 0..count {
                let line = input.line().map_err(Failure::Input)?;
                if line.is_empty() {
                    break;
                }
                io.output.write_all(&line).map_err(Failure::Output)?;
            }
        }
        Part::LinesButLast(count) => {
            let mut held = VecDeque::new();
            loop {
                let line = input.line().map_err(Failure::Input)?;
                if line.is_empty() {
                    break;
                }
                held.push_back(line);
                if held.len() > count
                    && let Some(line) = held.pop_front()
                {
                    io.output.write_all(&line).map_err(Failure::Output)?;
                }
            }
        }
        Part::Bytes(mut left) => {
            buffer.resize(32 * 1024, 0);
            while left > 0 {
                let most = left.min(buffer.len());
                let length = input.read(&mut buffer[..most]).map_err(Failure::Input)?;
                if length == 0 {
                    break;
                }
                io.output
                    .write_all(&buffer[..length])
                    .map_err(Failure::Output)?;
                left -= length;
            }
        }
        Part::BytesButLast(count) => {
            input.read_to_end(buffer).map_err(Failure::Input)?;
            let end = buffer.len().saturating_sub(count);
            io.output
                .write_all(&buffer[..end])
                .map_err(Failure::Output)?;
        }
    }
    Ok(())
}
