//! The node's CRI, as a kubelet uses it, by `crictl`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{Node, engine};
use crate::command::{self, Ran, wait_for};
use crate::image::Image;
use crate::tools;

/// The CRI of a node.
#[derive(Debug)]
pub struct Cri<'a> {
    node: &'a Node,
    program: PathBuf,
}

/// A pod sandbox. It must be removed by [`Pod::remove`].
#[derive(Debug)]
pub struct Pod<'a> {
    cri: &'a Cri<'a>,
    /// CRI's id of the sandbox.
    pub id: String,
    config: PathBuf,
    logs: PathBuf,
}

/// A container of a pod.
#[derive(Debug)]
pub struct CriContainer<'a> {
    pod: &'a Pod<'a>,
    /// CRI's id of the container.
    pub id: String,
    log: PathBuf,
}

impl<'a> Cri<'a> {
    pub(super) fn new(node: &'a Node) -> Result<Self> {
        let cri = Self {
            node,
            program: tools::component("crictl")?.join("crictl"),
        };
        // Whatever the handler, the sandbox's image must be there; our shim runs its own pause program.
        let archive = node.directory().join("tmp/pause.tar");
        pause_image()?.write(&archive)?;
        let mut command = node.ctr_command(&["--namespace", "k8s.io", "image", "import"]);
        command.arg(&archive);
        command::run(&mut command)?.ok()?;
        fs::remove_file(&archive)?;
        Ok(cri)
    }

    /// Runs `crictl …`.
    ///
    /// # Errors
    /// If it cannot be run or does not end. Any exit code is a success.
    pub fn crictl<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Result<Ran> {
        command::run(&mut self.crictl_command(arguments))
    }

    /// `crictl …`, to be run.
    pub fn crictl_command<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Command {
        let socket = format!("unix://{}", self.node.socket().display());
        let mut command = Command::new(&self.program);
        command
            .args([
                "--runtime-endpoint",
                &socket,
                "--image-endpoint",
                &socket,
                "--timeout",
                "30s",
            ])
            .args(arguments);
        command
    }

    /// Pulls an image by a handler's eyes; answers nothing but that it worked.
    ///
    /// # Errors
    /// If CRI refuses it.
    pub fn pull(&self, reference: &str) -> Result<()> {
        self.crictl(&["pull", reference])?.ok()?;
        Ok(())
    }

    /// Starts a pod in the machine's own network.
    ///
    /// # Errors
    /// If CRI refuses it.
    pub fn pod(&'a self, handler: &str, name: &str) -> Result<Pod<'a>> {
        self.pod_with(handler, name, &json!({ "network": 2 }))
    }

    /// Starts a pod with these namespace options. wasmtime's handlers stand for those of the engine that is tested.
    ///
    /// # Errors
    /// If CRI refuses it.
    pub fn pod_with(&'a self, handler: &str, name: &str, namespaces: &Value) -> Result<Pod<'a>> {
        self.pod_over(handler, name, namespaces, &json!({}))
    }

    /// The same; `over` is laid over the rest of the pod's configuration.
    ///
    /// # Errors
    /// If CRI refuses it.
    pub fn pod_over(
        &'a self,
        handler: &str,
        name: &str,
        namespaces: &Value,
        over: &Value,
    ) -> Result<Pod<'a>> {
        let handler = handler.replacen("wasmtime", engine(), 1);
        let name = self.node.new_id(name);
        let logs = self.node.directory().join("logs").join(&name);
        fs::create_dir_all(&logs)?;
        let mut config = json!({
            "metadata": { "name": name, "uid": name, "namespace": "default", "attempt": 0 },
            "log_directory": logs,
            "linux": {
                "cgroup_parent": format!("/{}", self.node.namespace()),
                "security_context": { "namespace_options": namespaces },
            },
        });
        lay_over(&mut config, over);
        let path = self.write(&name, &config)?;
        let id = self
            .crictl(&["runp", "--runtime", &handler, &path.display().to_string()])?
            .ok()?
            .trim()
            .to_owned();
        Ok(Pod {
            cri: self,
            id,
            config: path,
            logs,
        })
    }

    fn write(&self, name: &str, config: &Value) -> Result<PathBuf> {
        let path = self.node.directory().join(format!("logs/{name}.json"));
        fs::write(&path, config.to_string())?;
        Ok(path)
    }
}

impl<'a> Pod<'a> {
    /// Creates a container and does not start it. `config` is laid over a plain CRI container config.
    ///
    /// # Errors
    /// If CRI cannot be asked. A refusal is an `Ok(Err(…))`.
    pub fn try_create(
        &'a self,
        image: &str,
        config: &Value,
    ) -> Result<std::result::Result<CriContainer<'a>, Ran>> {
        let name = self.cri.node.new_id("k");
        let mut full = json!({
            "metadata": { "name": name, "attempt": 0 },
            "image": { "image": image },
            "log_path": format!("{name}.log"),
            "linux": {},
        });
        if let (Some(full), Some(config)) = (full.as_object_mut(), config.as_object()) {
            full.extend(config.clone());
        }
        let path = self.cri.write(&name, &full)?;
        let ran = self.cri.crictl(&[
            "create",
            "--no-pull",
            &self.id,
            text(&path)?,
            text(&self.config)?,
        ])?;
        if ran.code != 0 {
            return Ok(Err(ran));
        }
        let id = ran.stdout.trim().to_owned();
        Ok(Ok(CriContainer {
            pod: self,
            id,
            log: self.logs.join(format!("{name}.log")),
        }))
    }

