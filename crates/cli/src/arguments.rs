//! The command line: every option, and the help that is read when something is broken.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

use crate::compiled::ENGINE;
use crate::quantity;

/// WebAssembly as ordinary containers: build and inspect images, look after a node.
#[derive(Debug, Parser)]
#[command(
    name = "skiff",
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    after_help = "A node that does not start containers? `skiff doctor` says what is wrong and what to do.",
    after_long_help = "\
Something is broken on a node:
  skiff doctor             what is missing or wrong here, each with a next step
  skiff cache verify       whether the compiled code on this node is intact
  skiff inspect IMAGE      what an image holds, and why it may not run

Exit codes:
  0  all is well
  1  the command worked and found something broken (doctor: FAIL; cache verify: damaged
     entries; inspect: a module that is not valid)
  2  the command line was not understood
  3  the command could not do its work; the reason is on stderr
  run: the container's own code, 128 + n after signal n; 125 if it could not be run

Environment:
  CONTAINERD_ADDRESS    containerd's socket, as for ctr
  CONTAINERD_NAMESPACE  containerd's namespace, as for ctr (Kubernetes' is k8s.io)
  SKIFF_CACHE_DIR       where compiled code is kept (/var/lib/skiff/cache)
  NO_COLOR              no colours, also on a terminal"
)]
pub(crate) struct Arguments {
    /// Print one JSON document on stdout instead of text; its fields are stable
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Build(Box<Build>),
    Run(Box<Run>),
    Inspect(Inspect),
    #[command(subcommand)]
    Cache(CacheCommand),
    #[command(subcommand)]
    Config(ConfigCommand),
    Doctor(Doctor),
    /// Print the completion script for a shell
    ///
    /// bash:  skiff completions bash > /etc/bash_completion.d/skiff
    #[command(verbatim_doc_comment)]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// Make an image from a Wasm module, as an archive or straight in containerd
///
/// Takes core modules and components (.wasm) and their text form (.wat). The same input gives the
/// same image, byte for byte.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  skiff build hello.wasm --tag localhost/hello:1               → hello.tar
  skiff build app.wasm -t localhost/app:1 --containerd         → in containerd, ready for ctr run
  skiff build app.wasm -t localhost/app:1 --containerd -n k8s.io  → for Kubernetes on this node
  skiff build app.wasm --file ./site:/site -e MODE=prod -- serve --port 8080

Layouts:
  combined  a file in the root for linux, and a Wasm layer, in one index: runs on every containerd
  layer     one manifest with Wasm layers: smallest; for Wasm runtimes only
  root      a file in the root of an ordinary linux image: any registry, any tool
  artifact  an OCI Wasm artifact: for registries and tools of the Wasm world; a pod must give the command

Exit codes: 0 built, 2 arguments not understood, 3 could not be built")]
pub(crate) struct Build {
    /// Modules: .wasm (core module or component) or .wat; the first is what runs
    #[arg(required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) modules: Vec<PathBuf>,

    /// The image's name [default: localhost/<name of the first file>:latest]
    #[arg(short, long, value_name = "NAME:TAG")]
    pub(crate) tag: Option<String>,

    /// The archive to write; `-` is stdout [default: <name of the first file>.tar]
    #[arg(short, long, value_name = "ARCHIVE", value_hint = ValueHint::FilePath, conflicts_with = "containerd")]
    pub(crate) output: Option<PathBuf>,

    /// Put the image into containerd on this machine instead of an archive
    #[arg(long)]
    pub(crate) containerd: bool,

    /// How the module lies in the image; --help explains
    #[arg(long, value_enum, default_value_t = Layout::Combined)]
    pub(crate) layout: Layout,

    /// A file or folder of this machine, and its absolute path in the image
    #[arg(long = "file", value_name = "HOST:PATH", value_parser = quantity::host_file)]
    pub(crate) files: Vec<(PathBuf, String)>,

    /// What runs: a path in the image, or path#function [default: /<name of the first file>]
    #[arg(long, value_name = "PATH")]
    pub(crate) entrypoint: Option<String>,

    /// An environment variable of the container
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = quantity::pair)]
    pub(crate) env: Vec<(String, String)>,

    /// A label of the image
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = quantity::pair)]
    pub(crate) label: Vec<(String, String)>,

    /// The user that the container runs as: uid, uid:gid, or a name of the image's /etc/passwd
    #[arg(short, long)]
    pub(crate) user: Option<String>,

    /// The container's working directory
    #[arg(short, long, value_name = "PATH")]
    pub(crate) workdir: Option<String>,

    #[command(flatten)]
    pub(crate) place: Place,

    /// Arguments of the program
    #[arg(last = true, value_name = "ARG")]
    pub(crate) args: Vec<String>,
}

