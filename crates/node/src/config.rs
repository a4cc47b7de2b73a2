//! containerd's configuration files as text: handlers put in, and taken out again to the byte.
//!
//! Everything here is pure: text goes in, text comes out. A file is parsed to know what it says and where each
//! table stands; it is never written from what was parsed. Edits are pieces of text at the file's end or in front of
//! its lines, so that comments, order, quoting and line ends of the user's stay what they are, and taking an edit out
//! gives the bytes from before. What containerd makes of an edited file is judged by [`dump`].

mod block;
pub mod document;
pub mod dump;
mod edit;
mod handler;
pub mod template;

pub use document::{Document, DocumentError};
pub use edit::{EditError, Wanted, add, has_block, is_wasm, remove, taken_over};
pub use handler::{ANNOTATIONS, Engine, Handler, HandlerNameError, Schema};
