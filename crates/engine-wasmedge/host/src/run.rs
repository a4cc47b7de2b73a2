//! The guest's life: instantiated, called, and its end as an exit code.

use std::collections::HashMap;
use std::fs::File;

use skiff_engine::exit::TRAP;
use skiff_engine::order::Guest;
use skiff_host::cap::Cap;
use skiff_host::sys::signal;
use skiff_sandbox::sentence::chain;
use wasmedge_sdk::config::Config;
use wasmedge_sdk::error::{CoreCommonError, CoreError, WasmEdgeError};
use wasmedge_sdk::vm::SyncInst;
use wasmedge_sdk::wasi::WasiModule;
use wasmedge_sdk::{Module, Store, Vm};

use crate::link::{INITIALIZE, function, is_reactor};
use crate::plugins::Plugins;
use crate::sys::{memory, stack, statistics};

/// The guest's directory, and the only one it has.
const ROOT: &str = "/:/";

/// Runs the guest to its end, which is the end of the process.
pub(crate) fn run(
    config: &Config,
    module: &Module,
    plugins: &Plugins,
    guest: &Guest,
    notes: &'static File,
) -> ! {
    let cap = Cap::new(guest, notes);
    if cap.is_set() {
        memory::cap(cap);
    }
    let result = call(config, module, plugins, guest);
    if let Some((count, rate)) = statistics::counted() {
        let name = &guest.name;
        crate::complain(&if rate.is_finite() {
            format!("skiff: {name} executed {count} instructions, {rate:.0} in a second")
        } else {
            format!("skiff: {name} executed {count} instructions")
        });
    }
    // What was refused may be why it ended so.
    let mut words = memory::complaint().unwrap_or_default();
    let code = match result {
        Ok(0) => signal::end(0),
        Ok(code) => code,
        Err(end) => {
            if !words.is_empty() {
                words.push('\n');
            }
            words.push_str(&obituary(guest, &end));
            TRAP
        }
    };
    if !words.is_empty() {
        crate::last_words(notes, &words);
    }
    signal::end(code)
}

/// How a guest ends that does not do so by itself.
enum End {
    /// A trap, or an error of the engine.
    Engine(Box<WasmEdgeError>),
    /// The memory that it declares was refused.
    Memory,
}

impl From<Box<WasmEdgeError>> for End {
    fn from(error: Box<WasmEdgeError>) -> Self {
        Self::Engine(error)
    }
}

fn obituary(guest: &Guest, end: &End) -> String {
    let name = &guest.name;
    match end {
        End::Memory => {
            format!("skiff: {name} was not run: it declares more memory than it may have")
        }
        End::Engine(_) if stack::is_exhausted() => format!(
            "skiff: {name} trapped: call stack exhausted (handler option StackSize: {} KiB)",
            guest.options.stack.min(stack::LARGEST) >> 10
        ),
        End::Engine(error) => format!("skiff: {name} trapped: {}", chain(&**error)),
    }
}

fn call(config: &Config, module: &Module, plugins: &Plugins, guest: &Guest) -> Result<u8, End> {
    let args = guest.args.iter().map(String::as_str).collect();
    let env = guest.env.iter().map(String::as_str).collect();
    let mut wasi = WasiModule::create(Some(args), Some(env), Some(vec![ROOT]))?;
    let mut provided = plugins.instances(module)?;
    let mut instances: HashMap<String, &mut dyn SyncInst> = HashMap::new();
    instances.insert(wasi.name().to_owned(), wasi.as_mut());
    for (name, instance) in &mut provided {
        instances.insert(name.clone(), instance);
    }
    let mut vm = Vm::new(Store::new(Some(config), instances)?);
    let registered = vm.register_module(None, module.clone()).map(drop);
    // A memory that could not be had is an empty one to WasmEdge.
    if !memory::instantiated() {
        return Err(End::Memory);
    }
    let result = registered.and_then(|()| {
        let initialize = is_reactor(module, guest).then_some(INITIALIZE);
        for name in initialize.into_iter().chain([function(guest)]) {
            vm.run_func(None, name, [])?;
        }
        Ok(())
    });
    // Their destructors do what the end of the process does faster.
    std::mem::forget(vm);
    std::mem::forget(provided);
    match result {
        Ok(()) => Ok(exit_code(wasi.exit_code())),
        Err(error) if is_exit(&error) => Ok(exit_code(wasi.exit_code())),
        Err(error) => Err(End::Engine(error)),
    }
}

/// How WasmEdge says that the guest called `proc_exit`.
fn is_exit(error: &WasmEdgeError) -> bool {
    matches!(
        error,
        WasmEdgeError::Core(CoreError::Common(CoreCommonError::Terminated))
    )
}

/// As the kernel makes one of what a process exits with.
fn exit_code(status: u32) -> u8 {
    u8::try_from(status & 0xff).unwrap_or(u8::MAX)
}
