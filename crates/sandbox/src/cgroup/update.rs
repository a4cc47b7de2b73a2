//! Limits of a cgroup that is in use, changed: all of them or none.
//!
//! Called by the shim for `Update`, with what [`crate::spec::update`] has planned.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::directory::{apply, read, write, write_of};
use super::{Cgroup, CgroupError, Check, Setting};
use crate::systemd::Property;

/// A setting, and what there was before it.
struct Change<'a> {
    setting: &'a Setting,
    directory: &'a Path,
    file: PathBuf,
    /// `None` where the file is missing, or cannot be read.
    earlier: Option<String>,
}

impl Change<'_> {
    /// The setting that there was before.
    fn undone(&self) -> Option<Setting> {
        let mut setting = self.setting.clone();
        setting.value.clone_from(self.earlier.as_ref()?);
        Some(setting)
    }
}

impl Cgroup {
    /// The settings, with what stays as it is written out: systemd changes a quota when its period changes.
    fn whole(&self, settings: &[Setting]) -> Result<Vec<Setting>, CgroupError> {
        let mut whole = settings.to_vec();
        for setting in &mut whole {
            if setting.check == Check::SecondWord {
                setting.value = write_of(setting, self.directory_of(setting)?).1;
                setting.check = Check::Written;
            }
        }
        Ok(whole)
    }

    /// Writes settings while processes are in the cgroup. Those that stand as they should are left alone.
    ///
    /// The kernel takes some values only in a certain order, which depends on what is there: memory must not
    /// exceed memory and swap together, a period not make the quota more than the parent's. What it refuses for
    /// that reason is written again after the others.
    ///
    /// # Errors
    /// The kernel refuses a value; the earlier values have been written back then.
    pub fn update(&self, settings: &[Setting]) -> Result<(), CgroupError> {
        let mut changes = Vec::new();
        let settings = self.whole(settings)?;
        for setting in &settings {
            let directory = self.directory_of(setting)?;
            let (file, value) = write_of(setting, directory);
            let earlier = read(&file).ok().and_then(|text| value_like(&value, &text));
            if earlier.as_deref() != Some(&value) {
                changes.push(Change {
                    setting,
                    directory,
                    file,
                    earlier,
                });
            }
        }
        let changed: Vec<Setting> = changes
            .iter()
            .map(|change| change.setting.clone())
            .collect();
        for change in &changes {
            super::unified::make_room(change.setting, change.directory)?;
        }
        if let Some(scope) = &self.scope {
            // First, since systemd writes what it rounds.
            scope.set(&Property::of(&changed))?;
        }
        let mut touched: Vec<&Change<'_>> = Vec::new();
        let written = in_some_order(changes.iter().collect(), |change| {
            if !touched.iter().any(|other| std::ptr::eq(*other, change)) {
                touched.push(change);
            }
            apply(change.setting, change.directory)
        });
        written.map_err(|error| {
            touched.reverse();
            restore(touched);
            if let Some(scope) = &self.scope {
                let earlier: Vec<Setting> = changes.iter().filter_map(Change::undone).collect();
                if let Err(error) = scope.set(&Property::of(&earlier)) {
                    log::error!("an update that failed could not be undone by systemd: {error}");
                }
            }
            error.explained(&changes)
        })
    }
}

/// Writes back what there was.
fn restore(touched: Vec<&Change<'_>>) {
    let restored = in_some_order(touched, |change| {
        let Some(earlier) = &change.earlier else {
            return Ok(());
        };
        write(&change.file, earlier).map_err(|source| CgroupError::Setting {
            field: change.setting.field,
            file: change.file.clone(),
            value: earlier.clone(),
            source,
        })
    });
    if let Err(error) = restored {
        log::error!(
            "an update that failed could not be undone: {}",
            crate::sentence::chain(&error)
        );
    }
}

