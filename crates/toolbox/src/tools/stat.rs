//! `stat`.

use std::fs::{self, Metadata};
use std::io::Write;
use std::time::SystemTime;

use crate::failure::{Done, words};
use crate::options::Options;
use crate::streams::Io;
use crate::time::Civil;

pub(super) const HELP: &str = "stat [-L] [-c FORMAT] FILE...: what is known of files
  -L  of what a symbolic link leads to
  -c  %n name, %N name and target, %s bytes, %b blocks, %F kind, %x %X accessed, %y %Y changed;
      WASI tells no permissions, owners and inodes: their letters become ?";

pub(super) fn run(args: &[String], io: &mut Io) -> Done {
    let options = Options::parse(args, "Lc:", &[("dereference", 'L'), ("format", 'c')])?;
    if options.operands.is_empty() {
        return Err(crate::failure::usage("there is no file"));
    }
    let mut code = 0;
    for path in &options.operands {
        let metadata = if options.has("L") {
            fs::metadata(path)
        } else {
            fs::symlink_metadata(path)
        };
        match metadata {
            Ok(metadata) => {
                let format = options
                    .value('c')
                    .unwrap_or("  File: %N\n  Size: %s\tBlocks: %b\t%F\nAccess: %x\nModify: %y");
                writeln!(io.output, "{}", formatted(format, path, &metadata))?;
            }
            Err(error) => {
                io.complain(&format!("stat: can't stat '{path}': {}", words(&error)));
                code = 1;
            }
        }
    }
    Ok(code)
}

fn formatted(format: &str, path: &str, metadata: &Metadata) -> String {
    let time = |time: std::io::Result<SystemTime>| time.ok().map(Civil::of);
    let (accessed, modified) = (time(metadata.accessed()), time(metadata.modified()));
    let full = |time: Option<Civil>| time.map_or_else(|| "?".to_owned(), Civil::full);
    let unix =
        |time: Option<Civil>| time.map_or_else(|| "?".to_owned(), |time| time.unix.to_string());
    let mut text = String::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        text.push_str(&match letters.next() {
            Some('n') => path.to_owned(),
            Some('N') => match fs::read_link(path) {
                Ok(target) if metadata.is_symlink() => {
                    format!("'{path}' -> '{}'", target.display())
                }
                _ => path.to_owned(),
            },
            Some('s') => metadata.len().to_string(),
            Some('b') => metadata.len().div_ceil(512).to_string(),
            Some('F') => kind(metadata).to_owned(),
            Some('x') => full(accessed),
            Some('X') => unix(accessed),
            Some('y') => full(modified),
            Some('Y') => unix(modified),
            Some('%') | None => "%".to_owned(),
            Some(_) => "?".to_owned(),
        });
    }
    text
}

fn kind(metadata: &Metadata) -> &'static str {
    if metadata.is_dir() {
        "directory"
    } else if metadata.is_symlink() {
        "symbolic link"
    } else if metadata.is_file() && metadata.len() == 0 {
        "regular empty file"
    } else if metadata.is_file() {
        "regular file"
    } else {
        "neither file, directory nor link"
    }
}
