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
use skiff_engine::order::{CodeKind, Guest, HostOrder};
use skiff_host::sys::signal;
use skiff_sandbox::control::{ChildControl, Report, adopt_slot, read_order};
use skiff_sandbox::sentence::chain;
use wasmedge_sdk::Module;
use wasmedge_sdk::config::Config;

use crate::failure::Failure;

mod failure;
mod link;
mod run;
#[expect(
    unsafe_code,
    reason = "the C library's resolver is replaced under its own name"
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
    guest: Guest,
    notes: File,
}

fn become_container() -> Result<Container, Failure> {
    let HostOrder { plan, guest } = read_order()?;
    let slot = |what| move |source| Failure::Slot { what, source };
    let record = adopt_slot(guest.exit_record).map_err(slot("the exit record"))?;
    let entry = adopt_slot(guest.code).map_err(slot("the compiled code"))?;
    // Before the engine is made, which puts handlers of its own before these where traps are made of signals. The
    // record stays open until the end.
    signal::end_on_all(record.as_raw_fd()).map_err(Failure::Signals)?;
    let notes = File::from(record);

    if guest.kind == CodeKind::Component {
        return Err(Failure::Component(guest.name));
    }
    // The shim allows the value, or more of it later: a guest that has started cannot be told of that here.
    let memory = guest
        .options
        .memory_cap
        .as_ref()
        .and_then(|_| notes::memory_cap(&notes));
    let config = skiff_engine_wasmedge::config(
        &guest.options.code,
        skiff_engine::options::OptLevel::default(),
        memory,
    )
    .map_err(Failure::Engine)?;
    let module = load(&config, &entry, &guest)?;
    link::check(&module, &guest)?;
    // Its lock tells the cache that the entry is used.
    std::mem::forget(entry);

    skiff_sandbox::execute::execute(&plan)?;
    Ok(Container {
        config,
        module,
        guest,
        notes,
    })
}

fn load(config: &Config, entry: &OwnedFd, guest: &Guest) -> Result<Module, Failure> {
    let path = format!("/proc/self/fd/{}", entry.as_raw_fd());
    Module::from_file(Some(config), path).map_err(|source| Failure::Code {
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
        let prepared = time.map_err(|error| chain(&error)).and_then(|()| {
            skiff_host::confine::confine_to(&[syscalls::CALLS, syscalls::HERE])
                .map_err(|error| chain(&error))
        });
        if let Err(reason) = prepared {
            last_words(
                &self.notes,
                &format!("skiff: {} was not run: {reason}", self.guest.name),
            );
            signal::end(skiff_engine::exit::TRAP);
        }
        run::run(&self.config, &self.module, &self.guest, &self.notes)
    }
}

/// Writes a message of the host to the container's log.
fn complain(message: &str) {
    // Nobody reads it: then there is nobody to tell, either.
    drop(std::io::stderr().write_all(format!("{message}\n").as_bytes()));
}

/// Says why the guest ended, to the container's log, and to the shim for the termination message.
fn last_words(notes: &File, words: &str) {
    complain(words);
    drop(notes::leave_words(notes, words));
}
