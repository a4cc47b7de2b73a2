//! Runs a shim's start command as cheaply as containerd does.
//!
//! A fork copies the page tables of its parent, and the new process closes every descriptor of its parent at
//! exec: with a thousand pods, milliseconds that are the driver's and no shim's. So a thread of its own starts the
//! commands. It shares neither descriptors nor working directory with the rest of the bench, and so needs no
//! `chdir` in the child, with which the standard library would not use vfork.

use std::cell::RefCell;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CloneFlags, unshare};
use rustix::pipe::{PipeFlags, pipe_with};

/// A command to be run.
#[derive(Clone, Debug)]
pub(crate) struct Invocation {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    /// All of its environment.
    pub(crate) environment: Vec<(&'static str, OsString)>,
    /// Its working directory.
    pub(crate) directory: PathBuf,
    /// What it finds on its standard input: less than a pipe holds.
    pub(crate) input: Vec<u8>,
}

impl Invocation {
    /// Runs it to its end; answers what it printed.
    pub(crate) fn run(&self) -> Result<Vec<u8>> {
        STARTER.with_borrow_mut(|starter| {
            let starter = match starter {
                Some(starter) => starter,
                None => starter.insert(Starter::new()?),
            };
            starter.invocations.send(self.clone()).ok();
            let answer = starter.answers.recv();
            answer.context("the thread that starts shims has ended")?
        })
    }
}

/// Lets the calling thread have its helper before it is measured, and before it has many descriptors.
pub(crate) fn prepare() -> Result<()> {
    STARTER.with_borrow_mut(|starter| {
        if starter.is_none() {
            *starter = Some(Starter::new()?);
        }
        Ok(())
    })
}

thread_local! {
    static STARTER: RefCell<Option<Starter>> = const { RefCell::new(None) };
}

/// The helper of one thread. It ends with that thread.
struct Starter {
    invocations: Sender<Invocation>,
    answers: Receiver<Result<Vec<u8>>>,
}

impl Starter {
    fn new() -> Result<Self> {
        let (invocations, todo) = channel::<Invocation>();
        let (answer, answers) = channel();
        std::thread::Builder::new()
            .name("starter".to_owned())
            .spawn(move || {
                let alone = unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_FILES)
                    .context("could not separate the thread that starts shims");
                if let Err(error) = alone {
                    answer.send(Err(error)).ok();
                    return;
                }
                for invocation in todo {
                    if answer.send(run(&invocation)).is_err() {
                        return;
                    }
                }
            })
            .context("could not start the thread that starts shims")?;
        Ok(Self {
            invocations,
            answers,
        })
    }
}

fn run(invocation: &Invocation) -> Result<Vec<u8>> {
    std::env::set_current_dir(&invocation.directory)?;
    let (input, write) = pipe_with(PipeFlags::CLOEXEC)?;
    // It fits into the pipe, and the shim finds its end at once.
    File::from(write).write_all(&invocation.input)?;
    let (read, output) = pipe_with(PipeFlags::CLOEXEC)?;
    let mut command = Command::new(&invocation.program);
    command
        .args(&invocation.arguments)
        .env_clear()
        .envs(
            invocation
                .environment
                .iter()
                .map(|(name, value)| (name, value)),
        )
        .stdin(input)
        .stdout(output.try_clone()?)
        .stderr(output);
    let mut child = command
        .spawn()
        .with_context(|| format!("could not run {}", invocation.program.display()))?;
    // Its own copies of the pipe's end would keep the answer from ending.
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // As containerd: everything that is printed, until nobody has the pipe any more.
    let mut answer = Vec::new();
    File::from(read).read_to_end(&mut answer)?;
    let status = child.wait()?;
    ensure!(
        status.success(),
        "{} ended with {status}: {}",
        invocation.program.display(),
        String::from_utf8_lossy(&answer)
    );
    Ok(answer)
}
