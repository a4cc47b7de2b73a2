//! What lies between two commands of a pipe.

use std::cell::RefCell;
use std::io::{self, Write};
use std::rc::Rc;

use crate::streams::Output;

/// Most that a pipe holds: all of it lies in the guest's memory.
const MOST: usize = 64 << 20;

/// A buffer that is filled by one command, and then read by the next.
#[derive(Clone, Default)]
pub(super) struct Pipe(Rc<RefCell<Vec<u8>>>);

impl Pipe {
    /// All that was written.
    pub(super) fn take(&self) -> Vec<u8> {
        self.0.take()
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut buffer = self.0.borrow_mut();
        if buffer.len() + bytes.len() > MOST {
            return Err(io::Error::other(
                "a pipe of this shell holds 64 MiB at most",
            ));
        }
        buffer.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `| tail -c +N` without a buffer: what a copy out of a container that was broken off goes on with.
pub(super) struct Skip {
    pub(super) left: usize,
    pub(super) output: Output,
}

impl Write for Skip {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let start = self.left.min(bytes.len());
        self.left -= start;
        self.output.write_all(&bytes[start..])?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}
