//! The engine host: the process that becomes a container and runs its guest in itself.
//!
//! The engine is a stranger to this program, and so is what it does before the guest runs: not one call of it is made
//! before the process is in its container and has given up what no engine needs. Paths that it opens are the container's.

use std::fs::File;
use std::io::Write as _;
use std::marker::PhantomData;
use std::os::fd::AsRawFd as _;
use std::process::ExitCode;

use containerd_shim_wasm::sandbox::Sandbox as _;
use containerd_shim_wasm::shim::Shim;
use skiff_engine::exit::TRAP;
use skiff_engine::notes;
use skiff_engine::options::{DEFAULT_STACK, GuestOptions};
use skiff_engine::order::{Guest, HostOrder};
use skiff_host::sys::signal;
use skiff_sandbox::control::{ChildControl, Report, adopt_slot, read_order};
use skiff_sandbox::sentence::chain;
use tokio::runtime::Runtime;

use crate::context::Context;
use crate::entry::Entry;
use crate::failure::Failure;
use crate::{calls, engine, sys};

/// The host's own failures before the guest runs. The shim has been told the sentence; nobody interprets the code.
const NOT_CREATED: u8 = 1;

pub(crate) fn main<S: Shim>(name: &str) -> ExitCode {
    let control = match ChildControl::inherited() {
        Ok(control) => control,
        Err(error) => {
            complain(&format!(
                "{name} is started by a Skiff shim, not by hand: {}",
                chain(&error)
            ));
            return NOT_CREATED.into();
        }
    };
    let container = match Container::<S>::create() {
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
struct Container<S: Shim> {
    sandbox: S::Sandbox,
    runtime: Runtime,
    context: Context,
    guest: Guest,
    notes: &'static File,
    shim: PhantomData<S>,
}

impl<S: Shim> Container<S> {
    fn create() -> Result<Self, Failure> {
        let HostOrder { plan, guest } = read_order()?;
        let slot = |what| move |source| Failure::Slot { what, source };
        let record = adopt_slot(guest.exit_record).map_err(slot("the exit record"))?;
        let code = File::from(adopt_slot(guest.code).map_err(slot("the code"))?);
        // Before the engine is made, which may put handlers of its own before these. The record stays open until the end.
        signal::end_on_all(record.as_raw_fd()).map_err(Failure::Signals)?;
        let notes: &'static File = Box::leak(Box::new(File::from(record)));
        check::<S>(&guest.options)?;
        let entry = Entry::read(&code).map_err(|source| Failure::Read {
            what: format!("the code of {}", guest.name),
            source,
        })?;
        // Its lock tells the cache that the entry is used.
        std::mem::forget(code);

        skiff_sandbox::execute::execute(&plan)?;
        skiff_host::confine::confine_to(&[calls::COMMON, calls::HERE, calls::CONTAINER])?;

        let runtime = engine::runtime::<S>()?;
        let refused = |error: &anyhow::Error| Failure::Engine {
            engine: S::name(),
            could_not: format!("cannot run {}", guest.name),
            words: format!("{error:#}"),
        };
        let context = Context::new(&guest, entry).map_err(|error| refused(&error))?;
        let sandbox = engine::call(|| {
            runtime.block_on(async {
                let sandbox = S::Sandbox::default();
                sandbox.can_handle(&context).await.map(|()| sandbox)
            })
        })
        .map_err(|error| refused(&error))?;
        Ok(Self {
            sandbox,
            runtime,
            context,
            guest,
            notes,
            shim: PhantomData,
        })
    }

    fn run(self) -> ! {
        let Self {
            sandbox,
            runtime,
            context,
            guest,
            notes,
            ..
        } = self;
        if let Some(limit) = guest.options.time_limit {
            let words = format!(
                "skiff: {} was ended: it has run for {limit:?}, the longest that the handler's option TimeLimit allows",
                guest.name
            );
            if let Err(error) = signal::end_after(limit, words) {
                last_words(
                    notes,
                    &format!("skiff: {} was not run: {}", guest.name, chain(&error)),
                );
                signal::end(TRAP);
            }
        }
        let end = engine::call(|| runtime.block_on(sandbox.run_wasi(&context)));
        sys::flush();
        let code = match end {
            Ok(code) => exit_code(code),
            Err(error) => {
                let words = format!(
                    "skiff: {} ended with an error of {}: {error:#}",
                    guest.name,
                    S::name()
                );
                last_words(notes, &words);
                TRAP
            }
        };
        signal::end(code)
    }
}

/// As the kernel makes one of what a process exits with.
fn exit_code(code: i32) -> u8 {
    u8::try_from(code & 0xff).unwrap_or(u8::MAX)
}

/// Options that somebody has set and that an engine cannot be told of are no option to be silent about. The cap on
/// memory that nobody has set is the kernel's limit alone.
fn check<S: Shim>(options: &GuestOptions) -> Result<(), Failure> {
    let refuse = |option: String, advice| {
        Err(Failure::Option {
            option,
            engine: S::name(),
            advice,
        })
    };
    match &options.memory_cap {
        Some(cap) if !cap.admits_minimum => {
            return refuse(
                format!("MemoryCap = {:?}", cap.option),
                "leave it out, and give the container a memory limit, which the kernel keeps",
            );
        }
        _ => {}
    }
    if options.stack != DEFAULT_STACK {
        return refuse("StackSize".to_owned(), "leave it out");
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::exit_code;

    #[test]
    fn codes_are_the_kernels() {
        for (code, expected) in [(0, 0), (42, 42), (255, 255), (256, 0), (-1, 255)] {
            assert_eq!(exit_code(code), expected);
        }
    }
}
