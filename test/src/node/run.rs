//! `ctr run`, and a container that goes on in the background.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::{Node, runtime};
use crate::command::{self, Ran, wait_for};
use crate::image::Image;

/// A `ctr run` to be.
#[derive(Debug)]
pub struct Run<'a> {
    node: &'a Node,
    image: String,
    platform: Option<String>,
    runtime: String,
    options: Vec<String>,
    arguments: Vec<String>,
    input: Vec<u8>,
    limit: Duration,
    id: String,
}

impl<'a> Run<'a> {
    pub(super) fn new(node: &'a Node, image: &Image) -> Self {
        Self {
            node,
            image: image.name().to_owned(),
            platform: image.platform(),
            runtime: runtime().to_owned(),
            options: Vec::new(),
            arguments: Vec::new(),
            input: Vec::new(),
            limit: command::LIMIT,
            id: node.new_id("c"),
        }
    }

    /// Another runtime type.
    pub fn runtime(mut self, kind: &str) -> Self {
        kind.clone_into(&mut self.runtime);
        self
    }

    /// Another platform's entry of the image.
    pub fn platform(mut self, platform: &str) -> Self {
        self.platform = Some(platform.to_owned());
        self
    }

    /// Options of `ctr run`.
    pub fn with(mut self, options: &[&str]) -> Self {
        self.options
            .extend(options.iter().map(|option| (*option).to_owned()));
        self
    }

    /// Options of a handler, as TOML in a file.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn options(self, toml: &str) -> Result<Self> {
        let file = self
            .node
            .directory()
            .join(format!("logs/{}.options", self.id));
        fs::write(&file, toml)?;
        let path = file.display().to_string();
        Ok(self.with(&["--runtime-config-path", &path]))
    }

    /// A bind mount of a directory or file of the machine.
    pub fn bind(self, source: &str, destination: &str, options: &str) -> Self {
        let mount = format!("type=bind,src={source},dst={destination},options=rbind:{options}");
        self.with(&["--mount", &mount])
    }

    /// The container's arguments; they take the place of the image's entrypoint and command.
    pub fn args<S: Into<String>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(words.into_iter().map(Into::into));
        self
    }

    /// The guest's own words, after `/app.wasm`.
    pub fn guest(self, words: &[&str]) -> Self {
        self.args(["/app.wasm"]).args(words.iter().copied())
    }

    /// What [`Run::output`] gives it to read.
    pub fn input(mut self, bytes: &[u8]) -> Self {
        bytes.clone_into(&mut self.input);
        self
    }

    /// Another limit of time for [`Run::output`]: code that is compiled for the first time.
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The id it will have.
    pub fn id(&self) -> &str {
        &self.id
    }

    fn command(&self, options: &[&str]) -> Command {
        let mut arguments: Vec<&str> = vec!["run", "--runtime", &self.runtime];
        arguments.extend(options);
        if let Some(platform) = &self.platform {
            arguments.extend(["--platform", platform]);
        }
        arguments.extend(self.options.iter().map(String::as_str));
        arguments.extend([self.image.as_str(), &self.id]);
        arguments.extend(self.arguments.iter().map(String::as_str));
        self.node.ctr_command(&arguments)
    }

    /// Runs it to its end and removes it.
    ///
    /// # Errors
    /// If `ctr` cannot be run or does not end. Any exit code is a success.
    pub fn output(self) -> Result<Ran> {
        let input = command::input(&self.input)?;
        let mut ran = command::run_reading(&mut self.command(&["--rm"]), self.limit, input)?;
        // `ctr` logs warnings of its own (cgroup v1 is deprecated) among the container's lines.
        ran.stderr = ran
            .stderr
            .split_inclusive('\n')
            .filter(|line| !(line.starts_with("time=\"") && line.contains(" level=")))
            .collect();
        // A container that could not be started is not removed by `--rm`.
        if ran.code != 0 {
            self.node.ctr(&["container", "rm", &self.id])?;
        }
        Ok(ran)
    }

    /// Starts it in the background; standard output and error go to files.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(self) -> Result<Task<'a>> {
        let directory = self.node.directory().join("logs");
        let output = directory.join(format!("{}.out", self.id));
        let uri = format!("file://{}", output.display());
        let ran = command::run(&mut self.command(&["--detach", "--log-uri", &uri]))?;
        if ran.code != 0 {
            self.node.ctr(&["container", "rm", &self.id])?;
        }
        ensure!(
            ran.code == 0,
            "`{}` ended with {}: {}",
            ran.line,
            ran.code,
            ran.stderr
        );
        Ok(Task {
            node: self.node,
            id: self.id,
            output,
        })
    }

    /// Starts `ctr run --rm` and leaves it running; its output is dropped.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn(self) -> Result<std::process::Child> {
        let mut command = self.command(&["--rm"]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("could not start ctr")
    }
}

/// A container that was started in the background. It must be removed by [`Task::remove`].
#[derive(Debug)]
pub struct Task<'a> {
    node: &'a Node,
    id: String,
    output: std::path::PathBuf,
}

impl Task<'_> {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it has written so far.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// The state that containerd knows (`RUNNING`, `STOPPED`) and the id of its process.
    ///
    /// # Errors
    /// If containerd does not know the task.
    pub fn state(&self) -> Result<(String, u32)> {
        let listed = self.node.ctr(&["task", "ls"])?.ok()?;
        let line = listed
            .lines()
            .find(|line| line.split_whitespace().next() == Some(&self.id));
        let mut words = line
            .with_context(|| format!("no task {} in: {listed}", self.id))?
            .split_whitespace()
            .skip(1);
        let process = words
            .next()
            .and_then(|id| id.parse().ok())
            .context("no process id in the list of tasks")?;
        Ok((words.next().unwrap_or_default().to_owned(), process))
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// If containerd refuses.
    pub fn signal(&self, signal: &str) -> Result<Ran> {
        self.node
            .ctr(&["task", "kill", "--signal", signal, &self.id])
    }

    /// Waits until it has written these words.
    ///
    /// # Errors
    /// If it does not.
    pub fn wait_for_output(&self, words: &str) -> Result<()> {
        wait_for(
            &format!("{} does not write \"{words}\"", self.id),
            Duration::from_secs(20),
            || Ok(self.output().contains(words).then_some(())),
        )
    }

    /// Waits until it has stopped.
    ///
    /// # Errors
    /// If it does not.
    pub fn wait_until_stopped(&self, limit: Duration) -> Result<()> {
        wait_for(&format!("{} does not stop", self.id), limit, || {
            Ok((self.state()?.0 == "STOPPED").then_some(()))
        })
    }

    /// Kills the task if it runs, deletes it and the container; answers the exit code.
    ///
    /// # Errors
    /// If it does not stop, or the container cannot be removed.
    pub fn remove(self) -> Result<i32> {
        if self.state()?.0 != "STOPPED" {
            self.signal("SIGKILL")?.ok()?;
            self.wait_until_stopped(Duration::from_secs(10))?;
        }
        // `ctr` says the code in a warning, and nothing when it is 0.
        let deleted = self.node.ctr(&["task", "delete", &self.id])?;
        self.node.ctr(&["container", "rm", &self.id])?.ok()?;
        let said = deleted.stderr.split("exit code ").nth(1).map(|rest| {
            rest.chars()
                .take_while(char::is_ascii_digit)
                .collect::<String>()
        });
        let code = said.map_or(Ok(0), |digits| digits.parse());
        deleted.ok()?;
        Ok(code?)
    }
}
