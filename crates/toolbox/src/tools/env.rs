//! `env` and `printenv`.

use std::io::Write;

use crate::failure::{Done, usage};
use crate::streams::Io;

pub(super) const HELP: &str = "env [-i] [-u NAME]... [NAME=VALUE]... [TOOL [ARG]...]: shows the environment, or runs a tool in another
  -i  with nothing in it but what is named
  -u  without a name
  only the toolbox's own tools can be run";
pub(super) const PRINT: &str = "printenv [NAME]...: shows the environment, or the values of names";

/// For `ps` alone.
const PRIVATE: &str = super::processes::VARIABLE;

pub(super) fn run(args: &[String], io: &mut Io) -> Done {
    let mut inner = io.clone();
    let mut args = args.iter();
    let mut rest: Vec<String> = Vec::new();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "-i" | "-" | "--ignore-environment" => inner.environment.clear(),
            "-u" | "--unset" => {
                let name = args
                    .next()
                    .ok_or_else(|| usage("option requires an argument -- 'u'"))?;
                inner.environment.retain(|(known, _)| known != name);
            }
            option if option.starts_with('-') => {
                return Err(usage(format!("invalid option '{option}'")));
            }
            word => {
                if let Some((name, value)) = word.split_once('=') {
                    inner.environment.retain(|(known, _)| known != name);
                    inner.environment.push((name.to_owned(), value.to_owned()));
                } else {
                    rest.push(word.to_owned());
                    rest.extend(args.by_ref().cloned());
                }
            }
        }
    }
    let [name, args @ ..] = rest.as_slice() else {
        for (name, value) in inner.environment.iter().filter(|(name, _)| name != PRIVATE) {
            writeln!(io.output, "{name}={value}")?;
        }
        return Ok(0);
    };
    match super::find(crate::text::base_name(name)) {
        Some(tool) => Ok(super::run(tool, args, &mut inner)),
        None => {
            io.complain(&format!(
                "env: can't execute '{name}': it is no tool of the toolbox"
            ));
            Ok(crate::shell::NOT_FOUND)
        }
    }
}

pub(super) fn print(args: &[String], io: &mut Io) -> Done {
    if args.is_empty() {
        return run(args, io);
    }
    let mut code = 0;
    for name in args {
        match io.variable(name).map(str::to_owned) {
            Some(value) => writeln!(io.output, "{value}")?,
            None => code = 1,
        }
    }
    Ok(code)
}
