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

/// A call of the task API.
#[derive(Clone, Copy, Debug)]
enum Call {
    Create,
    Start,
    State,
    Pids,
    Stats,
    Connect,
    Terminate,
    Kill,
    Wait,
    Delete,
}

impl Call {
    fn make(self, shim: &Shim<'_>) -> Result<()> {
        match self {
            Self::Create => shim.create(&Stdio::default()).map(drop),
            Self::Start => shim.run().map(drop),
            Self::State => shim.state().map(drop),
            Self::Pids => shim.pids().map(drop),
            Self::Stats => shim.stats().map(drop),
            Self::Connect => shim.connect().map(drop),
            Self::Terminate => shim.kill(15),
            Self::Kill => shim.kill(9),
            Self::Wait => shim.wait().map(drop),
            Self::Delete => shim.delete().map(drop),
        }
        .with_context(|| format!("{self:?}"))
    }
}

const SLEEP: &[&str] = &["/app.wasm", "sleep", "1000"];
const EXIT: &[&str] = &["/app.wasm", "exit", "7"];

fn started(shim: &Shim<'_>) -> Result<()> {
    Call::Create.make(shim)?;
    Call::Start.make(shim)
}

use Call::{Connect, Create, Delete, Kill, Pids, Start, State, Stats, Terminate, Wait};

/// Points in the life of a container: the guest, the calls before the shim is killed, and the codes that
/// `delete` may answer then. 137 is the truth where the container was killed with its shim.
const POINTS: [(&[&str], &[Call], &[u32]); 20] = [
    (SLEEP, &[], &[137]),
    (SLEEP, &[Create], &[137]),
    (SLEEP, &[Create, State], &[137]),
    (SLEEP, &[Create, Pids], &[137]),
    (SLEEP, &[Create, Stats], &[137]),
    (SLEEP, &[Create, Kill], &[137]),
    (SLEEP, &[Create, Kill, Wait], &[137]),
    (SLEEP, &[Create, Delete], &[137]),
    (SLEEP, &[Create, Start], &[137]),
    (SLEEP, &[Create, Start, State], &[137]),
    (SLEEP, &[Create, Start, Pids], &[137]),
    (SLEEP, &[Create, Start, Stats], &[137]),
    (SLEEP, &[Create, Start, Connect], &[137]),
    (SLEEP, &[Create, Start, Terminate], &[143, 137]),
    (SLEEP, &[Create, Start, Kill], &[137]),
    (SLEEP, &[Create, Start, Terminate, Wait], &[143]),
    (SLEEP, &[Create, Start, Kill, Wait], &[137]),
    (EXIT, &[Create, Start], &[7, 137]),
    (EXIT, &[Create, Start, Wait], &[7]),
    (EXIT, &[Create, Start, Wait, Delete], &[7]),
];

fn at_the_borders_of_calls() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let program = tools::skiff("containerd-shim-skiff-v1")?;
    let module = guest::module()?;
    for (guest, calls, codes) in POINTS {
        for round in 0..rounds() {
            let point = || format!("killed after {calls:?}, round {round}");
            let shim = Shim::start(&node, &program, &[("app.wasm", &module)], guest)?;
            let process = node.shims().pop().context("no shim")?;
            for call in calls {
                call.make(&shim).with_context(point)?;
            }
            kill(process)?;
            let code = shim.delete_by_command().with_context(point)?;
            ensure!(
                codes.contains(&code),
                "{}: the code is {code}, and not one of {codes:?}",
                point()
            );
            // A second time it says the same, and does not fail.
            let again = shim.delete_by_command().with_context(point)?;
            ensure!(
                again == code,
                "{}: the code was {code}, and then {again}",
                point()
            );
            std::fs::remove_dir_all(shim.bundle())?;
            let left = node.probe().settle(node.before());
            ensure!(left.is_empty(), "{}, left behind: {left:#?}", point());
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
