//! Tells the cluster how the node is: the node object, and an event where something happened.

use serde_json::{Value, json};

use crate::kubernetes::{Api, ApiError, Patch};
use crate::log;
use crate::node_object::{self, Wanted};
use crate::time;

/// Events of objects without a namespace are kept in this one.
const EVENTS: &str = "/api/v1/namespaces/default/events";

/// Something that happened on the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Happened {
    /// An install, or an upgrade, went well.
    Installed,
    /// It did not.
    InstallFailed,
    /// What was wrong is mended.
    Repaired,
    /// Something is wrong that was right.
    Drifted,
    /// Skiff is off the node.
    Removed,
    /// It cannot be taken off yet.
    RemoveFailed,
}

impl Happened {
    fn reason(self) -> &'static str {
        match self {
            Self::Installed => "SkiffInstalled",
            Self::InstallFailed => "SkiffInstallFailed",
            Self::Repaired => "SkiffRepaired",
            Self::Drifted => "SkiffDrifted",
            Self::Removed => "SkiffRemoved",
            Self::RemoveFailed => "SkiffRemoveFailed",
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Installed | Self::Repaired | Self::Removed => "Normal",
            Self::InstallFailed | Self::Drifted | Self::RemoveFailed => "Warning",
        }
    }
}

/// The node's own place in the cluster.
#[derive(Clone, Debug)]
pub(crate) struct Reporter {
    api: Api,
    node: String,
}

impl Reporter {
    /// For the node of this name.
    ///
    /// # Errors
    /// If this is no pod of a cluster.
    pub(crate) fn new(node: &str) -> anyhow::Result<Self> {
        anyhow::ensure!(
            !node.is_empty(),
            "the node has no name: NODE_NAME must be set to spec.nodeName"
        );
        Ok(Self {
            api: Api::in_cluster()?,
            node: node.to_owned(),
        })
    }

    /// The API server.
    pub(crate) fn api(&self) -> &Api {
        &self.api
    }

    fn path(&self) -> String {
        format!("/api/v1/nodes/{}", self.node)
    }

    /// Makes the node object say what it should. Answers whether it had to be changed.
    ///
    /// # Errors
    /// If the API server cannot be asked, or refuses.
    pub(crate) async fn publish(&self, wanted: &Wanted) -> Result<bool, ApiError> {
        let node = self.api.get(&self.path()).await?;
        match node_object::patch(&node, wanted) {
            None => Ok(false),
            Some(patch) => {
                self.api.patch(&self.path(), Patch::Merge, &patch).await?;
                Ok(true)
            }
        }
    }

    /// Adds an event to the node. One that cannot be told is in the log all the same.
    pub(crate) async fn event(&self, happened: Happened, sentence: &str) {
        if let Err(error) = self.try_event(happened, sentence).await {
            log::warning(&format!(
                "could not tell an event: {}",
                skiff_node::doctor::sentence(&error)
            ));
        }
    }

    async fn try_event(&self, happened: Happened, sentence: &str) -> Result<(), ApiError> {
        let node = self.api.get(&self.path()).await?;
        let event = event(&self.node, &node, happened, sentence, &time::now());
        self.api.create(EVENTS, &event).await.map(|_| ())
    }
}

fn event(name: &str, node: &Value, happened: Happened, sentence: &str, now: &str) -> Value {
    let uid = node
        .get("metadata")
        .and_then(|metadata| metadata.get("uid"));
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": { "generateName": "skiff-", "namespace": "default" },
        "involvedObject": { "apiVersion": "v1", "kind": "Node", "name": name, "uid": uid },
        "type": happened.kind(),
        "reason": happened.reason(),
        "message": node_object::cut(sentence),
        "source": { "component": "skiff-agent", "host": name },
        "reportingComponent": "skiff.dev/agent",
        "reportingInstance": name,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_about_the_node() {
        let node = json!({ "metadata": { "uid": "u-1" } });
        let event = event("a", &node, Happened::InstallFailed, "why", "now");
        assert_eq!(event["involvedObject"]["uid"], "u-1");
        assert_eq!(event["type"], "Warning");
        assert_eq!(event["reason"], "SkiffInstallFailed");
        assert_eq!(event["message"], "why");
    }
}
