//! Archives, unpacked or listed. Who made them is not trusted: a name that leads out of the directory is refused, a link
//! that does is made last, so that nothing is written through it.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::time::{Duration, UNIX_EPOCH};

use tar::{Archive, Entry, EntryType};

use super::super::make::make_all;
use super::super::tree::symlink;
use super::{INCOMPLETE, tell};
use crate::failure::{Done, Stop, failed, usage, words};
use crate::options::Options;
use crate::streams::Io;
use crate::text::matches;
use crate::time::Civil;

struct Extraction<'a> {
    options: &'a Options,
    strip: usize,
    /// Links that lead out, and directories with their times: the last things to do.
    links: Vec<(String, String)>,
    times: Vec<(String, u64)>,
    told: bool,
    well: bool,
}

pub(super) fn extract(options: &Options, input: Box<dyn Read>, io: &mut Io) -> Done {
    let strip = options.value('1').map_or(Ok(0), |text| {
        text.parse()
            .map_err(|_| usage(format!("invalid number '{text}'")))
    })?;
    let mut extraction = Extraction {
        options,
        strip,
        links: Vec::new(),
        times: Vec::new(),
        told: false,
        well: true,
    };
    let mut archive = Archive::new(input);
    let entries = archive.entries().map_err(|error| damaged(&error))?;
    let mut count = 0;
    for entry in entries {
        extraction.entry(&mut entry.map_err(|error| damaged(&error))?, io)?;
        count += 1;
    }
    if count == 0 && options.has("x") {
        // Two blocks of zeros are an archive of nothing; so is nothing at all, for those who copy nothing.
        return Ok(0);
    }
    extraction.finish(io);
    if extraction.well {
        return Ok(0);
    }
    io.complain("tar: Exiting with failure status due to previous errors");
    Ok(INCOMPLETE)
}

fn damaged(error: &io::Error) -> Stop {
    failed(format!(
        "this is no tar archive, or a damaged one: {}",
        words(error)
    ))
}

