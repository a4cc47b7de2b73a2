//! `mv`.

use std::fs;

use super::copy::{place_and_files, told};
use super::tree::{self, Copy};
use crate::failure::{Done, failed};
use crate::options::Options;
use crate::streams::Io;
use crate::text::{base_name, join};

pub(super) const HELP: &str =
    "mv [-f] [-n] FILE... PLACE: moves files to a place or into a directory
  -n  nothing that is there is replaced";

pub(super) fn run(args: &[String], io: &mut Io) -> Done {
    let options = Options::parse(args, "finTv", &[("force", 'f'), ("no-clobber", 'n')])?;
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
        if options.has("n") && fs::symlink_metadata(&to).is_ok() {
            continue;
        }
        let metadata = match fs::symlink_metadata(file) {
            Ok(metadata) => metadata,
            Err(error) => {
                io.complain(&told("mv", "can't rename", file, &error));
                well = false;
                continue;
            }
        };
        match fs::rename(file, &to) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::CrossesDevices => {
                // Another volume.
                let copy = Copy {
                    recursive: metadata.is_dir(),
                    links: true,
                    times: true,
                    ..Copy::default()
                };
                well &= copy.copy("mv", file, &to, io) && tree::remove("mv", file, io);
            }
            Err(error) => {
                io.complain(&told("mv", "can't rename", file, &error));
                well = false;
            }
        }
    }
    Ok(u8::from(!well))
}
