//! One node at a time: a Lease that goes from node to node while containerd's configuration is changed.
//!
//! A new DaemonSet starts on all nodes at once. Who installs holds the lease, and passes it on when the node is proven;
//! a node that fails keeps it, tries again when the kubelet says so, and the others stay as they were.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use skiff_node::doctor;

use crate::kubernetes::{Api, ApiError};
use crate::log;
use crate::time;

/// Between two looks at the lease.
const PAUSE: Duration = Duration::from_secs(1);
/// So long a cluster may take to let a new pod reach its API server.
const YOUNG: Duration = Duration::from_secs(60);
/// Helm makes the lease after the DaemonSet.
const LEASE_COMES: Duration = Duration::from_secs(10);
/// A node that fails tries again within five minutes, and takes its turn anew with each try. One that has not done so for
/// this long is gone.
const GONE: Duration = Duration::from_secs(900);

/// The turn of this node.
pub(crate) struct Turn<'a> {
    api: &'a Api,
    node: &'a str,
    place: &'a str,
    path: String,
}

impl<'a> Turn<'a> {
    /// `place` is the lease, as NAMESPACE/NAME.
    pub(crate) fn new(api: &'a Api, node: &'a str, place: &'a str) -> Self {
        let (namespace, name) = place.split_once('/').unwrap_or(("default", place));
        Self {
            api,
            node,
            place,
            path: format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}"),
        }
    }

    /// The lease; the chart makes it.
    async fn lease(&self) -> Result<Option<Value>, ApiError> {
        match self.api.get(&self.path).await {
            Ok(lease) => Ok(Some(lease)),
            Err(ApiError::Refused { code: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits until it is this node's turn. What the chart makes may come a moment after the agent: its network, its
    /// rights, the lease; a restart by the kubelet would take longer than to ask again.
    pub(crate) async fn take(&self) -> Result<(), ApiError> {
        let begun = Instant::now();
        let mut told = false;
        loop {
            match self.try_take().await {
                Err(error) if begun.elapsed() < YOUNG => {
                    if !told {
                        log::warning(&doctor::sentence(&error));
                        told = true;
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                ended => return ended,
            }
        }
    }

    async fn try_take(&self) -> Result<(), ApiError> {
        let begun = Instant::now();
        let mut seen: Option<(Value, Instant)> = None;
        loop {
            let Some(lease) = self.lease().await? else {
                if begun.elapsed() < LEASE_COMES {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                log::warning(&format!(
                    "there is no lease {}: nobody takes turns",
                    self.place
                ));
                return Ok(());
            };
            let spec = &lease["spec"];
            let known = seen.as_ref().filter(|(known, _)| known == spec);
            let since = known.map_or_else(Instant::now, |(_, since)| *since);
            let holder = spec["holderIdentity"].as_str().unwrap_or_default();
            if known.is_none() && !holder.is_empty() && holder != self.node {
                log::info(&format!(
                    "waiting for {holder}, which is installed on first"
                ));
            }
            if holder.is_empty() || holder == self.node || since.elapsed() > GONE {
                if self.hold(&lease, self.node).await? {
                    return Ok(());
                }
                continue;
            }
            seen = Some((spec.clone(), since));
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Lets the next node have it. It may have been taken from this one meanwhile.
    pub(crate) async fn pass(&self) -> Result<(), ApiError> {
        loop {
            let Some(lease) = self.lease().await? else {
                return Ok(());
            };
            if lease["spec"]["holderIdentity"] != self.node || self.hold(&lease, "").await? {
                return Ok(());
            }
        }
    }

    /// Names the holder; `false` if somebody else was faster.
    async fn hold(&self, lease: &Value, holder: &str) -> Result<bool, ApiError> {
        let mut lease = lease.clone();
        lease["spec"] = spec(holder);
        match self.api.replace(&self.path, &lease).await {
            Ok(_) => Ok(true),
            Err(ApiError::Refused { code: 409, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn spec(holder: &str) -> Value {
    // Each taking is another text, by which those who wait see that the holder lives.
    let now = time::now().replace('Z', ".000000Z");
    json!({
        "holderIdentity": holder,
        "leaseDurationSeconds": GONE.as_secs(),
        "renewTime": now,
    })
}
