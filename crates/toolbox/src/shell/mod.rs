//! `sh`: reads lines, and runs the tools. Far from a whole shell, and it says so where it meets the difference.

use std::collections::BTreeMap;

use crate::failure::{Done, usage, words};
use crate::streams::{Input, Io};

mod builtin;
mod expand;
mod lex;
mod parse;
mod pipe;
mod run;

use parse::Incomplete;

/// The exit code of a command that there is not.
pub(crate) const NOT_FOUND: u8 = 127;
/// The exit code of a command that cannot be run.
const CANNOT_RUN: u8 = 126;
/// The exit code of a script that is not understood.
const NOT_UNDERSTOOD: u8 = 2;

pub(crate) const HELP: &str = "sh [-e] [-x] [-c COMMANDS [NAME [ARG]...] | FILE [ARG]...]: runs commands, from standard input if nothing else is named
This is not a full shell. It has the toolbox's tools, ; && || ! | ( ) { }, < > >> 2> 2>&1, quotes,
$NAME ${NAME} ${NAME:-else} $? $# $1 $@, NAME=value, * ? [a-z], # comments, and the commands
cd export unset set exit exec command type help :
It has no if, for, while, case, functions, &, $(command), $((sum)) and <<text, and runs no other programs.
A command of a pipe gets its input when the one before it has ended.";

/// A running shell.
#[derive(Clone)]
struct Shell {
    /// Values, and whether tools see them.
    variables: BTreeMap<String, (String, bool)>,
    /// `$0`, `$1` and so on.
    arguments: Vec<String>,
    /// `$?`
    status: u8,
    /// `-e`
    stops_at_failure: bool,
    /// `-x`
    traces: bool,
}

/// What follows a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Next,
    /// The shell ends.
    Exit,
}

/// Where commands come from.
enum Source {
    Text(String),
    Lines { input: Input, prompts: bool },
}

pub(crate) fn run(args: &[String], io: &mut Io) -> Done {
    let mut shell = Shell {
        variables: io
            .environment
            .iter()
            .map(|(name, value)| (name.clone(), (value.clone(), true)))
            .collect(),
        arguments: vec!["sh".to_owned()],
        status: 0,
        stops_at_failure: false,
        traces: false,
    };
    let mut is_text = false;
    let mut is_stdin = false;
    let mut rest = args;
    while let [first, others @ ..] = rest {
        let Some(letters) = first
            .strip_prefix('-')
            .filter(|letters| !letters.is_empty())
        else {
            break;
        };
        rest = others;
        if first == "--" {
            break;
        }
        for letter in letters.chars() {
            match letter {
                'c' => is_text = true,
                's' => is_stdin = true,
                'e' => shell.stops_at_failure = true,
                'x' => shell.traces = true,
                // A login shell and one for people are no others here.
                'i' | 'l' => {}
                other => return Err(usage(format!("option -{other} is not understood"))),
            }
        }
    }
    let source = if is_text {
        let (text, others) = rest
            .split_first()
            .ok_or_else(|| usage("-c requires an argument"))?;
        if !others.is_empty() {
            shell.arguments = others.to_vec();
        }
        Source::Text(text.clone())
    } else if let ([path, ..], false) = (rest, is_stdin) {
        shell.arguments = rest.to_vec();
        match io.open(path) {
            Ok(input) => Source::Lines {
                input,
                prompts: false,
            },
            Err(error) => {
                io.complain(&format!("sh: can't open '{path}': {}", words(&error)));
                return Ok(if error.kind() == std::io::ErrorKind::NotFound {
                    NOT_FOUND
                } else {
                    CANNOT_RUN
                });
            }
        }
    } else {
        Source::Lines {
            input: io.input.clone(),
            prompts: io.input.terminal,
        }
    };
    Ok(shell.interpret(source, io))
}

impl Shell {
    /// Runs all commands; the exit code.
    fn interpret(&mut self, source: Source, io: &mut Io) -> u8 {
        let (input, prompts) = match source {
            Source::Text(text) => (Input::bytes(text.into_bytes()), false),
            Source::Lines { input, prompts } => (input, prompts),
        };
        if prompts {
            io.complain(
                "The small shell of Skiff's toolbox: no full shell. `help` tells what it has.",
            );
        }
        loop {
            match self.command(&input, prompts, io) {
                Ok(Some(list)) => {
                    if self.list(&list, io) == Flow::Exit {
                        return self.status;
                    }
                }
                Ok(None) => {
                    if prompts {
                        io.complain("");
                    }
                    return self.status;
                }
                Err(sentence) => {
                    io.complain(&format!("sh: {sentence}"));
                    self.status = NOT_UNDERSTOOD;
                    if !prompts {
                        return self.status;
                    }
                }
            }
        }
    }

    /// The next lines that are whole commands; `None` at the end of the input.
    fn command(
        &mut self,
        input: &Input,
        prompts: bool,
        io: &mut Io,
    ) -> Result<Option<parse::List>, String> {
        let mut text = String::new();
        loop {
            if prompts {
                self.prompt(text.is_empty(), io);
            }
            let line = input.line().map_err(|error| words(&error))?;
            if line.is_empty() {
                return if text.is_empty() {
                    Ok(None)
                } else {
                    Err("the text ends within a command".to_owned())
                };
            }
            text.push_str(&String::from_utf8(line).map_err(|_| {
                "this is not text; a module of the image is run by an exec of its own".to_owned()
            })?);
            match parse::parse(&text) {
                Ok(list) => return Ok(Some(list)),
                Err(Incomplete::NeedsMore) => {}
                Err(Incomplete::Wrong(sentence)) => return Err(sentence),
            }
        }
    }

    fn prompt(&self, first: bool, io: &mut Io) {
        use std::io::Write;
        let directory = std::env::current_dir().unwrap_or_default();
        drop(io.output.finish());
        let prompt = if first {
            format!("{} $ ", directory.display())
        } else {
            "> ".to_owned()
        };
        drop(write!(io.error, "{prompt}").and_then(|()| io.error.flush()));
    }
}
