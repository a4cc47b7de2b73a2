//! WasmEdge's configuration, the same for the engine host and the compile worker.
//!
//! WasmEdge's compiled code does not carry the configuration that it was made under: a host that loads it must have the
//! same one, so both call [`config`], and the cache's key has the options that decide it.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use skiff_engine::options::{CodeOptions, OptLevel, Proposal};
use wasmedge_sdk::config::{
    CommonConfigOptions, CompilerConfigOptions, Config, ConfigBuilder, RuntimeConfigOptions,
    StatisticsConfigOptions,
};
use wasmedge_sdk::error::WasmEdgeError;
use wasmedge_sdk::{CompilerOptimizationLevel, CompilerOutputFormat, RunMode};

/// Name of the engine in executables (`skiff-host-wasmedge`), handlers and cache keys.
pub const NAME: &str = "wasmedge";

/// What "compiled code" begins with that is none: a module for the interpreter, after its length. The cache puts bytes of
/// its own behind an entry, which a module, unlike a shared library, must not have.
const INTERPRETED: &[u8; 8] = b"skiff-i\0";
/// Bytes before the module.
const HEADER: usize = 16;

/// A module for the interpreter, as the worker writes it.
pub fn interpreted(wasm: &[u8]) -> Vec<u8> {
    let mut bytes = INTERPRETED.to_vec();
    bytes.extend(u64::try_from(wasm.len()).unwrap_or(u64::MAX).to_le_bytes());
    bytes.extend(wasm);
    bytes
}

/// The module, if the file of an entry begins with one for the interpreter; `None` if it is native code.
///
/// # Errors
/// The file cannot be read.
pub fn interpreted_module(entry: &File) -> io::Result<Option<Vec<u8>>> {
    let mut header = [0; HEADER];
    entry.read_exact_at(&mut header, 0)?;
    let (magic, length) = header.split_at(INTERPRETED.len());
    if magic != INTERPRETED {
        return Ok(None);
    }
    let length = length.try_into().map_or(u64::MAX, u64::from_le_bytes);
    let most = entry.metadata()?.len();
    let mut module = vec![0; usize::try_from(length.min(most)).map_err(io::Error::other)?];
    entry.read_exact_at(&mut module, HEADER as u64)?;
    Ok(Some(module))
}

/// The most pages of a memory where no option says otherwise: all that addresses of 32 bits reach.
const ALL_PAGES: u32 = 65_536;

/// The configuration for a host or a worker. Only to the host it matters how many `pages` a memory may have.
///
/// # Errors
/// None are expected: the values are constants that WasmEdge accepts.
pub fn config(
    code: &CodeOptions,
    level: OptLevel,
    pages: Option<u32>,
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
    let runtime = RuntimeConfigOptions::new().max_memory_pages(pages.unwrap_or(ALL_PAGES));
    let statistics = StatisticsConfigOptions::new()
        .count_instructions(code.statistics)
        .measure_time(code.statistics);
    ConfigBuilder::new(common)
        .with_compiler_config(compiler)
        .with_runtime_config(runtime)
        .with_statistics_config(statistics)
        .build()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_module_for_the_interpreter_ends_before_what_the_cache_adds() {
        let file = |bytes: &[u8]| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            file
        };
        let mut entry = interpreted(b"\0asm\x01\0\0\0");
        entry.extend(b"a trailer");
        let module = interpreted_module(&file(&entry)).unwrap();
        assert_eq!(module.as_deref(), Some(&b"\0asm\x01\0\0\0"[..]));
        let native = interpreted_module(&file(b"\x7fELF and then some more")).unwrap();
        assert_eq!(native, None);
        interpreted_module(&file(b"short")).unwrap_err();
        entry.truncate(20);
        interpreted_module(&file(&entry)).unwrap_err();
    }
}
