//! Whether a module can run: what it imports, and the function that the entrypoint names.

use skiff_engine::order::Guest;
use wasmedge_sdk::{ExternalInstanceType, Module};

use crate::failure::Failure;

/// The one module that is provided.
const WASI: &str = "wasi_snapshot_preview1";
/// What is called unless the entrypoint says otherwise.
pub(crate) const START: &str = "_start";
/// Called before: a library ("reactor") sets itself up in it.
pub(crate) const INITIALIZE: &str = "_initialize";

/// Looks at what WasmEdge itself would say less about, and later.
///
/// # Errors
/// It cannot run.
pub(crate) fn check(module: &Module, guest: &Guest) -> Result<(), Failure> {
    if let Some(import) = module
        .imports()
        .iter()
        .find(|import| import.module_name() != WASI)
    {
        return Err(Failure::Import {
            guest: guest.name.clone(),
            module: import.module_name().into_owned(),
            name: import.name().into_owned(),
        });
    }
    let wanted = function(guest);
    if callable(module, wanted) {
        return Ok(());
    }
    let exported: Vec<String> = module
        .exports()
        .iter()
        .map(|export| export.name().into_owned())
        .filter(|name| name != INITIALIZE && callable(module, name))
        .collect();
    Err(Failure::NoFunction {
        guest: guest.name.clone(),
        function: wanted.to_owned(),
        exported: if exported.is_empty() {
            "none".to_owned()
        } else {
            exported.join(", ")
        },
    })
}

/// The function to call.
pub(crate) fn function(guest: &Guest) -> &str {
    guest.function.as_deref().unwrap_or(START)
}

/// Whether the module sets itself up first.
pub(crate) fn is_reactor(module: &Module, guest: &Guest) -> bool {
    let function = function(guest);
    function != START && function != INITIALIZE && callable(module, INITIALIZE)
}

fn callable(module: &Module, name: &str) -> bool {
    matches!(
        module.get_export(name),
        Some(ExternalInstanceType::Func(kind)) if kind.args().is_empty()
    )
}
