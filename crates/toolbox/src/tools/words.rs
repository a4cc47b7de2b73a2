//! Small tools about names and counts: `basename`, `dirname`, `pwd`, `wc`.

use std::io::{Read, Write};

use crate::failure::{Done, failed, usage, words};
use crate::options::Options;
use crate::streams::{Input, Io};
use crate::text::base_name;

pub(super) const BASENAME: &str = "basename PATH [SUFFIX]: the last part of a path";
pub(super) const DIRNAME: &str = "dirname PATH: a path without its last part";
pub(super) const PWD: &str = "pwd: the working directory";
pub(super) const COUNT: &str = "wc [-l] [-w] [-c] [FILE]...: counts lines, words and bytes";

pub(super) fn basename(args: &[String], io: &mut Io) -> Done {
    let (path, suffix) = match args {
        [path] => (path, ""),
        [path, suffix] => (path, suffix.as_str()),
        _ => return Err(usage("one path and perhaps a suffix are expected")),
    };
    let name = base_name(path);
    let name = name
        .strip_suffix(suffix)
        .filter(|name| !name.is_empty())
        .unwrap_or(name);
    writeln!(io.output, "{name}")?;
    Ok(0)
}

pub(super) fn dirname(args: &[String], io: &mut Io) -> Done {
    let [path] = args else {
        return Err(usage("one path is expected"));
    };
    let trimmed = path.trim_end_matches('/');
    let directory = match trimmed.rsplit_once('/') {
        Some((directory, _)) => match directory.trim_end_matches('/') {
            "" => "/",
            directory => directory,
        },
        None if trimmed.is_empty() && !path.is_empty() => "/",
        None => ".",
    };
    writeln!(io.output, "{directory}")?;
    Ok(0)
}

pub(super) fn pwd(_: &[String], io: &mut Io) -> Done {
    let directory = std::env::current_dir().map_err(|error| failed(words(&error)))?;
    writeln!(io.output, "{}", directory.display())?;
    Ok(0)
}

#[derive(Clone, Copy, Default)]
struct Count {
    lines: u64,
    words: u64,
    bytes: u64,
}

pub(super) fn count(args: &[String], io: &mut Io) -> Done {
    let options = Options::parse(
        args,
        "lwc",
        &[("lines", 'l'), ("words", 'w'), ("bytes", 'c')],
    )?;
    let chosen = if options.has("lwc") {
        ["l", "w", "c"].map(|letter| options.has(letter))
    } else {
        [true; 3]
    };
    let mut total = Count::default();
    let mut code = 0;
    if options.operands.is_empty() {
        let count = counted(io.input.clone()).map_err(|error| failed(words(&error)))?;
        show(count, chosen, None, true, io)?;
        return Ok(0);
    }
    let alone = options.operands.len() == 1;
    for path in &options.operands {
        match io.open(path).and_then(counted) {
            Ok(count) => {
                total.lines += count.lines;
                total.words += count.words;
                total.bytes += count.bytes;
                show(count, chosen, Some(path), alone, io)?;
            }
            Err(error) => {
                io.complain(&format!("wc: {path}: {}", words(&error)));
                code = 1;
            }
        }
    }
    if options.operands.len() > 1 {
        show(total, chosen, Some("total"), alone, io)?;
    }
    Ok(code)
}

fn counted(mut input: Input) -> std::io::Result<Count> {
    let mut count = Count::default();
    let mut buffer = vec![0; 32 * 1024];
    let mut in_word = false;
    loop {
        let length = input.read(&mut buffer)?;
        if length == 0 {
            return Ok(count);
        }
        for byte in &buffer[..length] {
            count.bytes += 1;
            count.lines += u64::from(*byte == b'\n');
            let blank = byte.is_ascii_whitespace() || *byte == 11;
            count.words += u64::from(in_word == blank && !blank);
            in_word = !blank;
        }
    }
}

fn show(
    count: Count,
    chosen: [bool; 3],
    name: Option<&str>,
    alone: bool,
    io: &mut Io,
) -> std::io::Result<()> {
    let numbers: Vec<u64> = [count.lines, count.words, count.bytes]
        .into_iter()
        .zip(chosen)
        .filter_map(|(number, chosen)| chosen.then_some(number))
        .collect();
    let columns = match numbers.as_slice() {
        [only] if alone => only.to_string(),
        several => several
            .iter()
            .map(|number| format!("{number:9}"))
            .collect::<Vec<_>>()
            .join(" "),
    };
    match name {
        Some(name) => writeln!(io.output, "{columns} {name}"),
        None => writeln!(io.output, "{columns}"),
    }
}
