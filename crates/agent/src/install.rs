//! `skiff-agent install`, the init container: the node is installed on, or its object says why not.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use skiff_node::doctor;
use skiff_node::installer::{Condition, InstallError, Report, Watched};

use crate::arguments::{Common, Install};
use crate::condition;
use crate::log;
use crate::node_object::{State, Wanted};
use crate::report::{Happened, Reporter};
use crate::turn::Turn;

/// The agent that this one follows may still be at work.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) async fn run(common: &Common, install: &Install) -> anyhow::Result<()> {
    let reporter = Reporter::new(&common.node)?;
    let looked = condition::look(common, &mut Watched::default()).await?;
    if looked.is_ok_and(|condition| condition.problems.is_empty() && has_all(common, &condition)) {
        log::info("nothing to do: all of this is installed already");
        return Ok(());
    }
    let turn = install
        .turn
        .as_deref()
        .map(|place| Turn::new(reporter.api(), &common.node, place));
    if let Some(turn) = &turn {
        turn.take()
            .await
            .context("could not take the node's turn")?;
    }
    work(common, &reporter).await?;
    if let Some(turn) = &turn {
        turn.pass()
            .await
            .context("could not pass the turn to the next node")?;
    }
    Ok(())
}

/// Every handler that is asked for is there, and no other one; asked for none in particular, those that are there do.
fn has_all(common: &Common, condition: &Condition) -> bool {
    if common.handlers.is_empty() {
        return true;
    }
    let mut wanted: Vec<&str> = common
        .handlers
        .iter()
        .map(|(_, name)| name.as_str())
        .collect();
    let mut proven: Vec<&str> = condition.proven.iter().map(String::as_str).collect();
    wanted.sort_unstable();
    proven.sort_unstable();
    wanted == proven
}

async fn work(common: &Common, reporter: &Reporter) -> anyhow::Result<()> {
    let begun = Instant::now();
    let installed = loop {
        match condition::install(common).await? {
            Err(InstallError::Busy) if begun.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            ended => break ended,
        }
    };
    match installed {
        Ok(report) => {
            if report.changed {
                reporter
                    .event(Happened::Installed, &sentence(&report))
                    .await;
            }
            Ok(())
        }
        Err(error) => {
            let reason = doctor::sentence(&error);
            tell(common, reporter, &reason).await?;
            bail!(reason)
        }
    }
}

fn sentence(report: &Report) -> String {
    format!(
        "Skiff {} is installed and proven, with the handlers {}; {}",
        report.version.as_deref().unwrap_or("?"),
        report.handlers.join(", "),
        if report.restarted {
            "containerd was restarted"
        } else {
            "containerd was not restarted"
        }
    )
}

/// After a failed upgrade the version before may still be there, and work.
async fn tell(common: &Common, reporter: &Reporter, reason: &str) -> anyhow::Result<()> {
    let looked = condition::look(common, &mut Watched::default()).await?;
    let looked = looked.unwrap_or_default();
    let state = if looked.proven.is_empty() {
        State::Failed
    } else {
        State::Degraded
    };
    let version = looked.version.as_deref();
    let wanted = Wanted::of(state, &looked.proven, version, Some(reason));
    if let Err(error) = reporter.publish(&wanted).await {
        log::warning(&doctor::sentence(&error));
    }
    reporter.event(Happened::InstallFailed, reason).await;
    Ok(())
}
