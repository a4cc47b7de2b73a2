//! Components: `wasi:cli` 0.2 and, where the handler's options say so, 0.3.

use skiff_engine::order::Guest;
use skiff_host::sys::signal;
use skiff_wasi_wasmtime::link::{LinkError, exported, interfaces, link_error, missing};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Engine, StoreContextMut};

use super::State;

/// A component that lacks nothing.
pub(crate) struct LinkedComponent {
    /// To be instantiated.
    pub(crate) pre: InstancePre<State>,
    /// What to call.
    pub(crate) entry: Entry,
}

/// The function of a component that is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// `run` of the exported instance with this name, `wasi:cli/run@0.2.x`.
    Run(String),
    /// The same of WASI 0.3, where it is asynchronous.
    RunP3,
    /// An exported function.
    Function(String),
}

/// `wasi:cli/exit`, as [`super::core`] does it.
fn add_exit(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut instance = linker.instance("wasi:cli/exit@0.2.12")?;
    instance.func_wrap(
        "exit",
        |_: StoreContextMut<'_, State>, (status,): (Result<(), ()>,)| -> wasmtime::Result<()> {
            signal::end(u8::from(status.is_err()))
        },
    )?;
    instance.func_wrap(
        "exit-with-code",
        |_: StoreContextMut<'_, State>, (code,): (u8,)| -> wasmtime::Result<()> {
            signal::end(code)
        },
    )
}

pub(super) fn link(
    engine: &Engine,
    component: &Component,
    guest: &Guest,
) -> Result<LinkedComponent, LinkError> {
    let entry = entry(engine, component, guest)?;
    let own: interfaces::Own<State> = |interface, version, _| match interface {
        "wasi:cli/exit" if version.starts_with("0.2.") => Some(add_exit),
        _ => None,
    };
    let linker = interfaces::linker(engine, component, guest, own)?;
    let pre = linker
        .instantiate_pre(component)
        .map_err(|error| link_error(guest, error))?;
    Ok(LinkedComponent { pre, entry })
}

fn entry(engine: &Engine, component: &Component, guest: &Guest) -> Result<Entry, LinkError> {
    let exports = component.component_type();
    let Some(function) = &guest.function else {
        return default_entry(engine, component, guest);
    };
    match exports.get_export(engine, function).map(|export| export.ty) {
        Some(ComponentItem::ComponentFunc(kind)) if kind.params().len() == 0 => {
            Ok(Entry::Function(function.clone()))
        }
        Some(ComponentItem::ComponentFunc(kind)) => Err(LinkError::Parameters {
            guest: guest.name.clone(),
            function: function.clone(),
            count: kind.params().len(),
        }),
        _ => Err(no_function(engine, component, guest, function)),
    }
}

fn default_entry(
    engine: &Engine,
    component: &Component,
    guest: &Guest,
) -> Result<Entry, LinkError> {
    let exports = component.component_type();
    for (name, _) in exports.exports(engine) {
        match name.split_once('@') {
            Some(("wasi:cli/run", version))
                if version.starts_with("0.2.") && !version.contains('-') =>
            {
                return Ok(Entry::Run(name.to_owned()));
            }
            Some(("wasi:cli/run", version))
                if version.starts_with("0.3.") && guest.options.code.wasi_p3 =>
            {
                return Ok(Entry::RunP3);
            }
            Some(("wasi:cli/run", version)) if version.starts_with("0.3.") => {
                return Err(missing::unknown(&guest.name, name, "run", false));
            }
            _ => {}
        }
    }
    Err(no_function(engine, component, guest, "wasi:cli/run"))
}

fn no_function(engine: &Engine, component: &Component, guest: &Guest, function: &str) -> LinkError {
    let component = component.component_type();
    let names = component
        .exports(engine)
        .filter(|(_, export)| matches!(&export.ty, ComponentItem::ComponentFunc(kind) if kind.params().len() == 0))
        .map(|(name, _)| name.to_owned())
        .collect();
    LinkError::NoFunction {
        guest: guest.name.clone(),
        function: function.to_owned(),
        hint: exported(names),
    }
}
