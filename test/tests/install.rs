//! Tests of the installer. `test/run.sh install` builds what they need and runs them.
//!
//! `corpus` and `killed` work on trees of files that stand for nodes (test/fixtures/nodes), with a real containerd of
//! the release that the node has to say what it makes of its configuration.

#[path = "install/corpus.rs"]
mod corpus;
#[path = "install/killed.rs"]
mod killed;
#[path = "install/tree.rs"]
mod tree;

use std::process::ExitCode;

fn main() -> ExitCode {
    skiff_test::runner::main(&[corpus::CASES, killed::CASES], &[])
}
