//! The table of docs/languages.md. What works is asserted, by the guests' own tests and here; figures are written, and no
//! test depends on them.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use skiff_test::node::{Node, Version};
use skiff_test::tools;

use crate::figures::{self, Figures};
use crate::guests::{ENGINES, GUESTS, Guest};

skiff_test::cases!(every_row_is_there);

const BEGIN: &str = "<!-- begin of the table: `make languages-table` writes it -->\n";
const END: &str = "<!-- end of the table -->\n";
const HEAD: &str = "| language | engine | size | compiled in | start | memory | what works |\n|--|--|--|--|--|--|--|\n";

fn every_row_is_there() -> Result<()> {
    let path = tools::checkout().join("docs/languages.md");
    let text = fs::read_to_string(&path)?;
    let (before, rest) = text
        .split_once(BEGIN)
        .context("docs/languages.md has no place for the table")?;
    let (committed, after) = rest
        .split_once(END)
        .context("the table in docs/languages.md has no end")?;
    if let Ok(which) = std::env::var("SKIFF_WRITE_TABLE") {
        let table = table(&which, committed)?;
        fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}"))?;
        return Ok(());
    }
    let rows: Vec<Vec<&str>> = committed
        .strip_prefix(HEAD)
        .context("the table in docs/languages.md has other columns")?
        .lines()
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let mut wanted = Vec::new();
    for guest in &GUESTS {
        for (engine, runtime) in ENGINES {
            wanted.push((name(guest), engine, guest.works(runtime)));
        }
    }
    ensure!(
        rows.len() == wanted.len(),
        "{} rows, which had to be {}",
        rows.len(),
        wanted.len()
    );
    for (row, (name, engine, works)) in rows.iter().zip(wanted) {
        ensure!(
            row.len() == 7 && row[0] == name && row[1] == engine && row[6] == works,
            "the row of {name} on {engine}, which says {works:?}, is: {row:?}"
        );
        ensure!(
            row[2..6].iter().all(|cell| !cell.is_empty()),
            "figures are missing in {row:?}"
        );
    }
    Ok(())
}

fn name(guest: &Guest) -> String {
    format!("{}: {}", guest.language, guest.interface())
}

/// All rows anew for "yes"; else those of the guests that are named, and the others as they are.
fn table(which: &str, committed: &str) -> Result<String> {
    let mut table = HEAD.to_owned();
    let node = Node::cold(Version::V2_4)?;
    for guest in &GUESTS {
        for (engine, runtime) in ENGINES {
            let begin = format!("| {} | {engine} |", name(guest));
            let old = committed.lines().find(|row| row.starts_with(&begin));
            let asked = which == "yes" || which.split(',').any(|name| name == guest.name);
            let row = match old {
                _ if asked => row(&node, guest, runtime, &begin)
                    .with_context(|| format!("{} on {engine}", guest.name))?,
                Some(old) => old.to_owned(),
                None => continue,
            };
            writeln!(table, "{row}")?;
        }
    }
    Ok(table)
}

fn row(node: &Node, guest: &Guest, runtime: &str, begin: &str) -> Result<String> {
    let bytes = match guest.bytes()? {
        Ok(bytes) => bytes,
        Err(reason) => bail!("it cannot be had here: {reason}"),
    };
    let works = guest.works(runtime);
    let cells = if guest.runs_on(runtime) {
        cells(&figures::measured(node, guest, &bytes, runtime)?)
    } else {
        "– | – | –".to_owned()
    };
    Ok(format!(
        "{begin} {} | {cells} | {works} |",
        size(bytes.len())
    ))
}

fn cells(figures: &Figures) -> String {
    format!(
        "{} | {} | {}.{} MiB",
        time(figures.compiled),
        time(figures.start),
        figures.memory / 1024,
        figures.memory % 1024 * 10 / 1024
    )
}

fn size(bytes: usize) -> String {
    let kilobytes = bytes.div_ceil(1024);
    if kilobytes < 1024 {
        return format!("{kilobytes} KiB");
    }
    format!("{}.{} MiB", kilobytes / 1024, kilobytes % 1024 * 10 / 1024)
}

fn time(time: Duration) -> String {
    let milliseconds = time.as_millis();
    if milliseconds < 1000 {
        return format!("{milliseconds} ms");
    }
    format!("{:.1} s", time.as_secs_f64())
}
