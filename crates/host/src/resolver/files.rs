//! Reading of the two configuration files, from a tree that an image filled: whatever lies there, it costs little.

use std::io::Read;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags};

/// Far more than any real file of either kind holds.
const MAX_BYTES: u64 = 1 << 20;

/// The text of a regular file; empty if there is none. The rest of a file that is too long is not read.
pub(super) fn text(path: &Path) -> String {
    // NONBLOCK: a FIFO in this place must not stop the lookup.
    // openat: the filter does not know the older call of the same effect, which some machines lack.
    let Ok(file) = rustix::fs::openat(
        CWD,
        path,
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK,
        Mode::empty(),
    ) else {
        return String::new();
    };
    match rustix::fs::fstat(&file) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {}
        _ => return String::new(),
    }
    let mut bytes = Vec::new();
    // What was read before an error is used.
    drop(
        std::fs::File::from(file)
            .take(MAX_BYTES)
            .read_to_end(&mut bytes),
    );
    String::from_utf8_lossy(&bytes).into_owned()
}
