//! `skiff cache ls|verify|prune`: what is kept of compiled code, whether it is intact, and less of it.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::bail;
use serde::Serialize;
use skiff_cache::{Cache, CacheError, Key, Listed, Prune, Pruned, Settings, Verdict};
use skiff_engine::compile::kind_name;

use crate::Outcome;
use crate::arguments;
use crate::output::{Colour, Output};
use crate::progress::Progress;
use crate::quantity;

/// One entry in a JSON document.
#[derive(Serialize)]
struct EntryDocument {
    key: String,
    bytes: u64,
    /// Seconds since the epoch, give or take an hour.
    last_used: u64,
    in_use: bool,
    /// `module` or `component`; null when the entry is damaged.
    kind: Option<&'static str>,
    /// Who made it: an engine's name.
    maker: Option<String>,
    /// SHA-256 of what it was made from.
    source: Option<String>,
}

impl EntryDocument {
    fn of(listed: &Listed) -> Self {
        let since_epoch = listed
            .used
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let about = listed.about.as_ref();
        Self {
            key: listed.key.to_string(),
            bytes: listed.bytes,
            last_used: since_epoch.as_secs(),
            in_use: listed.in_use,
            kind: about.map(|about| kind_name(about.kind)),
            maker: about.map(|about| about.maker.clone()),
            source: about.map(|about| hex(&about.source)),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Opens the cache for a command that has nothing to do when there is none: looking must not make one.
fn open() -> anyhow::Result<Option<Cache>> {
    let settings = Settings::from_environment();
    match std::fs::metadata(&settings.directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            bail!(needs_root(&settings.directory))
        }
        _ if !skiff_node::doctor::privileges::may_mount() => bail!(needs_root(&settings.directory)),
        _ => Ok(Some(Cache::open(&settings)?)),
    }
}

fn needs_root(folder: &Path) -> String {
    format!(
        "the cache {} is root's alone: run this as root",
        folder.display()
    )
}

fn no_cache() -> String {
    let folder = Settings::from_environment().directory;
    format!(
        "there is no cache at {} yet: nothing was compiled there (shims may use another SKIFF_CACHE_DIR; `skiff doctor` names theirs)",
        folder.display()
    )
}

pub(crate) fn list(output: &Output) -> anyhow::Result<Outcome> {
    let cache = open()?;
    let entries = cache
        .as_ref()
        .map(Cache::list)
        .transpose()?
        .unwrap_or_default();
    let quarantined = cache.as_ref().map(Cache::quarantined).unwrap_or_default();
    if output.json() {
        let entries: Vec<EntryDocument> = entries.iter().map(EntryDocument::of).collect();
        let folder = Settings::from_environment().directory;
        output.document(&serde_json::json!({
            "folder": folder,
            "bytes": entries.iter().map(|entry| entry.bytes).sum::<u64>(),
            "limit_bytes": Settings::from_environment().limit,
            "entries": entries,
            "quarantined": quarantined.iter().map(|file| &file.name).collect::<Vec<_>>(),
        }))?;
        return Ok(Outcome::Well);
    }
    let Some(cache) = cache else {
        output.text(&no_cache())?;
        return Ok(Outcome::Well);
    };
    let now = SystemTime::now();
    let rows: Vec<Vec<String>> = entries.iter().map(|entry| row(entry, now)).collect();
    if !rows.is_empty() {
        output.table(
            &[
                "ENTRY",
                "SIZE",
                "LAST USED",
                "RUNNING",
                "KIND",
                "MADE BY",
                "OF",
            ],
            &rows,
        )?;
    }
    let bytes: u64 = entries.iter().map(|entry| entry.bytes).sum();
    output.text(&format!(
        "{} in {}: {} of {}",
        counted(entries.len(), "entry", "entries"),
        cache.directory().display(),
        quantity::bytes(bytes),
        quantity::bytes(cache.limit()),
    ))?;
    if !quarantined.is_empty() {
        output.text(&format!(
            "{} set aside as damaged, in {}/quarantine; `skiff cache prune` removes them",
            counted(quarantined.len(), "file", "files"),
            cache.directory().display(),
        ))?;
    }
    Ok(Outcome::Well)
}

fn row(entry: &Listed, now: SystemTime) -> Vec<String> {
    let ago = now.duration_since(entry.used).unwrap_or_default();
    // The time of use is written once an hour at most.
    let used = if ago < Duration::from_secs(3600) {
        "this hour".to_owned()
    } else {
        format!("{} ago", quantity::duration(ago))
    };
    let running = if entry.in_use { "yes" } else { "no" };
    let [kind, maker, source] = match &entry.about {
        Some(about) => [
            kind_name(about.kind).to_owned(),
            about.maker.clone(),
            format!("sha256:{}", &hex(&about.source)[..12]),
        ],
        None => ["damaged", "", "run `skiff cache verify`"].map(str::to_owned),
    };
    vec![
        entry.key.to_string()[..12].to_owned(),
        quantity::bytes(entry.bytes),
        used,
        running.to_owned(),
        kind,
        maker,
        source,
    ]
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

pub(crate) fn verify(output: &Output) -> anyhow::Result<Outcome> {
    let mut good = 0_usize;
    let mut bad: Vec<(EntryDocument, String)> = Vec::new();
    if let Some(cache) = open()? {
        let mut progress = Progress::begin();
        cache.verify(&mut |listed, verdict| {
            match verdict {
                Verdict::Good => good += 1,
                Verdict::Quarantined(reason) => {
                    bad.push((EntryDocument::of(listed), reason.clone()));
                }
            }
            progress.step(&format!(
                "checked {}",
                counted(good + bad.len(), "entry", "entries")
            ));
        })?;
    } else if !output.json() {
        output.text(&no_cache())?;
        return Ok(Outcome::Well);
    }
    if output.json() {
        let quarantined: Vec<_> = bad
            .iter()
            .map(|(entry, reason)| serde_json::json!({ "key": entry.key, "reason": reason }))
            .collect();
        output.document(&serde_json::json!({ "good": good, "quarantined": quarantined }))?;
    } else {
        for (entry, reason) in &bad {
            output.text(&format!(
                "{}  {}  {reason}",
                output.paint("BAD", Colour::Red),
                entry.key
            ))?;
        }
        output.text(&match bad.len() {
            0 => format!("{}, all intact", counted(good, "entry", "entries")),
            count => format!(
                "{good} intact, {count} damaged and set aside: they are compiled again when next needed; damage that comes back is a failing disk or somebody with root's rights"
            ),
        })?;
    }
    Ok(if bad.is_empty() {
        Outcome::Well
    } else {
        Outcome::Broken
    })
}

pub(crate) fn prune(arguments: &arguments::Prune, output: &Output) -> anyhow::Result<Outcome> {
    let request = Prune {
        keep_bytes: arguments.keep,
        unused_for: arguments.unused_for,
        in_use_too: arguments.all,
        dry_run: arguments.dry_run,
    };
    let pruned = open()?
        .map(|cache| prune_shown(&cache, &request))
        .transpose()?
        .unwrap_or_default();
    if output.json() {
        let removed: Vec<String> = pruned.removed.iter().map(ToString::to_string).collect();
        output.document(&serde_json::json!({ "removed": removed, "bytes": pruned.bytes, "dry_run": arguments.dry_run }))?;
    } else {
        let verb = if arguments.dry_run {
            "would remove"
        } else {
            "removed"
        };
        output.text(&format!(
            "{verb} {}, {}",
            counted(pruned.removed.len(), "entry", "entries"),
            quantity::bytes(pruned.bytes)
        ))?;
    }
    Ok(Outcome::Well)
}

/// Prunes, and names of what was removed only the entries that `ls` shows: the cache's own notes go with them.
fn prune_shown(cache: &Cache, request: &Prune) -> Result<Pruned, CacheError> {
    let shown: HashSet<Key> = cache.list()?.iter().map(|entry| entry.key).collect();
    let mut pruned = cache.prune(request)?;
    pruned.removed.retain(|key| shown.contains(key));
    Ok(pruned)
}
