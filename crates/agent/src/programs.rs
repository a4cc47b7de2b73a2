//! Calls of `skiff`, as it is installed on the node and with the node's own view of its files: the same cache, workers
//! and keys as a pod's start has.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, bail};
use serde_json::Value;
use skiff_node::binaries;
use skiff_node::host::{Host, Program};

use crate::arguments::Common;

/// Runs `skiff --json …` on the node; answers its document.
pub(crate) async fn skiff(common: &Common, words: Vec<String>) -> anyhow::Result<Value> {
    let host = Host::new(&common.root);
    let prefix = common.prefix.clone();
    let ran = tokio::task::spawn_blocking(move || {
        let prefix = prefix.unwrap_or_else(|| binaries::PREFIX.into());
        let path = prefix.join(binaries::CURRENT).join("skiff");
        run(&host, &path, &words)
    });
    ran.await.context("a thread of the agent's ended")?
}

fn run(host: &Host, path: &Path, words: &[String]) -> anyhow::Result<Value> {
    let shown = || format!("skiff {}", words.join(" "));
    let mut command = host.command(&Program::at(path));
    command.arg("--json").args(words).stdin(Stdio::null());
    let output = command
        .output()
        .with_context(|| format!("could not run {}", path.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().rfind(|line| !line.trim().is_empty());
        bail!(
            "`{}` ended with {}: {}",
            shown(),
            output.status,
            said.unwrap_or("it said nothing").trim()
        );
    }
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("could not read what `{}` printed", shown()))
}
