//! Shims killed with SIGKILL at many points: no exit code is lost, none is invented, nothing stays behind.
//!
//! Not part of the usual run: `test/run.sh crash`. `SKIFF_TEST_ROUNDS` says how often each point is tried (50).

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use skiff_test::command::wait_for;
use skiff_test::image::Image;
use skiff_test::node::{Node, Version};
use skiff_test::raw::{Shim, Stdio};
use skiff_test::{guest, tools};

skiff_test::cases!(
    at_the_borders_of_calls,
    at_any_moment,
    under_containerd,
    ended_before_its_shim
);

fn rounds() -> u32 {
    std::env::var("SKIFF_TEST_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(50)
}

fn kill(process: u32) -> Result<()> {
    let id = i32::try_from(process)
        .ok()
        .and_then(Pid::from_raw)
        .context("no process id")?;
    kill_process(id, Signal::KILL)?;
    Ok(())
}

/// A point in the life of a container, reached by calls, and what `delete` may answer when the shim dies there.
struct Point {
    name: &'static str,
    guest: &'static [&'static str],
    calls: fn(&Shim<'_>) -> Result<()>,
    codes: &'static [u32],
}

const SLEEP: &[&str] = &["/app.wasm", "sleep", "1000"];
const EXIT: &[&str] = &["/app.wasm", "exit", "7"];

fn created(shim: &Shim<'_>) -> Result<()> {
    shim.create(&Stdio::default())?;
    Ok(())
}

fn started(shim: &Shim<'_>) -> Result<()> {
    created(shim)?;
    shim.run()?;
    Ok(())
}

/// 137 is the truth where the container was killed with its shim.
const POINTS: [Point; 14] = [
    Point {
        name: "before create",
        guest: SLEEP,
        calls: |_| Ok(()),
        codes: &[137],
    },
    Point {
        name: "after create",
        guest: SLEEP,
        calls: created,
        codes: &[137],
    },
    Point {
        name: "created, asked for its state",
        guest: SLEEP,
        calls: |shim| created(shim).and(Ok(shim.state().map(drop)?)),
        codes: &[137],
    },
    Point {
        name: "killed before start",
        guest: SLEEP,
        calls: |shim| created(shim).and(Ok(shim.kill(9)?)),
        codes: &[137],
    },
    Point {
        name: "after start",
        guest: SLEEP,
        calls: started,
        codes: &[137],
    },
    Point {
        name: "running, asked for its processes",
        guest: SLEEP,
        calls: |shim| started(shim).and(Ok(shim.pids().map(drop)?)),
        codes: &[137],
    },
    Point {
        name: "running, asked for metrics",
        guest: SLEEP,
        calls: |shim| started(shim).and(Ok(shim.stats().map(drop)?)),
        codes: &[137],
    },
    Point {
        name: "after SIGTERM",
        guest: SLEEP,
        calls: |shim| started(shim).and(Ok(shim.kill(15)?)),
        codes: &[143, 137],
    },
    Point {
        name: "after SIGKILL",
        guest: SLEEP,
        calls: |shim| started(shim).and(Ok(shim.kill(9)?)),
        codes: &[137],
    },
    Point {
        name: "about to exit by itself",
        guest: EXIT,
        calls: started,
        codes: &[7, 137],
    },
    Point {
        name: "exited by itself",
        guest: EXIT,
        calls: |shim| started(shim).and(Ok(shim.wait().map(drop)?)),
        codes: &[7],
    },
    Point {
        name: "ended by SIGTERM",
        guest: SLEEP,
        calls: |shim| {
            started(shim)
                .and(Ok(shim.kill(15)?))
                .and(Ok(shim.wait().map(drop)?))
        },
        codes: &[143],
    },
    Point {
        name: "ended by SIGKILL",
        guest: SLEEP,
        calls: |shim| {
            started(shim)
                .and(Ok(shim.kill(9)?))
                .and(Ok(shim.wait().map(drop)?))
        },
        codes: &[137],
    },
    Point {
        name: "deleted",
        guest: EXIT,
        calls: |shim| {
            started(shim)
                .and(Ok(shim.wait().map(drop)?))
                .and(Ok(shim.delete().map(drop)?))
        },
        codes: &[7, 137],
    },
];

fn at_the_borders_of_calls() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let program = tools::skiff("containerd-shim-skiff-v1")?;
    let module = guest::module()?;
    for point in &POINTS {
        for round in 0..rounds() {
            let shim = Shim::start(&node, &program, &[("app.wasm", &module)], point.guest)?;
            let process = shim.connect().unwrap_or(0);
            let process = if process > 1 {
                process
            } else {
                node.shims().pop().context("no shim")?
            };
            (point.calls)(&shim).with_context(|| format!("{}, round {round}", point.name))?;
            kill(process)?;
            let code = shim
                .delete_by_command()
                .with_context(|| format!("{}, round {round}", point.name))?;
            ensure!(
                point.codes.contains(&code),
                "{}, round {round}: the code is {code}, and not one of {:?}",
                point.name,
                point.codes
            );
            // A second time it says the same, or that there is nothing more to say; it does not fail.
            shim.delete_by_command()
                .with_context(|| format!("{}, delete again", point.name))?;
            std::fs::remove_dir_all(shim.bundle())?;
            let left = node.probe().settle(node.before());
            ensure!(
                left.is_empty(),
                "{}, round {round}, left behind: {left:#?}",
                point.name
            );
        }
    }
    Ok(())
}

