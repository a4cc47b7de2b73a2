//! Compiled code on a node, shared by all its containers: key, publish, verify, evict.
//!
//! The shim and `skiff cache` open it through `skiff-engine`'s compile driver. One directory, root's
//! alone (0700), with
//!
//! ```text
//! entries/<key>     code, then a trailer with a keyed hash over both; 0444, one link, never edited
//! quarantine/…      what did not verify, kept for a look, bounded
//! secret            32 random bytes, 0600: only who can read it can make an entry that verifies
//! locks             empty; byte ranges of it are locked: one per key, one per compile slot
//! ```
//!
//! An entry comes into being whole (`O_TMPFILE`, `fsync`, `linkat`) and ends by `unlink`, which leaves
//! those who have it mapped alone. It is verified at every lookup, on the very descriptor that the
//! caller gets, and that descriptor lies on a read-only mount: not even uid 0 in a container can reopen
//! it for writing. This crate does not know how code is made.
#![forbid(unsafe_code)]

mod directory;
mod error;
mod key;
mod listing;
mod lock;
mod publish;
mod quarantine;
mod secret;
mod settings;
mod store;
mod temporary;
mod trailer;

pub use error::CacheError;
pub use key::{Key, KeyParts};
pub use listing::{Listed, Prune, Pruned, Verdict};
pub use lock::{KeyLock, SlotLock};
pub use publish::Publication;
pub use quarantine::Quarantined;
pub use settings::{DEFAULT_DIRECTORY, DEFAULT_LIMIT, Settings};
pub use store::{About, Cache, Entry, Kind};
