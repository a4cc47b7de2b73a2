//! The CRI validation suite of cri-tools (critest) under runc and under our handler, on one containerd: every spec
//! that passes under runc passes under ours. `make test-critest`, or `test/run.sh critest [OPTION…]`:
//!
//! * `--handler NAME`  only this handler, and no comparison
//! * `--focus REGEX`   only specs whose full name matches
//! * `--nodes N`       so many specs at a time (6)
//! * `--verbose`       what the suite itself writes
#![expect(
    clippy::print_stdout,
    reason = "a test runner speaks on standard output"
)]

#[path = "suites/lists.rs"]
mod lists;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use skiff_test::command::run_within;
use skiff_test::node::{Node, Options, Version};
use skiff_test::{inside, runner, tools, upstream};

use lists::{Outcome, Results};

/// The reference, and what is compared with it.
const HANDLERS: [&str; 2] = ["runc", "wasmtime"];

/// A whole run takes three minutes on two cores.
const LIMIT: Duration = Duration::from_secs(30 * 60);

#[derive(Debug)]
struct Wish {
    handlers: Vec<String>,
    focus: Option<String>,
    nodes: String,
    verbose: bool,
}

fn main() -> ExitCode {
    match wish().and_then(|wish| {
        inside::enter()?;
        run(&wish)
    }) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("critest: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn wish() -> Result<Wish> {
    let mut wish = Wish {
        handlers: Vec::new(),
        focus: None,
        nodes: "6".to_owned(),
        verbose: false,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || {
            arguments
                .next()
                .with_context(|| format!("{argument} needs a value"))
        };
        match argument.as_str() {
            "--handler" => wish.handlers.push(value()?),
            "--focus" => wish.focus = Some(value()?),
            "--nodes" => wish.nodes = value()?,
            "--verbose" => wish.verbose = true,
            _ => bail!("there is no option {argument}"),
        }
    }
    if wish.handlers.is_empty() {
        wish.handlers = HANDLERS.map(str::to_owned).to_vec();
    }
    Ok(wish)
}

fn run(wish: &Wish) -> Result<bool> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    // Results of CNI plugins are kept below it, whatever the configuration says.
    inside::hide("/var/lib")?;
    let mut node = Node::with(Version::V2_4, Options::default())?;
    network(node.directory())?;
    let registry = node.registry()?;
    let port = registry.port();
    let pushed = upstream::push_for_critest(registry)?;
    redirect(node.directory(), port)?;
    // Imports the image of sandboxes.
    node.cri()?;
    let mut all = Vec::new();
    for handler in &wish.handlers {
        let results = specs(&node, handler, wish, &pushed.by_digest)?;
        results.print(handler);
        all.push(results);
    }
    drop(node);
    let faults = runner::take_faults();
    for fault in &faults {
        println!("{fault}");
    }
    if let [theirs, ours] = all.as_slice() {
        return Ok(lists::compare("critest", theirs, ours) && faults.is_empty());
    }
    Ok(all.iter().all(|results| results.failed() == 0))
}

/// Runs the suite for a handler.
fn specs(node: &Node, handler: &str, wish: &Wish, digest: &str) -> Result<Results> {
    let programs = tools::component("critest")?;
    let directory = node.directory().join("logs");
    let report = format!("{handler}.json");
    let socket = format!("unix://{}", node.socket().display());
    let mut command = Command::new(programs.join("ginkgo"));
    command
        .current_dir(node.directory())
        .env("TMPDIR", node.directory().join("tmp"))
        .args([
            "--no-color",
            &format!("--nodes={}", wish.nodes),
            "--skip=benchmark",
        ])
        .arg(format!("--output-dir={}", directory.display()))
        .arg(format!("--json-report={report}"));
    if let Some(focus) = &wish.focus {
        command.arg(format!("--focus={focus}"));
    }
    command
        .arg(programs.join("critest.test"))
        .args(["--", "-runtime-handler", handler])
        .args(["-runtime-endpoint", &socket, "-image-endpoint", &socket])
        .arg("-image-with-digest")
        .arg(format!(
            "gcr.io/k8s-staging-cri-tools/test-image-digest@{digest}"
        ));
    let ran = run_within(&mut command, LIMIT)?;
    if wish.verbose {
        println!("{}{}", ran.stdout, ran.stderr);
    }
    let path = directory.join(report);
    ensure!(
        path.exists(),
        "critest wrote no report\nstdout: {}\nstderr: {}",
        ran.stdout,
        ran.stderr
    );
    let mut results = Results::new(ran.time);
    for suite in read(&path)?.as_array().context("no list of suites")? {
        for spec in suite["SpecReports"].as_array().into_iter().flatten() {
            if spec["LeafNodeType"] == "It" {
                results.add(name(spec), outcome(spec));
            } else if spec["State"] == "failed" {
                bail!("critest could not begin: {}", spec["Failure"]["Message"]);
            }
        }
    }
    Ok(results)
}

fn read(path: &Path) -> Result<Value> {
    Ok(serde_json::from_str(&fs::read_to_string(path)?)?)
}

/// Every text of the hierarchy, as `--focus` sees it.
fn name(spec: &Value) -> String {
    let texts = spec["ContainerHierarchyTexts"]
        .as_array()
        .into_iter()
        .flatten();
    texts
        .chain([&spec["LeafNodeText"]])
        .filter_map(Value::as_str)
        .collect::<Vec<_>>()
        .join(" ")
}

fn outcome(spec: &Value) -> Option<Outcome> {
    let message = spec["Failure"]["Message"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    match spec["State"].as_str() {
        Some("passed") => Some(Outcome::Passed),
        // Left out by `--focus` or `--skip`: nothing was asked.
        Some("skipped") if message.is_empty() => None,
        Some("skipped" | "pending") => Some(Outcome::Skipped(message)),
        _ => Some(Outcome::Failed(message)),
    }
}

/// A bridge for pods and ports of the host, in this network namespace.
fn network(directory: &Path) -> Result<()> {
    let configuration = json!({ "cniVersion": "1.0.0", "name": "pods", "plugins": [
        { "type": "bridge", "bridge": "pods0", "isGateway": true, "ipMasq": true, "ipam": {
            "type": "host-local", "dataDir": directory.join("cni/addresses"),
            "ranges": [[{ "subnet": "10.88.0.0/16" }]], "routes": [{ "dst": "0.0.0.0/0" }] } },
        { "type": "portmap", "capabilities": { "portMappings": true } },
    ] });
    fs::write(
        directory.join("cni/10-pods.conflist"),
        configuration.to_string(),
    )?;
    Ok(())
}

/// Sends pulls of upstream's registries to the one on loopback.
fn redirect(directory: &Path, port: u16) -> Result<()> {
    for name in ["registry.k8s.io", "k8s.gcr.io", "gcr.io"] {
        let place: PathBuf = directory.join("registries").join(name);
        fs::create_dir_all(&place)?;
        fs::write(
            place.join("hosts.toml"),
            format!("server = \"http://127.0.0.1:{port}\"\n"),
        )?;
    }
    Ok(())
}
