//! Containers that end in every way, at random and from the same seed each time: every code is right, and each end is told
//! once.

use std::collections::HashMap;
use std::fs::{self, File};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use skiff_test::command::wait_for;
use skiff_test::guest;
use skiff_test::image::Image;
use skiff_test::node::{Node, Task, Version};

skiff_test::cases!(every_end_has_its_code_and_is_told_once);

/// How a container ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Exit(u8),
    Trap,
    Signal(&'static str, i32),
    Memory,
}

/// A sequence that is the same in every run (a linear congruential generator, Knuth's MMIX).
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        let (factor, more) = (6_364_136_223_846_793_005, 1_442_695_040_888_963_407);
        self.0 = self.0.wrapping_mul(factor).wrapping_add(more);
        (self.0 >> 33) % limit
    }

    fn end(&mut self) -> End {
        match self.below(5) {
            0 => End::Exit(u8::try_from(self.below(256)).unwrap_or(0)),
            1 => End::Trap,
            2 => End::Signal("SIGTERM", 143),
            3 => End::Signal("SIGKILL", 137),
            _ => End::Memory,
        }
    }
}

impl End {
    fn code(self) -> i32 {
        match self {
            Self::Exit(code) => code.into(),
            Self::Trap => 134,
            Self::Signal(_, code) => code,
            Self::Memory => 137,
        }
    }
}

fn every_end_has_its_code_and_is_told_once() -> Result<()> {
    let count =
        std::env::var("SKIFF_TEST_ENDINGS").map_or(Ok(100), |text| text.parse::<usize>())?;
    let node = Node::start(Version::V2_4)?;
    let image = Image::layer("layer", &guest::module()?);
    node.import(&image)?;
    let options = node.directory().join("tmp/uncapped.toml");
    fs::write(&options, "MemoryCap = \"off\"")?;
    let options = options.display().to_string();

    let heard = node.directory().join("logs/events");
    let mut listener = node
        .ctr_command(&["events"])
        .stdout(File::create(&heard)?)
        .stderr(Stdio::null())
        .spawn()?;
    let result = endings(&node, &image, &options, count, &heard);
    listener.kill()?;
    listener.wait()?;
    fs::remove_file(&options)?;
    result
}

fn endings(
    node: &Node,
    image: &Image,
    options: &str,
    count: usize,
    heard: &std::path::Path,
) -> Result<()> {
    let mut chance = Chance(2026);
    let mut codes: HashMap<String, i32> = HashMap::new();
    for _ in 0..count {
        let end = chance.end();
        let exit;
        let words: &[&str] = match end {
            End::Exit(code) => {
                exit = code.to_string();
                &["exit", &exit]
            }
            End::Trap => &["trap"],
            // One that spins, and one that blocks in a call of the host.
            End::Signal(..) if chance.below(2) == 0 => &["say", "up", "spin"],
            End::Signal(..) => &["say", "up", "sleep", "1000"],
            End::Memory => &["grow", "100"],
        };
        let limits = [
            "--runtime-config-path",
            options,
            "--memory-limit",
            "16777216",
        ];
        let task = node.run(image).with(&limits).guest(words).start()?;
        if let End::Signal(name, _) = end {
            task.wait_for_output("up")?;
            task.signal(name)?.ok()?;
        }
        let id = task.id().to_owned();
        let code = ended(task).with_context(|| format!("{end:?} of {id}"))?;
        ensure!(code == end.code(), "{end:?} of {id} has the code {code}");
        codes.insert(id, code);
    }
    // "<time> <namespace> /tasks/exit {…}": the last of them may be on its way.
    let told = || -> Result<HashMap<String, Vec<i64>>> {
        let mut told: HashMap<String, Vec<i64>> = HashMap::new();
        for line in fs::read_to_string(heard)?.lines() {
            let Some((_, message)) = line.split_once(" /tasks/exit ") else {
                continue;
            };
            let message: serde_json::Value = serde_json::from_str(message)?;
            let id = message["container_id"].as_str().unwrap_or_default();
            let code = message["exit_status"].as_i64().unwrap_or(0);
            told.entry(id.to_owned()).or_default().push(code);
        }
        Ok(told)
    };
    wait_for("not every end is told", Duration::from_secs(10), || {
        Ok((told()?.len() >= codes.len()).then_some(()))
    })?;
    let told = told()?;
    for (id, code) in &codes {
        ensure!(
            told.get(id) == Some(&vec![i64::from(*code)]),
            "{id} has ended with {code}, and containerd was told {:?}",
            told.get(id)
        );
    }
    Ok(())
}

fn ended(task: Task<'_>) -> Result<i32> {
    task.wait_until_stopped(Duration::from_secs(10))?;
    task.remove()
}
