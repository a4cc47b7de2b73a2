//! How the node is: the installer asked, on a thread of its own, and its answer in words for the cluster.

use anyhow::Context as _;
use skiff_node::doctor;
use skiff_node::installer::{Condition, InstallError, Installer, Report, Watched};

use crate::arguments::Common;
use crate::log::{self, Quiet, Steps};
use crate::node_object::{State, Wanted};

/// Looks at the node. What was found out is kept in `watched`. Where all is well, versions that nothing runs from any more go.
pub(crate) async fn look(
    common: &Common,
    watched: &mut Watched,
) -> anyhow::Result<Result<Condition, InstallError>> {
    let (root, options, mut known) = (common.root.clone(), common.options(), watched.clone());
    let looked = tokio::task::spawn_blocking(move || {
        let installer = Installer::new(&root, &Quiet);
        let condition = installer.condition(&options, &mut known);
        if condition
            .as_ref()
            .is_ok_and(|found| found.problems.is_empty())
            && let Err(error) = installer.retire()
            && !matches!(error, InstallError::Busy)
        {
            let reason = doctor::sentence(&error);
            log::warning(&format!("an old version stays for now: {reason}"));
        }
        (known, condition)
    });
    let (known, condition) = looked.await.context("a thread of the agent's ended")?;
    *watched = known;
    Ok(condition)
}

/// Installs, or mends an installation; what is done is in the log.
pub(crate) async fn install(common: &Common) -> anyhow::Result<Result<Report, InstallError>> {
    let root = common.root.clone();
    let options = common.options();
    let installed =
        tokio::task::spawn_blocking(move || Installer::new(&root, &Steps).install(&options));
    installed.await.context("a thread of the agent's ended")
}

/// What the node object is to say of it.
pub(crate) fn wanted(condition: &Condition) -> (State, Wanted) {
    let state = match (condition.problems.is_empty(), condition.proven.is_empty()) {
        (true, _) => State::Ready,
        (false, false) => State::Degraded,
        (false, true) => State::Failed,
    };
    let reason = (!condition.problems.is_empty()).then(|| condition.problems.join("; "));
    let version = condition.version.as_deref();
    let wanted = Wanted::of(state, &condition.proven, version, reason.as_deref());
    (state, wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_ready_when_nothing_is_wrong() {
        let condition = |proven: &[&str], problems: &[&str]| Condition {
            version: Some("1".to_owned()),
            proven: proven.iter().map(|name| (*name).to_owned()).collect(),
            problems: problems.iter().map(|text| (*text).to_owned()).collect(),
        };
        let state = |proven: &[&str], problems: &[&str]| wanted(&condition(proven, problems)).0;
        assert_eq!(state(&["wasmtime"], &[]), State::Ready);
        assert_eq!(state(&["wasmtime"], &["x"]), State::Degraded);
        assert_eq!(state(&[], &["x"]), State::Failed);
        let (_, wanted) = wanted(&condition(&["wasmtime"], &["a", "b"]));
        assert!(wanted.annotations.contains(&("reason", "a; b".to_owned())));
    }
}
