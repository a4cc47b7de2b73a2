//! The home directory of the user that a program runs as, which shells and many tools ask for.

use std::ffi::CString;

/// As long as any such file is in an image; a longer one is read no further.
const LONGEST: u64 = 1 << 20;

/// `HOME=…`, if the environment has none: as the container's own `/etc/passwd` says, `/` where it says nothing.
pub(crate) fn missing(environment: &[String], uid: u32) -> Option<CString> {
    if environment.iter().any(|entry| entry.starts_with("HOME=")) {
        return None;
    }
    let home = read().and_then(|text| of(&text, uid));
    let home = home.unwrap_or_else(|| "/".to_owned());
    CString::new(format!("HOME={home}")).ok()
}

fn read() -> Option<String> {
    use std::io::Read as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    // An image may have a FIFO here.
    let mut open = std::fs::File::options();
    let file = open
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open("/etc/passwd")
        .ok()?;
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn of(text: &str, uid: u32) -> Option<String> {
    text.lines().find_map(|line| {
        // root:x:0:0:root:/root:/bin/sh
        let mut fields = line.split(':').skip(2);
        let number: u32 = fields.next()?.parse().ok()?;
        let home = fields.nth(2)?;
        (number == uid && home.starts_with('/')).then(|| home.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_first_user_with_this_number() {
        let text = "broken\n#\nroot:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/srv/app:\ntwin:x:1000:1::/other:\n\
                    relative:x:7:7::home:\n";
        assert_eq!(of(text, 0).as_deref(), Some("/root"));
        assert_eq!(of(text, 1000).as_deref(), Some("/srv/app"));
        assert_eq!(of(text, 7), None);
        assert_eq!(of(text, 8), None);
    }

    #[test]
    fn what_is_there_stays() {
        assert_eq!(missing(&["HOME=".to_owned()], 0), None);
    }
}
