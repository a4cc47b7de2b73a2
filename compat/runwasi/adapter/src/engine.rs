//! Calls of the engine: on tokio's threads, as runwasi makes them, with panics made into errors.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::anyhow;
use containerd_shim_wasm::shim::Shim;
use tokio::runtime::{Builder, Runtime};

use crate::failure::Failure;

/// What an engine's futures run on. Its threads have whatever filters the calling one has: to be made afterwards.
///
/// # Errors
/// The kernel has no threads to give.
pub(crate) fn runtime<S: Shim>() -> Result<Runtime, Failure> {
    Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|source| Failure::Runtime {
            engine: S::name(),
            source,
        })
}

/// Calls the engine. The panic has been told on standard error by then.
///
/// # Errors
/// The engine's own, or its panic.
pub(crate) fn call<T>(engine: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    catch_unwind(AssertUnwindSafe(engine))
        .unwrap_or_else(|panic| Err(anyhow!("it panicked: {}", words(&*panic))))
}

fn words(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no reason is told")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error() {
        assert_eq!(call(|| Ok(7)).unwrap(), 7);
        let number = 7;
        let error = call(|| -> anyhow::Result<()> { panic!("no {number}") }).unwrap_err();
        assert_eq!(error.to_string(), "it panicked: no 7");
        let error = call(|| -> anyhow::Result<()> { Err(anyhow!("no")) }).unwrap_err();
        assert_eq!(error.to_string(), "no");
    }
}
