//! The table of docs/engines.md: what each engine can do, tried by a module in a real container.
//!
//! The suite fails when the table that is committed says something else; `make engines-table` writes it anew.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use skiff_test::command::Ran;
use skiff_test::guest;
use skiff_test::image::{Entry, Image};
use skiff_test::node::{Node, Run, Version, WASMEDGE, WASMTIME};
use skiff_test::tools;

#[path = "engine_table/modules.rs"]
mod modules;

skiff_test::cases!(the_table_is_true);

const ENGINES: [(&str, &str); 2] = [("wasmtime", WASMTIME), ("WasmEdge", WASMEDGE)];
const BEGIN: &str = "<!-- begin of the table: `make engines-table` writes it -->\n";
const END: &str = "<!-- end of the table -->\n";
/// What a module exits with that has done what it was to do.
const DONE: i32 = 42;

/// A line of the table.
pub(crate) struct Feature {
    name: &'static str,
    what: What,
    /// Options of the handler.
    options: &'static str,
}

/// How it is tried.
pub(crate) enum What {
    /// This module exits with [`DONE`].
    Module(&'static str),
    /// This component ends well.
    Component(&'static str),
    /// The tests' guest does this, which ends with this code, and its output has these words.
    Guest(&'static [&'static str], i32, &'static str),
    /// The same of the guest as a component.
    GuestComponent(&'static [&'static str], i32, &'static str),
    /// This module's end is told in these words.
    Told(&'static str, &'static str),
    /// The same of the guest.
    GuestTold(&'static [&'static str], &'static str),
    /// The file `/app.wat` of an image.
    Text(&'static str),
    /// A process that is executed beside the guest ends well.
    Exec(&'static [&'static str]),
    /// The guest's code is mapped from the node's cache.
    Mapped,
    /// Stopped by this signal, the guest ends with this code while it spins.
    Stopped(&'static str, i32),
}

fn the_table_is_true() -> Result<()> {
    if !tools::skiff_dir().join("engines/wasmedge").is_dir() {
        skiff_test::skip!("there is no WasmEdge in {}", tools::skiff_dir().display());
    }
    let path = tools::checkout().join("docs/engines.md");
    let text = fs::read_to_string(&path)?;
    let (before, rest) = text
        .split_once(BEGIN)
        .context("docs/engines.md has no place for the table")?;
    let (committed, after) = rest
        .split_once(END)
        .context("the table in docs/engines.md has no end")?;
    let table = table()?;
    if std::env::var_os("SKIFF_WRITE_TABLE").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}"))?;
        return Ok(());
    }
    let differences: Vec<String> = committed
        .lines()
        .zip(table.lines())
        .filter(|(old, new)| old != new)
        .map(|(old, new)| format!("committed: {old}\nseen:      {new}"))
        .collect();
    ensure!(
        committed == table,
        "docs/engines.md is not what is seen; `make engines-table` writes it anew:\n{}",
        differences.join("\n")
    );
    Ok(())
}

fn table() -> Result<String> {
    let mut table = "| |".to_owned();
    for (engine, _) in ENGINES {
        write!(table, " {} |", version(engine)?)?;
    }
    table.push_str("\n|--|--|--|\n");
    let node = Node::cold(Version::V2_4)?;
    for (number, feature) in modules::FEATURES.iter().enumerate() {
        write!(table, "| {} |", feature.name)?;
        for (engine, runtime) in ENGINES {
            let cell = cell(&node, feature, runtime, &format!("f{number}"));
            let cell = cell.with_context(|| format!("{} on {engine}", feature.name))?;
            write!(table, " {cell} |")?;
        }
        table.push('\n');
    }
    Ok(table)
}

fn version(engine: &str) -> Result<String> {
    let version = if engine == "wasmtime" {
        let lock = fs::read_to_string(tools::checkout().join("Cargo.lock"))?;
        let (_, rest) = lock
            .split_once("name = \"wasmtime\"\nversion = \"")
            .context("Cargo.lock has no wasmtime")?;
        rest.split('"').next().unwrap_or_default().to_owned()
    } else {
        let versions = fs::read_dir(tools::skiff_dir().join("engines/wasmedge"))?;
        let mut versions: Vec<_> = versions
            .map(|version| Ok(version?.file_name().to_string_lossy().into_owned()))
            .collect::<Result<_>>()?;
        versions.sort();
        versions.pop().unwrap_or_default()
    };
    Ok(format!("{engine} {version}"))
}

fn cell(node: &Node, feature: &Feature, runtime: &str, name: &str) -> Result<String> {
    let image = image(&feature.what, name)?;
    node.import(&image)?;
    let before = files(&node.cache())?;
    let run = node.run(&image).runtime(runtime);
    let run = run.options(feature.options)?;
    let can = tried(node, &feature.what, run)?;
    let interpreted = files(&node.cache())?
        .difference(&before)
        .any(|file| fs::read(file).is_ok_and(|bytes| bytes.starts_with(b"skiff-i\0")));
    Ok(match (can, interpreted) {
        (true, false) => "yes",
        (true, true) => "interpreted",
        (false, _) => "no",
    }
    .to_owned())
}

fn image(what: &What, name: &str) -> Result<Image> {
    Ok(match what {
        What::Module(text) | What::Told(text, _) | What::Component(text) => {
            Image::layer(name, &guest::text(text)?)
        }
        What::GuestComponent(..) => Image::root_file(name, &guest::component()?),
        What::Text(text) => Image::linux(name, &[Entry::file("app.wat", 0o644, text.as_bytes())])
            .entrypoint(&["/app.wat"]),
        What::Guest(..)
        | What::GuestTold(..)
        | What::Exec(_)
        | What::Mapped
        | What::Stopped(..) => Image::root_file(name, &guest::module()?),
    })
}

/// Whether it can be done. What is refused is told in a sentence: an engine that goes down at it is an error.
fn tried(node: &Node, what: &What, run: Run<'_>) -> Result<bool> {
    let ended = |ran: Ran, code: i32, words: &str| -> Result<bool> {
        let can = ran.code == code && ran.stdout.contains(words);
        ensure!(
            can || (ran.code != 0 && !ran.stderr.trim().is_empty()),
            "it ended without a word: {ran:?}"
        );
        ensure!(
            !ran.stderr.contains("before it was ready"),
            "the engine went down: {}",
            ran.stderr
        );
        Ok(can)
    };
    match what {
        What::Module(_) | What::Text(_) => ended(run.output()?, DONE, ""),
        What::Component(_) => ended(run.output()?, 0, ""),
        What::Guest(words, code, said) | What::GuestComponent(words, code, said) => {
            // A path with a function takes the place of the module's.
            let run = match words.first() {
                Some(first) if first.starts_with('/') => run.args(words.iter().copied()),
                _ => run.guest(words),
            };
            ended(run.output()?, *code, said)
        }
        What::Told(_, told) => Ok(run.output()?.stderr.contains(told)),
        What::GuestTold(words, told) => Ok(run.guest(words).output()?.stderr.contains(told)),
        What::Exec(words) => {
            let task = run.guest(&["say", "up", "sleep", "100"]).start()?;
            task.wait_for_output("up")?;
            let mut all = vec!["task", "exec", "--exec-id", "e", task.id()];
            all.extend(*words);
            let ran = node.ctr(&all)?;
            task.remove()?;
            Ok(ran.code == 0)
        }
        What::Mapped => {
            let task = run.guest(&["say", "up", "sleep", "100"]).start()?;
            task.wait_for_output("up")?;
            let (_, process) = task.state()?;
            let maps = fs::read_to_string(format!("/proc/{process}/maps"))?;
            task.remove()?;
            Ok(is_mapped(&maps, &files(&node.cache())?))
        }
        What::Stopped(signal, code) => {
            let task = run.guest(&["spin"]).start()?;
            task.wait_for_output("spinning")?;
            task.signal(signal)?.ok()?;
            if task
                .wait_until_stopped(std::time::Duration::from_secs(10))
                .is_err()
            {
                task.remove()?;
                return Ok(false);
            }
            let ended = task.remove()?;
            if ended != *code {
                bail!("{signal} ended it with {ended}");
            }
            Ok(true)
        }
    }
}

/// Whether a file of the cache is mapped as code.
fn is_mapped(maps: &str, cache: &BTreeSet<PathBuf>) -> bool {
    let inodes: BTreeSet<String> = cache
        .iter()
        .filter_map(|file| Some(fs::metadata(file).ok()?.ino().to_string()))
        .collect();
    maps.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.get(1).is_some_and(|access| access.contains('x'))
            && fields.get(4).is_some_and(|inode| inodes.contains(*inode))
    })
}

/// All files below a directory.
fn files(directory: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.insert(path);
        }
    }
    Ok(found)
}
