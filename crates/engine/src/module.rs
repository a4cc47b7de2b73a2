//! stub, being written
/// Largest module, in bytes.
pub const LARGEST: u64 = 256 << 20;
