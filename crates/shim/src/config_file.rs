//! The bundle's `config.json`, as bytes: read by `start`, which wants one annotation, and by Create.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// Longest `config.json`, in bytes. A megabyte of arguments fits several times.
const LARGEST: u64 = 16 << 20;

/// Reads all of it, in one call of the kernel where the file is as long as it says.
///
/// # Errors
/// It is not there, or too long.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len().min(LARGEST);
    // One byte more: a read that does not fill the buffer is known to be the last.
    let mut text = Vec::with_capacity(usize::try_from(length).unwrap_or(0) + 1);
    file.take(LARGEST + 1).read_to_end(&mut text)?;
    if u64::try_from(text.len()).is_ok_and(|length| length > LARGEST) {
        return Err(io::Error::other(format!(
            "it is longer than {} MiB",
            LARGEST >> 20
        )));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_a_size_limit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        std::fs::write(&path, "{}").unwrap();
        assert_eq!(read(&path).unwrap(), b"{}");
        File::create(&path).unwrap().set_len(LARGEST + 1).unwrap();
        let error = read(&path).unwrap_err();
        assert!(error.to_string().contains("longer than 16 MiB"));
        assert_eq!(
            read(&directory.path().join("none")).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }
}
