//! Scenarios without a containerd between: shims driven over the task API, as containerd 2.4 does.
//!
//! ```text
//! skiff-bench --only life --runtime skiff        # one runtime alone, for perf and strace
//! ```

mod alone;
mod bundle;
mod engines;
mod events;
mod exec;
mod first_byte;
mod guest;
mod mounts;
mod output;
mod pod;
mod pods;
mod processor;
mod records;
mod shim;
mod sparse;
mod spec;
mod stage;
mod starter;
mod together;
mod ttrpc;

use crate::settings::Scenario;

pub(crate) use pods::START;
pub(crate) use stage::finish;

/// The names of a life's steps.
pub(crate) const STEPS: [&str; 6] = shim::Steps::NAMES;

/// In the order of the report.
pub(crate) const SCENARIOS: &[Scenario] = &[
    ("life", alone::measure),
    ("life-small", alone::measure_small),
    ("four", together::measure),
    ("sparse", sparse::measure),
    ("cpu", processor::measure),
    ("exec", exec::measure),
    ("http-start", first_byte::measure),
    ("mounts", mounts::measure),
    ("pods", pods::measure),
    ("engines", engines::measure),
];
