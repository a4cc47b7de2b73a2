//! `skiff doctor`: prints the findings of [`skiff_node::doctor`].

use serde::Serialize;
use skiff_node::doctor::{self, Finding, Status, Subject};

use crate::Outcome;
use crate::arguments::Doctor;
use crate::output::{Colour, Output};

/// The JSON document.
#[derive(Serialize)]
struct Document<'a> {
    /// The worst status of all checks.
    status: Status,
    checks: &'a [Finding],
}

pub(crate) fn run(arguments: &Doctor, output: &Output) -> anyhow::Result<Outcome> {
    let cache = std::env::var_os("SKIFF_CACHE_DIR")
        .filter(|value| !value.is_empty())
        .map(Into::into);
    let mut findings = doctor::examine(&Subject {
        address: arguments.address.clone(),
        cache,
    });
    let worst = findings
        .iter()
        .map(|finding| finding.status)
        .max()
        .unwrap_or(Status::Ok);
    let summary = summary(&findings);
    if arguments.quiet {
        findings.retain(|finding| finding.status != Status::Ok);
    }
    if output.json() {
        output.document(&Document {
            status: worst,
            checks: &findings,
        })?;
    } else {
        for finding in &findings {
            print(finding, output)?;
        }
        output.text(&summary)?;
    }
    Ok(if worst == Status::Fail {
        Outcome::Broken
    } else {
        Outcome::Well
    })
}

fn print(finding: &Finding, output: &Output) -> anyhow::Result<()> {
    let status = match finding.status {
        Status::Ok => output.paint("OK  ", Colour::Green),
        Status::Warn => output.paint("WARN", Colour::Yellow),
        Status::Fail => output.paint("FAIL", Colour::Red),
    };
    output.text(&format!("{status}  {}", finding.finding))?;
    match &finding.next_step {
        Some(step) => output.text(&format!("      → {step}")),
        None => Ok(()),
    }
}

fn summary(findings: &[Finding]) -> String {
    let count = |status: Status| {
        findings
            .iter()
            .filter(|finding| finding.status == status)
            .count()
    };
    let verdict = match (count(Status::Fail), count(Status::Warn)) {
        (0, 0) => "this node is ready for Skiff",
        (0, _) => "containers run here, with the reservations above",
        _ => "containers do not run here, or not all of them: mend what says FAIL, from the top",
    };
    format!(
        "\n{} OK, {} WARN, {} FAIL: {verdict}",
        count(Status::Ok),
        count(Status::Warn),
        count(Status::Fail)
    )
}
