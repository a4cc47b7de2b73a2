//! Scenarios under a real containerd: `ctr run`, pods by CRI, their memory, first starts.

mod cgroup;
mod cri;
mod first_line;
mod grpc;
mod guest;
mod kubelet;
mod memory;
mod pod_start;
mod processes;

use crate::settings::Scenario;

/// In the order of the report.
pub(crate) const SCENARIOS: &[Scenario] = &[
    ("pod", pod_start::on_node_network),
    ("pod-bridge", pod_start::on_bridge),
    ("memory", memory::measure),
];
