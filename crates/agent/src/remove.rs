//! `skiff-agent remove`, which the chart runs in the place of the watch when Skiff is to go: no new pod is sent to the
//! node, the ones that run are waited for, and then nothing of Skiff is left.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use skiff_node::daemon;
use skiff_node::doctor;
use skiff_node::host::Host;
use skiff_node::installer::{InstallError, Installer, Removal, Report};

use crate::arguments::{Common, Remove};
use crate::containerd::Containerd;
use crate::log::{self, Steps};
use crate::metrics::Metrics;
use crate::node_object::{State, Wanted};
use crate::report::{Happened, Reporter};
use crate::serve::{self, Shared};

/// Between two tries, for pods that still run.
const PAUSE: Duration = Duration::from_secs(5);

pub(crate) async fn run(common: &Common, remove: &Remove) -> anyhow::Result<()> {
    let reporter = Reporter::new(&common.node)?;
    let shared = Arc::new(Shared::default());
    tokio::select! {
        served = serve::run(remove.listen, Arc::clone(&shared), None) => served,
        ended = work(common, remove, &reporter, &shared) => ended,
    }
}

async fn work(
    common: &Common,
    remove: &Remove,
    reporter: &Reporter,
    shared: &Shared,
) -> anyhow::Result<()> {
    let mut told = String::new();
    let mut changed = false;
    loop {
        // Before anything is taken away: the scheduler must not send pods here any more.
        publish(reporter, &removing(&told)).await;
        shared.looked();
        match uninstall(common, remove).await? {
            Ok(report) => {
                changed |= report.changed;
                break;
            }
            Err(error) => {
                let reason = reason(common, &error).await;
                if reason != told {
                    log::warning(&reason);
                    if !matches!(error, InstallError::Busy) {
                        reporter.event(Happened::RemoveFailed, &reason).await;
                    }
                    told = reason;
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    if changed {
        let sentence = "Skiff is off this node; containerd's configuration is what it was";
        reporter.event(Happened::Removed, sentence).await;
    }
    // Nothing is left of us on the node object either.
    while !publish(reporter, &Wanted::default()).await {
        tokio::time::sleep(PAUSE).await;
    }
    shared.update(|metrics: &mut Metrics| metrics.ready = true);
    log::info("Skiff is off this node");
    loop {
        shared.looked();
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
}

/// Who is in the way, by the names that `kubectl` knows; in the installer's words if containerd does not say.
async fn reason(common: &Common, error: &InstallError) -> String {
    let sentence = doctor::sentence(error);
    let InstallError::InUse(users) = error else {
        return sentence;
    };
    let ids: Vec<&str> = users.iter().filter_map(|user| user.id.as_deref()).collect();
    let Some(socket) = daemon::socket(&Host::new(&common.root), &common.asked()) else {
        return sentence;
    };
    let asked = async { Containerd::open(&socket).await?.pods(&ids).await };
    match asked.await {
        Ok(pods) if pods.len() == users.len() => format!(
            "waiting for {} of the handlers to end: {}",
            if pods.len() == 1 { "a pod" } else { "pods" },
            pods.join(", ")
        ),
        _ => sentence,
    }
}

fn removing(reason: &str) -> Wanted {
    let reason = (!reason.is_empty()).then_some(reason);
    Wanted::of(State::Removing, &[], None, reason)
}

async fn publish(reporter: &Reporter, wanted: &Wanted) -> bool {
    match reporter.publish(wanted).await {
        Ok(_) => true,
        Err(error) => {
            log::warning(&doctor::sentence(&error));
            false
        }
    }
}

async fn uninstall(
    common: &Common,
    remove: &Remove,
) -> anyhow::Result<Result<Report, InstallError>> {
    let root = common.root.clone();
    let removal = Removal {
        containerd: common.asked(),
        prefix: common.prefix.clone(),
        timeout: Duration::ZERO,
        force: remove.force,
        dry_run: false,
        restart_command: common.restart_command.clone(),
        patience: common.patience.map(Duration::from_secs),
    };
    let removed =
        tokio::task::spawn_blocking(move || Installer::new(&root, &Steps).uninstall(&removal));
    removed.await.context("a thread of the agent's ended")
}
