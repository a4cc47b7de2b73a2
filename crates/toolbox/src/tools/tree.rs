//! Whole trees: copied and removed.

use std::fs::{self, File, FileTimes, Metadata};
use std::io;

use crate::failure::words;
use crate::streams::Io;
use crate::text::join;

/// Deeper than any tree that is meant so.
const DEEPEST: usize = 256;

/// How a copy is made.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Copy {
    /// Directories too.
    pub(super) recursive: bool,
    /// Symbolic links as such.
    pub(super) links: bool,
    /// With the time of change.
    pub(super) times: bool,
    /// What is in the way is removed first.
    pub(super) force: bool,
    /// Each name is told.
    pub(super) verbose: bool,
}

impl Copy {
    /// Copies `from` to `to`, itself and not into it; complains as `tool`. Whether all went well.
    pub(super) fn copy(self, tool: &str, from: &str, to: &str, io: &mut Io) -> bool {
        self.at(tool, from, to, io, 0)
    }

    fn at(self, tool: &str, from: &str, to: &str, io: &mut Io, depth: usize) -> bool {
        let metadata = if self.links {
            fs::symlink_metadata(from)
        } else {
            fs::metadata(from)
        };
        let metadata = match metadata {
            Ok(metadata) => metadata,
            Err(error) => {
                io.complain(&format!("{tool}: can't stat '{from}': {}", words(&error)));
                return false;
            }
        };
        if metadata.is_dir() {
            if !self.recursive {
                io.complain(&format!("{tool}: omitting directory '{from}'"));
                return false;
            }
            if depth > DEEPEST {
                io.complain(&format!(
                    "{tool}: '{from}' is deeper than {DEEPEST} directories"
                ));
                return false;
            }
            return self.directory(tool, from, to, &metadata, io, depth);
        }
        let done = if metadata.is_symlink() {
            copy_link(from, to)
        } else if metadata.is_file() {
            self.file(from, to, &metadata)
        } else {
            Err(io::Error::other("it is neither file, directory nor link"))
        };
        if let Err(error) = &done {
            io.complain(&format!("{tool}: can't create '{to}': {}", words(error)));
        } else if self.verbose {
            io.complain(&format!("'{from}' -> '{to}'"));
        }
        done.is_ok()
    }

    fn directory(
        self,
        tool: &str,
        from: &str,
        to: &str,
        metadata: &Metadata,
        io: &mut Io,
        depth: usize,
    ) -> bool {
        // Read before the copy is made, which may lie in it.
        let names = match names(from) {
            Ok(names) => names,
            Err(error) => {
                io.complain(&format!("{tool}: can't open '{from}': {}", words(&error)));
                return false;
            }
        };
        if let Err(error) = fs::create_dir(to)
            && !fs::metadata(to).is_ok_and(|metadata| metadata.is_dir())
        {
            io.complain(&format!(
                "{tool}: can't create directory '{to}': {}",
                words(&error)
            ));
            return false;
        }
        let mut well = true;
        for name in names {
            well &= self.at(tool, &join(from, &name), &join(to, &name), io, depth + 1);
        }
        if self.times {
            // Not every file system has times.
            drop(File::open(to).and_then(|file| set_times(&file, metadata)));
        }
        well
    }

    fn file(self, from: &str, to: &str, metadata: &Metadata) -> io::Result<()> {
        let mut source = File::open(from)?;
        let mut copy = match File::create(to) {
            Err(_) if self.force && fs::remove_file(to).is_ok() => File::create(to),
            made => made,
        }?;
        io::copy(&mut source, &mut copy)?;
        if self.times {
            drop(set_times(&copy, metadata));
        }
        Ok(())
    }
}

fn copy_link(from: &str, to: &str) -> io::Result<()> {
    let target = fs::read_link(from)?;
    match symlink(&target.to_string_lossy(), to) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(to)?;
            symlink(&target.to_string_lossy(), to)
        }
        made => made,
    }
}

fn set_times(file: &File, metadata: &Metadata) -> io::Result<()> {
    let times = FileTimes::new()
        .set_modified(metadata.modified()?)
        .set_accessed(metadata.accessed()?);
    file.set_times(times)
}

/// Makes a symbolic link. WASI refuses one with an absolute target.
pub(super) fn symlink(target: &str, at: &str) -> io::Result<()> {
    #[expect(deprecated, reason = "the one call of std that every target has")]
    fs::soft_link(target, at)
}

/// The names in a directory, sorted.
pub(super) fn names(directory: &str) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Removes what is there, directories with all that is in them. Links are not followed.
pub(super) fn remove(tool: &str, path: &str, io: &mut Io) -> bool {
    let is_directory = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    let mut well = true;
    if is_directory {
        match names(path) {
            Ok(names) => {
                for name in names {
                    well &= remove(tool, &join(path, &name), io);
                }
            }
            Err(error) => {
                io.complain(&format!("{tool}: can't open '{path}': {}", words(&error)));
                return false;
            }
        }
    }
    let removed = if is_directory {
        fs::remove_dir(path)
    } else {
        fs::remove_file(path)
    };
    if let Err(error) = removed {
        // What could not be emptied has been told.
        if well {
            io.complain(&format!("{tool}: can't remove '{path}': {}", words(&error)));
        }
        well = false;
    }
    well
}
