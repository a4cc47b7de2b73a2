//! The serving host of wasmtime: the process that becomes a container and answers HTTP requests with its component.
//!
//! Launched by the shim with a [`ServiceOrder`], for components that export a handler of wasi:http. It does what the host
//! of commands does up to the start (signals, code, plan, link, "ready"), then: confines itself, makes a first instance,
//! opens the port, and answers until it is told to end. There is no compiler in this executable.
//!
//! One thread for each processor that the container may use, each with an event loop of its own: a request is read,
//! handled and answered on one thread. See `docs/http.md` for what users are promised.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::process::ExitCode;

use skiff_engine::order::{Guest, ServiceOrder};
use skiff_engine::service::ServiceOptions;
use skiff_host::sys::signal;
use skiff_sandbox::control::{ChildControl, Report, adopt_slot, read_order};
use skiff_sandbox::sentence::chain;
use skiff_wasi_wasmtime::code;

use crate::failure::Failure;
use crate::log::Log;
use crate::notes::Notes;
use crate::service::Service;

mod answer;
mod body;
mod call;
mod company;
mod connection;
mod drain;
mod engine;
mod environment;
mod epochs;
mod exposition;
mod failure;
mod gate;
mod instance;
mod lines;
mod link;
mod listen;
mod log;
mod memory;
mod metrics;
mod notes;
mod outgoing;
mod patience;
mod reuse;
mod service;
mod state;
mod tasks;
mod workers;

/// The host's own failures before the guest runs. The shim has been told the sentence; nobody interprets the code.
const NOT_CREATED: u8 = 1;

fn main() -> ExitCode {
    let log = Log::inherited();
    let control = match ChildControl::inherited() {
        Ok(control) => control,
        Err(error) => {
            log.say(&format!(
                "skiff-serve-wasmtime is started by a Skiff shim, not by hand: {}",
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
            log.say(&chain(&failure));
            return NOT_CREATED.into();
        }
    }
    drop(control);
    container.serve()
}

/// A container that is created and not started.
struct Container {
    guest: Guest,
    options: ServiceOptions,
    linked: link::Linked,
    notes: Notes,
    drain: drain::Signal,
}

fn become_container() -> Result<Container, Failure> {
    let ServiceOrder {
        plan,
        mut guest,
        service: mut options,
    } = read_order()?;
    let slot = |what| move |source| Failure::Slot { what, source };
    let record = adopt_slot(guest.exit_record).map_err(slot("the exit record"))?;
    let entry = adopt_slot(guest.code).map_err(slot("the compiled code"))?;
    let host = |what| move |source| Failure::Host { what, source };
    // Before the engine is made: it puts its own handlers before these. The record stays open until the end.
    signal::end_on_all(record.as_raw_fd()).map_err(host("the handling of signals"))?;
    // While the node's /proc is still in sight: a file is watched by a path.
    let notes = Notes::watch(Box::leak(Box::new(File::from(record))))
        .map_err(host("the watch on its limits"))?;
    let drain = drain::Signal::new().map_err(host("the signal to end"))?;
    environment::apply(&mut guest, &mut options)?;

    let engine = engine::engine(&guest, &options).map_err(|error| Failure::Engine(error.into()))?;
    let code =
        code::map_verified(&engine, guest.kind, entry.as_fd()).map_err(|error| Failure::Code {
            guest: guest.name.clone(),
            source: error.into(),
        })?;
    // Its lock tells the cache that the entry is used. A component is mapped through another open file, which
    // has no lock: this one stays open until the end.
    std::mem::forget(entry);

    skiff_sandbox::execute::execute(&plan)?;

    let linked = link::link(&engine, &code, &guest)?;
    Ok(Container {
        guest,
        options,
        linked,
        notes,
        drain,
    })
}

/// Waits for the container's start; `false` if it never comes.
fn started(control: &ChildControl) -> Result<bool, Failure> {
    control.report(&Report::Ready)?;
    Ok(control.wait_for_go()?)
}

impl Container {
    fn serve(self) -> ! {
        let log = Log::inherited();
        let notes = self.notes.file();
        let name = self.guest.name.clone();
        let end = |words: String| -> ! {
            log.last_words(notes, &words);
            signal::end(skiff_engine::exit::TRAP);
        };
        if let Err(error) = skiff_host::confine::confine(self.guest.kind) {
            end(format!("skiff: {name} was not run: {}", chain(&error)));
        }
        let service = Service::new(&self.guest, self.options, self.linked, &self.notes, log);
        let service: &'static Service = match service {
            Ok(service) => Box::leak(Box::new(service)),
            Err(error) => end(format!(
                "skiff: {name} was not run: {}",
                chain(error.as_ref())
            )),
        };
        match workers::run(service, &self.notes, &self.drain) {
            Ok(()) => signal::end(0),
            Err(words) => end(words),
        }
    }
}
