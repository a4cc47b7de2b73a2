//! Archives, made.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::time::UNIX_EPOCH;

use tar::{Builder, EntryType, Header};

use super::super::tree;
use super::{INCOMPLETE, tell};
use crate::failure::{Done, Stop, failed, words};
use crate::options::Options;
use crate::streams::Io;
use crate::text::{join, matches};

struct Creation<'a> {
    builder: Builder<Box<dyn Write>>,
    options: &'a Options,
    /// The archive goes where names would else be told.
    on_stdout: bool,
    /// That something was cut off the names has been told.
    told: bool,
    well: bool,
}

pub(super) fn create(
    options: &Options,
    output: Box<dyn Write>,
    on_stdout: bool,
    io: &mut Io,
) -> Done {
    let mut files = options.operands.clone();
    for list in options.values('T') {
        let mut text = String::new();
        io.open(list)
            .and_then(|mut list| list.read_to_string(&mut text))
            .map_err(|error| failed(format!("{list}: Cannot open: {}", words(&error))))?;
        files.extend(text.lines().map(str::to_owned));
    }
    if files.is_empty() {
        return Err(failed("Cowardly refusing to create an empty archive"));
    }
    let mut creation = Creation {
        builder: Builder::new(output),
        options,
        on_stdout,
        told: false,
        well: true,
    };
    for file in &files {
        creation.add(file, io)?;
    }
    creation.builder.into_inner()?.flush()?;
    if creation.well {
        return Ok(0);
    }
    io.complain("tar: Exiting with failure status due to previous errors");
    Ok(INCOMPLETE)
}

impl Creation<'_> {
    fn add(&mut self, path: &str, io: &mut Io) -> Result<(), Stop> {
        let metadata = if self.options.has("h") {
            fs::metadata(path)
        } else {
            fs::symlink_metadata(path)
        };
        let metadata = match metadata {
            Ok(metadata) => metadata,
            Err(error) => {
                self.complain(path, "Cannot stat", &error, io);
                return Ok(());
            }
        };
        let mut name = self.member(path, io);
        let excluded = |pattern: &str| {
            matches(pattern, path) || path.split('/').any(|part| matches(pattern, part))
        };
        if self.options.values('X').any(excluded) {
            return Ok(());
        }
        if metadata.is_dir() && !name.ends_with('/') {
            name.push('/');
        }
        if self.options.has("v") {
            tell(&name, self.on_stdout, io)?;
        }
        let mut header = header(&metadata);
        if metadata.is_dir() {
            self.builder.append_data(&mut header, &name, io::empty())?;
            match tree::names(path) {
                Ok(names) => {
                    for name in names {
                        self.add(&join(path, &name), io)?;
                    }
                }
                Err(error) => self.complain(path, "Cannot open", &error, io),
            }
        } else if metadata.is_symlink() {
            match fs::read_link(path) {
                Ok(target) => self.builder.append_link(&mut header, &name, target)?,
                Err(error) => self.complain(path, "Cannot readlink", &error, io),
            }
        } else if metadata.is_file() {
            match File::open(path) {
                Ok(file) => {
                    let mut content = Content {
                        file,
                        left: metadata.len(),
                        failure: None,
                    };
                    self.builder.append_data(&mut header, &name, &mut content)?;
                    if let Some(error) = content.failure {
                        self.complain(path, "Read error, the rest is zeros", &error, io);
                    }
                }
                Err(error) => self.complain(path, "Cannot open", &error, io),
            }
        } else {
            io.complain(&format!(
                "tar: {path}: neither file, directory nor link: left out"
            ));
        }
        Ok(())
    }

    fn complain(&mut self, path: &str, what: &str, error: &io::Error, io: &mut Io) {
        io.complain(&format!("tar: {path}: {what}: {}", words(error)));
        self.well = false;
    }

    /// The path without what would lead out of a directory that the archive is unpacked in.
    fn member(&mut self, path: &str, io: &mut Io) -> String {
        let (mut end, mut start) = (0, 0);
        for part in path.split('/') {
            end = (end + part.len() + 1).min(path.len());
            if part == ".." {
                start = end;
            }
        }
        let after_dots = &path[start..];
        let name = after_dots.trim_start_matches('/');
        let cut = &path[..path.len() - name.len()];
        if !cut.is_empty() && !self.told {
            io.complain(&format!("tar: Removing leading '{cut}' from member names"));
            self.told = true;
        }
        if name.is_empty() {
            ".".to_owned()
        } else {
            name.to_owned()
        }
    }
}

fn header(metadata: &Metadata) -> Header {
    let mut header = Header::new_gnu();
    let (kind, mode, size) = if metadata.is_dir() {
        (EntryType::Directory, 0o755, 0)
    } else if metadata.is_symlink() {
        (EntryType::Symlink, 0o777, 0)
    } else {
        (EntryType::Regular, 0o644, metadata.len())
    };
    let modified = metadata
        .modified()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
        .map_or(0, |since| since.as_secs());
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(modified);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// Exactly as many bytes as the header says, whatever happens to the file meanwhile.
struct Content {
    file: File,
    left: u64,
    failure: Option<io::Error>,
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let buffer = &mut buffer[..most];
        if most == 0 {
            return Ok(0);
        }
        let read = match &self.failure {
            None => self.file.read(buffer),
            Some(_) => Ok(0),
        };
        let length = match read {
            Ok(0) => {
                self.failure
                    .get_or_insert_with(|| io::Error::other("file shrank"));
                buffer.fill(0);
                most
            }
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                self.failure = Some(error);
                buffer.fill(0);
                most
            }
        };
        self.left -= length as u64;
        Ok(length)
    }
}
