//! Commands, run.

use std::fs::File;
use std::io;

use super::lex::Word;
use super::parse::{Command, Kind, List, Pipeline, Redirect, When};
use super::pipe::{Pipe, Skip};
use super::{CANNOT_RUN, Flow, NOT_FOUND, NOT_UNDERSTOOD, Shell};
use crate::failure::words;
use crate::streams::{Input, Io, Output};
use crate::text::base_name;
use crate::tools;

impl Shell {
    /// Runs a list; its exit code is then the shell's status.
    pub(super) fn list(&mut self, list: &List, io: &mut Io) -> Flow {
        for (index, (when, pipeline)) in list.iter().enumerate() {
            let wanted = match when {
                When::Always => true,
                When::AfterSuccess => self.status == 0,
                When::AfterFailure => self.status != 0,
            };
            if !wanted {
                continue;
            }
            if self.pipeline(pipeline, io) == Flow::Exit {
                return Flow::Exit;
            }
            // A failure that is looked at is none.
            let looked_at = list
                .get(index + 1)
                .is_some_and(|(when, _)| *when != When::Always)
                || pipeline.negated;
            if self.stops_at_failure && self.status != 0 && !looked_at {
                return Flow::Exit;
            }
        }
        Flow::Next
    }

    fn pipeline(&mut self, pipeline: &Pipeline, io: &mut Io) -> Flow {
        let flow = match pipeline.commands.as_slice() {
            [only] => self.command_in(only, io),
            [before @ .., last] => {
                self.piped(before, last, io);
                Flow::Next
            }
            [] => Flow::Next,
        };
        if pipeline.negated && flow == Flow::Next {
            self.status = u8::from(self.status == 0);
        }
        flow
    }

    /// One after the other, each in a shell of its own.
    fn piped(&mut self, before: &[Command], last: &Command, io: &mut Io) {
        if let Some(left) = self.skips(last) {
            let mut inner = io.clone();
            inner.output = Output::new(
                Skip {
                    left,
                    output: io.output.clone(),
                },
                false,
            );
            if let [more @ .., command] = before {
                if more.is_empty() {
                    self.apart(command, &mut inner);
                } else {
                    self.piped(more, command, &mut inner);
                }
            }
            self.status = u8::from(inner.output.finish().is_err());
            return;
        }
        let mut input = io.input.clone();
        for command in before {
            let pipe = Pipe::default();
            let mut inner = io.clone();
            inner.input = input;
            inner.output = Output::new(pipe.clone(), false);
            inner.piped = true;
            self.apart(command, &mut inner);
            input = Input::bytes(pipe.take());
        }
        let mut inner = io.clone();
        inner.input = input;
        self.apart(last, &mut inner);
    }

    /// How many bytes a command leaves out, which does nothing else.
    fn skips(&mut self, command: &Command) -> Option<usize> {
        let Kind::Simple { assignments, words } = &command.kind else {
            return None;
        };
        if !assignments.is_empty() || !command.redirects.is_empty() {
            return None;
        }
        let words = self.fields(words).ok()?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let number = match words.as_slice() {
            ["cat"] => return Some(0),
            ["tail", number] => number.strip_prefix("-c+")?,
            ["tail", "-c", number] => number.strip_prefix('+')?,
            _ => return None,
        };
        number
            .parse::<usize>()
            .ok()
            .map(|number| number.saturating_sub(1))
    }

    /// Runs a command that changes nothing of this shell but its status.
    fn apart(&mut self, command: &Command, io: &mut Io) {
        let directory = std::env::current_dir();
        let mut shell = self.clone();
        shell.command_in(command, io);
        if let Ok(directory) = directory {
            drop(std::env::set_current_dir(directory));
        }
        self.status = shell.status;
    }

    fn command_in(&mut self, command: &Command, io: &mut Io) -> Flow {
        let mut inner = io.clone();
        if let Err(sentence) = self.redirect(&command.redirects, &mut inner) {
            inner.complain(&format!("sh: {sentence}"));
            self.status = 1;
            return Flow::Next;
        }
        let flow = match &command.kind {
            Kind::Group { list, apart: false } => self.list(list, &mut inner),
            Kind::Group { list, apart: true } => {
                let directory = std::env::current_dir();
                let mut shell = self.clone();
                shell.list(list, &mut inner);
                if let Ok(directory) = directory {
                    drop(std::env::set_current_dir(directory));
                }
                self.status = shell.status;
                Flow::Next
            }
            Kind::Simple { assignments, words } => self.simple(assignments, words, &mut inner),
        };
        if let Err(error) = inner.output.finish() {
            inner.complain(&format!("sh: write error: {}", words(&error)));
            self.status = self.status.max(1);
        }
        drop(inner.error.finish());
        flow
    }

