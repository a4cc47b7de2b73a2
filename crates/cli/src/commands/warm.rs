//! `skiff cache warm`: compiles ahead, by the same workers and into the same cache as a first start does.

use std::time::Duration;

use anyhow::{Context, bail};
use serde::Serialize;
use skiff_engine::compile::{CompileOptions, Compiler, ModuleBytes, Origin, Settings, Source};
use skiff_engine::options::CodeOptions;
use skiff_image::build;
use skiff_image::view::Digest;

use crate::Outcome;
use crate::arguments::Warm;
use crate::output::Output;
use crate::progress::Progress;
use crate::quantity;
use crate::target::Target;

/// One module in the JSON document.
#[derive(Serialize)]
struct Warmed {
    name: String,
    digest: String,
    /// `compiled` now, or `cached` before.
    state: &'static str,
    /// The work on the module; 0 when it was cached.
    milliseconds: u64,
    /// Bytes of the compiled code.
    bytes: u64,
}

pub(crate) fn run(arguments: &Warm, output: &Output) -> anyhow::Result<Outcome> {
    if !skiff_node::doctor::privileges::may_mount() {
        bail!(
            "compiled code is put into the node's cache, which is root's alone: run this as root"
        );
    }
    let compiler = Compiler::new(Settings::beside_own_executable(&arguments.engine)?)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("could not start")?;
    let options = CompileOptions {
        code: CodeOptions {
            wasi_p3: arguments.wasi_p3,
            ..CodeOptions::default()
        },
        ..CompileOptions::default()
    };
    let mut warmed = Vec::new();
    for text in &arguments.targets {
        let target = Target::find(text, &arguments.place)?;
        let modules = build::modules_of_file(target.path())?;
        if modules.is_empty() {
            bail!("there is no module in {text} to be compiled");
        }
        for (facts, bytes) in modules {
            let mut progress = Progress::begin();
            progress.step(&format!(
                "compiling {} ({})",
                facts.name,
                quantity::bytes(facts.bytes)
            ));
            let one = runtime.block_on(async {
                let mut compiling = std::pin::pin!(warm(&compiler, &facts, bytes, options));
                loop {
                    match tokio::time::timeout(Duration::from_secs(1), &mut compiling).await {
                        Ok(one) => break one,
                        Err(_) => progress.step(&format!(
                            "compiling {} ({})",
                            facts.name,
                            quantity::bytes(facts.bytes)
                        )),
                    }
                }
            })?;
            drop(progress);
            if !output.json() {
                output.text(&line(&one))?;
            }
            warmed.push(one);
        }
    }
    if output.json() {
        output.document(&serde_json::json!({ "modules": warmed }))?;
    }
    Ok(Outcome::Well)
}

async fn warm(
    compiler: &Compiler,
    facts: &build::ModuleFacts,
    bytes: Vec<u8>,
    options: CompileOptions,
) -> anyhow::Result<Warmed> {
    let digest = Digest::of(&bytes);
    let source = Source::Blob {
        sha256: digest.bytes(),
        bytes: Box::pin(async move { Ok(ModuleBytes::copy_of(bytes.as_slice())?) }),
    };
    let code = compiler.code_for(source, &facts.name, options).await?;
    let (state, milliseconds) = match code.origin {
        Origin::Cached => ("cached", 0),
        Origin::Compiled { milliseconds } => ("compiled", milliseconds),
        Origin::Uncached { reason, .. } => bail!(
            "{} was compiled, but could not be kept: {reason}",
            facts.name
        ),
    };
    Ok(Warmed {
        name: facts.name.clone(),
        digest: digest.to_string(),
        state,
        milliseconds,
        bytes: code.length,
    })
}

fn line(one: &Warmed) -> String {
    match one.state {
        "cached" => format!(
            "{} was compiled already ({})",
            one.name,
            quantity::bytes(one.bytes)
        ),
        _ => format!(
            "{} compiled in {} ms ({})",
            one.name,
            one.milliseconds,
            quantity::bytes(one.bytes)
        ),
    }
}
