//! All figures of the load in one table for each workload: what a plot of each would drown.

use std::fmt::Write as _;

use super::server::Server;
use super::workload::Workload;
use super::{CONNECTIONS, Found};
use crate::measurement::median;

/// A table for each workload.
pub(super) fn of(found: &Found) -> Vec<String> {
    Workload::ALL
        .into_iter()
        .filter_map(|workload| one(found, workload))
        .collect()
}

fn one(found: &Found, workload: Workload) -> Option<String> {
    let mut text = format!(
        "| {}: requests/s, p50 / p99 / p99.9 in ms |",
        workload.name()
    );
    for connections in CONNECTIONS {
        write!(text, " {connections} connections |").ok()?;
    }
    text.push_str("\n|--|--|--|--|");
    let before = text.len();
    for server in Server::ALL {
        let cells: Vec<String> = CONNECTIONS
            .into_iter()
            .filter_map(|connections| {
                let runs = found.get(&(workload, connections, server))?;
                let of = |part: fn(&super::Figures) -> f64| {
                    median(&runs.iter().map(part).collect::<Vec<_>>())
                };
                Some(format!(
                    "{:.0}, {:.2} / {:.2} / {:.2}",
                    of(|run| run.rate),
                    of(|run| run.median),
                    of(|run| run.p99),
                    of(|run| run.p999)
                ))
            })
            .collect();
        if !cells.is_empty() {
            write!(text, "\n| {} | {} |", server.name(), cells.join(" | ")).ok()?;
        }
    }
    (text.len() > before).then_some(text)
}
