//! The engine for many short-lived instances: their memories, tables and stacks come from a pool that is made once.

use skiff_engine::order::Guest;
use skiff_engine::service::ServiceOptions;
use std::num::NonZeroUsize;
use wasmtime::component::Component;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Result,
};

/// Beside the guest's own stack, room for the host's calls on it.
const BESIDE: usize = (2 << 20) - (512 << 10);
/// Instances beyond those that handle requests: those that are made ahead, and those that are kept.
const SPARE: u32 = 128;
/// What instances of a usual component have of each: its own module, and what adapts it to the component's world.
const CORE_INSTANCES: u32 = 8;
const MEMORIES: u32 = 2;
const TABLES: u32 = 4;
/// Bytes that are wiped by hand and kept when an instance ends, instead of being given back to the kernel and
/// asked for again.
const KEPT_MEMORY: usize = 256 << 10;
const KEPT_TABLE: usize = 16 << 10;
const KEPT_STACK: usize = 32 << 10;

/// The engine for a service. A machine without the address space for the pool gets one without: each instance then
/// asks the kernel for its memory.
///
/// # Errors
/// None are expected.
pub(crate) fn engine(guest: &Guest, options: &ServiceOptions) -> Result<Engine> {
    let mut pooled = config(guest)?;
    pooled.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(options)));
    match Engine::new(&pooled) {
        Ok(engine) => Ok(engine),
        Err(_) => Engine::new(&config(guest)?),
    }
}

fn config(guest: &Guest) -> Result<Config> {
    let options = &guest.options;
    let mut config = skiff_engine_wasmtime::config(&options.code, guest.kind)?;
    let stack = usize::try_from(options.stack)?;
    config
        .max_wasm_stack(stack)
        .async_stack_size(stack.saturating_add(BESIDE));
    if !options.backtrace {
        config.wasm_backtrace_max_frames(None::<NonZeroUsize>);
    }
    Ok(config)
}

fn pool(options: &ServiceOptions) -> PoolingAllocationConfig {
    let instances = instances(options);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(CORE_INSTANCES))
        .total_memories(instances.saturating_mul(MEMORIES))
        .total_tables(instances.saturating_mul(TABLES))
        .total_stacks(instances)
        .total_gc_heaps(instances)
        .max_memory_size(4 << 30)
        .max_memories_per_module(64)
        .max_tables_per_module(64)
        .table_elements(100_000)
        .max_unused_warm_slots(SPARE)
        .linear_memory_keep_resident(KEPT_MEMORY)
        .table_keep_resident(KEPT_TABLE)
        .async_stack_keep_resident(KEPT_STACK)
        // Where the kernel can tell (from 6.7 on), only what an instance has written to is wiped. The file by which it is
        // asked is opened here, before the node's /proc is out of reach.
        .pagemap_scan(Enabled::Auto);
    pool
}

fn instances(options: &ServiceOptions) -> u32 {
    options.concurrency.saturating_add(SPARE)
}

/// How many instances of `component` can handle requests at a time: a composed one may have more memories and tables than
/// the pool reckons with.
pub(crate) fn possible(component: &Component, options: &ServiceOptions) -> u32 {
    let all = instances(options);
    let fit = component.resources_required().map_or(all, |each| {
        let of = |total: u32, each: u32| total.checked_div(each).unwrap_or(all);
        of(all.saturating_mul(MEMORIES), each.num_memories)
            .min(of(all.saturating_mul(TABLES), each.num_tables))
            .min(all)
    });
    fit.saturating_sub(SPARE.min(fit / 2))
        .clamp(1, options.concurrency)
}
