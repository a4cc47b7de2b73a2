//! The name of an entry: a hash over everything that the compiled code depends on.

use std::fmt;

/// Number of the key's and the entry's format. Part of every key: a change makes all older entries invisible.
pub(crate) const FORMAT: u16 = 1;

/// Name of an entry. Two keys are equal only when all parts of them are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub(crate) [u8; 32]);

/// What compiled code depends on, each part as the caller found it, not as a module claims it.
#[derive(Clone, Copy, Debug)]
pub struct KeyParts<'a> {
    /// SHA-256 of the module's bytes.
    pub module: &'a [u8; 32],
    /// The engine's name, `wasmtime`.
    pub engine: &'a str,
    /// The exact build of the compile worker: the build id of its executable.
    pub build: &'a [u8],
    /// Options that change the code, in an encoding of the caller's that is unique for them.
    pub options: &'a [u8],
    /// Architecture and features of this processor, in a fixed order.
    pub processor: &'a str,
}

impl Key {
    /// The key of one module's code.
    pub fn new(parts: &KeyParts<'_>) -> Self {
        let KeyParts {
            module,
            engine,
            build,
            options,
            processor,
        } = parts;
        Self::of(
            "code",
            &[
                *module,
                engine.as_bytes(),
                build,
                options,
                processor.as_bytes(),
            ],
        )
    }

    /// The key of something else that is worth keeping, such as a compiled seccomp program.
    /// `what` keeps different uses apart; `parts` are hashed with their lengths.
    pub fn of(what: &str, parts: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("skiff cache, key of an entry");
        hasher.update(&FORMAT.to_le_bytes());
        for part in std::iter::once(what.as_bytes()).chain(parts.iter().copied()) {
            // Lengths keep "ab","c" and "a","bc" apart.
            hasher.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            hasher.update(part);
        }
        Self(*hasher.finalize().as_bytes())
    }

    /// The key whose [`fmt::Display`] form is `name`; `None` for any other text.
    pub fn from_name(name: &str) -> Option<Self> {
        let hash = blake3::Hash::from_hex(name).ok()?;
        let key = Self(*hash.as_bytes());
        // from_hex takes capitals too; an entry has one name only.
        (key.to_string() == name).then_some(key)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn one_changed_part_is_another_key() {
        let base = KeyParts {
            module: &[7; 32],
            engine: "wasmtime",
            build: &[1, 2, 3],
            options: &[0],
            processor: "x86_64 avx avx2",
        };
        let mut flipped = [7; 32];
        flipped[31] ^= 1;
        let variants = [
            base,
            KeyParts {
                module: &flipped,
                ..base
            },
            KeyParts {
                engine: "wasmedge",
                ..base
            },
            KeyParts { engine: "", ..base },
            KeyParts {
                build: &[1, 2, 4],
                ..base
            },
            KeyParts {
                build: &[1, 2],
                ..base
            },
            KeyParts { build: &[], ..base },
            KeyParts {
                options: &[1],
                ..base
            },
            KeyParts {
                options: &[],
                ..base
            },
            KeyParts {
                options: &[0, 0],
                ..base
            },
            KeyParts {
                processor: "x86_64 avx",
                ..base
            },
            KeyParts {
                processor: "aarch64 avx avx2",
                ..base
            },
            // The same bytes, divided otherwise.
            KeyParts {
                engine: "wasmtime\u{1}",
                build: &[2, 3],
                ..base
            },
            KeyParts {
                build: &[1, 2],
                options: &[3, 0],
                ..base
            },
            KeyParts {
                options: b"\0x86",
                processor: "_64 avx avx2",
                ..base
            },
        ];
        let keys: HashSet<Key> = variants.iter().map(Key::new).collect();
        assert_eq!(keys.len(), variants.len());
        assert_eq!(Key::new(&base), Key::new(&base));
    }

    #[test]
    fn uses_are_kept_apart() {
        assert_ne!(Key::of("code", &[b"x"]), Key::of("seccomp", &[b"x"]));
        assert_ne!(Key::of("code", &[b"x", b""]), Key::of("code", &[b"x"]));
    }

    #[test]
    fn a_name_is_a_key_and_back() {
        let key = Key::of("code", &[b"x"]);
        assert_eq!(Key::from_name(&key.to_string()), Some(key));
        for name in [
            "",
            "secret",
            "../../etc/passwd",
            &key.to_string().to_uppercase(),
            &key.to_string()[1..],
        ] {
            assert_eq!(Key::from_name(name), None, "{name}");
        }
    }
}
