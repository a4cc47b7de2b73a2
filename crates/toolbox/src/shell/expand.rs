//! Words into what a command gets: variables, fields, patterns of file names.

use std::fs;

use super::Shell;
use super::lex::{Change, Part, Word};
use crate::text::{join, matches};

/// A field to be: each character, and whether it was quoted.
type Field = Vec<(char, bool)>;

impl Shell {
    /// The fields of words.
    pub(super) fn fields(&mut self, words: &[Word]) -> Result<Vec<String>, String> {
        let mut all = Vec::new();
        for word in words {
            let mut fields = vec![Field::new()];
            // A word of nothing but empty variables is no field.
            let mut exists = false;
            self.parts(word, &mut fields, &mut exists, true)?;
            for field in fields {
                if field.is_empty() && !exists {
                    continue;
                }
                all.extend(glob(&field).unwrap_or_else(|| vec![plain(&field)]));
            }
        }
        Ok(all)
    }

    /// A word as one text: of assignments and redirections.
    pub(super) fn text(&mut self, word: &Word) -> Result<String, String> {
        let mut fields = vec![Field::new()];
        self.parts(word, &mut fields, &mut false, false)?;
        let texts: Vec<String> = fields.iter().map(|field| plain(field)).collect();
        Ok(texts.join(" "))
    }

    fn parts(
        &mut self,
        word: &Word,
        fields: &mut Vec<Field>,
        exists: &mut bool,
        splits: bool,
    ) -> Result<(), String> {
        for part in word {
            match part {
                Part::Text { text, quoted } => {
                    *exists |= *quoted || !text.is_empty();
                    add(fields, text, *quoted, false);
                }
                Part::Variable {
                    name,
                    quoted: true,
                    change: None,
                } if name == "@" => {
                    let arguments = self.arguments.get(1..).unwrap_or_default();
                    *exists |= !arguments.is_empty();
                    for (index, argument) in arguments.iter().enumerate() {
                        if index > 0 {
                            fields.push(Field::new());
                        }
                        add(fields, argument, true, false);
                    }
                }
                Part::Variable {
                    name,
                    change,
                    quoted,
                } => {
                    *exists |= *quoted;
                    match self.changed(name, change.as_ref())? {
                        Value::Text(text) => add(fields, &text, *quoted, splits && !quoted),
                        Value::Word(word) => {
                            if *quoted {
                                let text = self.text(&word)?;
                                add(fields, &text, true, false);
                            } else {
                                self.parts(&word, fields, exists, splits)?;
                            }
                        }
                    }
                }
            }
        }
        // What variables gave is there as well.
        *exists |= fields.len() > 1;
        Ok(())
    }

    fn changed(&mut self, name: &str, change: Option<&Change>) -> Result<Value, String> {
        let value = self.value(name);
        match change {
            None => Ok(Value::Text(value.unwrap_or_default())),
            Some(Change::Length) => Ok(Value::Text(
                value.unwrap_or_default().chars().count().to_string(),
            )),
            Some(Change::Other {
                kind,
                empty_too,
                word,
            }) => {
                let given = value.filter(|value| !(*empty_too && value.is_empty()));
                match (kind, given) {
                    ('+', None) => Ok(Value::Text(String::new())),
                    ('+', Some(_)) | ('-', None) => Ok(Value::Word(word.clone())),
                    ('=', None) => {
                        let text = self.text(word)?;
                        self.set(name, text.clone());
                        Ok(Value::Text(text))
                    }
                    (_, Some(value)) => Ok(Value::Text(value)),
                    (_, None) => {
                        let text = self.text(word)?;
                        Err(format!(
                            "{name}: {}",
                            if text.is_empty() {
                                "parameter not set"
                            } else {
                                &text
                            }
                        ))
                    }
                }
            }
        }
    }

    fn value(&self, name: &str) -> Option<String> {
        let count = self.arguments.len().saturating_sub(1);
        match name {
            "?" => Some(self.status.to_string()),
            "#" => Some(count.to_string()),
            "@" | "*" => Some(self.arguments.get(1..).unwrap_or_default().join(" ")),
            // There are no processes.
            "$" => Some("1".to_owned()),
            "!" => None,
            "-" => Some(String::new()),
            digits if digits.starts_with(|letter: char| letter.is_ascii_digit()) => {
                self.arguments.get(digits.parse::<usize>().ok()?).cloned()
            }
            name => self.variables.get(name).map(|(value, _)| value.clone()),
        }
    }

    /// Gives a variable a value.
    pub(super) fn set(&mut self, name: &str, value: String) {
        self.variables.entry(name.to_owned()).or_default().0 = value;
    }
}

enum Value {
    Text(String),
    Word(Word),
}

fn add(fields: &mut Vec<Field>, text: &str, quoted: bool, splits: bool) {
    let mut begins = false;
    for letter in text.chars() {
        if splits && matches!(letter, ' ' | '\t' | '\n') {
            begins = true;
            continue;
        }
        if std::mem::take(&mut begins) && fields.last().is_some_and(|field| !field.is_empty()) {
            fields.push(Field::new());
        }
        if let Some(field) = fields.last_mut() {
            field.push((letter, quoted));
        }
    }
    if begins && fields.last().is_some_and(|field| !field.is_empty()) {
        fields.push(Field::new());
    }
}

fn plain(field: &[(char, bool)]) -> String {
    field.iter().map(|(letter, _)| letter).collect()
}

/// The files whose names match, if the field is a pattern and there are any.
fn glob(field: &[(char, bool)]) -> Option<Vec<String>> {
    if !field
        .iter()
        .any(|(letter, quoted)| !quoted && "*?[".contains(*letter))
    {
        return None;
    }
    let mut pattern = String::new();
    for (letter, quoted) in field {
        if *quoted && "*?[]\\!-".contains(*letter) {
            pattern.push('\\');
        }
        pattern.push(*letter);
    }
    let (mut found, pattern) = match pattern.strip_prefix('/') {
        Some(rest) => (vec!["/".to_owned()], rest.trim_start_matches('/')),
        None => (vec![String::new()], pattern.as_str()),
    };
    let parts: Vec<&str> = pattern.split('/').collect();
    for (index, part) in parts.iter().enumerate() {
        let last = index + 1 == parts.len();
        let mut next = Vec::new();
        for directory in &found {
            if !part.contains(['*', '?', '[']) {
                let path = join(directory, &part.replace('\\', ""));
                if part.is_empty() || fs::symlink_metadata(&path).is_ok() {
                    next.push(path);
                }
                continue;
            }
            let place = if directory.is_empty() { "." } else { directory };
            for name in crate::tools::names_in(place) {
                let hidden = name.starts_with('.') && !part.starts_with('.');
                let path = join(directory, &name);
                if !hidden
                    && matches(part, &name)
                    && (last || fs::metadata(&path).is_ok_and(|metadata| metadata.is_dir()))
                {
                    next.push(path);
                }
            }
        }
        found = next;
    }
    (!found.is_empty()).then_some(found)
}
