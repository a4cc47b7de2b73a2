//! `tar`: what `kubectl cp` calls, and a little more.

use std::fs::File;
use std::io::{self, Read, Write};

use crate::failure::{Done, Stop, failed, usage, words};
use crate::options::Options;
use crate::streams::Io;

mod create;
mod extract;

pub(super) const HELP: &str = "tar -c|-x|-t [-f ARCHIVE] [-C DIRECTORY] [-v] [FILE]...: makes, unpacks or lists an archive
  -f -    standard input or output, which is also what is taken without -f
  -h      what symbolic links lead to; -T LIST reads names from a file; --exclude PATTERN
  -m      files get the time of now; -k keeps what is there; -O writes contents to standard output
  --strip-components N
  accepted without an effect: -p, -o, --no-same-owner, --no-same-permissions and the like
  WASI tells no permissions and owners: archives say 755 for directories, 644 for files, root for all.
  Compressed archives are not understood.";

/// An error has been told, and what could be done was done.
const INCOMPLETE: u8 = 2;

const LONG: &[(&str, char)] = &[
    ("create", 'c'),
    ("extract", 'x'),
    ("get", 'x'),
    ("list", 't'),
    ("file", 'f'),
    ("directory", 'C'),
    ("verbose", 'v'),
    ("dereference", 'h'),
    ("files-from", 'T'),
    ("exclude", 'X'),
    ("touch", 'm'),
    ("keep-old-files", 'k'),
    ("to-stdout", 'O'),
    ("strip-components", '1'),
    ("gzip", 'z'),
    ("bzip2", 'j'),
    ("xz", 'J'),
    ("preserve-permissions", 'p'),
    ("same-permissions", 'p'),
    ("no-same-permissions", 'p'),
    ("same-owner", 'p'),
    ("no-same-owner", 'p'),
    ("numeric-owner", 'p'),
    ("overwrite", 'p'),
];

pub(super) fn run(args: &[String], io: &mut Io) -> Done {
    // In the shell, the directory is everybody's.
    let before = std::env::current_dir();
    let done = run_in(args, io);
    if let Ok(before) = before {
        drop(std::env::set_current_dir(before));
    }
    done
}

fn run_in(args: &[String], io: &mut Io) -> Done {
    let options = Options::parse(&dashed(args)?, "cxtf:C:vhT:X:mkO1:zjJpo", LONG)?;
    if options.has("zjJ") {
        return Err(failed("compressed archives are not understood"));
    }
    let archive = options.value('f').unwrap_or("-");
    let modes = ["c", "x", "t"].map(|letter| options.has(letter));
    match modes {
        [true, false, false] => {
            let output: Box<dyn Write> = if archive == "-" {
                Box::new(io.output.clone())
            } else {
                Box::new(File::create(archive).map_err(cannot_open(archive))?)
            };
            enter(&options)?;
            create::create(&options, output, archive == "-", io)
        }
        [false, true, false] | [false, false, true] => {
            let input: Box<dyn Read> = if archive == "-" {
                Box::new(io.input.clone())
            } else {
                Box::new(io.open(archive).map_err(cannot_open(archive))?)
            };
            enter(&options)?;
            extract::extract(&options, input, io)
        }
        _ => Err(usage("one of -c, -x and -t is expected")),
    }
}

fn cannot_open(archive: &str) -> impl FnOnce(io::Error) -> Stop {
    move |error| failed(format!("{archive}: Cannot open: {}", words(&error)))
}

fn enter(options: &Options) -> Result<(), Stop> {
    for directory in options.values('C') {
        // Found out here, since a file could be entered as well.
        let entered = match std::fs::metadata(directory) {
            Ok(metadata) if !metadata.is_dir() => Err(io::ErrorKind::NotADirectory.into()),
            Ok(_) => std::env::set_current_dir(directory),
            Err(error) => Err(error),
        };
        entered.map_err(|error| failed(format!("{directory}: Cannot open: {}", words(&error))))?;
    }
    Ok(())
}

/// The old way, `tar cf - file`, as options.
fn dashed(args: &[String]) -> Result<Vec<String>, Stop> {
    let Some((first, rest)) = args
        .split_first()
        .filter(|(first, _)| !first.starts_with('-'))
    else {
        return Ok(args.to_vec());
    };
    let mut rest = rest.iter();
    let mut options = Vec::new();
    for letter in first.chars() {
        options.push(format!("-{letter}"));
        if "fCTX".contains(letter) {
            let value = rest
                .next()
                .ok_or_else(|| usage(format!("option requires an argument -- '{letter}'")))?;
            options.push(value.clone());
        }
    }
    options.extend(rest.cloned());
    Ok(options)
}

/// Tells the name of a member, where it does not disturb the archive.
fn tell(name: &str, on_error: bool, io: &mut Io) -> io::Result<()> {
    if on_error {
        io.complain(name);
        Ok(())
    } else {
        writeln!(io.output, "{name}")
    }
}
