//! Joining of the component with what it imports, before the container is reported as created.

use skiff_engine::order::Guest;
use skiff_wasi_wasmtime::code::Code;
use skiff_wasi_wasmtime::link::interfaces::{self, Add};
use skiff_wasi_wasmtime::link::{LinkError, link_error};
use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, StoreContextMut};
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::filesystem::WasiFilesystem;
use wasmtime_wasi::p2::bindings::{cli, filesystem};
use wasmtime_wasi_http::handler::ProxyPre;
use wasmtime_wasi_http::{WasiHttp, WasiHttpView, p2, p3};

use crate::state::State;

/// A component that lacks nothing.
pub(crate) struct Linked {
    pub(crate) engine: Engine,
    pub(crate) component: Component,
    pub(crate) pre: ProxyPre<State>,
}

/// Links `code`, which is a component's.
///
/// # Errors
/// See [`LinkError`].
pub(crate) fn link(engine: &Engine, code: &Code, guest: &Guest) -> Result<Linked, LinkError> {
    let no_handler = || LinkError::NoFunction {
        guest: guest.name.clone(),
        function: "wasi:http/incoming-handler".to_owned(),
        hint: "only components that handle HTTP requests are served".to_owned(),
    };
    let Code::Component(component) = code else {
        return Err(no_handler());
    };
    let linker: Linker<State> = interfaces::linker(engine, component, guest, own)?;
    let failed = |error| link_error(guest, error);
    let pre = linker.instantiate_pre(component).map_err(failed)?;
    let names = component.component_type();
    let handles_p3 = names
        .exports(engine)
        .any(|(name, _)| name.starts_with("wasi:http/handler@0.3."));
    let pre = if handles_p3 {
        ProxyPre::P3(p3::bindings::ServicePre::new(pre).map_err(failed)?)
    } else {
        ProxyPre::P2(p2::bindings::ProxyPre::new(pre).map_err(|_| no_handler())?)
    };
    Ok(Linked {
        engine: engine.clone(),
        component: component.clone(),
        pre,
    })
}

/// What a service has, and a command has not, or has in another way.
fn own(interface: &str, version: &str, _: &Guest) -> Option<Add<State>> {
    if version.starts_with("0.2.") && !version.contains('-') {
        own_p2(interface)
    } else if version.starts_with("0.3.") {
        own_p3(interface)
    } else {
        None
    }
}

fn own_p2(interface: &str) -> Option<Add<State>> {
    let add: Add<State> = match interface {
        "wasi:http/types" => |l| {
            let options = p2::bindings::LinkOptions::default();
            p2::bindings::http::types::add_to_linker::<_, WasiHttp>(
                l,
                &(&options).into(),
                State::http,
            )
        },
        "wasi:http/outgoing-handler" => {
            |l| p2::bindings::http::outgoing_handler::add_to_linker::<_, WasiHttp>(l, State::http)
        }
        // The end of a request, not of the process: wasmtime's own unwinds the instance.
        "wasi:cli/exit" => |l| cli::exit::add_to_linker::<State, WasiCli>(l, State::cli),
        "wasi:cli/environment" => add_environment,
        "wasi:filesystem/types" => {
            |l| filesystem::types::add_to_linker::<State, WasiFilesystem>(l, State::filesystem)
        }
        "wasi:filesystem/preopens" => {
            |l| filesystem::preopens::add_to_linker::<State, WasiFilesystem>(l, State::filesystem)
        }
        _ => return None,
    };
    Some(add)
}

fn own_p3(interface: &str) -> Option<Add<State>> {
    let add: Add<State> = match interface {
        "wasi:http/types" => {
            |l| p3::bindings::http::types::add_to_linker::<_, WasiHttp>(l, State::http)
        }
        "wasi:http/client" => {
            |l| p3::bindings::http::client::add_to_linker::<_, WasiHttp>(l, State::http)
        }
        _ => return None,
    };
    Some(add)
}

/// `wasi:cli/environment`, with what all instances share: nothing of it is copied for an instance that does not ask.
fn add_environment(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut instance = linker.instance("wasi:cli/environment@0.2.12")?;
    instance.func_wrap(
        "get-environment",
        |store: StoreContextMut<'_, State>, (): ()| {
            Ok((store.data().environment.variables.clone(),))
        },
    )?;
    instance.func_wrap(
        "get-arguments",
        |store: StoreContextMut<'_, State>, (): ()| {
            Ok((store.data().environment.arguments.clone(),))
        },
    )?;
    instance.func_wrap(
        "initial-cwd",
        |store: StoreContextMut<'_, State>, (): ()| {
            Ok((Some(store.data().environment.directory.clone()),))
        },
    )
}
