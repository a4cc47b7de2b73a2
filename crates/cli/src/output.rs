//! What goes to stdout: one JSON document, or text with tables and, on a terminal, a little colour.

use std::io::{IsTerminal, Write};

use serde::Serialize;

/// Where and how a command answers.
pub(crate) struct Output {
    json: bool,
    colour: bool,
}

/// Colours that mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    Green,
    Yellow,
    Red,
}

impl Output {
    /// Colours only for a terminal, and never when `NO_COLOR` is set to anything (no-color.org).
    pub(crate) fn new(json: bool) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            json,
            colour: wanted && !dumb && std::io::stdout().is_terminal(),
        }
    }

    /// The answer is to be JSON.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// Prints the one document of a command.
    pub(crate) fn document(&self, document: &impl Serialize) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(document)?;
        self.text(&text)
    }

    /// Prints a line. A reader that has gone away (`| head`) is no failure.
    pub(crate) fn text(&self, line: &str) -> anyhow::Result<()> {
        match writeln!(std::io::stdout(), "{line}") {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            other => Ok(other?),
        }
    }

    /// Prints columns under their headings, each as wide as it needs.
    pub(crate) fn table(&self, headings: &[&str], rows: &[Vec<String>]) -> anyhow::Result<()> {
        self.text(table(headings, rows).trim_end())
    }

    /// `text` in a colour, if this is a place for colours.
    pub(crate) fn paint(&self, text: &str, colour: Colour) -> String {
        let code = match colour {
            Colour::Green => 32,
            Colour::Yellow => 33,
            Colour::Red => 31,
        };
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// One sentence on stderr: what, and its causes. With `--json`, stdout gets it too.
    pub(crate) fn failure(&self, error: &anyhow::Error) {
        let lines: Vec<String> = format!("{error:#}").split('\n').map(visible).collect();
        eprintln!("skiff: {}", lines.join("\n"));
        if self.json {
            println!("{}", serde_json::json!({ "error": format!("{error:#}") }));
        }
    }
}

/// Text of others as a terminal can be given it: an image's names may hold what clears a screen or worse.
pub(crate) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// One sentence on stderr about something that is done, but may not be what was wanted.
pub(crate) fn warning(sentence: &str) {
    eprintln!("skiff: warning: {sentence}");
}

fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count());
        cells
            .chain([headings[column].chars().count()])
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells
            .zip(&widths)
            .map(|(cell, &width)| format!("{cell:<width$}"))
            .collect();
        padded.join("  ").trim_end().to_owned() + "\n"
    };
    let mut text = line(&mut headings.iter().copied());
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [
            vec!["a".to_owned(), "1".into()],
            vec!["longer".into(), "2".into()],
        ];
        assert_eq!(
            table(&["NAME", "N"], &rows),
            "NAME    N\na       1\nlonger  2\n"
        );
        assert_eq!(table(&["NAME", "N"], &[]), "NAME  N\n");
    }

    #[test]
    fn colours_only_where_they_are_wanted() {
        assert_eq!(
            Output {
                json: false,
                colour: false
            }
            .paint("OK", Colour::Green),
            "OK"
        );
        assert_eq!(
            Output {
                json: false,
                colour: true
            }
            .paint("OK", Colour::Green),
            "\x1b[32mOK\x1b[0m"
        );
    }
}
