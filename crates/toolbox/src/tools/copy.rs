//! `cp`.

use std::fs;

use super::tree::Copy;
use crate::failure::{Done, failed, usage, words};
use crate::options::Options;
use crate::streams::Io;
use crate::text::{base_name, join};

pub(super) const HELP: &str =
    "cp [-r] [-p] [-a] [-f] [-L] FILE... PLACE: copies files to a place or into a directory
  -r, -R  directories with all that is in them, symbolic links as links
  -p      with the time of change; WASI tells no permissions and owners
  -a      both
  -f      what is in the way and cannot be written is removed first
  -L      what symbolic links lead to";

pub(super) fn run(args: &[String], io: &mut Io) -> Done {
    let names = [
        ("recursive", 'r'),
        ("archive", 'a'),
        ("force", 'f'),
        ("dereference", 'L'),
    ];
    let options = Options::parse(args, "rRpafdPLvT", &names)?;
    let copy = Copy {
        recursive: options.has("rRa"),
        links: options.has("rRadP") && !options.has("L"),
        times: options.has("pa"),
        force: options.has("f"),
        verbose: options.has("v"),
    };
    let (place, files) = place_and_files(&options)?;
    let into = !options.has("T") && fs::metadata(place).is_ok_and(|metadata| metadata.is_dir());
    if files.len() > 1 && !into {
        return Err(failed(format!("target '{place}': Not a directory")));
    }
    let mut well = true;
    for file in files {
        let to = if into {
            join(place, base_name(file))
        } else {
            place.to_owned()
        };
        match lies_in(file, &to) {
            Some(true) => {
                io.complain(&format!("cp: '{file}' and '{to}' are the same file"));
                well = false;
            }
            Some(false) if copy.recursive => {
                io.complain(&format!(
                    "cp: recursion detected, omitting directory '{file}'"
                ));
                well = false;
            }
            _ => well &= copy.copy("cp", file, &to, io),
        }
    }
    Ok(u8::from(!well))
}

/// The last operand, and those before it.
pub(super) fn place_and_files(
    options: &Options,
) -> Result<(&str, &[String]), crate::failure::Stop> {
    match options.operands.as_slice() {
        [files @ .., place] if !files.is_empty() => Ok((place, files)),
        _ => Err(usage("files and a place are expected")),
    }
}

/// Whether the copy would be the file itself (true) or lie below it (false).
fn lies_in(file: &str, to: &str) -> Option<bool> {
    let file = fs::canonicalize(file).ok()?;
    let to = match fs::canonicalize(to) {
        Ok(to) => to,
        Err(_) => {
            let parent = match to.trim_end_matches('/').rsplit_once('/') {
                Some(("", _)) => "/",
                Some((parent, _)) => parent,
                None => ".",
            };
            fs::canonicalize(parent).ok()?.join(base_name(to))
        }
    };
    to.starts_with(&file).then_some(to == file)
}

/// What could not be done, in one line.
pub(super) fn told(tool: &str, doing: &str, path: &str, error: &std::io::Error) -> String {
    format!("{tool}: {doing} '{path}': {}", words(error))
}
