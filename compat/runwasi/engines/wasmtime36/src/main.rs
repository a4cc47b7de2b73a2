//! wasmtime 36 as an engine for runwasi, with a compiler, whose code is kept. WASI p1, the container's root open to it.

use std::hash::Hash;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use containerd_shim_wasm::sandbox::Sandbox;
use containerd_shim_wasm::sandbox::context::{RuntimeContext, WasmLayer};
use containerd_shim_wasm::shim::{Compiler, Shim, Version, version};
use wasi_common::sync::{Dir, WasiCtxBuilder, ambient_authority};
use wasi_common::{I32Exit, WasiCtx};
use wasmtime::{Engine, Linker, Module, Store};

struct Wasmtime;

impl Shim for Wasmtime {
    type Sandbox = WasmtimeSandbox;

    fn name() -> &'static str {
        "wasmtime36"
    }

    fn version() -> Version {
        version!()
    }

    async fn compiler() -> Option<impl Compiler> {
        Some(WasmtimeCompiler(Engine::default()))
    }
}

struct WasmtimeCompiler(Engine);

impl Compiler for WasmtimeCompiler {
    fn cache_key(&self) -> impl Hash {
        self.0.precompile_compatibility_hash()
    }

    async fn compile(&self, layers: &[WasmLayer]) -> Result<Vec<Option<Vec<u8>>>> {
        layers
            .iter()
            .map(|layer| self.0.precompile_module(&layer.layer).map(Some))
            .collect()
    }
}

#[derive(Default)]
struct WasmtimeSandbox {
    engine: Engine,
}

impl WasmtimeSandbox {
    #[expect(unsafe_code, reason = "compiled code is taken at its word")]
    fn module(&self, bytes: &[u8], is_precompiled: bool) -> Result<Module> {
        if is_precompiled {
            // SAFETY: it is what our compiler made, from the adapter's cache.
            unsafe { Module::deserialize(&self.engine, bytes) }
        } else {
            Module::new(&self.engine, bytes)
        }
    }
}

impl Sandbox for WasmtimeSandbox {
    async fn run_wasi(&self, ctx: &impl RuntimeContext) -> Result<i32> {
        let entrypoint = ctx.entrypoint();
        let source = &entrypoint.source;
        let module = self.module(&source.as_bytes()?, source.is_precompiled()?)?;
        let mut store = Store::new(&self.engine, wasi(ctx)?);
        let mut linker = Linker::new(&self.engine);
        wasi_common::sync::add_to_linker(&mut linker, |wasi: &mut WasiCtx| wasi)?;
        let instance = linker.instantiate(&mut store, &module)?;
        let function = instance
            .get_func(&mut store, &entrypoint.func)
            .with_context(|| format!("the module exports no function {}", entrypoint.func))?;
        match function.call(&mut store, &[], &mut []) {
            Ok(()) => Ok(0),
            Err(error) => match error.downcast_ref::<I32Exit>() {
                Some(exit) => Ok(exit.0),
                None => Err(error),
            },
        }
    }
}

fn wasi(ctx: &impl RuntimeContext) -> Result<WasiCtx> {
    let mut builder = WasiCtxBuilder::new();
    builder.args(ctx.args())?.inherit_stdio();
    for variable in ctx.envs() {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        builder.env(name, value)?;
    }
    let root = Dir::open_ambient_dir("/", ambient_authority())?;
    builder.preopened_dir(root, "/")?;
    Ok(builder.build())
}

fn main() -> ExitCode {
    skiff_runwasi::run::<Wasmtime>()
}
