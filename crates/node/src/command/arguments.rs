//! The command line of `skiff-node`, and the help that is read when something is broken.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Puts Skiff on a node, proves it, and takes it off again.
#[derive(Debug, Parser)]
#[command(
    name = "skiff-node",
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    after_help = "\
What would it do?     skiff-node install --dry-run     prints the change of containerd's configuration
Was it interrupted?   run the same command again, or `skiff-node repair`

Exit codes:
  0  done, or all is well
  1  status: a run was interrupted; doctor: something is wrong
  2  the command line was not understood
  3  not done; the reason is on stderr, and containerd's configuration is what it was"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) common: Common,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct Common {
    /// One JSON document per line on stdout: a line per step, the last one is the result
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Where the node's file system is; in a container the folder that the host is mounted at
    #[arg(long, global = true, default_value = "/", value_name = "FOLDER")]
    pub(crate) root: PathBuf,

    /// containerd's socket on the node [default: those of containerd, k3s, rke2, k0s, microk8s]
    #[arg(
        long,
        global = true,
        value_name = "SOCKET",
        env = "CONTAINERD_ADDRESS",
        hide_env_values = true
    )]
    pub(crate) address: Option<PathBuf>,

    /// The file that containerd is started with [default: what its process says]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// containerd's executable on the node [default: that of its process]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) containerd: Option<PathBuf>,

    /// containerd does not run, and need not: for images of nodes. Nothing is restarted or proven
    #[arg(long, global = true)]
    pub(crate) offline: bool,

    /// The folder on the node for Skiff's binaries [default: /opt/skiff]
    #[arg(long, global = true, value_name = "FOLDER")]
    pub(crate) prefix: Option<PathBuf>,

    /// A shell command that restarts containerd [default: its unit of systemd, or its OpenRC service]
    #[arg(long, global = true, value_name = "COMMAND")]
    pub(crate) restart_command: Option<String>,

    /// How long containerd may take to come back before its configuration is put back [default: 14; 90 for k3s,
    /// rke2, k0s, microk8s]
    #[arg(long, global = true, value_name = "SECONDS")]
    pub(crate) patience: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Install, or bring an installation up to date; does nothing on a node that has it all
    Install(Install),
    /// Take everything off again: configuration to the byte, binaries, cache, state
    Uninstall(Uninstall),
    /// Finish an interrupted run, or put back what somebody removed
    Repair(Install),
    /// What is installed, and whether a run was interrupted
    Status,
    /// What is there, what is wrong, what to do
    Doctor,
}

#[derive(Debug, Args)]
pub(crate) struct Install {
    /// The folder with Skiff's binaries [default: that of this command]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) from: Option<PathBuf>,

    /// A handler to make: wasmtime, wasmedge, skiff, or one of them under another name (wasmtime=wasm); may be
    /// repeated [default: all whose binaries are there]
    #[arg(long = "handler", value_name = "ENGINE[=NAME]")]
    pub(crate) handlers: Vec<String>,

    /// Take over handlers of these names from runwasi or Spin; uninstall gives them back
    #[arg(long)]
    pub(crate) take_over: bool,

    /// Also set use_local_image_pull, which changes how all images of the node are pulled (containerd 2.1 and later)
    #[arg(long)]
    pub(crate) local_pull: bool,

    /// Print the change as a unified diff, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Do not run a probe container of each handler
    #[arg(long)]
    pub(crate) skip_probe: bool,

    /// Install in spite of what makes this node unfit
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Uninstall {
    /// How long to wait for pods that use the handlers
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    pub(crate) timeout: u64,

    /// Do not wait for pods; what they run from stays until they have ended
    #[arg(long)]
    pub(crate) force: bool,

    /// Print the change as a unified diff, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}
