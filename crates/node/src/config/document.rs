//! A configuration file that was parsed: what it says, and on which lines.

use std::ops::Range;

use toml_edit::{Item, Table, Value};

/// A file that is no TOML.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct DocumentError {
    /// From 1.
    pub line: usize,
    /// What is wrong there.
    pub message: String,
}

/// A file's text with the places of its parts.
#[derive(Debug)]
pub struct Document<'a> {
    text: &'a str,
    root: toml_edit::Document<&'a str>,
    /// Each table that has a header, with the bytes of its lines, from its header to the last line of its own.
    tables: Vec<(Vec<String>, Range<usize>)>,
}

impl<'a> Document<'a> {
    /// Parses a file.
    ///
    /// # Errors
    /// With the line, if it is no TOML.
    pub fn parse(text: &'a str) -> Result<Self, DocumentError> {
        let root = toml_edit::Document::parse(text).map_err(|error| DocumentError {
            line: line_at(text, error.span().map_or(0, |span| span.start)),
            message: error.message().trim().replace('\n', "; "),
        })?;
        let mut tables = Vec::new();
        headers(root.as_table(), &mut Vec::new(), text, &mut tables);
        tables.sort_by_key(|(_, range)| range.start);
        Ok(Self { text, root, tables })
    }

    /// What the file says of itself.
    pub fn version(&self) -> Option<i64> {
        self.root.as_table().get("version")?.as_integer()
    }

    /// The files and patterns that it imports, and where that value stands.
    pub fn imports(&self) -> Option<(Vec<String>, Range<usize>)> {
        let item = self.root.as_table().get("imports")?;
        let list = item.as_array()?.iter();
        let list = list.filter_map(Value::as_str).map(str::to_owned).collect();
        Some((list, item.span()?))
    }

    /// What stands at this path.
    pub fn get(&self, path: &[&str]) -> Option<&Item> {
        let mut item: &Item = self.root.as_item();
        for key in path {
            item = item.as_table_like()?.get(key)?;
        }
        Some(item)
    }

    /// The first part of this path that cannot be given a table by a header: an inline table or a plain value, and
    /// its line.
    pub fn closed(&self, path: &[&str]) -> Option<(String, usize)> {
        for end in 1..=path.len() {
            match self.get(&path[..end])? {
                Item::Value(value) => {
                    let start = value.span().map_or(0, |span| span.start);
                    return Some((path[..end].join("."), line_at(self.text, start)));
                }
                Item::None | Item::Table(_) | Item::ArrayOfTables(_) => {}
            }
        }
        None
    }

    /// The bytes of the lines of a table with a header and of all tables below it, in the file's order; `None` if
    /// some of it is written in another way (dotted keys, an inline table).
    pub fn lines_of(&self, path: &[&str]) -> Option<Vec<Range<usize>>> {
        let below = |name: &[String]| {
            name.len() >= path.len() && name.iter().zip(path).all(|(a, b)| a == b)
        };
        let found: Vec<Range<usize>> = self
            .tables
            .iter()
            .filter(|(name, _)| below(name))
            .map(|(_, range)| range.clone())
            .collect();
        let headed = self
            .get(path)?
            .as_table()
            .is_some_and(|table| !table.is_dotted());
        (headed && !found.is_empty()).then_some(found)
    }

    /// The byte after the line of a table's header; `None` if it has none.
    pub fn header_end(&self, path: &[&str]) -> Option<usize> {
        let (_, range) = self.tables.iter().find(|(name, _)| name == path)?;
        Some(after_line(self.text, range.start))
    }

    /// The line on which something begins.
    pub fn line_of(&self, path: &[&str]) -> Option<usize> {
        let start = match self.lines_of(path) {
            Some(lines) => lines.first()?.start,
            None => self.get(path)?.span()?.start,
        };
        Some(line_at(self.text, start))
    }

    /// Everything it says, without places.
    pub fn value(&self) -> toml::Table {
        // The same text was parsed just now; a date that only one of both parsers takes is nothing of ours.
        toml::from_str(self.text).unwrap_or_default()
    }
}

