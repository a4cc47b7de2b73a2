//! Scenarios without a containerd between: shims driven over the task API, as containerd 2.4 does.
//!
//! ```text
//! skiff-bench --only life --runtime skiff        # one runtime alone, for perf and strace
//! ```

mod alone;
mod bundle;
mod events;
mod output;
mod shim;
mod spec;
mod stage;
mod ttrpc;

use crate::settings::Scenario;

/// In the order of the report.
pub(crate) const SCENARIOS: &[Scenario] = &[("life", alone::measure)];
