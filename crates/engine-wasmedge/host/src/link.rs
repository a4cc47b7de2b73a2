//! Whether a module can run: what it imports, and the function that the entrypoint names.

use skiff_engine::order::Guest;
use wasmedge_sdk::{ExternalInstanceType, Module};

use crate::failure::Failure;
use crate::plugins::Plugins;

/// The one module that is provided.
pub(crate) const WASI: &str = "wasi_snapshot_preview1";
/// What is called unless the entrypoint says otherwise.
pub(crate) const START: &str = "_start";
/// Called before: a library ("reactor") sets itself up in it.
pub(crate) const INITIALIZE: &str = "_initialize";

/// Looks at what WasmEdge itself would say less about, and later.
///
/// # Errors
/// It cannot run.
pub(crate) fn check(module: &Module, guest: &Guest, plugins: &Plugins) -> Result<(), Failure> {
    if let Some(import) = module.imports().iter().find(|import| {
        let name = import.module_name();
        name != WASI && !plugins.provide(&name)
    }) {
        return Err(Failure::Import {
            guest: guest.name.clone(),
            module: import.module_name().into_owned(),
            name: import.name().into_owned(),
            plugins: (guest.options.plugins.is_some()).then(|| plugins.modules()),
        });
    }
    if let (Some(allowed), Some(declared)) = (guest.options.memory_pages, declared(module))
        && declared > allowed
    {
        return Err(Failure::Pages {
            guest: guest.name.clone(),
            declared,
            allowed,
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

/// How many pages the largest of its memories begins with. WASI needs one that is exported.
fn declared(module: &Module) -> Option<u32> {
    let exports = module.exports();
    let memories = exports.iter().filter_map(|export| match export.ty() {
        Ok(ExternalInstanceType::Memory(kind)) => Some(kind.minimum()),
        _ => None,
    });
    memories.max()
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
