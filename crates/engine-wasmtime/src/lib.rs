//! wasmtime's configuration, the same for the engine host and the compile worker.
//!
//! wasmtime loads compiled code only if the engine that made it was configured like the one that loads it:
//! version string, tunables and proposals are compared. Much of that has defaults that depend on crate features or on
//! environment variables, and the two executables have different crate features by design. So [`config`] sets
//! every such option by name, and both call it. What differs by purpose and is not compared (the compiler's
//! optimisation level, backtrace length) is set where it belongs.
#![forbid(unsafe_code)]

use std::num::NonZeroUsize;

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

/// The configuration for a host or a worker. `wasi_p3` switches on what WASI 0.3 is made of: the component
/// model's asynchronous part. It costs each store memory and each call time, so it is off otherwise, and code
/// compiled with it and without it is not interchangeable.
///
/// # Errors
/// None are expected: the values are constants that wasmtime accepts.
pub fn config(wasi_p3: bool) -> Result<Config> {
    let mut config = Config::new();
    config.module_version(ModuleVersionStrategy::Custom(VERSION.to_owned()))?;
    memory(&mut config);
    diagnostics(&mut config);
    proposals(&mut config, wasi_p3);
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
        .max_wasm_stack(512 << 10)
        .compiler_inlining(Inlining::No);
}

/// What a trap can tell, and nothing that slows the guest down.
fn diagnostics(config: &mut Config) {
    config
        // Left alone, these two follow WASMTIME_BACKTRACE_DETAILS of the environment.
        .wasm_backtrace_details(WasmBacktraceDetails::Enable)
        .wasm_backtrace_max_frames(NonZeroUsize::new(40))
        .generate_address_map(true)
        .debug_info(false)
        .debug_symbols(false)
        // Backtraces of guests follow frame pointers; nothing unwinds through compiled code, and registering
        // its tables costs time at every start.
        .native_unwind_info(false)
        .profiler(ProfilingStrategy::None)
        // A guest is ended by a signal to its process, so it needs no checks of its own.
        .epoch_interruption(false)
        .consume_fuel(false)
        .relaxed_simd_deterministic(false);
}

fn proposals(config: &mut Config, wasi_p3: bool) {
    config
        .wasm_bulk_memory(true)
        .wasm_component_model(true)
        .wasm_exceptions(true)
        .wasm_extended_const(true)
        .wasm_function_references(true)
        .wasm_gc(true)
        .wasm_memory64(true)
        .wasm_multi_memory(true)
        .wasm_multi_value(true)
        .wasm_reference_types(true)
        .wasm_relaxed_simd(true)
        .wasm_simd(true)
        .wasm_tail_call(true)
        .wasm_threads(true)
        // The instructions of the threads proposal are fine, memories shared between threads are not: wasmtime
        // does not treat faults in them as security problems.
        .shared_memory(false)
        .gc_support(true)
        .collector(Collector::Copying)
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
        .wasm_component_model_threading(false)
        .wasm_custom_page_sizes(false)
        .wasm_shared_everything_threads(false)
        .wasm_stack_switching(false)
        .wasm_wide_arithmetic(false);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_variants_are_valid() {
        for wasi_p3 in [false, true] {
            wasmtime::Engine::new(&config(wasi_p3).unwrap()).unwrap();
        }
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
