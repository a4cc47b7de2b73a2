//! The command line of `skiff-agent`. The chart writes it; each option is a value of the chart's.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use skiff_node::binaries::Source;
use skiff_node::config::{Engine, Handler};
use skiff_node::daemon::Asked;
use skiff_node::installer::Options;

/// Skiff on a node of a cluster: installed, watched over, taken off.
#[derive(Debug, Parser)]
#[command(name = "skiff-agent", version, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) common: Common,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// The node's name in the cluster
    #[arg(
        long,
        global = true,
        env = "NODE_NAME",
        default_value = "",
        value_name = "NAME"
    )]
    pub(crate) node: String,

    /// Where the node's file system is
    #[arg(long, global = true, default_value = "/host", value_name = "FOLDER")]
    pub(crate) root: PathBuf,

    /// The folder with Skiff's binaries
    #[arg(
        long,
        global = true,
        default_value = "/skiff/bin",
        value_name = "FOLDER"
    )]
    pub(crate) from: PathBuf,

    /// A handler to make: wasmtime, wasmedge, skiff, or one of them under another name (wasmtime=wasm)
    #[arg(long = "handler", global = true, value_name = "ENGINE[=NAME]", value_parser = handler)]
    pub(crate) handlers: Vec<(Engine, String)>,

    /// containerd's socket on the node [default: those of containerd, k3s, rke2, k0s, microk8s]
    #[arg(long, global = true, value_name = "SOCKET")]
    pub(crate) address: Option<PathBuf>,

    /// The folder on the node for Skiff's binaries [default: /opt/skiff]
    #[arg(long, global = true, value_name = "FOLDER")]
    pub(crate) prefix: Option<PathBuf>,

    /// Take over handlers of these names from runwasi or Spin
    #[arg(long, global = true)]
    pub(crate) take_over: bool,

    /// Also set use_local_image_pull, which changes how all images of the node are pulled
    #[arg(long, global = true)]
    pub(crate) local_pull: bool,

    /// A shell command that restarts containerd [default: its unit of systemd, or its OpenRC service]
    #[arg(long, global = true, value_name = "COMMAND")]
    pub(crate) restart_command: Option<String>,

    /// How long containerd may take to come back before its configuration is put back
    #[arg(long, global = true, value_name = "SECONDS")]
    pub(crate) patience: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Install, and tell the node object if that fails
    Install(Install),
    /// Watch over the installation until told to stop
    Watch(Watch),
    /// Take Skiff off the node, and say that it is done for as long as somebody may ask
    Remove(Remove),
    /// Have Skiff taken off all nodes by its DaemonSet, and wait for it
    Retire(Retire),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Install {
    /// A lease: nodes are installed on one after the other, and no further one when one fails
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub(crate) turn: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Watch {
    /// Where /healthz, /readyz and /metrics are
    #[arg(long, default_value = "0.0.0.0:9464", value_name = "ADDRESS")]
    pub(crate) listen: SocketAddr,

    /// Seconds between two looks at the node
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    pub(crate) interval: u64,

    /// Only say what is wrong; do not mend it
    #[arg(long)]
    pub(crate) no_repair: bool,

    /// Do not compile images when containerd gets them
    #[arg(long)]
    pub(crate) no_precompile: bool,

    /// Compiled code may have so much space: 500M, 4G
    #[arg(long, value_name = "SIZE")]
    pub(crate) cache_size: Option<String>,

    /// Compiled code goes that was not used for so long: 12h, 30d
    #[arg(long, value_name = "TIME")]
    pub(crate) cache_unused: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Remove {
    /// Where /healthz and /readyz are
    #[arg(long, default_value = "0.0.0.0:9464", value_name = "ADDRESS")]
    pub(crate) listen: SocketAddr,

    /// Do not wait for pods; what they run from stays until they have ended
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Retire {
    /// The DaemonSet's namespace
    #[arg(long, env = "NAMESPACE")]
    pub(crate) namespace: String,

    /// Its name
    #[arg(long)]
    pub(crate) daemon_set: String,

    /// How long to wait
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    pub(crate) timeout: u64,
}

impl Common {
    /// Leaves out the handlers of engines that images for this machine's architecture do not have: the chart asks for the
    /// same on all nodes of a cluster. Answers what was left out. An image that lacks what others of its kind have is
    /// refused by the installer.
    pub(crate) fn leave_out(&mut self, architecture: &str) -> Vec<String> {
        if architecture == "x86_64" {
            return Vec::new();
        }
        // What else is wrong with the folder is the installer's to say.
        let there = Source::at(&self.from).map_or_else(|_| Vec::new(), |source| source.engines);
        let (left_out, kept): (Vec<_>, Vec<_>) = self
            .handlers
            .drain(..)
            .partition(|(engine, _)| *engine == Engine::Wasmedge && !there.contains(engine));
        // Nothing but that is asked for: none would mean all, and the installer's refusal says what is the matter.
        if kept.is_empty() {
            self.handlers = left_out;
            return Vec::new();
        }
        self.handlers = kept;
        left_out.into_iter().map(|(_, name)| name).collect()
    }

    /// What is said of containerd.
    pub(crate) fn asked(&self) -> Asked {
        Asked {
            address: self.address.clone(),
            ..Asked::default()
        }
    }

    /// What is to be installed.
    pub(crate) fn options(&self) -> Options {
        Options {
            containerd: self.asked(),
            from: self.from.clone(),
            prefix: self.prefix.clone(),
            handlers: self.handlers.clone(),
            take_over: self.take_over,
            local_pull: self.local_pull,
            dry_run: false,
            restart_command: self.restart_command.clone(),
            patience: self.patience.map(Duration::from_secs),
            skip_probe: false,
            force: false,
        }
    }
}

/// `wasmtime`, or `wasmtime=NAME`.
fn handler(text: &str) -> Result<(Engine, String), String> {
    let (engine, name) = text.split_once('=').unwrap_or((text, text));
    let known = "engines are wasmtime, wasmedge and skiff";
    let engine = engine.parse().map_err(|_| known.to_owned())?;
    Handler::check_name(name).map_err(|error| error.to_string())?;
    Ok((engine, name.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn an_engine_that_an_architecture_lacks_is_left_out_there_only() {
        let words = [
            "skiff-agent",
            "watch",
            "--from=/no-such-folder",
            "--handler=wasmtime",
            "--handler=wasmedge=edge",
        ];
        let left = |architecture: &str| {
            let mut common = Arguments::parse_from(words).common;
            let left_out = common.leave_out(architecture);
            assert_eq!(common.handlers.len() + left_out.len(), 2);
            left_out
        };
        assert_eq!(left("aarch64"), ["edge"]);
        assert!(left("x86_64").is_empty());
        let words = [
            "skiff-agent",
            "watch",
            "--from=/no-such-folder",
            "--handler=wasmedge",
        ];
        let mut alone = Arguments::parse_from(words).common;
        assert!(alone.leave_out("aarch64").is_empty());
        assert_eq!(alone.handlers.len(), 1);
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
        let words = [
            "skiff-agent",
            "watch",
            "--handler=wasmtime",
            "--handler=skiff=wasm",
        ];
        let arguments = Arguments::parse_from(words);
        let handlers = &arguments.common.handlers;
        let names: Vec<_> = handlers.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names, ["wasmtime", "wasm"]);
        for bad in ["--handler=wasmer", "--handler=wasmtime=A"] {
            Arguments::try_parse_from(["skiff-agent", "install", bad]).unwrap_err();
        }
    }
}
