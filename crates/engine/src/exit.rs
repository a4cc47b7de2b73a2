//! How a guest's end becomes an exit code, and the record that keeps it.
//!
//! | how the guest ends | code |
//! |--|--|
//! | returns, or `proc_exit(n)` / `wasi:cli/exit` | 0, or n modulo 256 |
//! | `wasi:cli/run` returns an error | 1 |
//! | a trap, or an error of the engine | 134, as with the `wasmtime` command |
//! | a signal n | 128 + n |

/// A trap, or an error inside the engine while the guest ran.
pub const TRAP: u8 = 134;

/// Longest encoding of an [`EarlyRecord`], in bytes.
pub const EARLY_RECORD_BYTES: usize = 16;

/// The exit code of a guest ended by signal `number`.
pub fn from_signal(number: u8) -> u8 {
    128u8.saturating_add(number)
}

/// What a host writes just before it exits by itself: magic, code and time, in one 16-byte `pwrite`.
/// The shim's own record, from the kernel's answer to `waitid`, always wins over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EarlyRecord {
    /// Exit code.
    pub code: u8,
    /// Nanoseconds since the epoch.
    pub unix_nanos: u64,
}

const MAGIC: [u8; 4] = *b"SKFX";

impl EarlyRecord {
    /// Encodes as 16 bytes: magic, code, 3 zero bytes, time (little endian).
    pub fn encode(self) -> [u8; EARLY_RECORD_BYTES] {
        let mut bytes = [0; EARLY_RECORD_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = self.code;
        bytes[8..].copy_from_slice(&self.unix_nanos.to_le_bytes());
        bytes
    }

    /// Decodes what [`EarlyRecord::encode`] wrote; anything else, an empty file too, is no record.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; EARLY_RECORD_BYTES] = bytes.try_into().ok()?;
        if bytes[..4] != MAGIC || bytes[5..8] != [0; 3] {
            return None;
        }
        let (_, time) = bytes.split_last_chunk::<8>()?;
        Some(Self {
            code: bytes[4],
            unix_nanos: u64::from_le_bytes(*time),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn early_record_survives_encoding() {
        let record = EarlyRecord {
            code: 42,
            unix_nanos: 1_700_000_000_123_456_789,
        };
        assert_eq!(EarlyRecord::decode(&record.encode()), Some(record));
    }

    #[test]
    fn half_a_record_is_no_record() {
        let bytes = EarlyRecord {
            code: 1,
            unix_nanos: 7,
        }
        .encode();
        for length in 0..bytes.len() {
            assert_eq!(EarlyRecord::decode(&bytes[..length]), None);
        }
        assert_eq!(EarlyRecord::decode(&[0; EARLY_RECORD_BYTES]), None);
    }

    #[test]
    fn signals_are_128_and_more() {
        assert_eq!(from_signal(9), 137);
        assert_eq!(from_signal(15), 143);
    }
}
