//! The steps of a run at which a test kills it, to see that the next run finishes the work.

/// Something on the node was changed: whoever is killed after this leaves the change. In builds for tests the process kills itself at the step whose number `SKIFF_NODE_KILL_AT` names;
/// in the ones that are installed this is nothing.
pub(crate) fn point(name: &str) {
    #[cfg(debug_assertions)]
    armed::point(name);
    #[cfg(not(debug_assertions))]
    let _: &str = name;
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static KILL_AT: LazyLock<Option<u64>> =
        LazyLock::new(|| std::env::var("SKIFF_NODE_KILL_AT").ok()?.parse().ok());
    static STEP: AtomicU64 = AtomicU64::new(0);

    pub(super) fn point(name: &str) {
        let step = STEP.fetch_add(1, Ordering::Relaxed) + 1;
        if *KILL_AT == Some(step) {
            // As a kill -9 from outside: nothing is run on the way.
            let killed = rustix::process::kill_process(
                rustix::process::getpid(),
                rustix::process::Signal::KILL,
            );
            unreachable!("killed at {name}: {killed:?}");
        }
    }
}
