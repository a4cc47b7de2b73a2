//! The command `skiff-node`: puts Skiff on a node, proves it, and takes it off again. What it does is in the
//! library; here are the words for it.
#![forbid(unsafe_code)]

#[path = "command/arguments.rs"]
mod arguments;
#[path = "command/output.rs"]
mod output;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Parser as _;
use skiff_node::config::{Engine, Handler};
use skiff_node::daemon::Asked;
use skiff_node::doctor::{self, Status, Subject};
use skiff_node::host::{self, Host};
use skiff_node::installer::{Installer, Options, Removal, Report};
use skiff_node::state::{Operation, Store};

use arguments::{Arguments, Command, Common, Install, Uninstall};
use output::Output;

/// The work was done, and something was found broken.
const BROKEN: u8 = 1;
/// The work could not be done. 2 is clap's.
const COULD_NOT: u8 = 3;

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    if words.first().is_some_and(|word| word == host::ENTER) {
        let Err(error) = host::enter(&words[1..]);
        Output::new(false)
            .failure(&anyhow::Error::new(error).context("could not run a program of the node's"));
        return ExitCode::from(COULD_NOT);
    }
    let arguments = Arguments::parse();
    let output = Output::new(arguments.common.json);
    match run(&arguments, &output) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(BROKEN),
        Err(error) => {
            output.failure(&error);
            ExitCode::from(COULD_NOT)
        }
    }
}

/// Answers whether all is well.
fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<bool> {
    let common = &arguments.common;
    match &arguments.command {
        Command::Install(install) => {
            let options = options(common, install)?;
            finish(
                &self::install(common, &options, output)?,
                "install",
                install.dry_run,
                output,
            )
        }
        Command::Uninstall(uninstall) => {
            let removal = removal(common, uninstall);
            let report = Installer::new(&common.root, output).uninstall(&removal)?;
            finish(&report, "uninstall", uninstall.dry_run, output)
        }
        Command::Repair(install) => repair(common, install, output),
        Command::Status => status(common, output),
        Command::Doctor => doctor(common, output),
    }
}

fn install(common: &Common, options: &Options, output: &Output) -> anyhow::Result<Report> {
    Ok(Installer::new(&common.root, output).install(options)?)
}

fn finish(
    report: &Report,
    operation: &str,
    dry_run: bool,
    output: &Output,
) -> anyhow::Result<bool> {
    if dry_run {
        output.text(&report.diff)?;
    }
    output.result(operation, report)?;
    Ok(true)
}

fn asked(common: &Common) -> Asked {
    Asked {
        address: common.address.clone(),
        config: common.config.clone(),
        program: common.containerd.clone(),
        offline: common.offline,
    }
}

fn options(common: &Common, install: &Install) -> anyhow::Result<Options> {
    let handlers = install.handlers.iter().map(|text| handler(text));
    Ok(Options {
        containerd: asked(common),
        from: match &install.from {
            Some(folder) => folder.clone(),
            None => own_folder()?,
        },
        prefix: common.prefix.clone(),
        handlers: handlers.collect::<anyhow::Result<_>>()?,
        take_over: install.take_over,
        local_pull: install.local_pull,
        dry_run: install.dry_run,
        restart_command: common.restart_command.clone(),
        patience: common.patience.map(Duration::from_secs),
        skip_probe: install.skip_probe,
        force: install.force,
    })
}

fn removal(common: &Common, uninstall: &Uninstall) -> Removal {
    Removal {
        containerd: asked(common),
        prefix: common.prefix.clone(),
        timeout: Duration::from_secs(uninstall.timeout),
        force: uninstall.force,
        dry_run: uninstall.dry_run,
        restart_command: common.restart_command.clone(),
        patience: common.patience.map(Duration::from_secs),
    }
}

/// `wasmtime`, or `wasmtime=NAME`.
fn handler(text: &str) -> anyhow::Result<(Engine, String)> {
    let (engine, name) = text.split_once('=').unwrap_or((text, text));
    let engine = engine
        .parse()
        .with_context(|| format!("--handler {text}: engines are wasmtime, wasmedge and skiff"))?;
    Handler::check_name(name).with_context(|| format!("--handler {text}"))?;
    Ok((engine, name.to_owned()))
}

/// Where this executable lies, links followed: all binaries are shipped together.
fn own_folder() -> anyhow::Result<PathBuf> {
    let own =
        std::env::current_exe().context("could not find out where skiff-node lies; give --from")?;
    let folder = own
        .parent()
        .context("skiff-node lies nowhere; give --from")?;
    Ok(folder.to_owned())
}

/// Does again what the state says was done, or was begun.
fn repair(common: &Common, install: &Install, output: &Output) -> anyhow::Result<bool> {
    let store = Store::new(&Host::new(&common.root));
    let state = store.load()?;
    if let Some(pending) = &state.pending
        && pending.operation == Operation::Uninstall
    {
        let removal = removal(
            common,
            &Uninstall {
                timeout: 0,
                force: install.force,
                dry_run: install.dry_run,
            },
        );
        let report = Installer::new(&common.root, output).uninstall(&removal)?;
        return finish(&report, "uninstall", install.dry_run, output);
    }
    let mut options = options(common, install)?;
    if let Some(installed) = &state.installed {
        options.prefix = Some(installed.prefix.clone());
        if options.handlers.is_empty() {
            let known = installed.handlers.iter();
            options.handlers = known
                .map(|handler| (handler.engine, handler.name.clone()))
                .collect();
        }
    } else if state.pending.is_none() {
        bail!("Skiff is not installed on this node; `skiff-node install` does it");
    }
    finish(
        &self::install(common, &options, output)?,
        "repair",
        install.dry_run,
        output,
    )
}

fn status(common: &Common, output: &Output) -> anyhow::Result<bool> {
    let status = skiff_node::installer::status(&Host::new(&common.root))?;
    output.status(&status)?;
    Ok(status.pending.is_none())
}

fn doctor(common: &Common, output: &Output) -> anyhow::Result<bool> {
    let findings = doctor::examine(&Subject {
        address: common
            .address
            .clone()
            .unwrap_or_else(|| Path::new("/run/containerd/containerd.sock").to_owned()),
        cache: None,
    });
    output.findings(&findings)?;
    Ok(findings
        .iter()
        .all(|finding| finding.status != Status::Fail))
}
