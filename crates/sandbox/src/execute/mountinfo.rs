//! The kernel's list of the mounts that a process sees (`proc_pid_mountinfo(5)`).

/// One line of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Mount id.
    pub(super) id: u64,
    /// The id of the mount it is mounted on; its own for the root of a namespace.
    pub(super) parent: u64,
    /// Where, as seen from the process's root.
    pub(super) mount_point: String,
    /// Flags of the mount.
    pub(super) options: Vec<String>,
    /// Type of the file system.
    pub(super) fstype: String,
}

/// Parses the whole file; `None` if any line is not as documented.
pub(super) fn parse(text: &str) -> Option<Vec<Entry>> {
    text.lines().map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Entry> {
    // 36 35 98:0 /root /point rw,noatime shared:1 master:2 - ext4 /dev/sda1 rw
    let (mount, file_system) = line.split_once(" - ")?;
    let mut mount = mount.split(' ');
    let id = mount.next()?.parse().ok()?;
    let parent = mount.next()?.parse().ok()?;
    let (_device, _root) = (mount.next()?, mount.next()?);
    let mount_point = unescape(mount.next()?);
    let options = mount.next()?.split(',').map(str::to_owned).collect();
    let fstype = file_system.split(' ').next()?;
    Some(Entry {
        id,
        parent,
        mount_point,
        options,
        fstype: unescape(fstype),
    })
}

/// `\040` and its like are blanks, tabs, newlines, backslashes and number signs.
fn unescape(field: &str) -> String {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail
            .get(..3)
            .filter(|digits| first == b'\\' && digits.iter().all(u8::is_ascii_digit));
        let value = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(byte) = value.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            plain.push(byte);
            rest = &tail[3..];
        } else {
            plain.push(first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_with_and_without_optional_fields() {
        let text = "36 35 98:0 / / rw,noatime shared:1 master:2 - ext4 /dev/sda1 rw\n\
                    37 36 0:5 /x /a\\040b ro,nosuid - fuse.x\\040y src rw\n";
        let entries = parse(text).unwrap();
        assert_eq!(
            (entries[0].id, entries[0].parent, entries[0].fstype.as_str()),
            (36, 35, "ext4")
        );
        assert_eq!(
            (entries[1].mount_point.as_str(), entries[1].fstype.as_str()),
            ("/a b", "fuse.x y")
        );
        assert_eq!(entries[1].options, ["ro", "nosuid"]);
    }

    #[test]
    fn a_mount_point_with_a_dash_is_no_separator() {
        let entries = parse("1 1 0:5 / /a\\040-\\040proc rw - tmpfs t rw\n").unwrap();
        assert_eq!(
            (entries[0].mount_point.as_str(), entries[0].fstype.as_str()),
            ("/a - proc", "tmpfs")
        );
    }

    #[test]
    fn an_odd_line_is_not_skipped() {
        assert_eq!(parse("1 1 0:5 / /\n"), None);
    }
}
