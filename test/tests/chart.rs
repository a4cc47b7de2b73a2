//! The chart, as Helm 4 and Helm 3 make objects of it. `test/run.sh chart` builds both and runs these tests.
//!
//! What comes out is kept in `test/fixtures/chart`, for each file of values there: a change of the chart is a change
//! of these files, to be read. `SKIFF_RECORD=yes test/run.sh chart` writes them anew.

#[path = "chart/api.rs"]
mod api;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use skiff_test::command::{self, Ran};
use skiff_test::tools;

skiff_test::cases!(
    objects_are_those_that_are_recorded,
    lint_finds_nothing,
    wrong_values_are_refused,
    handlers_decide_on_objects,
    a_package_holds_the_same,
);

fn main() -> ExitCode {
    skiff_test::runner::main(&[CASES, api::CASES], &[])
}

/// Folders of `test/node/tools` with a Helm.
const HELMS: [&str; 2] = ["helm", "helm-3"];

fn chart() -> PathBuf {
    tools::checkout().join("charts/skiff")
}

fn helm(which: &str, words: &[&str]) -> Result<Ran> {
    let home = std::env::temp_dir().join(format!("skt{}-helm", std::process::id()));
    let mut command = Command::new(tools::component(which)?.join("helm"));
    // Nothing of this machine's user gets in.
    command.env_clear().env("HOME", &home).args(words);
    let ran = command::run(&mut command);
    fs::remove_dir_all(&home).ok();
    ran
}

fn template(which: &str, words: &[&str]) -> Result<Ran> {
    let chart = chart().display().to_string();
    let words = [
        &["template", "skiff", &chart, "--namespace", "skiff-system"],
        words,
    ]
    .concat();
    helm(which, &words)
}

fn objects_are_those_that_are_recorded() -> Result<()> {
    let folder = tools::checkout().join("test/fixtures/chart");
    let mut seen = 0;
    for entry in fs::read_dir(&folder)? {
        let values = entry?.path();
        let name = values.file_name().unwrap_or_default().to_string_lossy();
        let Some(name) = name.strip_suffix(".values.yaml") else {
            continue;
        };
        seen += 1;
        let recorded = folder.join(format!("{name}.objects.yaml"));
        let words = ["--values", &values.display().to_string()];
        let first = template(HELMS[0], &words)?.ok()?;
        ensure!(
            template(HELMS[0], &words)?.ok()? == first,
            "{name}: two runs differ"
        );
        if std::env::var_os("SKIFF_RECORD").is_some() {
            fs::write(&recorded, &first)?;
        }
        let expected = fs::read_to_string(&recorded)
            .with_context(|| format!("could not read {}", recorded.display()))?;
        for which in HELMS {
            let found = template(which, &words)?.ok()?;
            // Helm 4 writes an empty line between objects where Helm 3 writes none.
            let lines = |text: &str| -> Vec<String> {
                let lines = text.lines().filter(|line| !line.trim().is_empty());
                lines.map(str::to_owned).collect()
            };
            let (found, expected) = (lines(&found), lines(&expected));
            let differing = found
                .iter()
                .zip(&expected)
                .find(|(found, expected)| found != expected);
            ensure!(
                found == expected,
                "{name}: {which} makes other objects than {}; the first line that differs: {differing:?}",
                recorded.display()
            );
        }
    }
    ensure!(seen >= 3, "there are {seen} files of values only");
    Ok(())
}

fn lint_finds_nothing() -> Result<()> {
    for which in HELMS {
        let said = helm(which, &["lint", "--strict", &chart().display().to_string()])?.ok()?;
        ensure!(said.contains("0 chart(s) failed"), "{said}");
    }
    Ok(())
}

fn wrong_values_are_refused() -> Result<()> {
    for (values, word) in [
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("image.digest=sha256:12", "digest"),
        ("image.repositry=x", "repositry"),
        ("handlers.wasmer.enabled=true", "wasmer"),
        ("handlers.wasmtime.name=Wasm_1", "name"),
        ("maxUnavailable=0", "maxUnavailable"),
        ("agent.interval=0", "interval"),
        ("agent.port=70000", "port"),
        ("cache.size=4 GB", "size"),
        ("cache.unusedFor=soon", "unusedFor"),
        ("install.prefix=opt/skiff", "prefix"),
        ("overhead.memory=lots", "memory"),
        ("remove=yes", "remove"),
        ("tolerations=all", "tolerations"),
    ] {
        for which in HELMS {
            template(which, &["--set", values])?
                .fails_with(&[word])
                .with_context(|| format!("{which} with {values}"))?;
        }
    }
    let none = "handlers.wasmtime.enabled=false,handlers.skiff.enabled=false";
    template(HELMS[0], &["--set", none])?.fails_with(&["no handler is enabled"])?;
    Ok(())
}

fn handlers_decide_on_objects() -> Result<()> {
    let classes = |values: &str| -> Result<BTreeSet<String>> {
        let objects = template(HELMS[0], &["--set", values])?.ok()?;
        let labels = objects
            .lines()
            .filter_map(|line| line.trim().strip_prefix("handler.skiff.dev/"));
        Ok(labels
            .filter_map(|line| line.strip_suffix(": \"true\""))
            .map(str::to_owned)
            .collect())
    };
    let set = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<BTreeSet<_>>()
    };
    ensure!(classes("remove=false")? == set(&["wasmtime", "skiff"]));
    ensure!(
        classes("handlers.wasmedge.enabled=true,handlers.skiff.enabled=false")?
            == set(&["wasmtime", "wasmedge"])
    );
    ensure!(classes("handlers.wasmtime.name=wasm")? == set(&["wasm", "skiff"]));
    Ok(())
}

fn a_package_holds_the_same() -> Result<()> {
    let folder = std::env::temp_dir().join(format!("skt{}-package", std::process::id()));
    fs::create_dir_all(&folder)?;
    let place = folder.display().to_string();
    let packed = helm(
        HELMS[0],
        &["package", &chart().display().to_string(), "-d", &place],
    )
    .and_then(Ran::ok);
    let made = packed.and_then(|_| {
        let archive = fs::read_dir(&folder)?
            .flatten()
            .next()
            .context("no package was made")?
            .path();
        let archive = archive.display().to_string();
        let words = ["template", "skiff", &archive, "--namespace", "skiff-system"];
        helm(HELMS[0], &words)?.ok()
    });
    fs::remove_dir_all(&folder)?;
    ensure!(
        made? == template(HELMS[0], &[])?.ok()?,
        "the package makes other objects"
    );
    Ok(())
}
