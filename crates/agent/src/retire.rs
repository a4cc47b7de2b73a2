//! `skiff-agent retire`, the job before a release is deleted by Helm: the DaemonSet is told to take Skiff off every
//! node, as the value `remove` does it, and waited for.

use std::time::{Duration, Instant};

use anyhow::bail;
use serde_json::{Value, json};

use crate::arguments::Retire;
use crate::kubernetes::{Api, ApiError, Patch};
use crate::log;

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(2);

pub(crate) async fn run(retire: &Retire) -> anyhow::Result<()> {
    let api = Api::in_cluster()?;
    let path = format!(
        "/apis/apps/v1/namespaces/{}/daemonsets/{}",
        retire.namespace, retire.daemon_set
    );
    let daemon_set = match api.get(&path).await {
        Err(ApiError::Refused { code: 404, .. }) => {
            log::info("there is no DaemonSet: nothing is installed by it");
            return Ok(());
        }
        other => other?,
    };
    let operations = operations(&daemon_set);
    if operations.as_array().is_some_and(|all| !all.is_empty()) {
        api.patch(&path, Patch::Json, &operations).await?;
    }
    let begun = Instant::now();
    let mut told = String::new();
    loop {
        let progress = Progress::of(&api.get(&path).await?);
        if progress.done() {
            log::info("Skiff is off all nodes");
            return Ok(());
        }
        let sentence = progress.sentence();
        if sentence != told {
            log::info(&sentence);
            told = sentence;
        }
        if begun.elapsed() > Duration::from_secs(retire.timeout) {
            bail!(
                "after {} s {told}; the annotation node.skiff.dev/reason of the others says what they wait for",
                retire.timeout
            );
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What makes a DaemonSet that installs into one that removes. Nothing, if it is one.
fn operations(daemon_set: &Value) -> Value {
    let template = &daemon_set["spec"]["template"]["spec"];
    let mut operations = Vec::new();
    if template.get("initContainers").is_some() {
        let path = "/spec/template/spec/initContainers";
        operations.push(json!({ "op": "remove", "path": path }));
    }
    let arguments = template["containers"][0]["args"].as_array();
    let arguments: Vec<&Value> = arguments.into_iter().flatten().collect();
    let removes = arguments.first().is_some_and(|first| *first == "remove");
    if !removes {
        // What is said of the node holds for both; the options of the watch are its own.
        let common = arguments.iter().filter(|word| {
            let word = word.as_str().unwrap_or_default();
            COMMON.iter().any(|option| word.starts_with(option))
        });
        let words: Vec<Value> = std::iter::once(json!("remove"))
            .chain(common.map(|word| (*word).clone()))
            .collect();
        let path = "/spec/template/spec/containers/0/args";
        operations.push(json!({ "op": "replace", "path": path, "value": words }));
        // Nodes wait for their own pods only: one after the other they would wait for each other's.
        let path = "/spec/updateStrategy";
        let all = json!({ "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": "100%", "maxSurge": 0 } });
        operations.push(json!({ "op": "replace", "path": path, "value": all }));
    }
    Value::Array(operations)
}

/// Options that `remove` shares with `watch`.
const COMMON: [&str; 4] = [
    "--address=",
    "--prefix=",
    "--restart-command=",
    "--patience=",
];

#[derive(Debug, PartialEq, Eq)]
struct Progress {
    seen: bool,
    wanted: u64,
    updated: u64,
    ready: u64,
}

impl Progress {
    fn of(daemon_set: &Value) -> Self {
        let status = |name: &str| daemon_set["status"][name].as_u64().unwrap_or(0);
        let generation = daemon_set["metadata"]["generation"].as_u64().unwrap_or(0);
        Self {
            seen: status("observedGeneration") >= generation,
            wanted: status("desiredNumberScheduled"),
            updated: status("updatedNumberScheduled"),
            ready: status("numberReady"),
        }
    }

    fn done(&self) -> bool {
        self.seen && self.updated == self.wanted && self.ready == self.wanted
    }

    fn sentence(&self) -> String {
        let ready = if self.seen && self.updated == self.wanted {
            self.ready
        } else {
            0
        };
        format!("Skiff is off {ready} of {} nodes", self.wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_set_is_changed_once() {
        let mut daemon_set = json!({ "spec": { "template": { "spec": {
            "initContainers": [{}],
            "containers": [{ "args": ["watch", "--interval=30", "--prefix=/x", "--handler=wasmtime"] }],
        }}}});
        let operations_now = operations(&daemon_set);
        assert_eq!(operations_now[0]["op"], "remove");
        assert_eq!(operations_now[1]["value"], json!(["remove", "--prefix=/x"]));
        assert_eq!(operations_now[2]["path"], "/spec/updateStrategy");
        daemon_set["spec"]["template"]["spec"] =
            json!({ "containers": [{ "args": ["remove", "--prefix=/x"] }] });
        assert_eq!(operations(&daemon_set), json!([]));
    }

    #[test]
    fn it_is_done_when_every_node_says_so() {
        let at = |generation: u64, updated: u64, ready: u64| {
            Progress::of(&json!({
                "metadata": { "generation": 2 },
                "status": {
                    "observedGeneration": generation,
                    "desiredNumberScheduled": 3,
                    "updatedNumberScheduled": updated,
                    "numberReady": ready,
                },
            }))
        };
        assert!(at(2, 3, 3).done());
        // Pods of the generation before are ready, which says nothing.
        assert!(!at(1, 3, 3).done() && !at(2, 2, 3).done() && !at(2, 3, 2).done());
        assert_eq!(at(2, 3, 2).sentence(), "Skiff is off 2 of 3 nodes");
        assert_eq!(at(2, 2, 3).sentence(), "Skiff is off 0 of 3 nodes");
    }
}
