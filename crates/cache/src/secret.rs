//! The node's secret: 32 random bytes that only root can read. The hash of every entry is keyed with it,
//! so whoever can merely write a file into the cache cannot make an entry that verifies.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::rand::GetRandomFlags;

use crate::CacheError;
use crate::directory::Directory;
use crate::lock::Locks;

pub(crate) type Secret = [u8; 32];

const NAME: &str = "secret";
const FILE_MODE: u32 = 0o600;

/// What is found under the secret's name.
enum Found {
    Good(Secret),
    Missing,
    Bad(String),
}

/// The secret of the cache in `directory`, made when missing. One that others could have read or written
/// is replaced; what was published under it no longer verifies then.
pub(crate) fn obtain(directory: &Directory, locks: &Locks) -> Result<Secret, CacheError> {
    // Whoever loses a race finds the winner's secret at the next turn.
    for _ in 0..8 {
        match find(directory)? {
            Found::Good(secret) => return Ok(secret),
            Found::Missing => make(directory)?,
            Found::Bad(_) => {
                // One repairs at a time, and only what is still bad then: else a good new secret
                // could be taken away.
                let _lock = locks.housekeeping()?;
                if let Found::Bad(reason) = find(directory)? {
                    log::warn!(
                        "the secret of the cache in {} is replaced: it {reason}",
                        directory.path().display()
                    );
                    directory.remove(NAME)?;
                }
            }
        }
    }
    Err(CacheError::Unsafe {
        path: directory.path().to_path_buf(),
        reason: "has a secret that is spoiled again and again".to_owned(),
    })
}

fn find(directory: &Directory) -> Result<Found, CacheError> {
    let failed = |error: std::io::Error| CacheError::new("read", &directory.path_of(NAME), error);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(directory, NAME, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(Found::Missing),
        Err(Errno::LOOP) => return Ok(Found::Bad("is a symlink".to_owned())),
        Err(error) => return Err(failed(error.into())),
    };
    let stat = rustix::fs::fstat(&file).map_err(|error| failed(error.into()))?;
    let bad = |reason: String| Ok(Found::Bad(reason));
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return bad("is not a file".to_owned());
    }
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return bad(format!("belongs to user {}", stat.st_uid));
    }
    if stat.st_mode & 0o7777 != FILE_MODE {
        return bad(format!("has the mode {:o}", stat.st_mode & 0o7777));
    }
    if stat.st_nlink != 1 {
        return bad(format!("has {} hard links", stat.st_nlink));
    }
    let mut bytes = Vec::new();
    file.take(33).read_to_end(&mut bytes).map_err(failed)?;
    match Secret::try_from(bytes) {
        Ok(secret) => Ok(Found::Good(secret)),
        Err(bytes) => bad(format!("is {} bytes long", bytes.len())),
    }
}

/// Makes a secret whole and then gives it its name: nobody ever reads a part of it. That another's is
/// there first is no error.
fn make(directory: &Directory) -> Result<(), CacheError> {
    let failed = |error: std::io::Error| CacheError::new("make", &directory.path_of(NAME), error);
    let mut secret = Secret::default();
    // A request of up to 256 bytes is answered whole (getrandom(2)).
    rustix::rand::getrandom(&mut secret, GetRandomFlags::empty())
        .map_err(|error| failed(error.into()))?;

    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let mut temporary = None;
    let file = match rustix::fs::openat(directory, ".", flags, Mode::from_raw_mode(FILE_MODE)) {
        Ok(file) => file,
        Err(Errno::OPNOTSUPP | Errno::ISDIR) => {
            let name = format!(
                ".secret-{}",
                blake3::Hash::from_bytes(secret).to_hex().split_at(16).0
            );
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            let file = rustix::fs::openat(directory, &name, flags, Mode::from_raw_mode(FILE_MODE))
                .map_err(|error| failed(error.into()))?;
            temporary = Some(name);
            file
        }
        Err(error) => return Err(failed(error.into())),
    };
    let mut file = File::from(file);
    // The umask may have taken bits away that the check wants.
    rustix::fs::fchmod(&file, Mode::from_raw_mode(FILE_MODE))
        .map_err(|error| failed(error.into()))?;
    file.write_all(&secret)
        .and_then(|()| file.sync_all())
        .map_err(failed)?;
    match temporary {
        None => directory.link(file.as_fd(), NAME)?,
        Some(temporary) => directory.rename_new(&temporary, NAME)?,
    };
    directory.sync().map_err(failed)
}
