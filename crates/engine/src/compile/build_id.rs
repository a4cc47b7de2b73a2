//! The build id of an executable: the linker's hash over its contents, in an ELF note. A cache key has it,
//! so that another build of a compiler, with other bugs or none, never meets the code of this one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use sha2::{Digest, Sha256};

/// Program header of notes (elf.h).
const PT_NOTE: u32 = 4;
/// The note of the name `GNU` that holds the build id (elf.h).
const NT_GNU_BUILD_ID: u32 = 3;
/// Longest segment of notes that is read.
const LONGEST: u64 = 64 * 1024;

/// The build id of an ELF file, or the SHA-256 of the whole file if it has none.
///
/// # Errors
/// It cannot be read.
pub(super) fn of(file: &File) -> io::Result<Vec<u8>> {
    match note(file) {
        Some(id) if !id.is_empty() => Ok(id),
        _ => hash(file),
    }
}

fn note(file: &File) -> Option<Vec<u8>> {
    let mut header = [0; 64];
    file.read_exact_at(&mut header, 0).ok()?;
    // 64 bits, little endian: what Skiff is built for.
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, size, count) = (
        u64_at(&header, 32)?,
        u16_at(&header, 54)?,
        u16_at(&header, 56)?,
    );
    for index in 0..u64::from(count) {
        let mut entry = [0; 56];
        file.read_exact_at(&mut entry, table.checked_add(index * u64::from(size))?)
            .ok()?;
        let length = u64_at(&entry, 32)?;
        if u32_at(&entry, 0)? == PT_NOTE && length <= LONGEST {
            let mut notes = vec![0; usize::try_from(length).ok()?];
            file.read_exact_at(&mut notes, u64_at(&entry, 8)?).ok()?;
            if let Some(id) = build_id(&notes) {
                return Some(id);
            }
        }
    }
    None
}

/// Notes follow each other: length of name, length of contents, kind, name, contents; both padded to 4 bytes.
fn build_id(mut notes: &[u8]) -> Option<Vec<u8>> {
    let padded = |length: u32| usize::try_from(length).ok()?.checked_next_multiple_of(4);
    loop {
        let (name, contents, kind) = (u32_at(notes, 0)?, u32_at(notes, 4)?, u32_at(notes, 8)?);
        let start = 12_usize.checked_add(padded(name)?)?;
        let end = start.checked_add(usize::try_from(contents).ok()?)?;
        if kind == NT_GNU_BUILD_ID && notes.get(12..16) == Some(b"GNU\0") && name == 4 {
            return notes.get(start..end).map(<[u8]>::to_vec);
        }
        notes = notes.get(start.checked_add(padded(contents)?)?..)?;
    }
}

fn hash(file: &File) -> io::Result<Vec<u8>> {
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; 128 * 1024];
    let mut offset = 0;
    loop {
        match file.read_at(&mut chunk, offset)? {
            0 => return Ok(hasher.finalize().to_vec()),
            count => {
                hasher.update(&chunk[..count]);
                offset += count as u64;
            }
        }
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn our_own_executables_have_one() {
        // The workspace links with --build-id=sha1.
        let id = note(&File::open("/proc/self/exe").unwrap()).unwrap();
        assert_eq!(id.len(), 20);
    }

    #[test]
    fn whatever_has_none_is_hashed() {
        assert_eq!(
            of(&file(b"#!/bin/sh\n")).unwrap(),
            Sha256::digest(b"#!/bin/sh\n").to_vec()
        );
        let executable = std::fs::read("/proc/self/exe").unwrap();
        for length in [0, 5, 63, 64, 100, 4000] {
            let cut = &executable[..length];
            // Cut off within, before or after the note: never a panic, always an answer.
            assert!(!of(&file(cut)).unwrap().is_empty());
        }
    }

    #[test]
    fn hostile_notes_end_the_search() {
        for notes in [
            &[0xff; 12][..],
            &[0xff; 64],
            &[0; 12],
            &[],
            &[
                4, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 3, 0, 0, 0, b'G', b'N', b'U', 0,
            ],
        ] {
            assert_eq!(build_id(notes), None);
        }
        let good = [
            4, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, b'G', b'N', b'U', 0, 7, 8, 0, 0,
        ];
        assert_eq!(build_id(&good), Some(vec![7, 8]));
        let second = [
            [
                1, 0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0, b'x', 0, 0, 0, 5, 0, 0, 0,
            ]
            .as_slice(),
            &good,
        ]
        .concat();
        assert_eq!(build_id(&second), Some(vec![7, 8]));
    }
}
