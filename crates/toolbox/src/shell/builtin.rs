//! Commands that change the shell itself.

use std::io::Write;

use super::parse::is_name;
use super::{Flow, NOT_FOUND, NOT_UNDERSTOOD, Shell};
use crate::failure::words;
use crate::streams::Io;
use crate::tools;

const BUILTINS: [&str; 11] = [
    ":", "cd", "command", "exec", "exit", "export", "help", "set", "shift", "type", "unset",
];

impl Shell {
    /// Runs it, if it is one.
    pub(super) fn builtin(&mut self, name: &str, args: &[String], io: &mut Io) -> Option<Flow> {
        self.status = match name {
            ":" => 0,
            "cd" => self.change_directory(args, io),
            "export" => self.export(args, io),
            "unset" => {
                for name in args {
                    self.variables.remove(name);
                }
                0
            }
            "set" => self.settings(args, io),
            "shift" => {
                if self.arguments.len() > 1 {
                    self.arguments.remove(1);
                    0
                } else {
                    1
                }
            }
            "help" => {
                let names: Vec<&str> = tools::names().collect();
                u8::from(
                    writeln!(
                        io.output,
                        "{}\nTools (each has --help):\n{}",
                        super::HELP,
                        names.join(" ")
                    )
                    .is_err(),
                )
            }
            "type" => Self::kinds(args, io),
            "command" if args.first().is_some_and(|first| first == "-v") => {
                Self::kinds(&args[1..], io)
            }
            "command" | "exec" => {
                let [inner, rest @ ..] = args else {
                    return Some(Flow::Next);
                };
                let flow = match self.builtin(inner, rest, io) {
                    Some(flow) => flow,
                    None => {
                        self.status = self.tool(inner, rest, io);
                        Flow::Next
                    }
                };
                return Some(if name == "exec" { Flow::Exit } else { flow });
            }
            "exit" => {
                self.status = match args.first().map(|code| code.parse::<i32>()) {
                    None => self.status,
                    Some(Ok(code)) => code.to_le_bytes()[0],
                    Some(Err(_)) => {
                        io.complain(&format!("sh: exit: Illegal number: {}", args[0]));
                        NOT_UNDERSTOOD
                    }
                };
                return Some(Flow::Exit);
            }
            _ => return None,
        };
        Some(Flow::Next)
    }

    fn change_directory(&mut self, args: &[String], io: &mut Io) -> u8 {
        let variable = |name: &str| self.variables.get(name).map(|(value, _)| value.clone());
        let place = match args {
            [] => variable("HOME").unwrap_or_else(|| "/".to_owned()),
            [dash] if dash == "-" => variable("OLDPWD").unwrap_or_else(|| "/".to_owned()),
            [place, ..] => place.clone(),
        };
        let before = std::env::current_dir().unwrap_or_default();
        let is_file = std::fs::metadata(&place).is_ok_and(|metadata| !metadata.is_dir());
        let changed = if is_file {
            Err(std::io::ErrorKind::NotADirectory.into())
        } else {
            std::env::set_current_dir(&place)
        };
        if let Err(error) = changed {
            io.complain(&format!("sh: cd: can't cd to {place}: {}", words(&error)));
            return NOT_UNDERSTOOD;
        }
        self.set("OLDPWD", before.to_string_lossy().into_owned());
        let now = std::env::current_dir().unwrap_or_default();
        self.set("PWD", now.to_string_lossy().into_owned());
        0
    }

    fn export(&mut self, args: &[String], io: &mut Io) -> u8 {
        let mut code = 0;
        for arg in args {
            let (name, value) = match arg.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (arg.as_str(), None),
            };
            if !is_name(name) {
                io.complain(&format!("sh: export: {name}: bad variable name"));
                code = NOT_UNDERSTOOD;
                continue;
            }
            let variable = self.variables.entry(name.to_owned()).or_default();
            variable.1 = true;
            if let Some(value) = value {
                variable.0 = value;
            }
        }
        if args.is_empty() {
            for (name, (value, _)) in self.variables.iter().filter(|(_, (_, exported))| *exported) {
                let quoted = value.replace('\'', r"'\''");
                if writeln!(io.output, "export {name}='{quoted}'").is_err() {
                    return 1;
                }
            }
        }
        code
    }

    fn settings(&mut self, args: &[String], io: &mut Io) -> u8 {
        for (index, arg) in args.iter().enumerate() {
            match arg.as_str() {
                "-e" => self.stops_at_failure = true,
                "+e" => self.stops_at_failure = false,
                "-x" => self.traces = true,
                "+x" => self.traces = false,
                "-ex" | "-xe" => (self.stops_at_failure, self.traces) = (true, true),
                "--" => {
                    self.arguments.truncate(1);
                    self.arguments.extend_from_slice(&args[index + 1..]);
                    return 0;
                }
                other => {
                    io.complain(&format!(
                        "sh: set: {other} is not understood: only -e, +e, -x, +x and -- are"
                    ));
                    return NOT_UNDERSTOOD;
                }
            }
        }
        0
    }

    /// What names mean.
    fn kinds(names: &[String], io: &mut Io) -> u8 {
        let mut code = 0;
        for name in names {
            let known = BUILTINS.contains(&name.as_str()) || tools::find(name).is_some();
            if !known || writeln!(io.output, "{name}").is_err() {
                code = NOT_FOUND;
            }
        }
        code
    }
}
