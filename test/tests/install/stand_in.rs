//! This test binary under the name of containerd: prints a configuration as `containerd config dump` does, in a
//! hundredth of the time. For tests that run the installer thousands of times and ask what it does to files; what a
//! real containerd makes of them is asked in `corpus`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use toml::{Table, Value};

/// The release that it says it is lies in this file.
pub(crate) const RELEASE: &str = "/usr/bin/containerd-release";

const HALVES: [&str; 2] = [
    "io.containerd.cri.v1.runtime",
    "io.containerd.cri.v1.images",
];
const WHOLE: &str = "io.containerd.grpc.v1.cri";

/// Answers as containerd does, if this process was started by its name.
pub(crate) fn answer() -> Option<Result<String>> {
    let mut words = std::env::args();
    let name = words.next()?;
    let words: Vec<String> = words.collect();
    name.ends_with("/containerd").then(|| spoken(&words))
}

fn spoken(words: &[String]) -> Result<String> {
    let release = fs::read_to_string(RELEASE).context("no release")?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["--version"] => Ok(format!(
            "containerd github.com/containerd/containerd v{release} 0"
        )),
        ["config", "default"] => dump(Table::new(), &release),
        ["--config", path, "config", "dump"] => dump(load(Path::new(path), &release)?, &release),
        other => bail!("{other:?} is not understood"),
    }
}

/// A file with all that it imports.
fn load(path: &Path, release: &str) -> Result<Table> {
    let mut root = parse(path)?;
    let imports = root.remove("imports");
    let imports = imports
        .as_ref()
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    for pattern in imports.filter_map(Value::as_str) {
        for file in files(&path.with_file_name("x"), pattern) {
            let imported = parse(&file)?;
            if release.starts_with('1') {
                overlay_plugins(&mut root, imported);
            } else {
                merge(&mut root, imported);
            }
        }
    }
    Ok(root)
}

fn parse(path: &Path) -> Result<Table> {
    let text = fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
    let mut table: Table = toml::from_str(&text).with_context(|| format!("{}", path.display()))?;
    let version = table.remove("version").as_ref().and_then(Value::as_integer);
    // Each form of the names becomes the newest one, in which the plugin of the old name is another.
    let plugins = table.get_mut("plugins").and_then(Value::as_table_mut);
    if let Some(plugins) = plugins
        && version.is_none_or(|version| version < 3)
    {
        for old in ["cri", WHOLE] {
            if let Some(value) = plugins.remove(old) {
                plugins.insert(HALVES[0].to_owned(), value);
            }
        }
    }
    Ok(table)
}

fn files(beside: &Path, pattern: &str) -> Vec<PathBuf> {
    let pattern = beside.with_file_name(pattern);
    if !pattern.ends_with("*.toml") {
        return vec![pattern];
    }
    let entries = fs::read_dir(pattern.with_file_name(""))
        .into_iter()
        .flatten()
        .flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    found.retain(|path| path.extension().is_some_and(|end| end == "toml"));
    found.sort();
    found
}

/// containerd 1.x: the imported table of a plugin takes the place of the whole one.
fn overlay_plugins(root: &mut Table, imported: Table) {
    for (key, value) in imported {
        match (root.get_mut(&key), value) {
            (Some(Value::Table(own)), Value::Table(other)) if key == "plugins" => own.extend(other),
            (_, value) => {
                root.insert(key, value);
            }
        }
    }
}

/// containerd 2.x: tables are merged.
fn merge(root: &mut Table, imported: Table) {
    for (key, value) in imported {
        match (root.get_mut(&key), value) {
            (Some(Value::Table(own)), Value::Table(other)) => merge(own, other),
            (_, value) => {
                root.insert(key, value);
            }
        }
    }
}

fn dump(mut table: Table, release: &str) -> Result<String> {
    let old = release.starts_with('1');
    let plugins = entry(&mut table, "plugins");
    let runtimes = entry(entry(entry(plugins, HALVES[0]), "containerd"), "runtimes");
    // A map of defaults that 1.x gives up as soon as a file has one.
    if !old || runtimes.is_empty() {
        entry(runtimes, "runc")
            .entry("runtime_type")
            .or_insert_with(|| "io.containerd.runc.v2".into());
    }
    if old && let Some(value) = plugins.remove(HALVES[0]) {
        plugins.insert(WHOLE.to_owned(), value);
    }
    Ok(toml::to_string(&table)?)
}

fn entry<'a>(table: &'a mut Table, key: &str) -> &'a mut Table {
    let value = table
        .entry(key)
        .or_insert_with(|| Value::Table(Table::new()));
    if !value.is_table() {
        *value = Value::Table(Table::new());
    }
    value.as_table_mut().expect("it was just made one")
}
