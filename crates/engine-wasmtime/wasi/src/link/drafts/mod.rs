//! Interfaces of which WASI has only drafts: configuration, a key-value store, a log. Their versions differ little and
//! are never compatible by name, so that each is linked under the very name that the component imports.

use std::sync::Arc;

use skiff_engine::order::Guest;
use wasmtime::Result;
use wasmtime::component::{Linker, LinkerInstance};

use super::Resolves;
use config::Config;
use keyvalue::Store;

mod config;
mod keyvalue;
mod logging;

/// What the calls of all instances of a container work on.
#[derive(Debug)]
pub struct Drafts {
    config: Config,
    store: Store,
}

impl Drafts {
    /// For a container: its environment is the configuration, with the files of the directories that it names.
    pub fn new(guest: &Guest) -> Arc<Self> {
        Arc::new(Self {
            config: Config::new(&guest.env),
            store: Store::default(),
        })
    }
}

/// Links the interface that is imported under `name`, if it is one of these.
///
/// # Errors
/// None are expected.
pub(super) fn add<T: Resolves>(linker: &mut Linker<T>, name: &str) -> Result<bool> {
    let Some(add) = provider(name) else {
        return Ok(false);
    };
    add(&mut linker.instance(name)?)?;
    Ok(true)
}

type Add<T> = fn(&mut LinkerInstance<'_, T>) -> Result<()>;

fn provider<T: Resolves>(name: &str) -> Option<Add<T>> {
    // The log of the first draft has no version.
    let (interface, version) = name.split_once('@').unwrap_or((name, ""));
    let add: Add<T> = match (interface, version) {
        ("wasi:config/store", "0.2.0-rc.1" | "0.2.0-draft-2024-09-27")
        | ("wasi:config/runtime", "0.2.0-draft") => config::add,
        ("wasi:keyvalue/store", "0.2.0-draft") => keyvalue::add_store,
        ("wasi:keyvalue/store", "0.2.0-draft2") => keyvalue::add_store_draft2,
        ("wasi:keyvalue/atomics", "0.2.0-draft") => keyvalue::add_atomics,
        ("wasi:keyvalue/atomics", "0.2.0-draft2") => keyvalue::add_atomics_draft2,
        ("wasi:keyvalue/batch", "0.2.0-draft") => keyvalue::add_batch,
        ("wasi:keyvalue/batch", "0.2.0-draft2") => keyvalue::add_batch_draft2,
        ("wasi:logging/logging", "" | "0.1.0-draft") => logging::add,
        _ => return None,
    };
    Some(add)
}
