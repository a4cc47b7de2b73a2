//! Sentences for humans: an error and its causes in one line that a log and a terminal can be given.
//!
//! They quote names out of images and specs, which may be made to look like other lines, to move a terminal's
//! cursor, or to fill a pipe that nobody reads. Whatever leaves a process of ours as a sentence has been here:
//! launched processes make theirs by [`chain`], and the shim, which need not believe them, once more.

use std::error::Error;

/// Longest sentence, in bytes. With its line feed a pipe takes it whole or not at all (`PIPE_BUF`, pipe(7)), and an
/// empty one always does.
pub const LONGEST: usize = 4095;

/// What stands at the end of a sentence that was cut.
const CUT: char = '…';

/// An error and its causes: `could not mount the volume at /data: Permission denied`.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Some libraries repeat the cause in their own words.
        let words = error.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    readable(&text)
}

/// `text` in one line of at most [`LONGEST`] bytes. Lines are joined by spaces, other control characters are
/// written as Rust writes them. What is readable stays as it is.
pub fn readable(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(LONGEST));
    let lines = text.split(['\n', '\r', '\t']).map(str::trim);
    for part in lines.filter(|part| !part.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        for letter in part.chars() {
            if is_invisible(letter) {
                line.extend(letter.escape_default());
            } else {
                line.push(letter);
            }
            if line.len() > LONGEST {
                line.truncate(line.floor_char_boundary(LONGEST - CUT.len_utf8()));
                line.push(CUT);
                return line;
            }
        }
    }
    line
}

/// Control characters, line separators, and what changes the direction of the text around it (CVE-2021-42574).
fn is_invisible(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{words}")]
    struct Told {
        words: &'static str,
        source: Option<Box<Told>>,
    }

    fn told(words: &[&'static str]) -> Told {
        Told {
            words: words[0],
            source: (words.len() > 1).then(|| Box::new(told(&words[1..]))),
        }
    }

    #[test]
    fn causes_are_joined_and_not_repeated() {
        assert_eq!(chain(&told(&["one", "two", "three"])), "one: two: three");
        assert_eq!(
            chain(&told(&["one: two", "two", "three"])),
            "one: two: three"
        );
        assert_eq!(chain(&told(&["a\nb", "c\x1b[1m"])), "a b: c\\u{1b}[1m");
    }

    #[test]
    fn what_is_readable_stays_and_the_rest_is_shown() {
        for text in ["", "plain: \"text\", 100 %", "Größe 日本語 👍", "a\\nb"] {
            assert_eq!(readable(text), text);
        }
        for (text, line) in [
            ("one\n  two\r\n\tthree\n", "one two three"),
            ("\x1b[31mred\x07", "\\u{1b}[31mred\\u{7}"),
            ("c1 \u{9b}2J", "c1 \\u{9b}2J"),
            ("a\0b\x7f", "a\\u{0}b\\u{7f}"),
            ("x\u{202e}gnp.\u{2028}y", "x\\u{202e}gnp.\\u{2028}y"),
        ] {
            assert_eq!(readable(text), line);
            // Twice is the same as once.
            assert_eq!(readable(line), line);
        }
    }

    #[test]
    fn long_text_is_cut_at_a_character() {
        for piece in ["x", "é", "日", "👍", "\x1b", "ab\n"] {
            let line = readable(&piece.repeat(100_000));
            assert!(
                line.len() <= LONGEST && line.len() > LONGEST - 12,
                "{piece}: {}",
                line.len()
            );
            assert!(line.ends_with(CUT));
            assert_eq!(readable(&line), line);
        }
        let whole = "x".repeat(LONGEST);
        assert_eq!(readable(&whole), whole);
    }
}
