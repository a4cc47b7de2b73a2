//! Killed at every step, the installer leaves each file as it was or as it is to be, and the next run finishes the work.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use anyhow::{Context as _, Result, bail, ensure};
use skiff_test::command;

use crate::tree::{Entry, Fixture, Tree, binaries, remove_shared};

skiff_test::cases!(killed_at_every_step);

/// More steps than a run has.
const MOST_STEPS: u32 = 500;

fn killed_at_every_step() -> Result<()> {
    let all = Fixture::all()?;
    let fit: Vec<&Fixture> = all
        .iter()
        .filter(|fixture| fixture.get("refused").is_none())
        .collect();
    // Made before the threads that share them.
    binaries()?;
    let next = AtomicUsize::new(0);
    let (kills, wrong) = (AtomicU32::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(fixture) = fit.get(index) else { break };
                    // The steps of putting binaries in place are the same on all nodes.
                    match all_steps(fixture, index == 0) {
                        Ok(number) => {
                            kills.fetch_add(number, Ordering::Relaxed);
                        }
                        Err(error) => {
                            let sentence = format!("{}: {error:#}", fixture.name);
                            wrong
                                .lock()
                                .expect("no thread panics with it")
                                .push(sentence);
                        }
                    }
                }
            });
        }
    });
    remove_shared();
    let wrong = wrong.into_inner()?;
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    let kills = kills.into_inner();
    ensure!(kills > 20 * u32::try_from(fit.len())?, "only {kills} kills");
    skiff_test::runner::keep_log("kills", format!("{} nodes, {kills} kills", fit.len()));
    Ok(())
}

fn all_steps(fixture: &Fixture, with_binaries: bool) -> Result<u32> {
    let tree = Tree::quick(fixture)?;
    let clean = tree.files()?;
    let store = tree.root().with_extension("kept");
    tree.run(&["install"])?.ok()?;
    let installed = tree.files()?;
    tree.keep_ours(&store, false)?;
    let killed = (|| {
        let installs = steps(&tree, "install", &installed, || {
            tree.reset(&clean)?;
            if with_binaries {
                Ok(())
            } else {
                tree.keep_binaries(&store)
            }
        })?;
        let uninstalls = steps(&tree, "uninstall", &clean, || {
            tree.reset(&installed)?;
            tree.keep_ours(&store, true)
        })?;
        Ok(installs + uninstalls)
    })();
    std::fs::remove_dir_all(&store)?;
    killed
}

/// Kills a run at each of its steps, each time on the same node, which `reset` makes.
fn steps(
    tree: &Tree,
    operation: &str,
    after: &BTreeMap<PathBuf, Entry>,
    reset: impl Fn() -> Result<()>,
) -> Result<u32> {
    for step in 1..MOST_STEPS {
        reset()?;
        let before = tree.files()?;
        let mut run = tree.command(&[operation])?;
        let ran = command::run(run.env("SKIFF_NODE_KILL_AT", step.to_string()))?;
        if ran.code == 0 {
            ensure!(
                tree.files()? == *after,
                "{operation} that was not killed did not do its work"
            );
            ensure!(step > 5, "{operation} has only {step} steps");
            return Ok(step - 1);
        }
        ensure!(
            ran.code == 137,
            "{operation} at step {step}: {}",
            ran.stderr
        );
        old_or_new(&tree.files()?, &before, after)
            .with_context(|| format!("{operation} killed at step {step}"))?;
        let finished = tree.run(&[operation])?;
        finished
            .ok()
            .with_context(|| format!("{operation} after a kill at step {step}"))?;
        ensure!(
            tree.files()? == *after,
            "{operation} after a kill at step {step} did not finish the work"
        );
        if operation == "install" {
            let state = tree
                .text("/var/lib/skiff/node/state.json")
                .context("no state")?;
            ensure!(
                state.contains("\"pending\": null") && tree.exists("/opt/skiff/current"),
                "after a kill at step {step}: {state}"
            );
        } else {
            let left = ["/opt/skiff", "/var/lib/skiff", "/run/skiff-node"]
                .into_iter()
                .find(|ours| tree.exists(ours));
            ensure!(
                left.is_none(),
                "{left:?} is there after an uninstall that was killed at step {step}"
            );
        }
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
