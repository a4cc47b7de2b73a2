//! What the report says of the machine and of the programs that were measured.

use std::fs;
use std::path::Path;
use std::process::Command;

use skiff_test::residue::cgroup_trees;
use skiff_test::{command, tools};

use crate::settings::Settings;

/// Name and value of everything worth knowing, in the order of the report.
pub(crate) type Description = Vec<(&'static str, String)>;

/// Asks the machine and the programs.
pub(crate) fn describe(settings: &Settings) -> Description {
    vec![
        ("date", output("date", &["-u", "+%F %H:%M UTC"])),
        ("processor", processor()),
        ("memory", memory()),
        ("kernel", first_line("/proc/sys/kernel/osrelease")),
        ("cgroups", cgroups().to_owned()),
        ("load before", load()),
        ("Skiff", skiff(settings)),
        ("runwasi", runwasi()),
        ("containerd", tool("containerd-2.4", "containerd", 2)),
        ("runc", tool("runc", "runc", 2)),
    ]
}

/// The mean number of processes that wanted to run in the last minute.
pub(crate) fn busy() -> f64 {
    load()
        .split_whitespace()
        .next()
        .and_then(|figure| figure.parse().ok())
        .unwrap_or(f64::NAN)
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split(": ").nth(1))
            .map(str::to_owned)
    };
    let model = field("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let guest = if field("flags").is_some_and(|flags| flags.contains("hypervisor")) {
        ", a virtual machine"
    } else {
        ""
    };
    format!("{cores} x {model}{guest}")
}

fn memory() -> String {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.map_or_else(String::new, |size| {
        format!("{} GiB", (size + (1 << 19)) >> 20)
    })
}

fn cgroups() -> &'static str {
    let trees = cgroup_trees();
    let unified = |tree: &Path| tree.join("cgroup.controllers").exists();
    match (trees.len(), trees.iter().any(|tree| unified(tree))) {
        (1, true) => "v2",
        (_, true) => "v1, with an empty v2 beside (hybrid)",
        _ => "v1",
    }
}

fn load() -> String {
    let text = first_line("/proc/loadavg");
    text.split_whitespace()
        .take(3)
        .collect::<Vec<_>>()
        .join(" ")
}

fn skiff(settings: &Settings) -> String {
    let version = output(
        &settings.skiff.join("skiff").display().to_string(),
        &["--version"],
    );
    let checkout = tools::checkout().display().to_string();
    let commit = output("git", &["-C", &checkout, "rev-parse", "--short", "HEAD"]);
    if commit.is_empty() {
        version
    } else {
        format!("{version}, commit {commit}")
    }
}

/// The crates that the peer is built from, out of its own lockfile.
fn runwasi() -> String {
    let lock = tools::checkout().join("bench/peers/runwasi-wasmtime/Cargo.lock");
    let text = fs::read_to_string(lock).unwrap_or_default();
    let version = |name: &str| {
        let entry = format!("name = \"{name}\"\nversion = \"");
        let rest = text.split(&entry).nth(1)?;
        Some(format!("{name} {}", rest.split('"').next()?))
    };
    ["containerd-shim-wasm", "wasmtime"]
        .iter()
        .filter_map(|name| version(name))
        .collect::<Vec<_>>()
        .join(", ")
}

/// A word of what a pinned tool says of its version.
fn tool(folder: &str, program: &str, word: usize) -> String {
    let Ok(directory) = tools::component(folder) else {
        return "not built".to_owned();
    };
    let text = output(
        &directory.join(program).display().to_string(),
        &["--version"],
    );
    let word = text.split_whitespace().nth(word).unwrap_or_default();
    word.trim_start_matches('v').to_owned()
}

fn output(program: &str, arguments: &[&str]) -> String {
    let ran = command::run(Command::new(program).args(arguments));
    ran.and_then(command::Ran::ok)
        .map(|text| text.lines().next().unwrap_or_default().to_owned())
        .unwrap_or_default()
}

fn first_line(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}
