//! `ps`: a guest sees no processes, so the shim hands the list over when it starts the tool.

use std::io::Write;

use crate::failure::{Done, failed};
use crate::streams::Io;

pub(super) const HELP: &str = "ps: the container's processes, as they were when this exec began
  options are accepted and change nothing";

/// One line a process: pid, ppid, user, seconds of processor time and command, tabs between.
pub(super) const VARIABLE: &str = "SKIFF_PROCESSES";

pub(super) fn run(_: &[String], io: &mut Io) -> Done {
    let Some(list) = io.variable(VARIABLE).map(str::to_owned) else {
        return Err(failed(
            "a guest cannot see processes, and no list of them was handed to this one",
        ));
    };
    writeln!(
        io.output,
        "{:>7} {:>7} {:<8} {:>8} COMMAND",
        "PID", "PPID", "USER", "TIME"
    )?;
    for line in list.lines().filter(|line| !line.is_empty()) {
        let fields: Vec<&str> = line.splitn(5, '\t').collect();
        if let [pid, parent, user, seconds, command] = fields.as_slice() {
            let time = time(seconds);
            // One process takes one line, whatever it calls itself.
            let command: String = command
                .chars()
                .map(|letter| if letter.is_control() { '?' } else { letter })
                .collect();
            writeln!(
                io.output,
                "{pid:>7} {parent:>7} {user:<8} {time:>8} {command}"
            )?;
        }
    }
    io.complain("ps: as it was when this exec began");
    Ok(0)
}

fn time(seconds: &str) -> String {
    let whole = seconds.split('.').next().unwrap_or_default();
    whole.parse::<u64>().map_or_else(
        |_| seconds.to_owned(),
        |seconds| {
            let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
            format!("{hours:02}:{minutes:02}:{seconds:02}")
        },
    )
}
