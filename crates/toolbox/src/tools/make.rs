//! `mkdir` and `touch`.

use std::fs::{self, File};
use std::time::SystemTime;

use crate::failure::{Done, usage, words};
use crate::options::Options;
use crate::streams::Io;

pub(super) const MKDIR: &str = "mkdir [-p] DIRECTORY...: makes directories
  -p  with those above them; what is there is no error";
pub(super) const TOUCH: &str =
    "touch [-c] FILE...: makes empty files, or sets their time of change to now
  -c  makes none";

pub(super) fn mkdir(args: &[String], io: &mut Io) -> Done {
    let options = Options::parse(args, "p", &[("parents", 'p')])?;
    if options.operands.is_empty() {
        return Err(usage("there is no directory"));
    }
    let mut code = 0;
    for path in &options.operands {
        let made = if options.has("p") {
            make_all(path)
        } else {
            fs::create_dir(path)
        };
        if let Err(error) = made {
            io.complain(&format!(
                "mkdir: can't create directory '{path}': {}",
                words(&error)
            ));
            code = 1;
        }
    }
    Ok(code)
}

/// `create_dir_all`, without asking for what lies above the guest's root.
pub(super) fn make_all(path: &str) -> std::io::Result<()> {
    let mut at = 0;
    while at < path.len() {
        at = path[at + 1..]
            .find('/')
            .map_or(path.len(), |next| at + 1 + next);
        let directory = &path[..at];
        match fs::create_dir(directory) {
            Err(_) if fs::metadata(directory).is_ok_and(|metadata| metadata.is_dir()) => {}
            made => made?,
        }
    }
    Ok(())
}

pub(super) fn touch(args: &[String], io: &mut Io) -> Done {
    let options = Options::parse(args, "c", &[("no-create", 'c')])?;
    if options.operands.is_empty() {
        return Err(usage("there is no file"));
    }
    let mut code = 0;
    for path in &options.operands {
        let exists = fs::metadata(path).is_ok();
        if !exists && options.has("c") {
            continue;
        }
        let touched = if fs::metadata(path).is_ok_and(|metadata| metadata.is_dir()) {
            File::open(path)
        } else {
            File::options().append(true).create(true).open(path)
        };
        if let Err(error) = touched.and_then(|file| file.set_modified(SystemTime::now())) {
            io.complain(&format!("touch: {path}: {}", words(&error)));
            code = 1;
        }
    }
    Ok(code)
}
