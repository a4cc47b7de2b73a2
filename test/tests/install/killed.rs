//! Killed at every step, the installer leaves each file as it was or as it is to be, and the next run finishes the work.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use skiff_test::command;

use crate::tree::{Entry, Fixture, Tree, remove_shared};

skiff_test::cases!(killed_at_every_step);

/// More steps than a run has.
const MOST_STEPS: u32 = 500;

fn killed_at_every_step() -> Result<()> {
    let mut wrong = Vec::new();
    let mut kills = 0;
    for fixture in Fixture::all()?
        .iter()
        .filter(|fixture| fixture.get("refused").is_none())
    {
        match all_steps(fixture) {
            Ok(number) => kills += number,
            Err(error) => wrong.push(format!("{}: {error:#}", fixture.name)),
        }
    }
    remove_shared();
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    ensure!(kills > 500, "only {kills} kills");
    Ok(())
}

fn all_steps(fixture: &Fixture) -> Result<u32> {
    let tree = Tree::new(fixture)?;
    let clean = tree.files()?;
    tree.run(&["install"])?.ok()?;
    let installed = tree.files()?;
    tree.run(&["uninstall"])?.ok()?;
    let installs = steps(&tree, "install", &clean, &installed)?;
    tree.run(&["install"])?.ok()?;
    let uninstalls = steps(&tree, "uninstall", &installed, &clean)?;
    Ok(installs + uninstalls)
}

/// Kills a run at each of its steps. The tree is `before` when this begins and when it ends.
fn steps(
    tree: &Tree,
    operation: &str,
    before: &BTreeMap<PathBuf, Entry>,
    after: &BTreeMap<PathBuf, Entry>,
) -> Result<u32> {
    let undo = if operation == "install" {
        "uninstall"
    } else {
        "install"
    };
    for step in 1..MOST_STEPS {
        let mut run = tree.command(&[operation])?;
        let ran = command::run(run.env("SKIFF_NODE_KILL_AT", step.to_string()))?;
        if ran.code == 0 {
            ensure!(
                tree.files()? == *after,
                "{operation} that was not killed did not do its work"
            );
            tree.run(&[undo])?.ok()?;
            ensure!(step > 5, "{operation} has only {step} steps");
            return Ok(step - 1);
        }
        ensure!(
            ran.code == 137,
            "{operation} at step {step}: {}",
            ran.stderr
        );
        old_or_new(&tree.files()?, before, after)
            .with_context(|| format!("{operation} killed at step {step}"))?;
        let finished = tree.run(&[operation])?;
        finished
            .ok()
            .with_context(|| format!("{operation} after a kill at step {step}"))?;
        ensure!(
            tree.files()? == *after,
            "{operation} after a kill at step {step} did not finish the work"
        );
        tree.run(&[undo])?
            .ok()
            .with_context(|| format!("{undo} after {operation} killed at step {step}"))?;
        ensure!(
            tree.files()? == *before,
            "{undo} after {operation} killed at step {step} left something"
        );
    }
    bail!("{operation} has more than {MOST_STEPS} steps")
}

/// Every file is one or the other. A file beside it that nothing reads may be there.
fn old_or_new(
    now: &BTreeMap<PathBuf, Entry>,
    before: &BTreeMap<PathBuf, Entry>,
    after: &BTreeMap<PathBuf, Entry>,
) -> Result<()> {
    for path in before.keys().chain(after.keys()) {
        let found = now.get(path);
        ensure!(
            found == before.get(path) || found == after.get(path),
            "{} is neither what it was nor what it is to be",
            path.display()
        );
    }
    for path in now.keys() {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = name.starts_with('.') && name.ends_with(".skiff-node");
        ensure!(
            temporary || before.contains_key(path) || after.contains_key(path),
            "{} is new",
            path.display()
        );
    }
    Ok(())
}
