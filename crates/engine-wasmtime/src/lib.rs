//! wasmtime's configuration, the same for the engine host and the compile worker.
//!
//! wasmtime loads compiled code only if the engine that made it was configured like the one that loads it:
//! version string, tunables and proposals are compared. Much of that has defaults that depend on crate features or on
//! environment variables, and the two executables have different crate features by design. So [`config`] sets
//! every such option by name, and both call it. What differs by purpose and is not compared (the compiler's
//! optimisation level, backtrace length) is set where it belongs.
#![forbid(unsafe_code)]

use std::num::NonZeroUsize;

use skiff_engine::options::{CodeOptions, Proposal, Proposals};
use skiff_engine::order::CodeKind;
use wasmtime::{
    Collector, Config, Inlining, InstanceAllocationStrategy, ModuleVersionStrategy,
    ProfilingStrategy, Result, WasmBacktraceDetails,
};

/// Name of the engine in executables (`skiff-host-wasmtime`), handlers and cache keys.
pub const NAME: &str = "wasmtime";

/// Version of the compiled code. wasmtime compares only its own major version by default, so that code made
/// before a fix of the code generator would go on running after it: the whole version and a number of ours,
/// raised whenever [`config`] changes, keep such code apart.
pub const VERSION: &str = "48.0.8+skiff-1";

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// Whether a component with these exports is served: whoever exports a handler of requests is, whatever else it exports.
pub fn is_service<'a>(exports: impl IntoIterator<Item = &'a str>) -> bool {
    exports.into_iter().any(is_handler)
}

/// Whether the interface is one that handles HTTP requests, of a version that is a release.
pub fn is_handler(name: &str) -> bool {
    matches!(
        name.split_once('@'),
        Some(("wasi:http/incoming-handler", version)) if version.starts_with("0.2.") && !version.contains('-')
    ) || matches!(
        name.split_once('@'),
        Some(("wasi:http/handler", version)) if version.starts_with("0.3.") && !version.contains('-')
    )
}

/// The configuration for a host or a worker, for code of this kind.
///
/// # Errors
/// None are expected: the values are constants that wasmtime accepts. A set of proposals that is not complete in itself
/// ([`Proposals::lacking`]) is found out when modules are validated.
pub fn config(options: &CodeOptions, kind: CodeKind) -> Result<Config> {
    let mut config = Config::new();
    config.module_version(ModuleVersionStrategy::Custom(VERSION.to_owned()))?;
    memory(&mut config);
    diagnostics(&mut config, options.lines);
    // A guest that is the whole of its process is ended by a signal to it, and needs no checks of its own. One request among
    // others is interrupted at its next loop or call.
    config.epoch_interruption(kind == CodeKind::Service);
    proposals(&mut config, options.proposals);
    component_model(&mut config, options.wasi_p3);
    Ok(config)
}

/// wasmtime's own defaults for 64-bit machines, written down. The reservations are address space without
/// memory; they let compiled code leave out bounds checks.
fn memory(config: &mut Config) {
    config
        .memory_reservation(4 * GIB)
        .memory_guard_size(32 * MIB)
        .memory_reservation_for_growth(2 * GIB)
        .memory_may_move(true)
        .guard_before_linear_memory(true)
        .memory_init_cow(true)
        .table_lazy_init(true)
        .gc_heap_reservation(4 * GIB)
        .gc_heap_guard_size(32 * MIB)
        .gc_heap_reservation_for_growth(2 * GIB)
        .gc_heap_may_move(true)
        .gc_heap_initial_size(0)
        .signals_based_traps(true)
        // One process runs one guest: a pool of instances would only cost start time and memory.
        .allocation_strategy(InstanceAllocationStrategy::OnDemand)
        .compiler_inlining(Inlining::No);
}