/// Goes through the changes until the kernel has taken each, or takes no further one.
fn in_some_order<'a, 'b>(
    mut waiting: Vec<&'a Change<'b>>,
    mut write: impl FnMut(&'a Change<'b>) -> Result<(), CgroupError>,
) -> Result<(), CgroupError> {
    loop {
        let mut refused = Vec::new();
        let mut first = None;
        for change in &waiting {
            match write(change) {
                Ok(()) => {}
                Err(error) if error.is(libc::EINVAL) => {
                    refused.push(*change);
                    first.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        match first {
            None => return Ok(()),
            Some(error) if refused.len() == waiting.len() => return Err(error),
            Some(_) => waiting = refused,
        }
    }
}

/// What to write to a file that now reads as `text`, to have it as it is. A file with a line for each device is
/// written one line at a time, as `new` is.
fn value_like(new: &str, text: &str) -> Option<String> {
    if let Some((key, rest)) = new.split_once(' ')
        && (key.contains(':') || text.lines().any(|line| line.split(' ').next() == Some(key)))
        && !rest.is_empty()
    {
        let line = text
            .lines()
            .find(|line| line.split_once(' ').is_some_and(|(first, _)| first == key));
        // What takes the line away: of v1 a zero; `io.max` of v2 has several words, each with a limit.
        let none = match rest.split_once('=') {
            Some(_) => "rbps=max wbps=max riops=max wiops=max",
            None => "0",
        };
        return Some(line.map_or_else(|| format!("{key} {none}"), str::to_owned));
    }
    let line = text.lines().next()?.trim();
    // Of `oom_kill_disable 0`, the only file of its kind, the number is written.
    Some(
        line.strip_prefix("oom_kill_disable ")
            .unwrap_or(line)
            .to_owned(),
    )
}

impl CgroupError {
    fn is(&self, errno: i32) -> bool {
        matches!(self, Self::Setting { source, .. } if source.raw_os_error() == Some(errno))
    }

    /// In place of the kernel's word, what stands in the way of the value where that can be seen.
    fn explained(self, changes: &[Change<'_>]) -> Self {
        let Self::Setting {
            field,
            file,
            value,
            source,
        } = self
        else {
            return self;
        };
        let change = changes.iter().find(|change| change.file == file);
        match change.and_then(|change| obstacle(change, &source)) {
            Some(reason) => Self::InTheWay {
                field,
                value,
                reason,
            },
            None => Self::Setting {
                field,
                file,
                value,
                source,
            },
        }
    }
}

fn obstacle(change: &Change<'_>, error: &io::Error) -> Option<String> {
    let beside = |file: &str| {
        let text = read(&change.directory.join(file)).ok()?;
        Some(text.trim().to_owned())
    };
    match (change.setting.file.as_str(), error.kind()) {
        ("memory.limit_in_bytes" | "memory.memsw.limit_in_bytes", ErrorKind::ResourceBusy) => {
            let usage = beside(&change.setting.file.replace("limit", "usage"))?;
            Some(format!(
                "its processes use {usage} bytes, and the kernel could not take enough of them away"
            ))
        }
        ("memory.limit_in_bytes", ErrorKind::InvalidInput) => {
            let both = beside("memory.memsw.limit_in_bytes")?;
            Some(format!(
                "memory and swap together are limited to {both} bytes: raise linux.resources.memory.swap with it"
            ))
        }
        ("memory.memsw.limit_in_bytes", ErrorKind::InvalidInput) => {
            let memory = beside("memory.limit_in_bytes")?;
            Some(format!(
                "it is for memory and swap together, and memory alone is limited to {memory} bytes"
            ))
        }
        (file @ ("cpuset.cpus" | "cpuset.mems"), _) => {
            let above = change.directory.parent()?;
            // Of v2, the file itself is empty in a cgroup that nobody has narrowed.
            let all = read(&above.join(format!("{file}.effective")))
                .or_else(|_| read(&above.join(file)))
                .ok()?;
            Some(format!("the cgroup above it has only {}", all.trim()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_as_they_were() {
        for (new, text, earlier) in [
            ("5", "9223372036854771712\n", "9223372036854771712"),
            ("5", "max\n", "max"),
            ("1", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n", "0"),
            ("8:0 100", "8:16 5\n8:0 7\n", "8:0 7"),
            ("8:0 100", "8:16 5\n", "8:0 0"),
            ("5000 100000", "max 100000\n", "max 100000"),
            (
                "8:0 rbps=5",
                "8:16 rbps=1 wbps=max riops=max wiops=max\n",
                "8:0 rbps=max wbps=max riops=max wiops=max",
            ),
            (
                "8:0 rbps=5",
                "8:0 rbps=1 wbps=max riops=max wiops=max\n",
                "8:0 rbps=1 wbps=max riops=max wiops=max",
            ),
            ("200", "default 100\n8:0 5\n", "default 100"),
        ] {
            assert_eq!(value_like(new, text).as_deref(), Some(earlier));
        }
    }
}