    fn simple(&mut self, assignments: &[(String, Word)], words: &[Word], io: &mut Io) -> Flow {
        let expanded = self.fields(words).and_then(|fields| {
            let values: Result<Vec<_>, String> = assignments
                .iter()
                .map(|(name, word)| Ok((name.clone(), self.text(word)?)))
                .collect();
            Ok((fields, values?))
        });
        let (fields, values) = match expanded {
            Ok(expanded) => expanded,
            Err(sentence) => {
                io.complain(&format!("sh: {sentence}"));
                self.status = NOT_UNDERSTOOD;
                return Flow::Exit;
            }
        };
        if self.traces {
            let shown: Vec<String> = values
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .chain(fields.iter().cloned())
                .collect();
            io.complain(&format!("+ {}", shown.join(" ")));
        }
        let [name, args @ ..] = fields.as_slice() else {
            for (name, value) in values {
                self.set(&name, value);
            }
            self.status = 0;
            return Flow::Next;
        };
        if let Some(flow) = self.builtin(name, args, io) {
            return flow;
        }
        io.environment = self
            .variables
            .iter()
            .filter(|(_, (_, exported))| *exported)
            .map(|(name, (value, _))| (name.clone(), value.clone()))
            .collect();
        io.environment
            .retain(|(known, _)| !values.iter().any(|(name, _)| name == known));
        io.environment.extend(values);
        self.status = self.tool(name, args, io);
        Flow::Next
    }

    /// Runs a tool, by its name or by a path that others keep it at; its exit code.
    pub(super) fn tool(&self, name: &str, args: &[String], io: &mut Io) -> u8 {
        let exists = name.contains('/') && std::fs::metadata(name).is_ok();
        match tools::find(if exists { "" } else { base_name(name) }) {
            Some(tool) => tools::run(tool, args, io),
            None if exists => {
                io.complain(&format!("sh: {name}: this shell runs nothing but the tools of the toolbox; a program of the image takes an exec of its own"));
                CANNOT_RUN
            }
            None => {
                io.complain(&format!("sh: {name}: not found"));
                NOT_FOUND
            }
        }
    }

    fn redirect(&mut self, redirects: &[Redirect], io: &mut Io) -> Result<(), String> {
        for redirect in redirects {
            let target = self.text(&redirect.target)?;
            match (redirect.operator, redirect.from) {
                ("<", _) => {
                    io.input = io.open(&target).map_err(|error| match error.kind() {
                        io::ErrorKind::NotFound => format!("can't open {target}: no such file"),
                        _ => format!("can't open {target}: {}", words(&error)),
                    })?;
                }
                (">&", from) => {
                    let output = match target.as_str() {
                        "1" => io.output.clone(),
                        "2" => io.error.clone(),
                        other => {
                            return Err(format!("{from}>&{other}: only 1 and 2 can be written to"));
                        }
                    };
                    set_output(io, from, output);
                }
                (operator, from) => {
                    let output = create(&target, operator == ">>", io)?;
                    set_output(io, from, output);
                }
            }
        }
        Ok(())
    }
}

fn set_output(io: &mut Io, from: u8, output: Output) {
    if from == 2 {
        io.error = output;
    } else {
        io.output = output;
        io.piped = false;
    }
}

fn create(path: &str, append: bool, io: &Io) -> Result<Output, String> {
    // A guest has no devices; these are what scripts take them for.
    match path {
        "/dev/null" => return Ok(Output::new(io::sink(), false)),
        "/dev/stdout" => return Ok(io.output.clone()),
        "/dev/stderr" => return Ok(io.error.clone()),
        _ => {}
    }
    let file = if append {
        File::options().append(true).create(true).open(path)
    } else {
        File::create(path)
    };
    file.map(Output::file).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("can't create {path}: nonexistent directory"),
        _ => format!("can't create {path}: {}", words(&error)),
    })
}
