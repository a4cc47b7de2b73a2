//! Runs a program to its end, within a time limit, and keeps what it wrote.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::{MemfdFlags, memfd_create};

/// Most commands of a test take well under a second; a loaded machine may need more.
pub const LIMIT: Duration = Duration::from_secs(60);

/// What a program did.
#[derive(Clone, Debug)]
pub struct Ran {
    /// The program and its arguments.
    pub line: String,
    /// Exit code; 128 and the signal's number when a signal ended it.
    pub code: i32,
    /// What it wrote to its standard output.
    pub stdout: String,
    /// What it wrote to its standard error.
    pub stderr: String,
    /// Time from start to end.
    pub time: Duration,
}

impl Ran {
    /// Standard output, once the exit code is known to be 0.
    ///
    /// # Errors
    /// If the exit code is another.
    pub fn ok(self) -> Result<String> {
        ensure!(
            self.code == 0,
            "`{}` ended with {}\nstdout: {}\nstderr: {}",
            self.line,
            self.code,
            self.stdout,
            self.stderr
        );
        Ok(self.stdout)
    }

    /// Both outputs, the error once the exit code is known not to be 0 and `words` are in it.
    ///
    /// # Errors
    /// If it succeeded, or the words are missing.
    pub fn fails_with(self, words: &[&str]) -> Result<Self> {
        ensure!(
            self.code != 0,
            "`{}` succeeded, but had to fail\nstdout: {}\nstderr: {}",
            self.line,
            self.stdout,
            self.stderr
        );
        for word in words {
            ensure!(
                self.stderr.contains(word) || self.stdout.contains(word),
                "`{}` failed with {}, as it had to, but does not say \"{word}\"\nstdout: {}\nstderr: {}",
                self.line,
                self.code,
                self.stdout,
                self.stderr
            );
        }
        Ok(self)
    }
}

/// A time limit on this machine: `SKIFF_TEST_SLOW` says how many times slower than others it is, as an emulated one.
pub fn patience(limit: Duration) -> Duration {
    let factor = std::env::var("SKIFF_TEST_SLOW").ok();
    limit * factor.and_then(|factor| factor.parse().ok()).unwrap_or(1)
}

/// Runs a program to its end. It is killed after [`LIMIT`].
///
/// # Errors
/// If it cannot be started, or does not end in time. Any exit code is a success.
pub fn run(command: &mut Command) -> Result<Ran> {
    run_within(command, LIMIT)
}

/// Runs a program to its end. It is killed after `limit`.
///
/// # Errors
/// As [`run`].
pub fn run_within(command: &mut Command, limit: Duration) -> Result<Ran> {
    run_reading(command, limit, Stdio::null())
}

/// Runs a program to its end, with this as its standard input. It is killed after `limit`.
///
/// # Errors
/// As [`run`].
pub fn run_reading(command: &mut Command, limit: Duration, input: Stdio) -> Result<Ran> {
    // Files, not pipes: a process that outlives the program and holds its output open cannot hang the test.
    let (mut out, mut err) = (output()?, output()?);
    command
        .stdout(Stdio::from(out.try_clone()?))
        .stderr(Stdio::from(err.try_clone()?))
        .stdin(input);
    let (line, limit) = (describe(command), patience(limit));
    let started = Instant::now();
    let mut child = command
        .spawn()
        .with_context(|| format!("could not start `{line}`"))?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if started.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            bail!(
                "`{line}` did not end within {limit:?}\nstdout: {}\nstderr: {}",
                read(&mut out)?,
                read(&mut err)?
            );
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let time = started.elapsed();
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ok(Ran {
        line,
        code,
        stdout: read(&mut out)?,
        stderr: read(&mut err)?,
        time,
    })
}

/// A standard input of these bytes, and its end.
///
/// # Errors
/// If the kernel has no memory for them.
pub fn input(bytes: &[u8]) -> Result<Stdio> {
    let mut file = output()?;
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(Stdio::from(file))
}

/// The command as one would type it, for messages.
pub fn describe(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        let argument = argument.to_string_lossy();
        // A test of 1 MiB of arguments fails in a readable way too.
        line.extend(argument.chars().take(200));
    }
    line
}

/// Asks again until the answer is `Some`, or the time is over.
///
/// # Errors
/// If the time is over (the message is `what`), or a question failed.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut question: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let (started, limit) = (Instant::now(), patience(limit));
    loop {
        if let Some(answer) = question()? {
            return Ok(answer);
        }
        ensure!(
            started.elapsed() < limit,
            "waited {limit:?} in vain: {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn output() -> Result<File> {
    Ok(File::from(memfd_create("output", MemfdFlags::CLOEXEC)?))
}

fn read(file: &mut File) -> Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
