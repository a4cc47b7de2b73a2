//! Handlers into a file of containerd's, and out again.

use std::ops::Range;
use std::path::Path;

use toml::Value;

use super::document::{Document, DocumentError};
use super::handler::{Handler, Schema, is_below};
use super::{block, dump};

/// Why a file cannot be given the handlers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// It is no TOML.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A handler of this name is there, and nobody said that it may be taken over.
    #[error("line {line}: handler {name} is there already, with runtime type {runtime_type}")]
    Taken {
        /// From 1.
        line: usize,
        /// The handler.
        name: String,
        /// What it runs.
        runtime_type: String,
    },
    /// A handler of this name runs something that is not WebAssembly.
    #[error("line {line}: handler {name} runs {runtime_type}, which is not a Wasm shim")]
    Foreign {
        /// From 1.
        line: usize,
        /// The handler.
        name: String,
        /// What it runs.
        runtime_type: String,
    },
    /// A table is written so that no lines of a file are its own.
    #[error(
        "line {line}: {table} is an inline table or has dotted keys, to which no table can be added"
    )]
    Closed {
        /// From 1.
        line: usize,
        /// Its path.
        table: String,
    },
    /// The operator asked for what the file forbids.
    #[error("line {line}: use_local_image_pull is false here")]
    LocalPullOff {
        /// From 1.
        line: usize,
    },
    /// The edit would say more than it should; a fault of ours.
    #[error("the edited file would differ in {0}")]
    SaysMore(String),
}

/// What is to be put into a file.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The handlers.
    pub handlers: &'a [Handler],
    /// How the file names plugins.
    pub schema: Schema,
    /// Everything of ours on a node lies below this folder.
    pub prefix: &'a Path,
    /// Wasm handlers of these names that are not ours may be taken over.
    pub take_over: bool,
    /// Images are to be pulled without the transfer service, all of the node's.
    pub local_pull: bool,
    /// Handlers that containerd has by itself and would forget, each as its name and its tables.
    pub defaults: &'a [(String, String)],
}

/// Puts handlers into a file, or brings those up to date that are there.
///
/// # Errors
/// See [`EditError`].
pub fn add(text: &str, wanted: Wanted<'_>) -> Result<String, EditError> {
    let before = Document::parse(text)?;
    if let Some((table, line)) = before.closed(&wanted.schema.runtimes()) {
        return Err(EditError::Closed { line, table });
    }
    let taken = conflicts(&before, wanted)?;
    let mut edited = block::take_over(text, &taken);
    edited = add_local_pull(edited, wanted)?;
    if block::find(&edited).is_none() {
        // Somebody's editor may have dropped our comments and kept our tables.
        edited = cut_own_tables(&edited, wanted.prefix)?;
    }
    let handlers = wanted.handlers.iter();
    let handlers = handlers.map(|handler| handler.render(wanted.schema));
    let defaults = wanted.defaults.iter();
    let defaults = defaults.map(|(_, tables)| format!("{}\n{tables}", block::DEFAULT));
    let tables: Vec<String> = handlers.chain(defaults).collect();
    let lines = tables.join("\n\n");
    let edited = match block::find(&edited) {
        Some(found) => block::replace(&edited, &found, &lines),
        None => block::append(&edited, &lines),
    };
    check(&before, &Document::parse(&edited)?, wanted)?;
    Ok(edited)
}

/// Takes out what [`add`] put in, whatever else was changed since.
///
/// # Errors
/// If the file is no TOML and our lines in it are not marked any more.
pub fn remove(text: &str, prefix: &Path) -> Result<String, DocumentError> {
    let mut edited = text.to_owned();
    if let Some(found) = block::find(&edited) {
        edited = match strangers(&edited[found.body.clone()], prefix) {
            None => block::cut(&edited, &found),
            Some(kept) => {
                let body = format!("\n{kept}");
                let range = found.whole;
                format!("{}{body}{}", &edited[..range.start], &edited[range.end..])
            }
        };
    }
    let edited = block::cut_lines(&block::give_back(&edited));
    if text.contains(prefix.to_string_lossy().as_ref()) {
        cut_own_tables(&edited, prefix)
    } else {
        Ok(edited)
    }
}

/// The lines that were taken over, as they were.
pub fn taken_over(text: &str) -> Option<String> {
    let taken = block::taken(text);
    (!taken.is_empty()).then_some(taken)
}

/// The file has lines of ours.
pub fn has_block(text: &str) -> bool {
    block::find(text).is_some()
}

/// What stands in our block and is not ours: somebody has put it there.
fn strangers(body: &str, prefix: &Path) -> Option<String> {
    let kept = cut_defaults(&cut_own_tables(body, prefix).ok()?).ok()?;
    let said = Document::parse(&kept).ok()?.value();
    (!said.is_empty() && !is_hollow(&Value::Table(said))).then_some(kept)
}

/// Tables and nothing in them.
fn is_hollow(value: &Value) -> bool {
    value
        .as_table()
        .is_some_and(|table| table.values().all(is_hollow))
}