/// How the module lies in the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Layout {
    /// File in the root and Wasm layer in one index: runs everywhere
    Combined,
    /// Wasm layers, one manifest
    Layer,
    /// A file in the root of an ordinary image
    Root,
    /// An OCI Wasm artifact
    Artifact,
}

/// Run an image or a module, as a container would, without containerd
///
/// The same sandbox, engine, cache and options as in a pod: the same output and the same exit code. The
/// container lives as long as this command, and nothing is left of it. Needs root.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  skiff run hello.wasm
  skiff run app.wasm -v ./data:/data:ro -e MODE=test -- serve --port 8080
  skiff run hello.tar                              an archive that skiff build has made
  skiff run -n k8s.io registry.example/app:1       an image in containerd
  skiff run --memory 64M --cpus 0.5 --engine-option MemoryCap=off app.wasm

Ctrl-C and other signals go to the container.

Exit codes: the container's own, 128 + n after signal n; 125 if it could not be run, 2 arguments
not understood")]
pub(crate) struct Run {
    /// A module (.wasm, .wat), an OCI archive or its folder, or an image in containerd
    #[arg(value_name = "FILE|ARCHIVE|IMAGE", value_hint = ValueHint::FilePath)]
    pub(crate) target: String,

    /// An environment variable
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = quantity::pair)]
    pub(crate) env: Vec<(String, String)>,

    /// A file or folder of this machine, and its path in the container; `:ro` makes it read-only
    #[arg(short, long = "volume", visible_alias = "mount", value_name = "HOST:PATH[:ro]", value_parser = quantity::volume)]
    pub(crate) volumes: Vec<quantity::Volume>,

    /// The working directory
    #[arg(short, long, value_name = "PATH")]
    pub(crate) workdir: Option<String>,

    /// The user: uid, uid:gid, or a name of the image's /etc/passwd
    #[arg(short, long)]
    pub(crate) user: Option<String>,

    /// What runs instead of the image's own entrypoint: a path, or path#function
    #[arg(long, value_name = "PATH")]
    pub(crate) entrypoint: Option<String>,

    /// The most memory that it gets: 64M, 1G
    #[arg(long, value_name = "SIZE", value_parser = quantity::parse_bytes)]
    pub(crate) memory: Option<u64>,

    /// The most processor time that it gets, in processors: 0.5, 2
    #[arg(long, value_name = "NUMBER", value_parser = quantity::processors)]
    pub(crate) cpus: Option<f64>,

    /// The engine
    #[arg(long, value_name = "NAME", default_value = "wasmtime")]
    pub(crate) engine: String,

    /// An option of the runtime handler, as containerd's configuration has them
    #[arg(long = "engine-option", value_name = "KEY=VALUE", value_parser = quantity::pair)]
    pub(crate) engine_options: Vec<(String, String)>,

    /// The network: none, or this machine's
    #[arg(long, value_enum, default_value_t = Network::None)]
    pub(crate) network: Network,

    /// Its root cannot be written
    #[arg(long)]
    pub(crate) read_only: bool,

    /// Give it a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,

    #[command(flatten)]
    pub(crate) place: Place,

    /// Arguments of the program, instead of the image's own
    #[arg(last = true, value_name = "ARG")]
    pub(crate) args: Vec<String>,
}

/// The network of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Network {
    /// One of its own, with nothing in it
    None,
    /// This machine's
    Host,
}

/// Show what a module or an image holds, and whether this node has its compiled code
///
/// Takes a .wasm or .wat file, an OCI archive (.tar), or the name of an image in containerd.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  skiff inspect hello.wasm
  skiff inspect hello.tar
  skiff inspect -n k8s.io registry.example/app:1

Exit codes: 0 shown, 1 the image holds a module that is not valid, 2 arguments not understood,
3 could not be read (not Wasm, damaged, not there)")]
pub(crate) struct Inspect {
    /// A file, an archive, or an image in containerd
    #[arg(value_name = "FILE|ARCHIVE|IMAGE", value_hint = ValueHint::FilePath)]
    pub(crate) target: String,

    #[command(flatten)]
    pub(crate) place: Place,
}

