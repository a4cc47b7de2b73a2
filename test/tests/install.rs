//! Tests of the installer. `test/run.sh install` builds what they need and runs them.
//!
//! `agent` runs what the chart runs on a node, with a stand-in for the API server alone.
//! `corpus` and `killed` work on trees of files that stand for nodes (test/fixtures/nodes), with a real containerd of
//! the release that the node has to say what it makes of its configuration, and, where the installer is run thousands
//! of times, a `stand_in` for it.

#[path = "install/agent.rs"]
mod agent;
#[path = "install/api_server.rs"]
mod api_server;
#[path = "install/corpus.rs"]
mod corpus;
#[path = "install/killed.rs"]
mod killed;
#[path = "install/real.rs"]
mod real;
#[path = "install/stand_in.rs"]
mod stand_in;
#[path = "install/tree.rs"]
mod tree;

use std::process::ExitCode;

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "containerd's stand-in answers on both"
)]
fn main() -> ExitCode {
    match stand_in::answer() {
        None => {}
        Some(Ok(text)) => {
            println!("{text}");
            return ExitCode::SUCCESS;
        }
        Some(Err(error)) => {
            eprintln!("{error:#}");
            return ExitCode::FAILURE;
        }
    }
    skiff_test::runner::main(
        &[corpus::CASES, real::CASES, agent::CASES, killed::CASES],
        &[],
    )
}
