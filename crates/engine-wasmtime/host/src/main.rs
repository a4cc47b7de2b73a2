//! The wasmtime engine host: the process that becomes a container and runs its guest in itself.
//!
//! Launched by the shim with a [`HostOrder`]. The order of work, in [`become_container`] and [`main`]: handle signals, map
//! the compiled code, execute the plan, link the guest, report that the container is created, wait for its start,
//! confine itself, run. There is no compiler in this executable, and one thread.

use std::fs::File;
use std::num::NonZeroUsize;
use std::process::ExitCode;

use skiff_engine::options::GuestOptions;
use skiff_engine::order::{CodeKind, Guest, HostOrder};
use skiff_host::sys::signal;
use skiff_sandbox::control::{ChildControl, Report, adopt_slot, read_order};
use skiff_sandbox::sentence::chain;
use skiff_wasi_wasmtime::code;
use std::os::fd::{AsFd, AsRawFd};
use tokio::runtime::Runtime;
use wasmtime::Engine;

use crate::failure::Failure;
use crate::link::Linked;
use crate::run::{Log, Stdio};

mod cap;
mod failure;
mod link;
mod run;

/// The host's own failures before the guest runs. The shim has been told the sentence; nobody interprets the code.
const NOT_CREATED: u8 = 1;

fn main() -> ExitCode {
    let stdio = Stdio::inherited();
    let control = match ChildControl::inherited() {
        Ok(control) => control,
        Err(error) => {
            stdio.complain(&format!(
                "skiff-host-wasmtime is started by a Skiff shim, not by hand: {}",
                chain(&error)
            ));
            return NOT_CREATED.into();
        }
    };
    let container = match become_container() {
        Ok(container) => container,
        Err(failure) => {
            control.fail(&chain(&failure));
            return NOT_CREATED.into();
        }
    };
    match started(&control) {
        Ok(true) => {}
        Ok(false) => return NOT_CREATED.into(),
        Err(failure) => {
            stdio.complain(&chain(&failure));
            return NOT_CREATED.into();
        }
    }
    drop(control);
    container.run(stdio)
}

/// A container that is created and not started.
struct Container {
    engine: Engine,
    linked: Linked,
    guest: Guest,
    runtime: Runtime,
    notes: &'static File,
}

fn become_container() -> Result<Container, Failure> {
    let HostOrder { plan, guest } = read_order()?;
    let slot = |what| move |source| Failure::Slot { what, source };
    let record = adopt_slot(guest.exit_record).map_err(slot("the exit record"))?;
    let entry = adopt_slot(guest.code).map_err(slot("the compiled code"))?;
    // Before the engine is made: see the module. The record stays open until the end.
    signal::end_on_all(record.as_raw_fd()).map_err(|source| Failure::Host {
        what: "the handling of signals",
        source,
    })?;
    let notes: &'static File = Box::leak(Box::new(File::from(record)));

    let engine =
        engine(&guest.options, guest.kind).map_err(|error| Failure::Engine(error.into()))?;
    let code =
        code::map_verified(&engine, guest.kind, entry.as_fd()).map_err(|error| Failure::Code {
            guest: guest.name.clone(),
            source: error.into(),
        })?;
    // Its lock tells the cache that the entry is used. A component is mapped through another open file, which
    // has no lock: this one stays open until the end.
    std::mem::forget(entry);

    skiff_sandbox::execute::execute(&plan)?;

    let runtime = run::event_loop().map_err(|source| Failure::Host {
        what: "an event loop",
        source,
    })?;
    let linked = link::link(&engine, &code, &guest)?;
    Ok(Container {
        engine,
        linked,
        guest,
        runtime,
        notes,
    })
}

fn engine(options: &GuestOptions, kind: CodeKind) -> wasmtime::Result<Engine> {
    // Beside the guest's own stack, room for the host's calls on it.
    const BESIDE: usize = (2 << 20) - (512 << 10);
    let mut config = skiff_engine_wasmtime::config(&options.code, kind)?;
    let stack = usize::try_from(options.stack)?;
    config
        .max_wasm_stack(stack)
        .async_stack_size(stack.saturating_add(BESIDE));
    if !options.backtrace {
        config.wasm_backtrace_max_frames(None::<NonZeroUsize>);
    }
    Engine::new(&config)
}

/// Waits for the container's start; `false` if it never comes.
fn started(control: &ChildControl) -> Result<bool, Failure> {
    control.report(&Report::Ready)?;
    Ok(control.wait_for_go()?)
}

impl Container {
    fn run(self, stdio: Stdio) -> ! {
        let log: &'static Log = Box::leak(Box::new(Log {
            stdio,
            notes: self.notes,
        }));
        let prepared = run::limit_time(&self.guest)
            .map_err(|error| chain(&error))
            .and_then(|()| {
                skiff_host::confine::confine(self.guest.kind).map_err(|error| chain(&error))
            });
        if let Err(reason) = prepared {
            log.last_words(&format!("skiff: {} was not run: {reason}", self.guest.name));
            signal::end(skiff_engine::exit::TRAP);
        }
        run::run(&self.runtime, &self.engine, self.linked, &self.guest, log)
    }
}