/// The lines of tables that stand in the way.
fn conflicts(document: &Document<'_>, wanted: Wanted<'_>) -> Result<Vec<Range<usize>>, EditError> {
    let mut taken = Vec::new();
    for handler in wanted.handlers {
        let [a, b, c, d] = wanted.schema.runtimes();
        let path = [a, b, c, d, handler.name.as_str()];
        let Some(item) = document.get(&path) else {
            continue;
        };
        let text = |key| item.get(key).and_then(|value| value.as_str());
        if text("runtime_path").is_some_and(|path| is_below(path, wanted.prefix)) {
            continue;
        }
        let line = document.line_of(&path).unwrap_or(0);
        let name = handler.name.clone();
        let runtime_type = text("runtime_type").unwrap_or("none").to_owned();
        if !is_wasm(&runtime_type) {
            return Err(EditError::Foreign {
                line,
                name,
                runtime_type,
            });
        }
        if !wanted.take_over {
            return Err(EditError::Taken {
                line,
                name,
                runtime_type,
            });
        }
        let table = path.join(".");
        let lines = document.lines_of(&path);
        taken.extend(lines.ok_or(EditError::Closed { line, table })?);
    }
    Ok(taken)
}

/// Runtime types of Wasm shims: runwasi's, Spin's and ours.
pub fn is_wasm(runtime_type: &str) -> bool {
    let mut parts = runtime_type.rsplit('.');
    let (Some(_), Some(engine)) = (parts.next(), parts.next()) else {
        return false;
    };
    const ENGINES: [&str; 9] = [
        "wasmtime", "wasmedge", "wasmer", "skiff", "spin", "lunatic", "slight", "wws", "wamr",
    ];
    ENGINES.contains(&engine) || (engine == "wasm" && runtime_type.starts_with("io.containerd."))
}

fn add_local_pull(text: String, wanted: Wanted<'_>) -> Result<String, EditError> {
    if !wanted.local_pull || wanted.schema != Schema::Split {
        return Ok(text);
    }
    let plugin = wanted.schema.images_plugin();
    let document = Document::parse(&text)?;
    let key = ["plugins", plugin, "use_local_image_pull"];
    let line = "use_local_image_pull = true";
    match document.get(&key).map(toml_edit::Item::as_bool) {
        Some(Some(true)) => return Ok(text),
        Some(_) => {
            let line = document.line_of(&key).unwrap_or(0);
            return Err(EditError::LocalPullOff { line });
        }
        None => {}
    }
    match document.header_end(&key[..2]) {
        Some(byte) => Ok(block::insert_line(&text, byte, line)),
        None => {
            let end = block::line_end(&text);
            let open = if text.is_empty() || text.ends_with('\n') {
                ""
            } else {
                end
            };
            let header = block::insert_line("", 0, &format!("[plugins.\"{plugin}\"]"));
            let key = block::insert_line("", 0, line);
            Ok(format!(
                "{text}{open}{}{}",
                header.replace('\n', end),
                key.replace('\n', end)
            ))
        }
    }
}

fn cut_own_tables(text: &str, prefix: &Path) -> Result<String, DocumentError> {
    let document = Document::parse(text)?;
    let mut ranges = Vec::new();
    for schema in [Schema::Short, Schema::Cri, Schema::Split] {
        let [a, b, c, d] = schema.runtimes();
        let Some(runtimes) = document
            .get(&[a, b, c, d])
            .and_then(|item| item.as_table_like())
        else {
            continue;
        };
        for (name, item) in runtimes.iter() {
            let path = item.get("runtime_path").and_then(|value| value.as_str());
            if path.is_some_and(|path| is_below(path, prefix)) {
                ranges.extend(document.lines_of(&[a, b, c, d, name]).unwrap_or_default());
            }
        }
    }
    let mut kept = text.to_owned();
    ranges.sort_by_key(|range| std::cmp::Reverse(range.start));
    for range in ranges {
        kept.replace_range(range, "");
    }
    Ok(kept)
}

/// Takes out the tables that stand below our note on containerd's own handlers.
fn cut_defaults(text: &str) -> Result<String, DocumentError> {
    let document = Document::parse(text)?;
    let mut kept = text.to_owned();
    let Some(note) = text.find(block::DEFAULT) else {
        return Ok(kept);
    };
    let mut ranges = Vec::new();
    for schema in [Schema::Short, Schema::Cri, Schema::Split] {
        ranges.extend(document.lines_of(&schema.runtimes()).unwrap_or_default());
    }
    ranges.retain(|range| range.start > note);
    ranges.sort_by_key(|range| std::cmp::Reverse(range.start));
    for range in ranges {
        kept.replace_range(range, "");
    }
    Ok(kept)
}

/// What the file says beside our handlers must be what it said before.
fn check(before: &Document<'_>, after: &Document<'_>, wanted: Wanted<'_>) -> Result<(), EditError> {
    let names = wanted.handlers.iter().map(|handler| &handler.name);
    let names = names.chain(wanted.defaults.iter().map(|(name, _)| name));
    let mut ours: Vec<Vec<String>> = names
        .map(|name| {
            let path = wanted.schema.runtimes().map(str::to_owned);
            path.into_iter().chain([name.clone()]).collect()
        })
        .collect();
    ours.push(dump::local_pull(wanted.schema));
    let strip = |document: &Document<'_>| {
        let mut value = document.value();
        dump::strip(&mut value, &ours);
        // Handlers that we had and that are not wanted any more.
        dump::strip_below(&mut value, &wanted.schema.runtimes(), wanted.prefix);
        value
    };
    match dump::first_difference(&strip(before), &strip(after)) {
        None => Ok(()),
        Some(path) => Err(EditError::SaysMore(path)),
    }
}

#[cfg(test)]
mod tests;
