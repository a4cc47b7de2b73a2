//! A wasmtime shim made with runwasi's own adapter, as a user of that adapter would write it: core modules
//! (WASI p1), command components (wasi:cli 0.2) and services (wasi:http 0.2), the root and the network open to the guest,
//! compiled code cached by the adapter for images whose module is a layer. It exists to be compared with, not to be shipped.

use anyhow::{Context, Result, bail};
use containerd_shim_wasm::sandbox::Sandbox;
use containerd_shim_wasm::sandbox::context::{RuntimeContext, WasmLayer};
use containerd_shim_wasm::shim::{Cli, Compiler, Shim, Version, version};
use wasmtime::component::{Component, Linker as ComponentLinker, ResourceTable};
use wasmtime::{Config, Engine, Linker, Module, Precompiled, Store};
use wasmtime_wasi::p1::{self, WasiP1Ctx};
use wasmtime_wasi::p2::bindings::Command;
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

mod http;

struct Runwasi;

struct WasmtimeSandbox {
    engine: Engine,
}

impl Default for WasmtimeSandbox {
    fn default() -> Self {
        Self { engine: engine() }
    }
}

fn engine() -> Engine {
    Engine::new(&Config::new()).expect("wasmtime's default configuration is valid")
}

struct WasmtimeCompiler(Engine);

impl Compiler for WasmtimeCompiler {
    fn cache_key(&self) -> impl std::hash::Hash {
        self.0.precompile_compatibility_hash()
    }

    async fn compile(&self, layers: &[WasmLayer]) -> Result<Vec<Option<Vec<u8>>>> {
        layers.iter().map(|layer| self.precompile(&layer.layer).map(Some)).collect()
    }
}

impl WasmtimeCompiler {
    fn precompile(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        let code = if is_component(bytes) {
            self.0.precompile_component(bytes)
        } else {
            self.0.precompile_module(bytes)
        };
        code.map_err(anyhow::Error::from)
    }
}

impl Shim for Runwasi {
    type Sandbox = WasmtimeSandbox;

    fn name() -> &'static str {
        "runwasi"
    }

    fn version() -> Version {
        version!()
    }

    async fn compiler() -> Option<impl Compiler> {
        Some(WasmtimeCompiler(engine()))
    }
}

/// A component says so in the layer field of its header (bytes 6 and 7 of the preamble).
fn is_component(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\0asm") && bytes.get(6) == Some(&1)
}

struct ComponentState {
    context: WasiCtx,
    table: ResourceTable,
}

impl WasiView for ComponentState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.context, table: &mut self.table }
    }
}

impl Sandbox for WasmtimeSandbox {
    async fn run_wasi(&self, ctx: &impl RuntimeContext) -> Result<i32> {
        let entrypoint = ctx.entrypoint();
        let bytes = entrypoint.source.as_bytes()?;
        let mut builder = WasiCtxBuilder::new();
        for variable in ctx.envs() {
            let (key, value) = variable.split_once('=').unwrap_or((variable, ""));
            builder.env(key, value);
        }
        builder.args(ctx.args()).inherit_stdio().inherit_network().allow_ip_name_lookup(true);
        builder.preopened_dir("/", "/", FsPerms::ReadWrite)?;

        let outcome = match Engine::detect_precompiled(&bytes) {
            Some(Precompiled::Module) => {
                // SAFETY: the adapter hands out what our own compiler wrote (and, as runwasi's shim does, an image's own).
                let module = unsafe { Module::deserialize(&self.engine, &bytes) }?;
                self.run_module(&module, builder.build_p1(), &entrypoint.func).await
            }
            Some(Precompiled::Component) => {
                // SAFETY: as above.
                let component = unsafe { Component::deserialize(&self.engine, &bytes) }?;
                if http::is_service(&self.engine, &component) {
                    // SAFETY: as above.
                    let component = unsafe { Component::deserialize(&http::engine()?, &bytes) }?;
                    return http::serve(&component, ctx).await.map(|()| 0);
                }
                self.run_component(&component, builder.build()).await
            }
            None if is_component(&bytes) => {
                let component = Component::from_binary(&self.engine, &bytes)?;
                if http::is_service(&self.engine, &component) {
                    let component = Component::from_binary(&http::engine()?, &bytes)?;
                    return http::serve(&component, ctx).await.map(|()| 0);
                }
                self.run_component(&component, builder.build()).await
            }
            None => self.run_module(&Module::new(&self.engine, &bytes)?, builder.build_p1(), &entrypoint.func).await,
        };
        match outcome {
            Ok(()) => Ok(0),
            Err(error) => match error.downcast_ref::<I32Exit>() {
                Some(exit) => Ok(exit.0),
                None => Err(error),
            },
        }
    }
}

impl WasmtimeSandbox {
    async fn run_module(&self, module: &Module, context: WasiP1Ctx, function: &str) -> Result<()> {
        let mut linker = Linker::new(&self.engine);
        p1::add_to_linker_async(&mut linker, |context: &mut WasiP1Ctx| context)?;
        let mut store = Store::new(&self.engine, context);
        let instance = linker.instantiate_async(&mut store, module).await?;
        let function = instance
            .get_func(&mut store, function)
            .with_context(|| format!("the module exports no function {function}"))?;
        function.call_async(&mut store, &[], &mut []).await?;
        Ok(())
    }

    async fn run_component(&self, component: &Component, context: WasiCtx) -> Result<()> {
        let mut linker = ComponentLinker::new(&self.engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        let mut store = Store::new(&self.engine, ComponentState { context, table: ResourceTable::new() });
        let command = Command::instantiate_async(&mut store, component, &linker).await?;
        if command.wasi_cli_run().call_run(&mut store).await?.is_err() {
            bail!("the component's run function returned an error");
        }
        Ok(())
    }
}

fn main() {
    Runwasi::run(None);
}
