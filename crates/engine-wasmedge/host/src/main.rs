//! The WasmEdge engine host: the process that becomes a container and runs its guest in itself.
//!
//! Launched by the shim with a [`HostOrder`], as every engine's host is. WasmEdge loads compiled code by its path, with
//! the dynamic loader: through `/proc/self/fd` while the node's `/proc` is still in sight. There is no compiler in this
//! process: the library's own is a stub beside it.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::ExitCode;

use skiff_engine::notes;
use skiff_engine::options::OptLevel;
use skiff_engine::order::{CodeKind, Guest, HostOrder};
use skiff_host::sys::signal;
use skiff_sandbox::control::{ChildControl, Report, adopt_slot, read_order};
use skiff_sandbox::sentence::chain;
use wasmedge_sdk::Module;
use wasmedge_sdk::config::Config;

use crate::failure::Failure;
use crate::plugins::Plugins;

mod failure;
mod link;
mod plugins;
mod run;
#[expect(
    unsafe_code,
    reason = "functions of the C library are replaced under their own names"
)]
mod sys;
mod syscalls;

/// The host's own failures before the guest runs. The shim has been told the sentence; nobody interprets the code.
const NOT_CREATED: u8 = 1;

fn main() -> ExitCode {
    // It would write to the guest's standard output.
    wasmedge_sdk::log::LogManager::log_off();
    let control = match ChildControl::inherited() {
        Ok(control) => control,
        Err(error) => {
            complain(&format!(
                "skiff-host-wasmedge is started by a Skiff shim, not by hand: {}",
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
    let go = control
        .report(&Report::Ready)
        .and_then(|()| control.wait_for_go());
    match go {
        Ok(true) => {}
        Ok(false) => return NOT_CREATED.into(),
        Err(error) => {
            complain(&chain(&error));
            return NOT_CREATED.into();
        }
    }
    drop(control);
    container.run()
}

/// A container that is created and not started.
struct Container {
    config: Config,
    module: Module,
    plugins: Plugins,
    guest: Guest,
    notes: &'static File,
}

fn become_container() -> Result<Container, Failure> {
    let HostOrder { plan, guest } = read_order()?;
    let slot = |what| move |source| Failure::Slot { what, source };
    let record = adopt_slot(guest.exit_record).map_err(slot("the exit record"))?;
    let entry = adopt_slot(guest.code).map_err(slot("the compiled code"))?;
    // Before the engine is made, which puts handlers of its own before these where traps are made of signals. The
    // record stays open until the end.
    signal::end_on_all(record.as_raw_fd()).map_err(Failure::Signals)?;
    let notes: &'static File = Box::leak(Box::new(File::from(record)));

    if guest.kind == CodeKind::Component {
        return Err(Failure::Component(guest.name));
    }
    let options = &guest.options;
    let config =
        skiff_engine_wasmedge::config(&options.code, OptLevel::default(), options.memory_pages)
            .map_err(Failure::Engine)?;
    let module = load(&config, &entry, &guest)?;
    let plugins = match &options.plugins {
        Some(directory) => Plugins::load(directory)?,
        None => Plugins::default(),
    };
    link::check(&module, &guest, &plugins)?;
    if options.code.statistics {
        sys::statistics::count();
    }
    // Its lock tells the cache that the entry is used.
    std::mem::forget(entry);

    skiff_sandbox::execute::execute(&plan)?;
    Ok(Container {
        config,
        module,
        plugins,
        guest,
        notes,
    })
}

fn load(config: &Config, entry: &OwnedFd, guest: &Guest) -> Result<Module, Failure> {
    let unreadable = |source| Failure::Slot {
        what: "the compiled code",
        source,
    };
    let file = File::from(entry.try_clone().map_err(unreadable)?);
    let module = match skiff_engine_wasmedge::interpreted_module(&file).map_err(unreadable)? {
        Some(module) => Module::from_bytes(Some(config), module),
        None => Module::from_file(Some(config), format!("/proc/self/fd/{}", entry.as_raw_fd())),
    };
    module.map_err(|source| Failure::Code {
        guest: guest.name.clone(),
        source,
    })
}

impl Container {
    fn run(self) -> ! {
        let time = self.guest.options.time_limit.map_or(Ok(()), |limit| {
            let words = format!(
                "skiff: {} was ended: it has run for {limit:?}, the longest that the handler's option TimeLimit allows",
                self.guest.name
            );
            signal::end_after(limit, words)
        });
        let stack = self.guest.options.stack;
        let prepared = time
            .and_then(|()| sys::stack::limit(stack))
            .map_err(|error| chain(&error))
            .and_then(|()| {
                let calls = [syscalls::CALLS, syscalls::HERE, syscalls::OF_PLUGINS];
                let needed = if self.plugins.is_empty() { 2 } else { 3 };
                skiff_host::confine::confine_to(&calls[..needed]).map_err(|error| chain(&error))
            });
        if let Err(reason) = prepared {
            last_words(
                self.notes,
                &format!("skiff: {} was not run: {reason}", self.guest.name),
            );
            signal::end(skiff_engine::exit::TRAP);
        }
        run::run(
            &self.config,
            &self.module,
            &self.plugins,
            &self.guest,
            self.notes,
        )
    }
}

/// Writes a message of the host to the container's log.
pub(crate) fn complain(message: &str) {
    // Nobody reads it: then there is nobody to tell, either.
    drop(std::io::stderr().write_all(format!("{message}\n").as_bytes()));
}

/// Says why the guest ended, to the container's log, and to the shim for the termination message.
fn last_words(notes: &File, words: &str) {
    complain(words);
    drop(notes::leave_words(notes, words));
}
