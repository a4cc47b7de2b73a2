//! `tail`.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::time::Duration;

use super::head::{numbered, title};
use crate::failure::{Done, failed, usage, words};
use crate::options::Options;
use crate::streams::{Input, Io};
use crate::text::size;

pub(super) const HELP: &str = "tail [-n LINES] [-c BYTES] [-f] [-s SECONDS] [-q] [-v] [FILE]...: writes the end of files (10 lines)
  -n +N, -c +N  from the Nth on
  -f            goes on with what is written to the files later, looking every second";

#[derive(Clone, Copy)]
enum Part {
    LastLines(usize),
    FromLine(usize),
    LastBytes(usize),
    FromByte(usize),
}

pub(super) fn run(args: &[String], io: &mut Io) -> Done {
    let args = numbered(args);
    let names = [("lines", 'n'), ("bytes", 'c'), ("follow", 'f')];
    let mut options = Options::parse(&args, "n:c:fFs:qv", &names)?;
    let part = part(&options)?;
    let pause = match options.value('s') {
        None => Duration::from_secs(1),
        Some(text) => super::sleep::duration(text)?.max(Duration::from_millis(10)),
    };
    if options.operands.is_empty() {
        options.operands.push("-".to_owned());
    }
    let titles = options.has("v") || options.operands.len() > 1 && !options.has("q");
    let mut code = 0;
    let mut followed = Vec::new();
    let mut first = true;
    for path in &options.operands {
        match show(path, part, titles, first, io) {
            Ok(end) => {
                first = false;
                if path != "-" {
                    followed.push((path.as_str(), end));
                }
            }
            Err(Failure::Output(error)) => return Err(error.into()),
            Err(Failure::Input(error)) => {
                io.complain(&format!("tail: {path}: {}", words(&error)));
                code = 1;
            }
        }
    }
    if !options.has("fF") || followed.is_empty() {
        return Ok(code);
    }
    if io.piped {
        return Err(failed(
            "-f never ends, and the next tool of a pipe gets its input when this one has ended",
        ));
    }
    follow(followed, pause, titles, io)
}

fn part(options: &Options) -> Result<Part, crate::failure::Stop> {
    let chosen = options.last_of("nc");
    let Some((letter, text)) = chosen.and_then(|letter| Some((letter, options.value(letter)?)))
    else {
        return Ok(Part::LastLines(10));
    };
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let number =
        usize::try_from(size(digits)?).map_err(|_| usage(format!("invalid number '{text}'")))?;
    Ok(match (letter, text.starts_with('+')) {
        ('n', false) => Part::LastLines(number),
        ('n', true) => Part::FromLine(number),
        (_, false) => Part::LastBytes(number),
        (_, true) => Part::FromByte(number),
    })
}

enum Failure {
    Input(io::Error),
    Output(io::Error),
}

/// Writes the part of one file; returns where it ends.
fn show(path: &str, part: Part, titles: bool, first: bool, io: &mut Io) -> Result<u64, Failure> {
    if path == "-" {
        if titles {
            title(path, first, io).map_err(Failure::Output)?;
        }
        let input = io.input.clone();
        write(input, part, io)?;
        return Ok(0);
    }
    let mut file = File::open(path).map_err(Failure::Input)?;
    let metadata = file.metadata().map_err(Failure::Input)?;
    if metadata.is_dir() {
        return Err(Failure::Input(io::ErrorKind::IsADirectory.into()));
    }
    if titles {
        title(path, first, io).map_err(Failure::Output)?;
    }
    // The end of a large file is found without reading all of it.
    let length = metadata.len();
    let start = match part {
        Part::LastBytes(count) => length.saturating_sub(count as u64),
        Part::FromByte(number) => (number.saturating_sub(1) as u64).min(length),
        Part::LastLines(count) => last_lines(&mut file, length, count).map_err(Failure::Input)?,
        Part::FromLine(_) => 0,
    };
    file.seek(SeekFrom::Start(start)).map_err(Failure::Input)?;
    let rest = match part {
        Part::FromLine(number) => Part::FromLine(number),
        _ => Part::FromByte(0),
    };
    let end = file.try_clone().map_err(Failure::Input);
    write(Input::file(file), rest, io)?;
    match end {
        Ok(mut end) => end.stream_position().map_err(Failure::Input),
        // WASI has no second descriptor for a file.
        Err(_) => Ok(std::fs::metadata(path).map_err(Failure::Input)?.len()),
    }
}

/// Where the last lines of a file begin.
fn last_lines(file: &mut File, length: u64, count: usize) -> io::Result<u64> {
    if count == 0 {
        return Ok(length);
    }
    let mut end = length;
    let mut found = 0;
    let mut block = vec![0; 16 * 1024];
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        let size = usize::try_from(end - start).unwrap_or(block.len());
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut block[..size])?;
        for (at, byte) in block[..size].iter().enumerate().rev() {
            let position = start + at as u64;
            if *byte == b'\n' && position + 1 != length {
                found += 1;
                if found == count {
                    return Ok(position + 1);
                }
            }
        }
        end = start;
    }
    Ok(0)
}

fn write(mut input: Input, part: Part, io: &mut Io) -> Result<(), Failure> {
    match part {
        Part::LastLines(count) => {
            let mut held = VecDeque::new();
            loop {
                let line = input.line().map_err(Failure::Input)?;
                if line.is_empty() {
                    break;
                }
                held.push_back(line);
                if held.len() > count {
                    held.pop_front();
                }
            }
            for line in held {
                io.output.write_all(&line).map_err(Failure::Output)?;
            }
        }
        Part::LastBytes(count) => {
            let mut bytes = Vec::new();
            input.read_to_end(&mut bytes).map_err(Failure::Input)?;
            let start = bytes.len().saturating_sub(count);
            io.output
                .write_all(&bytes[start..])
                .map_err(Failure::Output)?;
        }
        Part::FromLine(number) => {
            for _ in 1..number {
                input.line().map_err(Failure::Input)?;
            }
            copy(input, 0, io)?;
        }
        Part::FromByte(number) => copy(input, number.saturating_sub(1), io)?,
    }
    Ok(())
}

fn copy(mut input: Input, mut skip: usize, io: &mut Io) -> Result<(), Failure> {
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let length = input.read(&mut buffer).map_err(Failure::Input)?;
        if length == 0 {
            return Ok(());
        }
        let start = skip.min(length);
        skip -= start;
        io.output
            .write_all(&buffer[start..length])
            .map_err(Failure::Output)?;
    }
}

/// Writes what comes, for as long as somebody reads it.
fn follow(mut files: Vec<(&str, u64)>, pause: Duration, titles: bool, io: &mut Io) -> Done {
    let mut last = files.len() - 1;
    loop {
        io.output.flush()?;
        std::thread::sleep(pause);
        for (index, (path, end)) in files.iter_mut().enumerate() {
            // It may come back, under the same name.
            let Ok(mut file) = File::open(&path) else {
                continue;
            };
            let length = file.metadata().map_or(0, |metadata| metadata.len());
            if length < *end {
                io.complain(&format!("tail: {path}: file truncated"));
                *end = 0;
            }
            if length == *end || file.seek(SeekFrom::Start(*end)).is_err() {
                continue;
            }
            if titles && index != last {
                title(path, false, io)?;
                last = index;
            }
            let mut bytes = Vec::new();
            if file.take(length - *end).read_to_end(&mut bytes).is_ok() {
                io.output.write_all(&bytes)?;
                *end += bytes.len() as u64;
            }
        }
    }
}
