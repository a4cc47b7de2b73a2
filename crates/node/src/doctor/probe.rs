//! Runs another program for its answer, with a limit on time and on the answer's length.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::MemfdFlags;
use rustix::process::PidfdFlags;

/// Enough for containerd's whole configuration (about 15 kB), many times over.
const LONGEST_ANSWER: u64 = 4 << 20;

/// Why a program gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeError {
    #[error("could not be started")]
    Start(#[source] io::Error),
    #[error("did not answer within {} s", .0.as_secs())]
    TooSlow(Duration),
    #[error("ended with {status}{}{complaint}", if complaint.is_empty() { "" } else { ": " })]
    Failed {
        status: std::process::ExitStatus,
        complaint: String,
    },
    #[error("gave an answer that could not be read")]
    Read(#[source] io::Error),
}

/// Runs `program` and returns what it wrote to its standard output. The program is killed when it takes longer
/// than `limit`. Its output goes to memfds, so that a talkative program never blocks.
pub(super) fn answer_of(
    program: &Path,
    arguments: &[&str],
    limit: Duration,
) -> Result<String, ProbeError> {
    answer(
        Command::new(program).args(arguments).current_dir("/"),
        limit,
    )
}

/// Runs a command that is ready, as [`answer_of`] does.
pub(crate) fn answer(command: &mut Command, limit: Duration) -> Result<String, ProbeError> {
    let output = memory_file().map_err(ProbeError::Start)?;
    let complaints = memory_file().map_err(ProbeError::Start)?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(output.try_clone().map_err(ProbeError::Start)?)
        .stderr(complaints.try_clone().map_err(ProbeError::Start)?)
        .spawn()
        .map_err(ProbeError::Start)?;
    if !ends_within(&child, limit).map_err(ProbeError::Read)? {
        // The child is ours and not reaped yet, so that its id is still its own.
        child.kill().map_err(ProbeError::Read)?;
        child.wait().map_err(ProbeError::Read)?;
        return Err(ProbeError::TooSlow(limit));
    }
    let status = child.wait().map_err(ProbeError::Read)?;
    if status.success() {
        return text_of(output).map_err(ProbeError::Read);
    }
    let complaint = text_of(complaints).unwrap_or_default();
    let complaint = complaint
        .lines()
        .rfind(|line| !line.trim().is_empty())
        .unwrap_or_default()
        .trim()
        .to_owned();
    Err(ProbeError::Failed { status, complaint })
}

fn memory_file() -> io::Result<File> {
    Ok(File::from(rustix::fs::memfd_create(
        "answer",
        MemfdFlags::CLOEXEC,
    )?))
}

fn ends_within(child: &std::process::Child, limit: Duration) -> io::Result<bool> {
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .ok_or(io::ErrorKind::InvalidData)?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        match rustix::event::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn text_of(mut file: File) -> io::Result<String> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.take(LONGEST_ANSWER).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHELL: &str = "/bin/sh";

    #[test]
    fn an_answer_is_returned_whole() {
        let answer = answer_of(
            Path::new(SHELL),
            &["-c", "echo one; echo two >&2; echo three"],
            Duration::from_secs(10),
        )
        .unwrap();
        assert_eq!(answer, "one\nthree\n");
    }

    #[test]
    fn a_failure_says_what_the_program_said_last() {
        let error = answer_of(
            Path::new(SHELL),
            &["-c", "echo no such table >&2; exit 3"],
            Duration::from_secs(10),
        )
        .unwrap_err();
        assert!(
            error.to_string().ends_with("exit status: 3: no such table"),
            "{error}"
        );
    }

    #[test]
    fn a_hanging_program_is_killed() {
        let begun = Instant::now();
        let error = answer_of(
            Path::new(SHELL),
            &["-c", "exec sleep 60"],
            Duration::from_millis(200),
        )
        .unwrap_err();
        assert!(matches!(error, ProbeError::TooSlow(_)), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_missing_program_is_not_started() {
        let error = answer_of(
            Path::new("/nonexistent/containerd"),
            &[],
            Duration::from_secs(1),
        )
        .unwrap_err();
        assert!(matches!(error, ProbeError::Start(_)), "{error}");
    }
}
