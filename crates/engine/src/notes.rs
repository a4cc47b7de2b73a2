//! What a container's host and its shim write down for each other, in the file of the exit record.
//!
//! | offset | what | who writes it |
//! |--|--|--|
//! | 0 | the [`crate::exit::EarlyRecord`] | the host, as it exits |
//! | 16 | the cap on the guest's memory in bytes, little endian; 0: none | the shim, also while the guest runs |
//! | 24 | the limit of processor time in thousandths of a processor, 4 bytes, little endian; 0: none | the shim, also while the guest runs |
//! | 28 | the length of the text that follows, 2 bytes, little endian | the host, before it exits |
//! | 30 | why the guest ended badly | the host, before it exits |
//!
//! A file and not a message: the host reads it in the middle of a guest's `memory.grow`, with one system call that it
//! has anyway, and what it wrote is there after both are gone.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const MEMORY_CAP: u64 = 16;
const PROCESSORS: u64 = 24;
/// Where the text stands.
pub const WORDS: i64 = 28;

/// Bytes of a new file, all zero: everything but the text.
pub const RESERVED: usize = 30;

/// Longest text, in bytes: what Kubernetes takes for a termination message.
pub const LONGEST_WORDS: usize = 4096;

/// Sets the cap on the guest's memory.
///
/// # Errors
/// What the file system answers.
pub fn set_memory_cap(file: &File, bytes: Option<u64>) -> io::Result<()> {
    file.write_all_at(
        &bytes.map_or(0, |bytes| bytes.max(1)).to_le_bytes(),
        MEMORY_CAP,
    )
}

/// The cap on the guest's memory. None can be read: none is set.
pub fn memory_cap(file: &File) -> Option<u64> {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, MEMORY_CAP).ok()?;
    Some(u64::from_le_bytes(bytes)).filter(|cap| *cap > 0)
}

/// Sets the limit of processor time, in thousandths of a processor.
///
/// # Errors
/// What the file system answers.
pub fn set_processors(file: &File, thousandths: Option<u32>) -> io::Result<()> {
    let value = thousandths.map_or(0, |limit| limit.max(1));
    file.write_all_at(&value.to_le_bytes(), PROCESSORS)
}

/// The limit of processor time, in thousandths of a processor. None can be read: none is set.
pub fn processors(file: &File) -> Option<u32> {
    let mut bytes = [0; 4];
    file.read_exact_at(&mut bytes, PROCESSORS).ok()?;
    Some(u32::from_le_bytes(bytes)).filter(|limit| *limit > 0)
}

/// Leaves a text, cut where it is too long.
///
/// # Errors
/// What the file system answers.
pub fn leave_words(file: &File, text: &str) -> io::Result<()> {
    let text = shortened(text, LONGEST_WORDS);
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    file.write_all_at(&bytes, WORDS.unsigned_abs())
}

/// The text that the host has left.
pub fn last_words(file: &File) -> Option<String> {
    let mut length = [0; 2];
    file.read_exact_at(&mut length, WORDS.unsigned_abs()).ok()?;
    let length = usize::from(u16::from_le_bytes(length)).min(LONGEST_WORDS);
    let mut text = vec![0; length];
    file.read_exact_at(&mut text, WORDS.unsigned_abs() + 2)
        .ok()?;
    (length > 0).then(|| String::from_utf8_lossy(&text).into_owned())
}

/// The first bytes of a text, at most `longest`, without half a character at the end.
pub fn shortened(text: &str, longest: usize) -> &str {
    &text[..text.floor_char_boundary(longest)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::EarlyRecord;

    fn file() -> File {
        tempfile::tempfile().unwrap()
    }

    #[test]
    fn an_empty_file_says_nothing() {
        let file = file();
        assert_eq!(memory_cap(&file), None);
        assert_eq!(last_words(&file), None);
        file.set_len(16).unwrap();
        assert_eq!(memory_cap(&file), None);
        file.set_len(100).unwrap();
        assert_eq!(memory_cap(&file), None);
        assert_eq!(last_words(&file), None);
    }

    #[test]
    fn notes_stand_beside_each_other() {
        let file = file();
        set_memory_cap(&file, Some(7 << 40)).unwrap();
        leave_words(&file, "it trapped").unwrap();
        set_processors(&file, Some(1500)).unwrap();
        let record = EarlyRecord {
            code: 134,
            unix_nanos: u64::MAX,
        };
        file.write_all_at(&record.encode(), 0).unwrap();
        assert_eq!(memory_cap(&file), Some(7 << 40));
        assert_eq!(processors(&file), Some(1500));
        assert_eq!(last_words(&file).as_deref(), Some("it trapped"));
        set_memory_cap(&file, None).unwrap();
        assert_eq!(memory_cap(&file), None);
        // No memory at all is not the same as no cap.
        set_memory_cap(&file, Some(0)).unwrap();
        assert_eq!(memory_cap(&file), Some(1));
        assert_eq!(last_words(&file).as_deref(), Some("it trapped"));
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let file = file();
        let text = format!("{}ü", "x".repeat(LONGEST_WORDS - 1));
        leave_words(&file, &text).unwrap();
        assert_eq!(last_words(&file).unwrap(), text[..LONGEST_WORDS - 1]);
    }
}
