//! `containerd-shim-<engine>-v1`: reads the command line, does what it says, prints the answer.

use std::io::{self, IsTerminal, Read, Write};
use std::process::ExitCode;

use anyhow::{Context, bail};
use skiff_shim::command_line::{Action, Flags, engine_of};
use skiff_shim::engine::Runtime;
use skiff_shim::start::Started;
use skiff_shim::{delete, info, logging, serve, start};

fn main() -> ExitCode {
    match run() {
        Ok(answer) => print(io::stdout(), &answer),
        Err(error) => {
            // containerd shows this line to the user, as the reason of its own failure.
            let sentence = skiff_sandbox::sentence::readable(&format!("{error:#}"));
            print(io::stderr(), format!("{sentence}\n").as_bytes());
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<Vec<u8>> {
    let mut arguments = std::env::args_os();
    let program = arguments
        .next()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let engine = engine_of(&program);
    let flags = Flags::parse(arguments)?;
    match flags.action {
        Action::Start => match start::start(&flags, input())? {
            Started::Answer(answer) => Ok(answer),
            // The daemon, whose standard output leads nowhere.
            Started::Daemon(daemon) => {
                serve::serve(daemon, &flags, Runtime::of(&program))
                    .inspect_err(|error| log::error!("{}", skiff_shim::status::chain(error)))?;
                Ok(Vec::new())
            }
        },
        Action::Delete => {
            logging::init(&flags.namespace, &flags.id, flags.debug);
            Ok(delete::delete(&flags)?)
        }
        Action::Nothing => bail!(
            "this program is called by containerd, with start or delete, for containers whose RuntimeClass names it; \
             by hand, try -v"
        ),
        Action::Info => info::info(engine, input()).context("could not read the runtime's options"),
        Action::Version => Ok(info::version(&program, engine).into_bytes()),
    }
}

/// Standard input, when it is containerd's; at a terminal there is nothing to wait for.
fn input() -> Box<dyn Read> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        Box::new(io::empty())
    } else {
        Box::new(stdin)
    }
}

fn print(mut stream: impl Write, bytes: &[u8]) -> ExitCode {
    match stream.write_all(bytes).and_then(|()| stream.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
