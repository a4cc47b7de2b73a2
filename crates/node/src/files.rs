//! Changes to a node's files, each of which either happened or did not, whenever the process is killed.

use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::XattrFlags;

use crate::host::{Host, is_absent};
use crate::steps;

/// A change that failed.
#[derive(Debug, thiserror::Error)]
#[error("could not {operation} {}", path.display())]
pub struct FileError {
    /// What was to be done.
    pub operation: &'static str,
    /// To which file, as the node knows it.
    pub path: PathBuf,
    /// Why it could not be.
    #[source]
    pub source: io::Error,
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError {
        operation,
        path,
        source,
    }
}

/// The file that a new one is written to before it takes its place. One name per file: what a killed run left is
/// overwritten by the next.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.skiff-node"))
}

/// Gives a file these bytes, or removes it. Owner, mode and security label stay those of the file that is replaced.
///
/// # Errors
/// If the file system refuses; the file is then as it was.
pub fn set(host: &Host, path: &Path, bytes: Option<&[u8]>) -> Result<(), FileError> {
    let place = host.place(path).map_err(failed("find", path))?;
    match bytes {
        Some(bytes) => replace(&place, bytes).map_err(failed("write", path)),
        None => remove_file(&place).map_err(failed("remove", path)),
    }
}

fn replace(place: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = place.parent().unwrap_or_else(|| Path::new("/"));
    make_folder(folder)?;
    let old = match fs::metadata(place) {
        Ok(old) => Some(old),
        Err(error) if is_absent(&error) => None,
        Err(error) => return Err(error),
    };
    let new = beside(place);
    write_new(&new, bytes, old.as_ref(), place)?;
    steps::point("file written");
    fs::rename(&new, place)?;
    steps::point("file renamed");
    sync_folder(folder)
}

fn write_new(new: &Path, bytes: &[u8], old: Option<&Metadata>, like: &Path) -> io::Result<()> {
    remove_if_there(new)?;
    let mut file = File::options().write(true).create_new(true).open(new)?;
    file.write_all(bytes)?;
    match old {
        Some(old) => {
            fchown(&file, Some(old.uid()), Some(old.gid()))?;
            file.set_permissions(Permissions::from_mode(old.mode() & 0o7777))?;
            copy_label(like, &file)?;
        }
        None => file.set_permissions(Permissions::from_mode(0o644))?,
    }
    file.sync_all()
}

