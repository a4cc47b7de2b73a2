//! stub, being written
use crate::{Cache, CacheError, Key};

/// The right to compile one key on this node; given back when dropped or when the process dies.
#[derive(Debug)]
pub struct KeyLock;
/// One of the node's compile slots; given back when dropped or when the process dies.
#[derive(Debug)]
pub struct SlotLock;

impl SlotLock {
    /// Which slot, from 0.
    pub fn number(&self) -> u16 {
        unimplemented!()
    }
}

impl Cache {
    /// Takes the right to compile `key`, or answers `None` at once when another has it (also another task
    /// of this process). Try again after a while, then look up first.
    pub fn try_lock(&self, _key: &Key) -> Result<Option<KeyLock>, CacheError> {
        unimplemented!()
    }
    /// Takes any free slot of `count`.
    pub fn try_slot(&self, _count: u16) -> Result<Option<SlotLock>, CacheError> {
        unimplemented!()
    }
}
