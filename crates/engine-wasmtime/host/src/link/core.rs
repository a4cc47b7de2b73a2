//! Core modules: WASI p1.

use skiff_engine::order::Guest;
use wasmtime::{Caller, Engine, ExternType, InstancePre, Linker, Module, UnknownImportError};
use wasmtime_wasi::p1;

use super::{ModuleState, poll};
use crate::run::{exit, exit_code};
use skiff_wasi_wasmtime::link::{LinkError, exported, link_error, missing};

const WASI: &str = "wasi_snapshot_preview1";
const START: &str = "_start";
const INITIALIZE: &str = "_initialize";

/// A core module that lacks nothing.
pub(crate) struct LinkedModule {
    /// To be instantiated.
    pub(crate) pre: InstancePre<ModuleState>,
    /// The exported function to call.
    pub(crate) function: String,
    /// The exported function to call before: a library ("reactor") sets itself up in it.
    pub(crate) initialize: Option<&'static str>,
}

pub(super) fn link(
    engine: &Engine,
    module: &Module,
    guest: &Guest,
) -> Result<LinkedModule, LinkError> {
    let function = guest.function.clone().unwrap_or_else(|| START.to_owned());
    check_function(module, guest, &function)?;
    let mut linker: Linker<ModuleState> = Linker::new(engine);
    // Many a module imports nothing from WASI, and its 46 functions cost a tenth of a millisecond.
    if module.imports().any(|import| import.module() == WASI) {
        add_wasi(&mut linker).map_err(|error| link_error(guest, error))?;
    }
    let pre = linker.instantiate_pre(module).map_err(|error| {
        match error.downcast::<UnknownImportError>() {
            Ok(unknown) => missing::unknown(
                &guest.name,
                unknown.module(),
                unknown.name(),
                guest.options.code.wasi_p3,
            ),
            Err(error) => link_error(guest, error),
        }
    })?;
    let reactor =
        function != START && matches!(module.get_export(INITIALIZE), Some(ExternType::Func(_)));
    Ok(LinkedModule {
        pre,
        initialize: (reactor && function != INITIALIZE).then_some(INITIALIZE),
        function,
    })
}

fn add_wasi(linker: &mut Linker<ModuleState>) -> wasmtime::Result<()> {
    p1::add_to_linker_async(linker, |state| &mut state.wasi)?;
    // wasmtime's own unwinds the guest and describes where it was, which nobody reads, and makes a trap of every
    // code from 126 on. For a container they are codes like any other.
    linker.allow_shadowing(true);
    linker.func_wrap(
        WASI,
        "proc_exit",
        |caller: Caller<'_, ModuleState>, code: i32| -> wasmtime::Result<()> {
            exit(exit_code(code), &caller.data().cap)
        },
    )?;
    poll::add(linker, WASI)?;
    linker.allow_shadowing(false);
    Ok(())
}

fn check_function(module: &Module, guest: &Guest, function: &str) -> Result<(), LinkError> {
    match module.get_export(function) {
        Some(ExternType::Func(kind)) if kind.params().len() == 0 => Ok(()),
        Some(ExternType::Func(kind)) => Err(LinkError::Parameters {
            guest: guest.name.clone(),
            function: function.to_owned(),
            count: kind.params().len(),
        }),
        _ => Err(LinkError::NoFunction {
            guest: guest.name.clone(),
            function: function.to_owned(),
            hint: exported(
                module
                    .exports()
                    .filter(|export| matches!(export.ty(), ExternType::Func(kind) if kind.params().len() == 0))
                    .map(|export| export.name().to_owned())
                    .filter(|name| name != INITIALIZE)
                    .collect(),
            ),
        }),
    }
}
