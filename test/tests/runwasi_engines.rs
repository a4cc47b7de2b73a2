//! Engines written for runwasi under Skiff's shim, beside a real containerd. `make test-runwasi-engines` builds and runs them.
//!
//! Each case is asked of every engine of `compat/runwasi`; `probe` asks what an engine itself can reach.

use std::process::ExitCode;

#[path = "runwasi_engines/guests.rs"]
mod guests;
#[path = "runwasi_engines/limits.rs"]
mod limits;
#[path = "runwasi_engines/probe.rs"]
mod probe;

use anyhow::Result;
use skiff_test::image::Image;
use skiff_test::node::{Node, Run, Version};

/// The engines.
const ENGINES: [&str; 2] = ["wasmi", "wasmtime36"];

fn main() -> ExitCode {
    skiff_test::runner::main(&[guests::CASES, limits::CASES, probe::CASES], &[])
}

/// The runtime type of an engine.
fn runtime(engine: &str) -> String {
    format!("io.containerd.{engine}.v1")
}

/// Runs a case for each engine on one node. `prepare` gives an image, which is imported.
fn each(
    image: &Image,
    case: impl for<'n> Fn(&'n Node, &dyn Fn() -> Run<'n>, &str) -> Result<()>,
) -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    node.import(image)?;
    for engine in ENGINES {
        let run = || node.run(image).runtime(&runtime(engine));
        case(&node, &run, engine).map_err(|error| error.context(engine))?;
    }
    Ok(())
}