impl Extraction<'_> {
    fn entry(&mut self, entry: &mut Entry<'_, impl Read>, io: &mut Io) -> Result<(), Stop> {
        let full = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let wanted = self.options.operands.is_empty()
            || self.options.operands.iter().any(|operand| {
                let operand = operand.trim_end_matches('/');
                full == operand
                    || full
                        .strip_prefix(operand)
                        .is_some_and(|rest| rest.starts_with('/'))
            });
        let excluded = |pattern: &str| {
            matches(pattern, &full) || full.split('/').any(|part| matches(pattern, part))
        };
        if !wanted || self.options.values('X').any(excluded) {
            return Ok(());
        }
        if self.options.has("t") {
            return Ok(self.list(entry, &full, io)?);
        }
        let Some(name) = self.inside(&full, io) else {
            return Ok(());
        };
        let name = match self.strip {
            0 => name,
            count => match name.splitn(count + 1, '/').nth(count) {
                Some(rest) if !rest.is_empty() => rest.to_owned(),
                _ => return Ok(()),
            },
        };
        if self.options.has("v") {
            tell(&full, self.options.has("O"), io)?;
        }
        if self.options.has("O") {
            if entry.header().entry_type().is_file() {
                io::copy(entry, &mut io.output)?;
            }
            return Ok(());
        }
        if let Err(error) = self.unpack(entry, &name, io) {
            io.complain(&format!("tar: {name}: Cannot create: {}", words(&error)));
            self.well = false;
        }
        Ok(())
    }

    fn list(&self, entry: &Entry<'_, impl Read>, name: &str, io: &mut Io) -> io::Result<()> {
        if !self.options.has("v") {
            return writeln!(io.output, "{name}");
        }
        let header = entry.header();
        let kind = match header.entry_type() {
            EntryType::Directory => 'd',
            EntryType::Symlink => 'l',
            EntryType::Link => 'h',
            _ => '-',
        };
        let mode = header.mode().unwrap_or(0);
        let bits: String = (0..9)
            .rev()
            .map(|bit| match (mode >> bit & 1, bit % 3) {
                (0, _) => '-',
                (_, 2) => 'r',
                (_, 1) => 'w',
                _ => 'x',
            })
            .collect();
        let time = UNIX_EPOCH + Duration::from_secs(header.mtime().unwrap_or(0));
        let target = entry
            .link_name_bytes()
            .map(|target| String::from_utf8_lossy(&target).into_owned());
        let target = match (kind, target) {
            ('l', Some(target)) => format!(" -> {target}"),
            ('h', Some(target)) => format!(" link to {target}"),
            _ => String::new(),
        };
        writeln!(
            io.output,
            "{kind}{bits} {}/{} {:>9} {} {name}{target}",
            header.uid().unwrap_or(0),
            header.gid().unwrap_or(0),
            entry.size(),
            Civil::of(time).minute(),
        )
    }

    /// The name below the directory; `None` (and told) if it leads out of it.
    fn inside(&mut self, full: &str, io: &mut Io) -> Option<String> {
        let name = full.trim_start_matches('/');
        if name.len() < full.len() && !self.told {
            io.complain("tar: Removing leading '/' from member names");
            self.told = true;
        }
        if name.split('/').any(|part| part == "..") {
            io.complain(&format!("tar: {full}: Member name contains '..'"));
            self.well = false;
            return None;
        }
        let parts: Vec<&str> = name
            .split('/')
            .filter(|part| !part.is_empty() && *part != ".")
            .collect();
        Some(if parts.is_empty() {
            ".".to_owned()
        } else {
            parts.join("/")
        })
    }

    fn unpack(
        &mut self,
        entry: &mut Entry<'_, impl Read>,
        name: &str,
        io: &mut Io,
    ) -> io::Result<()> {
        if let Some((parent, _)) = name.rsplit_once('/') {
            make_all(parent)?;
        }
        let modified = entry
            .header()
            .mtime()
            .ok()
            .filter(|_| !self.options.has("m"));
        let link = || {
            entry
                .link_name_bytes()
                .map(|target| String::from_utf8_lossy(&target).into_owned())
                .unwrap_or_default()
        };
        match entry.header().entry_type() {
            EntryType::Directory => {
                make_all(name)?;
                self.times
                    .extend(modified.map(|time| (name.to_owned(), time)));
            }
            EntryType::Symlink => {
                let target = link();
                if target.starts_with('/') || target.split('/').any(|part| part == "..") {
                    self.links.push((name.to_owned(), target));
                } else {
                    self.clear(name)?;
                    symlink(&target, name)?;
                }
            }
            EntryType::Link => {
                let target = link();
                if let Some(target) = self.inside(&target, io) {
                    self.clear(name)?;
                    fs::hard_link(target, name)?;
                }
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.clear(name)?;
                let mut file = File::options().write(true).create_new(true).open(name)?;
                io::copy(entry, &mut file)?;
                if let Some(time) = modified {
                    drop(file.set_modified(UNIX_EPOCH + Duration::from_secs(time)));
                }
            }
            _ => {
                return Err(io::Error::other(
                    "devices, pipes and sockets cannot be made by a guest",
                ));
            }
        }
        Ok(())
    }

    /// Nothing is written through what is there.
    fn clear(&self, name: &str) -> io::Result<()> {
        match fs::symlink_metadata(name) {
            Err(_) => Ok(()),
            Ok(_) if self.options.has("k") => Err(io::ErrorKind::AlreadyExists.into()),
            Ok(metadata) if metadata.is_dir() => fs::remove_dir(name),
            Ok(_) => fs::remove_file(name),
        }
    }

    fn finish(&mut self, io: &mut Io) {
        for (name, target) in std::mem::take(&mut self.links) {
            let made = self.clear(&name).and_then(|()| symlink(&target, &name));
            if let Err(error) = made {
                let hint = if target.starts_with('/') {
                    ": WASI allows no symbolic link with an absolute target"
                } else {
                    ""
                };
                io.complain(&format!(
                    "tar: {name}: Cannot create symlink to '{target}': {}{hint}",
                    words(&error)
                ));
                self.well = false;
            }
        }
        for (name, time) in self.times.iter().rev() {
            let time = UNIX_EPOCH + Duration::from_secs(*time);
            drop(File::open(name).and_then(|directory| directory.set_modified(time)));
        }
    }
}
