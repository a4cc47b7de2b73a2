//! `ln`.

use std::fs;
use std::io::ErrorKind;

use super::tree::symlink;
use crate::failure::{Done, failed, usage, words};
use crate::options::Options;
use crate::streams::Io;
use crate::text::{base_name, join};

pub(super) const HELP: &str = "ln [-s] [-f] [-n] TARGET... [PLACE]: makes links
  -s  symbolic ones; WASI allows no absolute target
  -f  what is in the way is replaced
  -n  a link to a directory is in the way, not a place to link into";

pub(super) fn run(args: &[String], io: &mut Io) -> Done {
    let names = [("symbolic", 's'), ("force", 'f'), ("no-dereference", 'n')];
    let options = Options::parse(args, "sfnT", &names)?;
    let (place, targets) = match options.operands.as_slice() {
        [] => return Err(usage("there is no target")),
        [only] => (".", std::slice::from_ref(only)),
        [targets @ .., place] => (place.as_str(), targets),
    };
    let metadata = if options.has("n") {
        fs::symlink_metadata(place)
    } else {
        fs::metadata(place)
    };
    let into = !options.has("T") && metadata.is_ok_and(|metadata| metadata.is_dir());
    if targets.len() > 1 && !into {
        return Err(failed(format!("target '{place}': Not a directory")));
    }
    let mut code = 0;
    for target in targets {
        let at = if into {
            join(place, base_name(target))
        } else {
            place.to_owned()
        };
        let make = || {
            if options.has("s") {
                symlink(target, &at)
            } else {
                fs::hard_link(target, &at)
            }
        };
        let made = match make() {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && options.has("f") => {
                fs::remove_file(&at).and_then(|()| make())
            }
            made => made,
        };
        if let Err(error) = made {
            let hint = if options.has("s") && target.starts_with('/') {
                ": WASI allows no symbolic link with an absolute target"
            } else {
                ""
            };
            io.complain(&format!("ln: {at}: {}{hint}", words(&error)));
            code = 1;
        }
    }
    Ok(code)
}