/// SELinux refuses containerd a file that has lost its label.
fn copy_label(from: &Path, to: &File) -> io::Result<()> {
    const LABEL: &str = "security.selinux";
    let mut label = [0; 1024];
    match rustix::fs::getxattr(from, LABEL, &mut label) {
        Ok(length) => Ok(rustix::fs::fsetxattr(
            to,
            LABEL,
            &label[..length],
            XattrFlags::empty(),
        )?),
        Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn remove_file(place: &Path) -> io::Result<()> {
    remove_if_there(&beside(place))?;
    remove_if_there(place)?;
    steps::point("file removed");
    match place.parent() {
        Some(folder) if folder.is_dir() => sync_folder(folder),
        _ => Ok(()),
    }
}

fn remove_if_there(place: &Path) -> io::Result<()> {
    match fs::remove_file(place) {
        Err(error) if !is_absent(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Writes a file that is needed for a moment and may be lost.
///
/// # Errors
/// If the file system refuses.
pub fn scratch(host: &Host, path: &Path, text: &str) -> Result<(), FileError> {
    let written = || -> io::Result<()> {
        let place = host.place(path)?;
        if let Some(folder) = place.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(place, text)
    };
    written().map_err(failed("write", path))
}

/// Removes what a killed run may have left beside a file.
///
/// # Errors
/// If the file system refuses.
pub fn tidy(host: &Host, path: &Path) -> Result<(), FileError> {
    let place = host.place(path).map_err(failed("find", path))?;
    remove_if_there(&beside(&place)).map_err(failed("remove the temporary file of", path))
}

/// Makes a folder and those above it, and sees to it that they are there after a crash.
///
/// # Errors
/// If the file system refuses.
pub fn folder(host: &Host, path: &Path) -> Result<(), FileError> {
    let place = host.place(path).map_err(failed("find", path))?;
    make_folder(&place).map_err(failed("make the folder", path))
}

fn make_folder(place: &Path) -> io::Result<()> {
    if place.is_dir() {
        return Ok(());
    }
    let above = place.parent().unwrap_or_else(|| Path::new("/"));
    make_folder(above)?;
    match fs::create_dir(place) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    steps::point("folder made");
    sync_folder(above)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Points a symbolic link somewhere, in one step.
///
/// # Errors
/// If the file system refuses; the link then points where it did.
pub fn link(host: &Host, path: &Path, target: &Path) -> Result<(), FileError> {
    let above = path.parent().unwrap_or_else(|| Path::new("/"));
    let name = path.file_name().unwrap_or_default();
    let place = host.place(above).map_err(failed("find", path))?.join(name);
    let switch = || -> io::Result<()> {
        let new = beside(&place);
        remove_if_there(&new)?;
        symlink(target, &new)?;
        steps::point("link made");
        fs::rename(&new, &place)?;
        steps::point("link renamed");
        sync_folder(place.parent().unwrap_or_else(|| Path::new("/")))
    };
    switch().map_err(failed("point the link", path))
}

/// Where a symbolic link points; `None` if there is none.
pub fn link_target(host: &Host, path: &Path) -> Option<PathBuf> {
    let place = host.place(path.parent()?).ok()?;
    fs::read_link(place.join(path.file_name()?)).ok()
}

/// Copies a file with this mode. For files that nothing looks at yet.
///
/// # Errors
/// If the file system refuses.
pub fn copy(host: &Host, from: &Path, to: &Path, mode: u32) -> Result<(), FileError> {
    let place = host.place(to).map_err(failed("find", to))?;
    let copied = || -> io::Result<()> {
        remove_if_there(&place)?;
        let mut source = File::open(from)?;
        let mut file = File::options().write(true).create_new(true).open(&place)?;
        io::copy(&mut source, &mut file)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()?;
        steps::point("file copied");
        Ok(())
    };
    copied().map_err(failed("copy to", to))
}

/// Gives a finished folder its name.
///
/// # Errors
/// If the file system refuses, or there is such a folder already.
pub fn name_folder(host: &Host, from: &Path, to: &Path) -> Result<(), FileError> {
    let named = || -> io::Result<()> {
        let (old, new) = (host.place(from)?, host.place(to)?);
        sync_folder(&old)?;
        fs::rename(old, &new)?;
        steps::point("folder renamed");
        sync_folder(new.parent().unwrap_or_else(|| Path::new("/")))
    };
    named().map_err(failed("rename to", to))
}

/// Removes a file, a link or a folder with all that is in it. What is not there is removed already.
///
/// # Errors
/// If the file system refuses.
pub fn remove_all(host: &Host, path: &Path) -> Result<(), FileError> {
    let removed = || -> io::Result<()> {
        let Some(above) = path.parent() else {
            return Ok(());
        };
        let place = host
            .place(above)?
            .join(path.file_name().unwrap_or_default());
        match fs::symlink_metadata(&place) {
            Ok(found) if found.is_dir() => remove_tree(&place)?,
            Ok(_) => fs::remove_file(&place)?,
            Err(error) if is_absent(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
        steps::point("tree removed");
        Ok(())
    };
    removed().map_err(failed("remove", path))
}

/// A file system of its own that somebody mounted there stays, and is emptied.
fn remove_tree(place: &Path) -> io::Result<()> {
    match fs::remove_dir_all(place) {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            for entry in fs::read_dir(place)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    remove_tree(&entry.path())?;
                } else {
                    remove_if_there(&entry.path())?;
                }
            }
            Ok(())
        }
        other => other,
    }
}

/// Removes a folder if nothing is in it and nothing is mounted on it.
///
/// # Errors
/// If the file system refuses for another reason.
pub fn remove_if_empty(host: &Host, path: &Path) -> Result<(), FileError> {
    let place = host.place(path).map_err(failed("find", path))?;
    match fs::remove_dir(&place) {
        Err(error)
            if is_absent(&error)
                || matches!(
                    error.kind(),
                    io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::ResourceBusy
                ) =>
        {
            Ok(())
        }
        other => other.map_err(failed("remove the folder", path)),
    }
}
