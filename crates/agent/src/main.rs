//! The command `skiff-agent`, which the chart runs on each node: it installs Skiff, watches over it, and takes it off.
//! What is done to the node is `skiff-node`'s; here it is told to the cluster.
#![forbid(unsafe_code)]

mod arguments;
mod condition;
mod containerd;
mod images;
mod install;
mod kubernetes;
mod log;
mod metrics;
mod node_object;
mod programs;
mod remove;
mod report;
mod retire;
mod serve;
mod time;
mod turn;
mod watch;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;
use skiff_node::host;

use arguments::{Arguments, Command};

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    // The installer calls programs of the node's through this executable.
    if words.first().is_some_and(|word| word == host::ENTER) {
        let Err(error) = host::enter(&words[1..]);
        log::error(&format!("could not run a program of the node's: {error}"));
        return ExitCode::FAILURE;
    }
    let mut arguments = Arguments::parse();
    for name in arguments.common.leave_out(std::env::consts::ARCH) {
        log::warning(&format!(
            "no handler {name} on this node: there is no such engine for its architecture in this image, and pods that name it go elsewhere"
        ));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(run(&arguments)),
        Err(error) => Err(error.into()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Does what was asked for until it is done, or somebody says to stop.
async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let work = async {
        match &arguments.command {
            Command::Install(install) => install::run(&arguments.common, install).await,
            Command::Watch(watch) => watch::run(&arguments.common, watch).await,
            Command::Remove(remove) => remove::run(&arguments.common, remove).await,
            Command::Retire(retire) => retire::run(retire).await,
        }
    };
    tokio::select! {
        ended = work => ended,
        // A run of the installer that is cut short is finished by the next one: it has a journal.
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}
