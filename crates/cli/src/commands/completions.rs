//! `skiff completions`: a script for the user's shell.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::Outcome;
use crate::arguments::Arguments;
use crate::output::Output;

pub(crate) fn run(shell: Shell, output: &Output) -> anyhow::Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "skiff", &mut script);
    let script = String::from_utf8(script)?;
    if output.json() {
        output.document(&serde_json::json!({ "shell": shell.to_string(), "script": script }))?;
    } else {
        output.text(script.trim_end())?;
    }
    Ok(Outcome::Well)
}