/// Look after the compiled code on this node
///
/// Every module is compiled once per node, by a process of its own, and its code is kept in
/// /var/lib/skiff/cache. Nothing in it is precious: what is missing is compiled again.
#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// List the entries, least recently used first
    Ls,
    /// Check every entry; what is damaged is set aside and compiled again when next needed
    ///
    /// Shims check each entry before every use too, so that damaged code is never run.
    ///
    /// Exit codes: 0 all intact, 1 something was set aside, 3 could not be checked
    #[command(verbatim_doc_comment)]
    Verify,
    Prune(Prune),
    Warm(Warm),
}

/// Remove entries; without options, all that no container uses
///
/// Running containers are not disturbed, whatever is removed.
#[derive(Debug, Args)]
pub(crate) struct Prune {
    /// Remove the least recently used until this much is left: 500M, 2G
    #[arg(long, value_name = "SIZE", value_parser = quantity::parse_bytes)]
    pub(crate) keep: Option<u64>,

    /// Remove what was not used for this long: 12h, 30d
    #[arg(long, value_name = "TIME", value_parser = quantity::parse_duration)]
    pub(crate) unused_for: Option<Duration>,

    /// Remove entries of running containers too (they keep running; their next start compiles again)
    #[arg(long)]
    pub(crate) all: bool,

    /// Only say what would be removed
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Compile a module or an image ahead of its first start
///
/// Takes what inspect takes. Needs root, as the cache is root's alone.
#[derive(Debug, Args)]
pub(crate) struct Warm {
    /// Files, archives, or images in containerd
    #[arg(required = true, value_name = "FILE|ARCHIVE|IMAGE", value_hint = ValueHint::FilePath)]
    pub(crate) targets: Vec<String>,

    /// For handlers whose options say WasiP3 = true: their code is compiled apart
    #[arg(long)]
    pub(crate) wasi_p3: bool,

    /// For handlers of this engine
    #[arg(long, value_name = "ENGINE", default_value = ENGINE, value_parser = ["wasmtime", "wasmedge"])]
    pub(crate) engine: String,

    #[command(flatten)]
    pub(crate) place: Place,
}

/// Say whether Skiff can run on this node, and what to do if not
///
/// Looks at the kernel, cgroups, capabilities, containerd and its configuration, the shims and the
/// cache. Changes nothing. Run it as root, on the node itself.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Each line is one of:
  OK    as it should be; a fallback in use is named
  WARN  containers run, but something is worse than it could be, or could not be looked at
  FAIL  containers do not run, or some of them do not
A line that is not OK is followed by what to do.

Exit codes: 0 nothing fails (there may be warnings), 1 something fails, 2 arguments not understood")]
pub(crate) struct Doctor {
    /// Show only what is not OK
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// containerd's socket
    #[arg(short, long, value_name = "SOCKET", env = "CONTAINERD_ADDRESS", default_value = DEFAULT_ADDRESS, hide_env_values = true)]
    pub(crate) address: PathBuf,
}

/// What is in force on this node
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    Show(ConfigShow),
}

/// The options of a runtime handler, and where each comes from
///
/// Asks containerd for its configuration. Run it as root, on the node itself.
#[derive(Debug, Args)]
#[command(after_long_help = "\
FROM is `default`, `containerd` (its configuration, imports included) or the file that the handler's
ConfigPath names. What each option does: docs/options.md.

Exit codes: 0 all are known, 1 there are options that the shim refuses, 2 arguments not understood,
3 containerd could not be asked, or has no such handler")]
pub(crate) struct ConfigShow {
    /// The handler, as a RuntimeClass names it
    #[arg(long, value_name = "NAME", default_value = "wasmtime")]
    pub(crate) handler: String,

    /// containerd's socket
    #[arg(short, long, value_name = "SOCKET", env = "CONTAINERD_ADDRESS", default_value = DEFAULT_ADDRESS, hide_env_values = true)]
    pub(crate) address: PathBuf,
}

const DEFAULT_ADDRESS: &str = "/run/containerd/containerd.sock";

/// Which containerd, and which part of it.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// containerd's socket
    #[arg(short, long, value_name = "SOCKET", env = "CONTAINERD_ADDRESS", default_value = DEFAULT_ADDRESS, hide_env_values = true)]
    pub(crate) address: PathBuf,

    /// containerd's namespace; Kubernetes' is k8s.io
    #[arg(
        short,
        long,
        env = "CONTAINERD_NAMESPACE",
        default_value = "default",
        hide_env_values = true
    )]
    pub(crate) namespace: String,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
