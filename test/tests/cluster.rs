//! Skiff in a real cluster: what Kubernetes' users do, done by `kubectl` on one node that `skiff-node install` was run on.
//! `make test-cluster`, or `test/cluster/run.sh [--containerd=1.7] [WORD…]`; `make cluster` keeps one up by `--keep`.
#![expect(
    clippy::print_stdout,
    reason = "a test runner speaks on standard output"
)]

#[path = "cluster/chart.rs"]
mod chart;
#[path = "cluster/config.rs"]
mod config;
#[path = "cluster/first.rs"]
mod first;
#[path = "cluster/images.rs"]
mod images;
#[path = "cluster/keep.rs"]
mod keep;
#[path = "cluster/limits.rs"]
mod limits;
#[path = "cluster/node.rs"]
mod node;
#[path = "cluster/pods.rs"]
mod pods;
#[path = "cluster/probes.rs"]
mod probes;
#[path = "cluster/scale.rs"]
mod scale;
#[path = "cluster/security.rs"]
mod security;
#[path = "cluster/services.rs"]
mod services;
#[path = "cluster/talk.rs"]
mod talk;
#[path = "cluster/two_nodes.rs"]
mod two_nodes;
#[path = "cluster/workloads.rs"]
mod workloads;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

use anyhow::{Context as _, Result, bail};
use skiff_test::cluster::{Cluster, be_second};
use skiff_test::inside;
use skiff_test::node::Version;
use skiff_test::runner::{self, Case};

thread_local! {
    static CLUSTER: RefCell<Option<Rc<Cluster>>> = const { RefCell::new(None) };
}

/// What a run begins with, and which scenarios it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A node that `skiff-node install` was run on: most scenarios.
    WithSkiff,
    /// A node that has no Skiff: it is put there by the chart.
    Clean,
    /// The same, with a few scenarios of all kinds between the install and the uninstall.
    First,
    /// Two such nodes: what takes more than one.
    TwoNodes,
}

/// The cluster of all tests.
pub(crate) fn cluster() -> Result<Rc<Cluster>> {
    CLUSTER.with_borrow(|cluster| cluster.clone().context("there is no cluster any more"))
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            println!("cluster: {error:#}");
            println!("0 passed, 1 failed, 0 skipped");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let mut version = Version::V2_4;
    let mut second = None;
    let (mut kept, mut list, mut kind) = (None, false, Kind::WithSkiff);
    for argument in std::env::args().skip(1) {
        match argument.split_once('=') {
            Some(("--containerd", "2.4")) => version = Version::V2_4,
            Some(("--containerd", "1.7")) => version = Version::V1_7,
            Some(("--containerd", other)) => bail!("--containerd={other}: 2.4 and 1.7 are known"),
            Some(("--keep", folder)) => kept = Some(PathBuf::from(folder)),
            Some(("--second", name)) => second = Some(name.to_owned()),
            _ => {
                list |= argument == "--list";
                match argument.as_str() {
                    "--clean-node" => kind = Kind::Clean,
                    "--first" => kind = Kind::First,
                    "--two-nodes" => kind = Kind::TwoNodes,
                    _ => {}
                }
            }
        }
    }
    if list {
        return tests(kind);
    }
    // Started by a cluster, for its second node.
    if let (Some(name), Some(directory)) = (second, &kept) {
        be_second(version, directory, &name)?;
        return Ok(ExitCode::SUCCESS);
    }
    let outside = inside::enter_with_processes()?;
    let name = format!("skiff-cluster-{outside}");
    let directory = kept
        .clone()
        .unwrap_or_else(|| Path::new("/tmp").join(&name));
    let started = Cluster::start(version, &directory, &name).and_then(|mut cluster| {
        println!(
            "a node with {} is Ready after {:.1} s",
            version.folder(),
            cluster.age().as_secs_f64()
        );
        if kind == Kind::TwoNodes {
            cluster.add_node()?;
            println!("the second one after {:.1} s", cluster.age().as_secs_f64());
        }
        if kind == Kind::WithSkiff {
            cluster.install()?;
            println!("Skiff is on it after {:.1} s", cluster.age().as_secs_f64());
        }
        Ok(cluster)
    })?;
    let cluster = Rc::new(started);
    CLUSTER.set(Some(Rc::clone(&cluster)));
    let code = if kept.is_some() {
        keep::until_told(&cluster, outside)?;
        drop(cluster);
        CLUSTER.take();
        ExitCode::SUCCESS
    } else {
        drop(cluster);
        tests(kind)?
    };
    // The kubelet's and containerd's mounts end with the namespace; the folder is removed by whoever made this process.
    Ok(code)
}

/// What a node is asked that has Skiff from the begin.
const WITH_SKIFF: [&[Case]; 11] = [
    pods::CASES,
    talk::CASES,
    probes::CASES,
    limits::CASES,
    workloads::CASES,
    services::CASES,
    config::CASES,
    security::CASES,
    images::CASES,
    node::CASES,
    scale::CASES,
];

/// On a clean node it is the chart that puts Skiff there.
fn tests(kind: Kind) -> Result<ExitCode> {
    let last = Case {
        name: "cluster::nothing_is_left",
        function: nothing_is_left,
    };
    Ok(match kind {
        Kind::Clean => runner::main_inside(&[chart::CASES], &[], last),
        Kind::First => runner::main_inside(&[&first::cases()?], &[], last),
        Kind::TwoNodes => runner::main_inside(&[two_nodes::CASES], &[], last),
        Kind::WithSkiff => runner::main_inside(&WITH_SKIFF, &["scale"], last),
    })
}

/// All pods go, Skiff is taken off, and the node is what it was.
fn nothing_is_left() -> Result<()> {
    let cluster = CLUSTER.take().context("there is no cluster")?;
    cluster.finish()
}

/// A pod of one Wasm container that runs once: the guest does `words`.
pub(crate) fn pod(name: &str, words: &[&str]) -> Result<serde_json::Value> {
    Ok(pod_of(name, &cluster()?.images().guest, words))
}

/// The same of another image.
pub(crate) fn pod_of(name: &str, image: &str, words: &[&str]) -> serde_json::Value {
    serde_json::json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "labels": { "app": name } },
        "spec": {
            "runtimeClassName": "wasmtime", "restartPolicy": "Never", "terminationGracePeriodSeconds": 2,
            "containers": [{ "name": "main", "image": image, "args": words }],
        },
    })
}

/// That a text holds some words.
pub(crate) fn holds(text: &str, words: &str) -> Result<()> {
    anyhow::ensure!(text.contains(words), "\"{words}\" is not in: {text}");
    Ok(())
}

/// Prints what a measurement found.
pub(crate) fn say(text: &str) {
    println!("{text}");
}
