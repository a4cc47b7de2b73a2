//! The Wasm twin of critest: what Kubernetes may ask of a container, asked of Wasm containers through CRI, one assertion
//! a spec. It knows nothing of Skiff: `make test-twin`, or `test/run.sh twin [OPTION…] [WORD…]`:
//!
//! * `--handler NAME`  another handler (`wasmtime`); `runwasi` is a peer's shim, if `test/compat/build-peer.sh` was run
//! * `WORD`            only specs whose name holds one of the words
//!
//! What is claimed is observed by the guest itself, by a native probe beside it, or from the node.
#![expect(
    clippy::print_stdout,
    reason = "a test runner speaks on standard output"
)]

#[path = "twin/exec.rs"]
mod exec;
#[path = "twin/files.rs"]
mod files;
#[path = "twin/lifecycle.rs"]
mod lifecycle;
#[path = "twin/limits.rs"]
mod limits;
#[path = "twin/network.rs"]
mod network;
#[path = "twin/security.rs"]
mod security;
#[path = "twin/streams.rs"]
mod streams;
#[path = "twin/world.rs"]
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};
use skiff_test::node::{Node, Options, Version};
use skiff_test::{inside, runner};

use world::World;

/// A claim, and how it is looked at.
type Spec = (&'static str, fn(&World<'_>) -> Result<()>);

/// Names the specs of a module.
macro_rules! specs {
    ($($function:ident),* $(,)?) => {
        pub(crate) const SPECS: &[crate::Spec] = &[$((
            concat!(module_path!(), "::", stringify!($function)),
            $function,
        )),*];
    };
}
pub(crate) use specs;

fn main() -> ExitCode {
    match inside::enter().and_then(|()| run()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("twin: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let mut handler = "wasmtime".to_owned();
    let mut words = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--handler" => handler = arguments.next().context("--handler needs a name")?,
            _ => words.push(argument),
        }
    }
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    inside::hide("/var/lib")?;
    std::panic::set_hook(Box::new(|panic| runner::fault(panic.to_string())));
    let mut node = Node::with(Version::V2_4, Options::default())?;
    let references = world::push(&mut node)?;
    let cri = node.cri()?;
    let world = World::new(&node, &cri, &handler, references)?;
    let all = [
        lifecycle::SPECS,
        streams::SPECS,
        exec::SPECS,
        files::SPECS,
        security::SPECS,
        network::SPECS,
        limits::SPECS,
    ];
    let (mut passed, mut failed) = (0, Vec::new());
    for (name, spec) in all.into_iter().flatten() {
        let name = name.trim_start_matches("twin::");
        if !(words.is_empty() || words.iter().any(|word| name.contains(word.as_str()))) {
            continue;
        }
        let begin = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| spec(&world)));
        let seconds = begin.elapsed().as_secs_f64();
        let mut sentences = runner::take_faults();
        if let Ok(Err(error)) = result {
            sentences.push(format!("{error:#}"));
        }
        if sentences.is_empty() {
            println!("{name:48}  ok      {seconds:6.2} s");
            passed += 1;
        } else {
            println!("{name:48}  FAILED  {seconds:6.2} s");
            for sentence in &sentences {
                println!("    {}", shortened(sentence));
            }
            failed.push(name);
        }
        world.clear()?;
    }
    drop(node);
    let left = runner::take_faults();
    for fault in &left {
        println!("{fault}");
    }
    println!();
    for name in &failed {
        println!("failed: {name}");
    }
    let well = failed.is_empty() && left.is_empty();
    println!(
        "test result: {}. {passed} passed; {} failed; 0 ignored",
        if well { "ok" } else { "FAILED" },
        failed.len()
    );
    println!("{passed} passed, {} failed, 0 skipped", failed.len());
    Ok(well)
}

/// As much of a sentence as says what it is about: crictl repeats itself, and says the cause last.
fn shortened(sentence: &str) -> String {
    const MOST: usize = 400;
    let words: Vec<&str> = sentence.split_whitespace().collect();
    let line = words.join(" ");
    let from = line.rfind("level=fatal").unwrap_or(0);
    let letters: Vec<char> = line[from..].chars().collect();
    if from == 0 {
        letters.iter().take(MOST).collect()
    } else {
        letters[letters.len().saturating_sub(MOST)..]
            .iter()
            .collect()
    }
}