    /// Creates a container and starts it.
    ///
    /// # Errors
    /// If CRI refuses either.
    pub fn start(&'a self, image: &str, config: &Value) -> Result<CriContainer<'a>> {
        let container = match self.try_create(image, config)? {
            Ok(container) => container,
            Err(ran) => anyhow::bail!("`{}` ended with {}: {}", ran.line, ran.code, ran.stderr),
        };
        self.cri.crictl(&["start", &container.id])?.ok()?;
        Ok(container)
    }

    /// The uid that it was given.
    ///
    /// # Errors
    /// If its config cannot be read.
    pub fn uid(&self) -> Result<String> {
        let config: Value = serde_json::from_str(&fs::read_to_string(&self.config)?)?;
        let uid = config["metadata"]["uid"].as_str();
        Ok(uid.context("the pod has no uid")?.to_owned())
    }

    /// Stops the pod and removes it with its containers.
    ///
    /// # Errors
    /// If CRI refuses either.
    pub fn remove(self) -> Result<()> {
        self.cri.crictl(&["stopp", &self.id])?.ok()?;
        self.cri.crictl(&["rmp", &self.id])?.ok()?;
        Ok(())
    }
}

impl CriContainer<'_> {
    /// Its status, as CRI's `ContainerStatus` has it.
    ///
    /// # Errors
    /// If CRI does not know it.
    pub fn status(&self) -> Result<Value> {
        let text = self
            .pod
            .cri
            .crictl(&["inspect", "--output", "json", &self.id])?
            .ok()?;
        let all: Value = serde_json::from_str(&text)?;
        Ok(all["status"].clone())
    }

    /// Waits for its end; answers the exit code.
    ///
    /// # Errors
    /// If it does not end in time.
    pub fn wait(&self) -> Result<i64> {
        let status = wait_for(
            &format!("container {} does not end", self.id),
            Duration::from_secs(20),
            || {
                let status = self.status()?;
                Ok((status["state"] == "CONTAINER_EXITED").then_some(status))
            },
        )?;
        status["exitCode"]
            .as_i64()
            .with_context(|| format!("no exit code in {status}"))
    }

    /// What it wrote: `(stdout, stderr)`, from CRI's log file.
    ///
    /// # Errors
    /// If there is no log.
    pub fn logs(&self) -> Result<(String, String)> {
        let log = fs::read_to_string(&self.log)
            .with_context(|| format!("could not read {}", self.log.display()))?;
        let (mut out, mut err) = (String::new(), String::new());
        for line in log.lines() {
            // "<time> stdout F <line>", and P instead of F where the line goes on.
            let mut words = line.splitn(4, ' ').skip(1);
            let (stream, tag, rest) =
                (words.next(), words.next(), words.next().unwrap_or_default());
            let to = if stream == Some("stderr") {
                &mut err
            } else {
                &mut out
            };
            to.push_str(rest);
            if tag == Some("F") {
                to.push('\n');
            }
        }
        Ok((out, err))
    }

    /// CRI's log file as it is.
    ///
    /// # Errors
    /// If there is none.
    pub fn raw_log(&self) -> Result<String> {
        fs::read_to_string(&self.log)
            .with_context(|| format!("could not read {}", self.log.display()))
    }

    /// The number of its first process.
    ///
    /// # Errors
    /// If CRI does not know it.
    pub fn pid(&self) -> Result<u32> {
        let inspected = self
            .pod
            .cri
            .crictl(&["inspect", "--output", "json", &self.id])?;
        let all: Value = serde_json::from_str(&inspected.ok()?)?;
        all["info"]["pid"]
            .as_u64()
            .and_then(|pid| u32::try_from(pid).ok())
            .context("CRI names no process")
    }

    /// Stops it, with so many seconds between SIGTERM and SIGKILL.
    ///
    /// # Errors
    /// If CRI refuses.
    pub fn stop(&self, seconds: u32) -> Result<Ran> {
        self.pod
            .cri
            .crictl(&["stop", "--timeout", &seconds.to_string(), &self.id])
    }
}

/// Fields of objects in objects; anything else takes the place of what was there.
fn lay_over(below: &mut Value, over: &Value) {
    match (below, over) {
        (Value::Object(below), Value::Object(over)) => {
            for (field, value) in over {
                lay_over(below.entry(field.clone()).or_insert(Value::Null), value);
            }
        }
        (below, over) => *below = over.clone(),
    }
}

/// An image for the sandbox: under runc its program must wait, so it is busybox.
pub(crate) fn pause_image() -> Result<Image> {
    Ok(Image::busybox("pause")?.entrypoint(&["/bin/busybox", "sleep", "1000000"]))
}

fn text(path: &Path) -> Result<&str> {
    path.to_str()
        .context("a path of the test node is not UTF-8")
}
