//! The first set: the few minutes of `make test-cluster` that `make test` has too. A clean node gets Skiff by the chart, sees
//! scenarios of every kind, and loses Skiff again to the byte.

use anyhow::{Context as _, Result};
use skiff_test::runner::Case;

use crate::chart;

/// In their order: the first puts Skiff on the node, the last takes it off. None needs metrics-server.
const NAMES: [&str; 22] = [
    "chart::from_install_to_the_first_pod",
    "chart::its_own_tests_pass",
    "pods::a_pod_completes_and_its_log_is_there",
    "pods::a_trap_is_described",
    "pods::init_containers_and_sidecars_of_both_kinds",
    "talk::exec_with_the_toolbox",
    "talk::attach_reads_and_writes",
    "talk::port_forward_to_a_guest_that_listens",
    "talk::logs_follow",
    "probes::readiness_by_exec",
    "probes::readiness_and_liveness_by_tcp",
    "probes::readiness_and_liveness_by_http",
    "limits::limits_are_the_kernels",
    "limits::out_of_memory_is_shown",
    "limits::resized_in_place",
    "workloads::a_job_of_twenty_at_once",
    "services::found_by_name_from_both_kinds",
    "services::a_component_that_handles_requests_is_rolled_over",
    "config::variables_of_config_maps_secrets_and_fields",
    "security::the_restricted_profile",
    "images::an_engine_that_no_node_has",
    "chart::it_waits_for_pods_and_goes",
];

/// The scenarios by these names.
///
/// # Errors
/// If there is none by one of them.
pub(crate) fn cases() -> Result<Vec<Case>> {
    let all = [crate::WITH_SKIFF.concat(), chart::CASES.to_vec()].concat();
    let named = |name: &&str| {
        let ends = format!("::{name}");
        let found = all.iter().find(|case| case.name.ends_with(&ends));
        found
            .copied()
            .with_context(|| format!("the first set has no scenario {name}"))
    };
    NAMES.iter().map(named).collect()
}