/// What a trap can tell, and nothing that slows the guest down.
fn diagnostics(config: &mut Config, lines: bool) {
    config
        // Left alone, these two follow WASMTIME_BACKTRACE_DETAILS of the environment.
        .wasm_backtrace_details(if lines {
            WasmBacktraceDetails::Enable
        } else {
            WasmBacktraceDetails::Disable
        })
        .wasm_backtrace_max_frames(NonZeroUsize::new(40))
        .generate_address_map(true)
        .debug_info(false)
        .debug_symbols(false)
        // Backtraces of guests follow frame pointers; nothing unwinds through compiled code, and registering
        // its tables costs time at every start.
        .native_unwind_info(false)
        .profiler(ProfilingStrategy::None)
        .consume_fuel(false)
        .relaxed_simd_deterministic(false);
}

fn proposals(config: &mut Config, proposals: Proposals) {
    let allows = |proposal| proposals.allows(proposal);
    config
        .wasm_bulk_memory(allows(Proposal::BulkMemory))
        .wasm_custom_page_sizes(allows(Proposal::CustomPageSizes))
        .wasm_exceptions(allows(Proposal::Exceptions))
        .wasm_extended_const(allows(Proposal::ExtendedConst))
        .wasm_function_references(allows(Proposal::FunctionReferences))
        .wasm_gc(allows(Proposal::Gc))
        .wasm_memory64(allows(Proposal::Memory64))
        .wasm_multi_memory(allows(Proposal::MultiMemory))
        .wasm_multi_value(allows(Proposal::MultiValue))
        .wasm_reference_types(allows(Proposal::ReferenceTypes))
        .wasm_relaxed_simd(allows(Proposal::RelaxedSimd))
        .wasm_simd(allows(Proposal::Simd))
        .wasm_tail_call(allows(Proposal::TailCall))
        .wasm_threads(allows(Proposal::Threads))
        .wasm_wide_arithmetic(allows(Proposal::WideArithmetic))
        // The instructions of the threads proposal are fine, memories shared between threads are not: wasmtime
        // does not treat faults in them as security problems.
        .shared_memory(false)
        .gc_support(true)
        .collector(Collector::Copying)
        .wasm_shared_everything_threads(false)
        .wasm_stack_switching(false);
}

/// `wasi_p3` switches on what WASI 0.3 is made of: the component model's asynchronous part. It costs each store memory
/// and each call time, so it is off otherwise, and code compiled with it and without it is not interchangeable.
fn component_model(config: &mut Config, wasi_p3: bool) {
    config
        .wasm_component_model(true)
        .concurrency_support(wasi_p3)
        .wasm_component_model_async(wasi_p3)
        .wasm_component_model_async_stackful(false)
        .wasm_component_model_error_context(false)
        .wasm_component_model_fixed_length_lists(false)
        .wasm_component_model_gc(false)
        .wasm_component_model_implements(false)
        .wasm_component_model_map(false)
        .wasm_component_model_memory64(false)
        .wasm_component_model_more_async_builtins(false)
        .wasm_component_model_threading(false);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variant_is_valid() {
        let default = CodeOptions::default();
        let valid = |options| {
            wasmtime::Engine::new(&config(&options, CodeKind::Component).unwrap()).map(|_| ())
        };
        for wasi_p3 in [false, true] {
            for lines in [false, true] {
                let options = CodeOptions {
                    wasi_p3,
                    lines,
                    ..default
                };
                valid(options).unwrap();
            }
        }
        for proposal in Proposal::ALL {
            for allowed in [false, true] {
                let proposals = default.proposals.with(proposal, allowed);
                if proposals.lacking().is_none() {
                    valid(CodeOptions {
                        proposals,
                        ..default
                    })
                    .unwrap();
                }
            }
        }
        let none = Proposals::NONE;
        valid(CodeOptions {
            proposals: none,
            ..default
        })
        .unwrap();
        // The one of the dependencies that wasmtime checks here.
        let proposals = none.with(Proposal::RelaxedSimd, true);
        valid(CodeOptions {
            proposals,
            ..default
        })
        .unwrap_err();
    }

    #[test]
    fn version_names_the_engine_that_is_linked() {
        let manifest = include_str!("../../../Cargo.toml");
        let (version, _) = VERSION.split_once('+').unwrap();
        assert!(
            manifest.contains(&format!("wasmtime = {{ version = \"={version}\"")),
            "{VERSION}"
        );
    }
}
