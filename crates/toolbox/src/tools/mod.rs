//! The tools, one file each, and the table of them.

use crate::failure::{Done, Stop};
use crate::streams::Io;

mod cat;
mod copy;
mod date;
mod echo;
mod env;
mod find;
mod grep;
mod head;
mod link;
mod list;
mod make;
mod processes;
mod remove;
mod rename;
mod sha256;
mod sleep;
mod stat;
mod tail;
mod tar;
mod test;
mod tree;
mod wget;
mod words;

/// One tool.
#[derive(Debug)]
pub(crate) struct Tool {
    /// What it is called by.
    pub(crate) name: &'static str,
    /// Its arguments, without its name.
    run: fn(&[String], &mut Io) -> Done,
    /// The exit code of a command line that is not understood.
    misuse: u8,
    /// What `--help` says.
    help: &'static str,
}

/// All of them, by name.
pub(crate) const TOOLS: &[Tool] = &[
    tool("[", test::bracket, 2, test::HELP),
    tool("basename", words::basename, 1, words::BASENAME),
    tool("cat", cat::run, 1, cat::HELP),
    tool("cp", copy::run, 1, copy::HELP),
    tool("date", date::run, 1, date::HELP),
    tool("dirname", words::dirname, 1, words::DIRNAME),
    tool("echo", echo::run, 1, echo::HELP),
    tool("env", env::run, 125, env::HELP),
    tool("false", |_, _| Ok(1), 1, "false: does nothing, and fails"),
    tool("find", find::run, 1, find::HELP),
    tool("grep", grep::run, 2, grep::HELP),
    tool("head", head::run, 1, head::HELP),
    tool("ln", link::run, 1, link::HELP),
    tool("ls", list::run, 1, list::HELP),
    tool("mkdir", make::mkdir, 1, make::MKDIR),
    tool("mv", rename::run, 1, rename::HELP),
    tool("printenv", env::print, 1, env::PRINT),
    tool("printf", echo::printf, 1, echo::PRINTF),
    tool("ps", processes::run, 1, processes::HELP),
    tool("pwd", words::pwd, 1, words::PWD),
    tool("rm", remove::rm, 1, remove::RM),
    tool("rmdir", remove::rmdir, 1, remove::RMDIR),
    tool("sh", crate::shell::run, 2, crate::shell::HELP),
    tool("sha256sum", sha256::run, 1, sha256::HELP),
    tool("sleep", sleep::run, 1, sleep::HELP),
    tool("stat", stat::run, 1, stat::HELP),
    tool("tail", tail::run, 1, tail::HELP),
    tool("tar", tar::run, 2, tar::HELP),
    tool("test", test::run, 2, test::HELP),
    tool("touch", make::touch, 1, make::TOUCH),
    tool("true", |_, _| Ok(0), 1, "true: does nothing, with success"),
    tool("wc", words::count, 1, words::COUNT),
    tool("wget", wget::run, 1, wget::HELP),
];

const fn tool(
    name: &'static str,
    run: fn(&[String], &mut Io) -> Done,
    misuse: u8,
    help: &'static str,
) -> Tool {
    Tool {
        name,
        run,
        misuse,
        help,
    }
}

/// The tool of that name.
pub(crate) fn find(name: &str) -> Option<&'static Tool> {
    TOOLS.iter().find(|tool| tool.name == name)
}

/// The names of all.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    TOOLS.iter().map(|tool| tool.name)
}

/// The names in a directory, sorted; none if it cannot be read.
pub(crate) fn names_in(directory: &str) -> Vec<String> {
    tree::names(directory).unwrap_or_default()
}

/// Runs a tool and tells what stopped it; the result is its exit code.
pub(crate) fn run(tool: &Tool, args: &[String], io: &mut Io) -> u8 {
    use std::io::Write;

    // `echo` and `test` take it for a word.
    if let [only] = args
        && only == "--help"
        && !["[", "echo", "test"].contains(&tool.name)
    {
        return u8::from(writeln!(io.output, "{}", tool.help).is_err());
    }
    match (tool.run)(args, io) {
        Ok(code) => code,
        Err(stop) => {
            io.complain(&format!("{}: {stop}", tool.name));
            match stop {
                Stop::Usage(_) => {
                    io.complain(tool.help);
                    tool.misuse
                }
                Stop::Failed(_) | Stop::Output(_) => tool.misuse.min(2),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_help_begins_with_them() {
        assert!(names().is_sorted());
        for tool in TOOLS {
            assert!(
                tool.help.starts_with(tool.name) || tool.name == "[",
                "{}",
                tool.name
            );
        }
    }
}
