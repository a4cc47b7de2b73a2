//! `echo` and `printf`.

use std::io::Write;

use crate::failure::{Done, failed, usage};
use crate::streams::Io;
use crate::text::unescape;

pub(super) const HELP: &str = "echo [-n] [-e] [WORD]...: writes its words
  -n  without the end of line
  -e  with \\n, \\t, \\xHH and the like understood";
pub(super) const PRINTF: &str = "printf FORMAT [WORD]...: writes words in a format
  understood: %s %b %d %i %u %x %X %o %c %%, flags - and 0, a width, escapes";

pub(super) fn run(args: &[String], io: &mut Io) -> Done {
    let (mut newline, mut escapes) = (true, false);
    let mut words = args;
    while let [first, rest @ ..] = words {
        let Some(letters) = first.strip_prefix('-').filter(|letters| {
            !letters.is_empty() && letters.chars().all(|letter| "neE".contains(letter))
        }) else {
            break;
        };
        newline &= !letters.contains('n');
        if let Some(last) = letters.chars().rfind(|letter| "eE".contains(*letter)) {
            escapes = last == 'e';
        }
        words = rest;
    }
    let text = words.join(" ");
    let mut bytes = Vec::new();
    if escapes {
        newline &= unescape(&text, &mut bytes).is_some();
    } else {
        bytes.extend(text.as_bytes());
    }
    if newline {
        bytes.push(b'\n');
    }
    io.output.write_all(&bytes)?;
    Ok(0)
}

pub(super) fn printf(args: &[String], io: &mut Io) -> Done {
    let [format, words @ ..] = args else {
        return Err(usage("there is no format"));
    };
    let mut words = words.iter();
    loop {
        let before = words.len();
        let mut bytes = Vec::new();
        let go_on = once(format, &mut words, &mut bytes);
        io.output.write_all(&bytes)?;
        // The format is used again as long as it takes words.
        match go_on {
            Ok(true) if words.len() > 0 && words.len() < before => {}
            Ok(_) => return Ok(0),
            Err(word) => return Err(failed(format!("invalid number '{word}'"))),
        }
    }
}

/// The format once; `false` after `\c`, the word if it should have been a number.
fn once(
    format: &str,
    words: &mut std::slice::Iter<'_, String>,
    bytes: &mut Vec<u8>,
) -> Result<bool, String> {
    let mut rest = format;
    while let Some(percent) = rest.find('%') {
        if unescape(&rest[..percent], bytes).is_none() {
            return Ok(false);
        }
        rest = &rest[percent + 1..];
        let (flags, after) = split(rest, |letter| "-0".contains(letter));
        let (width, after) = split(after, |letter| letter.is_ascii_digit());
        let mut letters = after.chars();
        let letter = letters.next().unwrap_or('%');
        rest = letters.as_str();
        let mut text = Vec::new();
        if letter == '%' {
            text.push(b'%');
        } else {
            let word = words.next().map_or("", String::as_str);
            match letter {
                's' => text.extend(word.as_bytes()),
                'c' => text.extend(word.as_bytes().first()),
                'b' => {
                    if unescape(word, &mut text).is_none() {
                        bytes.extend(text);
                        return Ok(false);
                    }
                }
                _ => text.extend(number(letter, word)?.into_bytes()),
            }
        }
        let missing = width
            .parse::<usize>()
            .unwrap_or(0)
            .min(4096)
            .saturating_sub(text.len());
        let (left, fill) = (
            flags.contains('-'),
            flags.contains('0') && !"sbc%".contains(letter),
        );
        match (left, fill) {
            (true, _) => {
                bytes.extend(&text);
                bytes.extend(std::iter::repeat_n(b' ', missing));
            }
            (false, fill) => {
                let sign = usize::from(fill && text.first() == Some(&b'-'));
                bytes.extend(&text[..sign]);
                bytes.extend(std::iter::repeat_n(if fill { b'0' } else { b' ' }, missing));
                bytes.extend(&text[sign..]);
            }
        }
    }
    Ok(unescape(rest, bytes).is_some())
}

fn split(text: &str, is_inside: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|letter| !is_inside(letter)).unwrap_or(text.len());
    text.split_at(end)
}

fn number(letter: char, word: &str) -> Result<String, String> {
    let digits = word.trim_start_matches('-');
    let magnitude = match digits
        .strip_prefix("0x")
        .or_else(|| digits.strip_prefix("0X"))
    {
        _ if digits.is_empty() && word.is_empty() => Ok(0),
        Some(hexadecimal) => i64::from_str_radix(hexadecimal, 16),
        None => digits.parse(),
    };
    let magnitude = magnitude.map_err(|_| word.to_owned())?;
    let value = if word.starts_with('-') {
        -magnitude
    } else {
        magnitude
    };
    Ok(match letter {
        'd' | 'i' => value.to_string(),
        'u' => value.cast_unsigned().to_string(),
        'x' => format!("{value:x}"),
        'X' => format!("{value:X}"),
        'o' => format!("{value:o}"),
        _ => return Err(format!("%{letter}")),
    })
}
