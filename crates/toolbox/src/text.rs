//! Names, numbers and escapes, as the tools read and show them.

use crate::failure::{Stop, usage};

/// What stands after the last `/` of a path, slashes at its end left out.
pub(crate) fn base_name(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    match trimmed.rsplit_once('/') {
        Some((_, name)) => name,
        None if trimmed.is_empty() && !path.is_empty() => "/",
        None => trimmed,
    }
}

/// `directory/name`, without a second slash.
pub(crate) fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() || directory.ends_with('/') {
        format!("{directory}{name}")
    } else {
        format!("{directory}/{name}")
    }
}

/// A number with one of the suffixes of sizes: `b` 512, `k` 1024, `m`, `g`.
pub(crate) fn size(text: &str) -> Result<u64, Stop> {
    let (digits, factor) = match text.chars().last() {
        Some('b') => (&text[..text.len() - 1], 512),
        Some('k' | 'K') => (&text[..text.len() - 1], 1 << 10),
        Some('m' | 'M') => (&text[..text.len() - 1], 1 << 20),
        Some('g' | 'G') => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .ok_or_else(|| usage(format!("invalid number '{text}'")))
}

/// Bytes as people read them: `1.5K`, `12M`.
pub(crate) fn human(bytes: u64) -> String {
    const UNITS: [char; 5] = ['K', 'M', 'G', 'T', 'P'];
    if bytes < 1024 {
        return bytes.to_string();
    }
    // In tenths, rounded.
    let mut tenths = u128::from(bytes) * 10;
    let mut unit = 0;
    tenths = (tenths + 512) / 1024;
    while tenths >= 10240 && unit + 1 < UNITS.len() {
        tenths = (tenths + 512) / 1024;
        unit += 1;
    }
    format!("{}.{}{}", tenths / 10, tenths % 10, UNITS[unit])
}

/// What the escapes of `echo -e` and `printf` stand for; `None` after `\c`, which ends all output.
pub(crate) fn unescape(text: &str, bytes: &mut Vec<u8>) -> Option<()> {
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        let (b'\\', [escape, after @ ..]) = (*first, rest) else {
            bytes.push(*first);
            continue;
        };
        rest = after;
        match escape {
            b'a' => bytes.push(7),
            b'b' => bytes.push(8),
            b'e' => bytes.push(27),
            b'f' => bytes.push(12),
            b'n' => bytes.push(b'\n'),
            b'r' => bytes.push(b'\r'),
            b't' => bytes.push(b'\t'),
            b'v' => bytes.push(11),
            b'\\' => bytes.push(b'\\'),
            b'c' => return None,
            b'0'..=b'7' => {
                // `\0nnn` and `\nnn`.
                let digits = if *escape == b'0' {
                    rest
                } else {
                    &text.as_bytes()[text.len() - rest.len() - 1..]
                };
                let count = digits
                    .iter()
                    .take(3)
                    .take_while(|byte| (b'0'..=b'7').contains(byte))
                    .count();
                bytes.push(number(&digits[..count], 8));
                rest = &digits[count..];
            }
            b'x' if rest.first().is_some_and(u8::is_ascii_hexdigit) => {
                let count = rest
                    .iter()
                    .take(2)
                    .take_while(|byte| byte.is_ascii_hexdigit())
                    .count();
                bytes.push(number(&rest[..count], 16));
                rest = &rest[count..];
            }
            other => bytes.extend([b'\\', *other]),
        }
    }
    Some(())
}

/// Few digits, all of which are digits; what does not fit is cut off.
fn number(digits: &[u8], radix: u32) -> u8 {
    let text = String::from_utf8_lossy(digits);
    let value = u32::from_str_radix(&text, radix).unwrap_or(0);
    value.to_le_bytes()[0]
}

/// Whether `name` matches the shell pattern: `*`, `?`, `[a-z]`, `[!a-z]`, `\` before what is meant itself.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    // Where to go on when the rest of the pattern does not match: after the last `*`, one character further.
    let (mut p, mut n) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let step = match pattern.get(p) {
            None if n == name.len() => return true,
            Some('*') => {
                retry = Some((p + 1, n));
                p += 1;
                continue;
            }
            Some(_) if n < name.len() => one(&pattern[p..], name[n]),
            _ => None,
        };
        match (step, retry) {
            (Some(length), _) => {
                p += length;
                n += 1;
            }
            (None, Some((after, from))) if from < name.len() => {
                retry = Some((after, from + 1));
                (p, n) = (after, from + 1);
            }
            _ => return false,
        }
    }
}

/// The length of the pattern's first element, if it matches the character.
fn one(pattern: &[char], character: char) -> Option<usize> {
    match pattern {
        ['?', ..] => Some(1),
        ['\\', literal, ..] => (*literal == character).then_some(2),
        ['[', rest @ ..] => match class(rest, character) {
            Some((length, inside)) => inside.then_some(length + 1),
            // No end: it is a bracket.
            None => (character == '[').then_some(1),
        },
        [literal, ..] => (*literal == character).then_some(1),
        [] => None,
    }
}

/// The length of a bracket expression after its `[`, and whether the character is in it.
fn class(pattern: &[char], character: char) -> Option<(usize, bool)> {
    let negated = matches!(pattern.first(), Some('!' | '^'));
    let mut at = usize::from(negated);
    let first = at;
    let mut inside = false;
    loop {
        match pattern.get(at)? {
            ']' if at > first => return Some((at + 1, inside != negated)),
            low => {
                let high = match (pattern.get(at + 1), pattern.get(at + 2)) {
                    (Some('-'), Some(high)) if *high != ']' => {
                        at += 2;
                        *high
                    }
                    _ => *low,
                };
                inside |= (*low..=high).contains(&character);
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name) in [
            ("*", ""),
            ("*.txt", "a.txt"),
            ("a*b*c", "aXbbYc"),
            ("?", "ä"),
            ("[a-c]x", "bx"),
            ("[!a-c]", "d"),
            ("[]]", "]"),
            ("\\*", "*"),
            ("[a", "[a"),
            ("a-[-x]", "a--"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("", "a"),
            ("*.txt", "a.txt~"),
            ("a*b", "a"),
            ("?", ""),
            ("[a-c]", "d"),
            ("[!a-c]", "b"),
            ("\\*", "x"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(size("2k").unwrap(), 2048);
        assert!(size("k").is_err() && size("-1").is_err() && size("99999999999999999999").is_err());
        assert_eq!(human(1023), "1023");
        assert_eq!(human(1536), "1.5K");
        assert_eq!(human(10 << 20), "10.0M");
    }

    #[test]
    fn names() {
        assert_eq!(base_name("/usr/bin/ls"), "ls");
        assert_eq!(base_name("a/"), "a");
        assert_eq!(base_name("/"), "/");
        assert_eq!(base_name(""), "");
        assert_eq!(join("a", "b"), "a/b");
        assert_eq!(join("/", "b"), "/b");
    }

    #[test]
    fn escapes() {
        let mut bytes = Vec::new();
        unescape(r"a\tb\x41\0101\101\q\", &mut bytes).unwrap();
        assert_eq!(bytes, b"a\tbAAA\\q\\");
        assert_eq!(unescape(r"a\cb", &mut bytes), None);
    }
}