/// The number of the line with this byte, from 1.
pub(super) fn line_at(text: &str, byte: usize) -> usize {
    let before = &text.as_bytes()[..byte.min(text.len())];
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}

/// The byte after the end of the line with this byte.
fn after_line(text: &str, byte: usize) -> usize {
    text[byte..]
        .find('\n')
        .map_or(text.len(), |length| byte + length + 1)
}

fn headers(
    table: &Table,
    path: &mut Vec<String>,
    text: &str,
    found: &mut Vec<(Vec<String>, Range<usize>)>,
) {
    if !path.is_empty() && !table.is_implicit() && !table.is_dotted() {
        note(table, path, text, found);
    }
    for (key, item) in table {
        path.push(key.to_owned());
        match item {
            Item::Table(table) => headers(table, path, text, found),
            Item::ArrayOfTables(tables) => {
                for table in tables {
                    headers(table, path, text, found);
                }
            }
            Item::Value(_) | Item::None => {}
        }
        path.pop();
    }
}

fn note(table: &Table, path: &[String], text: &str, found: &mut Vec<(Vec<String>, Range<usize>)>) {
    let Some(header) = table.span() else { return };
    let start = text[..header.start].rfind('\n').map_or(0, |end| end + 1);
    let last = last_byte(table).unwrap_or(0).max(header.end);
    found.push((path.to_vec(), start..after_line(text, last.max(1) - 1)));
}

/// The end of the last value that stands under a table's own header.
fn last_byte(table: &Table) -> Option<usize> {
    let ends = table.iter().filter_map(|(_, item)| match item {
        Item::Value(value) => value.span().map(|span| span.end),
        Item::Table(table) if table.is_dotted() => last_byte(table),
        _ => None,
    });
    ends.max()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "version = 2 # v\r\nimports = ['a', \"b\"]\n# of a\n[a.b]\n  x = [\n    1,\n  ] # tail\n  q.w = 1\n\n# of c\n[a.b.c]\n[[z]]\nk = '''\n[no]\n'''\n";

    fn text_of(path: &[&str]) -> Option<String> {
        let document = Document::parse(TEXT).unwrap();
        let ranges = document.lines_of(path)?;
        Some(ranges.into_iter().map(|range| &TEXT[range]).collect())
    }

    #[test]
    fn tables_have_their_lines() {
        assert_eq!(
            text_of(&["a", "b"]).unwrap(),
            "[a.b]\n  x = [\n    1,\n  ] # tail\n  q.w = 1\n[a.b.c]\n"
        );
        assert_eq!(text_of(&["a", "b", "c"]).unwrap(), "[a.b.c]\n");
        assert_eq!(text_of(&["a", "b", "q"]), None);
        assert_eq!(text_of(&["z"]), None);
        assert_eq!(text_of(&["nothing"]), None);
    }

    #[test]
    fn versions_and_imports_are_read() {
        let document = Document::parse(TEXT).unwrap();
        assert_eq!(document.version(), Some(2));
        let (imports, place) = document.imports().unwrap();
        assert_eq!(imports, ["a", "b"]);
        assert_eq!(&TEXT[place], "['a', \"b\"]");
    }

    #[test]
    fn what_is_no_toml_is_refused_with_its_line() {
        let error = Document::parse("a = 1\n\n[b\n").unwrap_err();
        assert_eq!(error.line, 3, "{error}");
        let error = Document::parse("a = 1\nb = \"\n").unwrap_err();
        assert_eq!(error.line, 2, "{error}");
    }

    #[test]
    fn inline_tables_are_closed() {
        let text = "[a]\nb = { c = { d = 1 } }\n";
        let document = Document::parse(text).unwrap();
        assert_eq!(document.closed(&["a", "b", "c"]), Some(("a.b".into(), 2)));
        assert_eq!(document.closed(&["a", "x"]), None);
        assert_eq!(document.line_of(&["a", "b", "c"]), Some(2));
    }
}
