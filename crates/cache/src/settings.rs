//! Where the cache is and how much it may hold, as the environment says.

use std::ffi::OsStr;
use std::path::PathBuf;

/// Where the cache lies when nothing else is said. On `/var`: it outlives a reboot.
pub const DEFAULT_DIRECTORY: &str = "/var/lib/skiff/cache";

/// How much it holds when nothing else is said: some hundred large modules, or some thousand small ones.
pub const DEFAULT_LIMIT: u64 = 4 << 30;

/// Where the cache is and how much it may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Its directory; made when missing.
    pub directory: PathBuf,
    /// Bytes of all entries together. Unused entries beyond it are removed when one is published.
    pub limit: u64,
}

impl Settings {
    /// From `SKIFF_CACHE_DIR` and `SKIFF_CACHE_BYTES`, else [`DEFAULT_DIRECTORY`] and [`DEFAULT_LIMIT`].
    /// containerd hands its own environment to every shim.
    pub fn from_environment() -> Self {
        Self::from_values(
            std::env::var_os("SKIFF_CACHE_DIR").as_deref(),
            std::env::var_os("SKIFF_CACHE_BYTES").as_deref(),
        )
    }

    fn from_values(directory: Option<&OsStr>, limit: Option<&OsStr>) -> Self {
        let directory = match directory.map(PathBuf::from) {
            Some(path) if path.is_absolute() => path,
            // Every shim has a working directory of its own.
            Some(path) if !path.as_os_str().is_empty() => {
                log::warn!(
                    "SKIFF_CACHE_DIR is {path:?}, not an absolute path: {DEFAULT_DIRECTORY} is taken"
                );
                PathBuf::from(DEFAULT_DIRECTORY)
            }
            _ => PathBuf::from(DEFAULT_DIRECTORY),
        };
        let limit = match limit.map(|text| text.to_str().and_then(bytes)) {
            Some(Some(limit)) => limit,
            Some(None) => {
                log::warn!(
                    "SKIFF_CACHE_BYTES is not a number of bytes (4294967296, 4096M, 4G): {DEFAULT_LIMIT} is taken"
                );
                DEFAULT_LIMIT
            }
            None => DEFAULT_LIMIT,
        };
        Self { directory, limit }
    }
}

/// `4096`, `4K`, `4M`, `4G`: powers of 1024.
fn bytes(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' => (&text[..text.len() - 1], 10),
        b'M' => (&text[..text.len() - 1], 20),
        b'G' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_is_read_and_nonsense_is_not() {
        let limit = |text: &str| Settings::from_values(None, Some(OsStr::new(text))).limit;
        assert_eq!(limit("4096"), 4096);
        assert_eq!(limit("3K"), 3072);
        assert_eq!(limit("2G"), 2 << 30);
        for nonsense in [
            "",
            "G",
            "-1",
            "4 G",
            "1e9",
            "99999999999999999999",
            "18446744073709551615K",
            "4Gé",
        ] {
            assert_eq!(limit(nonsense), DEFAULT_LIMIT, "{nonsense:?}");
        }
        for nonsense in ["", "cache", "./cache", "../cache"] {
            assert_eq!(
                Settings::from_values(Some(OsStr::new(nonsense)), None).directory,
                PathBuf::from(DEFAULT_DIRECTORY),
                "{nonsense:?}"
            );
        }
        assert_eq!(
            Settings::from_values(Some(OsStr::new("/x")), None).directory,
            PathBuf::from("/x")
        );
    }
}