/// From 0 to 20 ms after the first call, in small steps: inside create, start, and the guest's own end.
fn at_any_moment() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let program = tools::skiff("containerd-shim-skiff-v1")?;
    let module = guest::module()?;
    // Compiled beforehand: what is asked is the shim's own way.
    let warm = Shim::start(&node, &program, &[("app.wasm", &module)], EXIT)?;
    started(&warm)?;
    warm.wait()?;
    warm.clean()?;
    for round in 0..rounds().max(6) * 8 {
        let shim = Shim::start(&node, &program, &[("app.wasm", &module)], EXIT)?;
        let process = node.shims().pop().context("no shim")?;
        let delay = Duration::from_micros(u64::from(round % 200) * 100);
        let killer = std::thread::spawn(move || {
            std::thread::sleep(delay);
            kill(process)
        });
        // The calls end with an error when the shim dies below them.
        let ended = started(&shim).and_then(|()| Ok(shim.wait()?)).ok();
        killer
            .join()
            .map_err(|_| anyhow::anyhow!("the killer panicked"))??;
        let code = shim
            .delete_by_command()
            .with_context(|| format!("killed after {delay:?}"))?;
        match ended {
            // It was told: then it must still be true.
            Some(told) => assert_eq!(code, told, "killed after {delay:?}"),
            None => ensure!(
                [7, 137].contains(&code),
                "killed after {delay:?}: the code is {code}"
            ),
        }
        std::fs::remove_dir_all(shim.bundle())?;
        let left = node.probe().settle(node.before());
        ensure!(
            left.is_empty(),
            "killed after {delay:?}, left behind: {left:#?}"
        );
    }
    Ok(())
}

/// With containerd between: it sees the shim go, runs its `delete`, and reports the code.
fn under_containerd() -> Result<()> {
    for version in Version::ALL {
        let node = Node::start(version)?;
        let image = Image::layer("layer", &guest::module()?);
        node.import(&image)?;
        for round in 0..rounds().div_ceil(10) {
            let task = node
                .run(&image)
                .guest(&["say", "up", "sleep", "1000"])
                .start()?;
            task.wait_for_output("up")?;
            let shim = node.shims().pop().context("no shim")?;
            kill(shim)?;
            wait_for(
                "containerd does not see that the shim is gone",
                Duration::from_secs(20),
                || {
                    let state = task.state();
                    Ok(state
                        .map_or(true, |(state, _)| state != "RUNNING")
                        .then_some(()))
                },
            )
            .with_context(|| format!("round {round}"))?;
            wait_for(
                "the guest outlives its shim",
                Duration::from_secs(1),
                || Ok(node.processes_named("skiff-host").is_empty().then_some(())),
            )?;
            // containerd has deleted the task by itself, or leaves that to its client.
            if task.state().is_ok() {
                task.remove()?;
            } else {
                node.ctr(&["container", "rm", task.id()])?.ok()?;
            }
        }
    }
    Ok(())
}

/// A task that had ended keeps its code though its shim dies before anybody asks.
fn ended_before_its_shim() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let program = tools::skiff("containerd-shim-skiff-v1")?;
    let module = guest::module()?;
    for round in 0..rounds() {
        let code = (round * 5 + 1) % 256;
        let words = ["/app.wasm", "exit", &code.to_string()].map(str::to_owned);
        let shim = Shim::start(
            &node,
            &program,
            &[("app.wasm", &module)],
            &words.each_ref().map(String::as_str),
        )?;
        let process = node.shims().pop().context("no shim")?;
        started(&shim)?;
        assert_eq!(shim.wait()?, code);
        kill(process)?;
        assert_eq!(shim.delete_by_command()?, code, "round {round}");
        std::fs::remove_dir_all(shim.bundle())?;
    }
    Ok(())
}
