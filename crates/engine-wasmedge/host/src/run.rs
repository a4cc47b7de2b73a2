//! The guest's life: instantiated, called, and its end as an exit code.

use std::collections::HashMap;
use std::fs::File;

use skiff_engine::exit::TRAP;
use skiff_engine::order::Guest;
use skiff_host::sys::signal;
use skiff_sandbox::sentence::chain;
use wasmedge_sdk::config::Config;
use wasmedge_sdk::error::{CoreCommonError, CoreError, WasmEdgeError};
use wasmedge_sdk::vm::SyncInst;
use wasmedge_sdk::wasi::WasiModule;
use wasmedge_sdk::{Module, Store, Vm};

use crate::link::{INITIALIZE, function, is_reactor};

/// The guest's directory, and the only one it has.
const ROOT: &str = "/:/";

/// Runs the guest to its end, which is the end of the process.
pub(crate) fn run(config: &Config, module: &Module, guest: &Guest, notes: &File) -> ! {
    let code = match call(config, module, guest) {
        Ok(code) => code,
        Err(error) => {
            crate::last_words(
                notes,
                &format!("skiff: {} trapped: {}", guest.name, chain(&*error)),
            );
            TRAP
        }
    };
    signal::end(code)
}

fn call(config: &Config, module: &Module, guest: &Guest) -> Result<u8, Box<WasmEdgeError>> {
    let args = guest.args.iter().map(String::as_str).collect();
    let env = guest.env.iter().map(String::as_str).collect();
    let mut wasi = WasiModule::create(Some(args), Some(env), Some(vec![ROOT]))?;
    let mut instances: HashMap<String, &mut dyn SyncInst> = HashMap::new();
    instances.insert(wasi.name().to_owned(), wasi.as_mut());
    let mut vm = Vm::new(Store::new(Some(config), instances)?);
    let result = vm
        .register_module(None, module.clone())
        .map(|_| ())
        .and_then(|()| {
            let initialize = is_reactor(module, guest).then_some(INITIALIZE);
            for name in initialize.into_iter().chain([function(guest)]) {
                vm.run_func(None, name, [])?;
            }
            Ok(())
        });
    // Its destructor does what the end of the process does faster.
    std::mem::forget(vm);
    match result {
        Ok(()) => Ok(exit_code(wasi.exit_code())),
        Err(error) if is_exit(&error) => Ok(exit_code(wasi.exit_code())),
        Err(error) => Err(error),
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
