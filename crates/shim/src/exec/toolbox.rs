//! The built-in tools, for containers whose image has no such programs: a component that lies beside the shim, run as
//! any other module of the container.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use crate::pod::Pod;
use crate::task::Task;

/// The component's file.
pub(super) const FILE: &str = "skiff-toolbox.wasm";
/// What `ps` shows.
const PROCESSES: &str = "SKIFF_PROCESSES";
/// Ticks in a second, as `/proc/<pid>/stat` counts (`USER_HZ`).
const TICKS: u64 = 100;

/// What it has. A name that it does not know would be refused by itself, but later.
pub(super) const TOOLS: [&str; 33] = [
    "[",
    "basename",
    "cat",
    "cp",
    "date",
    "dirname",
    "echo",
    "env",
    "false",
    "find",
    "grep",
    "head",
    "ln",
    "ls",
    "mkdir",
    "mv",
    "printenv",
    "printf",
    "ps",
    "pwd",
    "rm",
    "rmdir",
    "sh",
    "sha256sum",
    "sleep",
    "stat",
    "tail",
    "tar",
    "test",
    "touch",
    "true",
    "wc",
    "wget",
];

/// Where programs lie in most images, and so where clients look for them.
const FOLDERS: [&str; 6] = [
    "/bin",
    "/usr/bin",
    "/sbin",
    "/usr/sbin",
    "/usr/local/bin",
    "/usr/local/sbin",
];

/// Whether a command names a tool: `ls`, `/bin/ls`.
pub(super) fn has(command: &str) -> bool {
    let name = match command.rsplit_once('/') {
        None => command,
        Some((folder, name)) if FOLDERS.contains(&folder) => name,
        Some(_) => return false,
    };
    TOOLS.contains(&name)
}

/// The component.
pub(super) fn open(pod: &Pod) -> io::Result<OwnedFd> {
    let programs = pod
        .programs()
        .map_err(|error| io::Error::other(error.to_string()))?;
    programs.open(FILE)
}

/// What a tool is told besides its environment: what tools cannot see for themselves.
pub(super) fn environment(task: &Task, command: &str) -> Option<String> {
    let name = command.rsplit('/').next().unwrap_or_default();
    matches!(name, "ps" | "sh").then(|| format!("{PROCESSES}={}", processes(task)))
}

/// The container's processes: number, parent's number, user, seconds of processor time, command, a line for each.
/// Numbers are those of its pid namespace.
fn processes(task: &Task) -> String {
    let seen: BTreeMap<u32, Seen> = task
        .pids()
        .into_iter()
        .filter_map(|pid| Some((pid, look(pid)?)))
        .collect();
    let mut lines: Vec<_> = seen
        .values()
        .map(|process| {
            let parent = seen.get(&process.parent).map_or(0, |parent| parent.pid);
            (process.pid, parent, process)
        })
        .collect();
    lines.sort_unstable_by_key(|(pid, ..)| *pid);
    let line = |(pid, parent, process): (u32, u32, &Seen)| {
        let Seen {
            user,
            seconds,
            command,
            ..
        } = process;
        format!("{pid}\t{parent}\t{user}\t{seconds}\t{command}")
    };
    lines.into_iter().map(line).collect::<Vec<_>>().join("\n")
}

struct Seen {
    /// In its own pid namespace.
    pid: u32,
    /// As the node counts.
    parent: u32,
    user: u32,
    seconds: u64,
    command: String,
}

/// One process. `None` if it has ended meanwhile.
fn look(pid: u32) -> Option<Seen> {
    let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).ok();
    let status = String::from_utf8_lossy(&read("status")?).into_owned();
    let field = |key: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
    };
    let stat = String::from_utf8_lossy(&read("stat")?).into_owned();
    // The name before the last bracket may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<u64>().ok();
    // utime and stime, counted from the state, which is the first here.
    let seconds = (ticks(11)? + ticks(12)?) / TICKS;
    let words = read("cmdline").unwrap_or_default();
    let words: Vec<_> = words
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).replace(['\n', '\t'], " "))
        .collect();
    let command = if words.is_empty() {
        format!("[{}]", field("Name")?.trim())
    } else {
        words.join(" ")
    };
    Some(Seen {
        pid: field("NSpid")?.split_whitespace().last()?.parse().ok()?,
        parent: field("PPid")?.trim().parse().ok()?,
        user: field("Uid")?.split_whitespace().next()?.parse().ok()?,
        seconds,
        command,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_by_their_names_and_usual_places() {
        for command in ["sh", "/bin/sh", "/usr/bin/[", "ls"] {
            assert!(has(command), "{command}");
        }
        for command in ["", "/", "bash", "/opt/ls", "./ls", "bin/ls", "/bin/ls/"] {
            assert!(!has(command), "{command}");
        }
        assert!(TOOLS.is_sorted());
    }

    #[test]
    fn a_process_is_described() {
        let seen = look(std::process::id()).unwrap();
        assert_eq!(seen.user, rustix::process::getuid().as_raw());
        assert!(!seen.command.is_empty());
        assert!(look(u32::MAX).is_none());
    }
}
