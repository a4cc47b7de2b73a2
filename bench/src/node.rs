//! Scenarios under a real containerd: `ctr run`, pods by CRI, their memory, first starts, serving HTTP.

pub(crate) mod cgroup;
mod compile;
mod component;
mod cri;
mod ctr_run;
mod first_line;
pub(crate) mod grpc;
pub(crate) mod guest;
mod http;
mod kubelet;
mod memory;
mod pod_start;
mod processes;

use crate::settings::Scenario;

pub(crate) use http::native::serve as serve_natively;

/// In the order of the report.
pub(crate) const SCENARIOS: &[Scenario] = &[
    ("ctr", ctr_run::measure),
    ("pod", pod_start::on_node_network),
    ("pod-bridge", pod_start::on_bridge),
    ("memory", memory::measure),
    ("compile", compile::measure),
    ("component", component::measure),
    ("http-serving", http::measure),
];
