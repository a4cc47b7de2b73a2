//! Joining of a guest with what it imports, before the container is reported as created: a guest that cannot be
//! linked fails its `create`, with a sentence that names what is missing and who has it.

use std::sync::Arc;

use skiff_engine::order::Guest;
use wasmtime::Engine;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::cap::Cap;
use crate::run::Log;
use skiff_host::resolver::Resolver;
use skiff_wasi_wasmtime::code::Code;
use skiff_wasi_wasmtime::link::drafts::Drafts;
use skiff_wasi_wasmtime::link::{LinkError, Resolves};

mod component;
mod core;
mod poll;

pub(crate) use self::component::{Entry, LinkedComponent};
pub(crate) use self::core::LinkedModule;

/// A guest that lacks nothing.
pub(crate) enum Linked {
    /// A core module.
    Module(LinkedModule),
    /// A component.
    Component(LinkedComponent),
}

/// What a core module's calls work on.
pub(crate) struct ModuleState {
    pub(crate) wasi: WasiP1Ctx,
    pub(crate) cap: Cap,
}

/// What a component's calls work on.
pub(crate) struct State {
    pub(crate) ctx: WasiCtx,
    pub(crate) table: ResourceTable,
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) drafts: Arc<Drafts>,
    pub(crate) log: &'static Log,
    pub(crate) cap: Cap,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.ctx,
            table: &mut self.table,
        }
    }
}

impl Resolves for State {
    fn resolver(&self) -> &Arc<Resolver> {
        &self.resolver
    }

    fn drafts(&self) -> &Arc<Drafts> {
        &self.drafts
    }

    fn log(&mut self, line: String) {
        self.log.stdio.complain(&line);
    }
}

/// Links `code` as `guest` asks.
///
/// # Errors
/// See [`LinkError`].
pub(crate) fn link(engine: &Engine, code: &Code, guest: &Guest) -> Result<Linked, LinkError> {
    match code {
        Code::Module(module) => core::link(engine, module, guest).map(Linked::Module),
        Code::Component(component) => {
            component::link(engine, component, guest).map(Linked::Component)
        }
    }
}
