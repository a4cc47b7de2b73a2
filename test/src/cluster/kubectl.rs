//! A namespace of a test's own, and the questions that tests ask by `kubectl`.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::Cluster;
use crate::command::{self, Ran, wait_for};

/// How long what a test waits for may take on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A namespace. It is removed when this value is dropped; nobody waits for that.
#[derive(Debug)]
pub struct Space<'a> {
    cluster: &'a Cluster,
    name: String,
}

impl Cluster {
    /// A namespace for a test.
    ///
    /// # Errors
    /// If the API server refuses it.
    pub fn space(&self, name: &str) -> Result<Space<'_>> {
        let space = Space {
            cluster: self,
            name: name.to_owned(),
        };
        self.kubectl(&["create", "namespace", name])?.ok()?;
        // Pods are refused until it is there.
        wait_for("the default service account is not made", PATIENCE, || {
            let ran = space.kubectl(&["get", "serviceaccount", "default"])?;
            Ok((ran.code == 0).then_some(()))
        })?;
        Ok(space)
    }
}

impl Space<'_> {
    /// The namespace.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `kubectl …` in the namespace.
    ///
    /// # Errors
    /// If it cannot be run, or does not end. Any exit code is a success.
    pub fn kubectl(&self, words: &[&str]) -> Result<Ran> {
        command::run_within(&mut self.command(words)?, PATIENCE)
    }

    /// `kubectl …` in the namespace, to be run.
    ///
    /// # Errors
    /// If there is none.
    pub fn command(&self, words: &[&str]) -> Result<Command> {
        let mut all = vec!["--namespace", &self.name];
        all.extend(words);
        self.cluster.kubectl_command(&all)
    }

    /// Runs `kubectl …` with this on its standard input.
    ///
    /// # Errors
    /// As [`Space::kubectl`].
    pub fn kubectl_with(&self, input: &str, words: &[&str]) -> Result<Ran> {
        let file = self.cluster.directory().join("files/input");
        fs::write(&file, input)?;
        let kubectl = self.command(words)?;
        let mut shell = Command::new("sh");
        shell
            .args(["-c", "exec \"$@\" <\"$INPUT\"", "sh"])
            .arg(kubectl.get_program())
            .args(kubectl.get_args())
            .env("INPUT", &file);
        for (name, value) in kubectl.get_envs() {
            shell.env(name, value.unwrap_or_default());
        }
        command::run_within(&mut shell, PATIENCE)
    }

    /// Applies a manifest, or a list of them.
    ///
    /// # Errors
    /// If the API server refuses it.
    pub fn apply(&self, manifest: &Value) -> Result<()> {
        self.try_apply(manifest)?.ok()?;
        Ok(())
    }

    /// Applies a manifest that may be refused.
    ///
    /// # Errors
    /// If `kubectl` cannot be run.
    pub fn try_apply(&self, manifest: &Value) -> Result<Ran> {
        let manifest = match manifest {
            Value::Array(items) => json!({ "apiVersion": "v1", "kind": "List", "items": items }),
            one => one.clone(),
        };
        self.kubectl_with(&manifest.to_string(), &["apply", "--filename", "-"])
    }

    /// An object, as `kind/name`.
    ///
    /// # Errors
    /// If there is none.
    pub fn get(&self, object: &str) -> Result<Value> {
        let text = self
            .kubectl(&["get", object, "--output", "json"])?
            .ok()
            .with_context(|| format!("there is no {object}"))?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Waits until an object is as the question says; on failure the object and its events are part of the message.
    ///
    /// # Errors
    /// If it does not become so.
    pub fn wait<T>(
        &self,
        what: &str,
        object: &str,
        mut question: impl FnMut(&Value) -> Option<T>,
    ) -> Result<T> {
        let answer = wait_for(what, PATIENCE, || Ok(question(&self.get(object)?)));
        answer.with_context(|| self.story(object))
    }

    /// Waits until a pod is in this phase. One that failed instead is an error at once.
    ///
    /// # Errors
    /// If it does not get there.
    pub fn phase(&self, pod: &str, phase: &str) -> Result<Value> {
        let object = format!("pod/{pod}");
        let mut ended = None;
        let found = self.wait(&format!("{pod} is not {phase}"), &object, |value| {
            let now = value["status"]["phase"].as_str().unwrap_or_default();
            if now != phase && ["Failed", "Succeeded"].contains(&now) {
                ended = Some(now.to_owned());
                return Some(value.clone());
            }
            (now == phase).then(|| value.clone())
        })?;
        if let Some(ended) = ended {
            bail!("{pod} is {ended} and not {phase}\n{}", self.story(&object));
        }
        Ok(found)
    }

    /// Waits until a pod is Ready.
    ///
    /// # Errors
    /// If it does not get there.
    pub fn ready(&self, pod: &str) -> Result<Value> {
        self.wait(
            &format!("{pod} is not Ready"),
            &format!("pod/{pod}"),
            |value| (condition(value, "Ready").as_deref() == Some("True")).then(|| value.clone()),
        )
    }

    /// What a pod has written so far.
    ///
    /// # Errors
    /// If there is no such pod, or nothing of it has started.
    pub fn logs(&self, pod: &str) -> Result<String> {
        self.kubectl(&["logs", pod])?.ok()
    }

    /// Waits until a line of a pod's log holds these words.
    ///
    /// # Errors
    /// If none does.
    pub fn says(&self, pod: &str, words: &str) -> Result<()> {
        let what = format!("{pod} does not say \"{words}\"");
        wait_for(&what, PATIENCE, || {
            let ran = self.kubectl(&["logs", pod])?;
            Ok(ran.stdout.contains(words).then_some(()))
        })
        .with_context(|| self.story(&format!("pod/{pod}")))
    }

    /// Runs a command in a pod.
    ///
    /// # Errors
    /// If `kubectl` cannot be run. Any exit code is a success.
    pub fn exec(&self, pod: &str, words: &[&str]) -> Result<Ran> {
        let mut all = vec!["exec", pod, "--"];
        all.extend(words);
        self.kubectl(&all)
    }

    /// Removes a pod and waits until it is gone.
    ///
    /// # Errors
    /// If it stays.
    pub fn delete(&self, object: &str) -> Result<()> {
        self.kubectl(&["delete", object, "--wait"])?.ok()?;
        Ok(())
    }

    /// What the cluster says about an object.
    fn story(&self, object: &str) -> String {
        let described = self.kubectl(&["describe", object]);
        let text = described.map_or_else(|error| format!("{error:#}"), |ran| ran.stdout);
        let logs = match object.strip_prefix("pod/") {
            Some(pod) => self.kubectl(&["logs", pod, "--all-containers", "--tail=20"]),
            None => return text,
        };
        let logs = logs.map_or_else(|error| format!("{error:#}"), |ran| ran.stdout);
        format!("{text}\nits log:\n{logs}")
    }
}

impl Drop for Space<'_> {
    fn drop(&mut self) {
        let words = ["delete", "namespace", &self.name, "--wait=false"];
        if let Err(error) = self.cluster.kubectl(&words) {
            crate::runner::fault(format!("{error:#}"));
        }
    }
}

/// The status of a condition of an object.
pub fn condition(object: &Value, name: &str) -> Option<String> {
    let all = object["status"]["conditions"].as_array()?;
    let found = all.iter().find(|condition| condition["type"] == name)?;
    Some(found["status"].as_str()?.to_owned())
}

/// The status of a pod's container, whatever kind of container it is.
pub fn container_state<'v>(pod: &'v Value, container: &str) -> Option<&'v Value> {
    let lists = [
        "containerStatuses",
        "initContainerStatuses",
        "ephemeralContainerStatuses",
    ];
    lists
        .iter()
        .filter_map(|list| pod["status"][list].as_array())
        .flatten()
        .find(|status| status["name"] == container)
}
