//! `rm` and `rmdir`.

use std::fs;

use super::copy::told;
use super::tree;
use crate::failure::{Done, usage};
use crate::options::Options;
use crate::streams::Io;
use crate::text::base_name;

pub(super) const RM: &str = "rm [-r] [-f] FILE...: removes files
  -r, -R  directories with all that is in them
  -f      what is not there is no error";
pub(super) const RMDIR: &str = "rmdir DIRECTORY...: removes empty directories";

pub(super) fn rm(args: &[String], io: &mut Io) -> Done {
    let options = Options::parse(args, "rRfi", &[("recursive", 'r'), ("force", 'f')])?;
    let force = options.has("f");
    if options.operands.is_empty() && !force {
        return Err(usage("there is no file"));
    }
    let mut well = true;
    for path in &options.operands {
        if matches!(base_name(path), "." | ".." | "/") {
            io.complain(&format!("rm: refusing to remove '{path}'"));
            well = false;
            continue;
        }
        match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_dir() && !options.has("rR") => {
                io.complain(&format!("rm: '{path}' is a directory"));
                well = false;
            }
            Ok(_) => well &= tree::remove("rm", path, io),
            Err(error) if force && error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                io.complain(&told("rm", "can't remove", path, &error));
                well = false;
            }
        }
    }
    Ok(u8::from(!well))
}

pub(super) fn rmdir(args: &[String], io: &mut Io) -> Done {
    let options = Options::parse(args, "", &[])?;
    if options.operands.is_empty() {
        return Err(usage("there is no directory"));
    }
    let mut well = true;
    for path in &options.operands {
        if let Err(error) = fs::remove_dir(path) {
            io.complain(
                &told("rmdir", "can't remove", path, &error).replace("can't remove '", "'"),
            );
            well = false;
        }
    }
    Ok(u8::from(!well))
}
