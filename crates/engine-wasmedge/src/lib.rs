//! WasmEdge's configuration, the same for the engine host and the compile worker.
//!
//! WasmEdge's compiled code does not carry the configuration that it was made under: a host that loads it must have the
//! same one, so both call [`config`], and the cache's key has the options that decide it.
#![forbid(unsafe_code)]

use skiff_engine::options::{CodeOptions, OptLevel, Proposal};
use wasmedge_sdk::config::{
    CommonConfigOptions, CompilerConfigOptions, Config, ConfigBuilder, RuntimeConfigOptions,
};
use wasmedge_sdk::error::WasmEdgeError;
use wasmedge_sdk::{CompilerOptimizationLevel, CompilerOutputFormat, RunMode};

/// Name of the engine in executables (`skiff-host-wasmedge`), handlers and cache keys.
pub const NAME: &str = "wasmedge";

/// Bytes of a page of a linear memory.
const PAGE: u64 = 65536;
/// Pages of the largest memory of 32 bits.
const MOST_PAGES: u32 = 65536;

/// The configuration for a host or a worker. `memory`: the most that each of a guest's memories may have, in bytes.
///
/// # Errors
/// None are expected: the values are constants that WasmEdge accepts.
pub fn config(
    code: &CodeOptions,
    level: OptLevel,
    memory: Option<u64>,
) -> Result<Config, Box<WasmEdgeError>> {
    let allows = |proposal| code.proposals.allows(proposal);
    let common = CommonConfigOptions::new()
        .bulk_memory_operations(allows(Proposal::BulkMemory))
        .exception_handling(allows(Proposal::Exceptions))
        .extended_const(allows(Proposal::ExtendedConst))
        .function_references(allows(Proposal::FunctionReferences))
        .gc(allows(Proposal::Gc))
        .memory64(allows(Proposal::Memory64))
        .multi_memories(allows(Proposal::MultiMemory))
        .multi_value(allows(Proposal::MultiValue))
        .reference_types(allows(Proposal::ReferenceTypes))
        .relax_simd(allows(Proposal::RelaxedSimd))
        .simd(allows(Proposal::Simd))
        .tail_call(allows(Proposal::TailCall))
        .threads(allows(Proposal::Threads))
        .mutable_globals(true)
        .non_trap_conversions(true)
        .sign_extension_operators(true)
        .component_model(false)
        // Code that is not native is interpreted under this mode too.
        .run_mode(RunMode::Aot);
    let compiler = CompilerConfigOptions::new()
        // A "universal" module, the other format, is copied into every process that runs it.
        .out_format(CompilerOutputFormat::Native)
        .optimization_level(match level {
            OptLevel::None => CompilerOptimizationLevel::O0,
            OptLevel::Speed => CompilerOptimizationLevel::O3,
            OptLevel::SpeedAndSize => CompilerOptimizationLevel::Os,
        })
        // A guest is ended by a signal to its process, so it needs no checks of its own.
        .interruptible(false)
        .generic_binary(false);
    let pages = memory.map_or(MOST_PAGES, |bytes| {
        u32::try_from(bytes / PAGE).map_or(MOST_PAGES, |pages| pages.clamp(1, MOST_PAGES))
    });
    let runtime = RuntimeConfigOptions::new().max_memory_pages(pages);
    ConfigBuilder::new(common)
        .with_compiler_config(compiler)
        .with_runtime_config(runtime)
        .build()
}
