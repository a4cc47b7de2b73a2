//! A tar archive, ustar format, as layers and OCI archives are.

/// One entry of an archive.
#[derive(Clone, Debug)]
pub struct Entry {
    path: String,
    kind: u8,
    mode: u32,
    link: String,
    bytes: Vec<u8>,
    device: (u32, u32),
    owner: (u32, u32),
}

impl Entry {
    fn new(path: &str, kind: u8, mode: u32) -> Self {
        Self {
            path: path.to_owned(),
            kind,
            mode,
            link: String::new(),
            bytes: Vec::new(),
            device: (0, 0),
            owner: (0, 0),
        }
    }

    /// A regular file.
    pub fn file(path: &str, mode: u32, bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.to_vec(),
            ..Self::new(path, b'0', mode)
        }
    }

    /// A symbolic link.
    pub fn symlink(path: &str, target: &str) -> Self {
        Self {
            link: target.to_owned(),
            ..Self::new(path, b'2', 0o777)
        }
    }

    /// Another name of a file that is in the archive before it.
    pub fn hard_link(path: &str, target: &str) -> Self {
        Self {
            link: target.to_owned(),
            ..Self::new(path, b'1', 0o755)
        }
    }

    /// A directory.
    pub fn directory(path: &str) -> Self {
        Self::new(path, b'5', 0o755)
    }

    /// A character device.
    pub fn device(path: &str, major: u32, minor: u32) -> Self {
        Self {
            device: (major, minor),
            ..Self::new(path, b'3', 0o666)
        }
    }

    /// The same with these permission bits.
    pub fn mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }

    /// The same as another user's and group's.
    pub fn owner(self, user: u32, group: u32) -> Self {
        Self {
            owner: (user, group),
            ..self
        }
    }

    fn header(&self) -> [u8; 512] {
        let mut header = [0; 512];
        let mut put = |offset: usize, text: &str| {
            header[offset..offset + text.len()].copy_from_slice(text.as_bytes());
        };
        put(0, &self.path);
        put(100, &format!("{:07o}", self.mode));
        put(108, &format!("{:07o}", self.owner.0));
        put(116, &format!("{:07o}", self.owner.1));
        put(124, &format!("{:011o}", self.bytes.len()));
        put(136, "00000000000");
        put(148, "        ");
        put(157, &self.link);
        put(257, "ustar\x0000");
        put(329, &format!("{:07o}", self.device.0));
        put(337, &format!("{:07o}", self.device.1));
        header[156] = self.kind;
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        header
    }
}

/// Writes an archive. Paths and link targets of more than 100 bytes have no place in it.
pub fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut archive = Vec::new();
    for entry in entries {
        assert!(
            entry.path.len() <= 100 && entry.link.len() <= 100,
            "too long for ustar: {}",
            entry.path
        );
        archive.extend_from_slice(&entry.header());
        archive.extend_from_slice(&entry.bytes);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_is_what_tar_reads() {
        let archive = tar(&[
            Entry::file("a/b", 0o755, b"hello"),
            Entry::symlink("l", "a/b"),
        ]);
        assert_eq!(archive.len(), 512 + 512 + 512 + 1024);
        assert_eq!(&archive[257..262], b"ustar");
        assert_eq!(&archive[124..135], b"00000000005");
        let stored =
            u32::from_str_radix(std::str::from_utf8(&archive[148..154]).unwrap(), 8).unwrap();
        let mut blank = archive[..512].to_vec();
        blank[148..156].fill(b' ');
        assert_eq!(
            stored,
            blank.iter().map(|byte| u32::from(*byte)).sum::<u32>()
        );
    }
}
