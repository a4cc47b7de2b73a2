//! wasmi as an engine for runwasi: an interpreter, so there is no compiler. WASI p1, the container's root open to it.

use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow};
use containerd_shim_wasm::sandbox::Sandbox;
use containerd_shim_wasm::sandbox::context::RuntimeContext;
use containerd_shim_wasm::shim::{Shim, Version, version};
use wasmi::{Engine, Linker, Module, Store};
use wasmi_wasi::{Dir, WasiCtx, WasiCtxBuilder, ambient_authority};

struct Wasmi;

impl Shim for Wasmi {
    type Sandbox = WasmiSandbox;

    fn name() -> &'static str {
        "wasmi"
    }

    fn version() -> Version {
        version!()
    }
}

#[derive(Default)]
struct WasmiSandbox {
    engine: Engine,
}

impl Sandbox for WasmiSandbox {
    async fn run_wasi(&self, ctx: &impl RuntimeContext) -> Result<i32> {
        let entrypoint = ctx.entrypoint();
        let module = Module::new(&self.engine, entrypoint.source.as_bytes()?)?;
        let mut store = Store::new(&self.engine, wasi(ctx)?);
        let mut linker = Linker::new(&self.engine);
        wasmi_wasi::add_to_linker(&mut linker, |wasi: &mut WasiCtx| wasi)?;
        let instance = linker.instantiate_and_start(&mut store, &module)?;
        let function = instance
            .get_func(&store, &entrypoint.func)
            .with_context(|| format!("the module exports no function {}", entrypoint.func))?;
        match function.call(&mut store, &[], &mut []) {
            Ok(()) => Ok(0),
            Err(error) => match error.i32_exit_status() {
                Some(code) => Ok(code),
                None => Err(anyhow!(error)),
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
    skiff_runwasi::run::<Wasmi>()
}
