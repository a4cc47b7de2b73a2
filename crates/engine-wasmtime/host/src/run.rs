//! The guest's life: instantiated, called, and its end as an exit code.

use std::fs::File;
use std::io;
use std::sync::Arc;

use skiff_engine::exit::TRAP;
use skiff_engine::notes;
use skiff_engine::order::{CodeKind, Guest};
use tokio::runtime::{Builder, Runtime};
use wasmtime::component::{Accessor, ResourceTable, Val as ComponentVal};
use wasmtime::{Engine, Store, Val};
use wasmtime_wasi::p3::bindings::CommandPre;
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtxBuilder};

use crate::cap::Cap;
use crate::link::{Entry, Linked, LinkedComponent, LinkedModule, ModuleState, State};
use skiff_host::resolver::Resolver;
use skiff_host::sys::signal;
use skiff_wasi_wasmtime::link::drafts::Drafts;
use skiff_wasi_wasmtime::obituary::obituary;
use skiff_wasi_wasmtime::stdio::{Input, Output};

/// The guest's directory, and the only one it has.
const ROOT: &str = "/";
/// Helper threads that components can have at most, where they wait for files and sockets at the same time.
const HELPERS: usize = 4;

/// An event loop on the calling thread.
///
/// # Errors
/// No more descriptors.
pub(crate) fn event_loop() -> std::io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(HELPERS)
        .build()
}

/// Runs the guest to its end, which is the end of the process.
pub(crate) fn run(
    runtime: &Runtime,
    engine: &Engine,
    linked: Linked,
    guest: &Guest,
    log: &'static Log,
) -> ! {
    let cap = Cap::new(guest, log);
    runtime.block_on(async {
        // The process ends while the stores still exist: the kernel takes a guest's memory back faster than
        // destructors could.
        match (wasi(guest, &log.stdio), linked) {
            (Ok(mut wasi), Linked::Module(module)) => {
                let state = ModuleState {
                    wasi: wasi.build_p1(),
                    cap,
                };
                let mut store = Store::new(engine, state);
                if store.data().cap.is_set() {
                    store.limiter(|state| &mut state.cap);
                }
                let result = run_module(&mut store, &module).await;
                finish(result, &store.data().cap, guest, log)
            }
            (Ok(mut wasi), Linked::Component(component)) => {
                let state = State {
                    ctx: wasi.build(),
                    table: ResourceTable::new(),
                    resolver: Arc::new(Resolver::new("/etc")),
                    drafts: Drafts::new(guest),
                    log,
                    cap,
                };
                let mut store = Store::new(engine, state);
                if store.data().cap.is_set() {
                    store.limiter(|state| &mut state.cap);
                }
                if guest.kind == CodeKind::Service {
                    // Its code looks for the end of its time, which is that of the process.
                    store.set_epoch_deadline(u64::MAX / 2);
                }
                let result = run_component(&mut store, component).await;
                finish(result, &store.data().cap, guest, log)
            }
            (Err(error), _) => finish(Err(error), &cap, guest, log),
        }
    })
}

fn finish(result: wasmtime::Result<u8>, cap: &Cap, guest: &Guest, log: &Log) -> ! {
    let code = match result {
        Ok(code) => code,
        Err(error) => match error.downcast_ref::<I32Exit>() {
            Some(I32Exit(code)) => exit_code(*code),
            None => {
                let mut words = cap.complaint().unwrap_or_default();
                if !words.is_empty() {
                    words.push('\n');
                }
                words.push_str(&obituary(&guest.name, "trapped", &error));
                log.last_words(&words);
                signal::end(TRAP)
            }
        },
    };
    exit(code, cap)
}

/// The end that a guest has chosen. One that was refused memory before may have chosen it for that.
pub(crate) fn exit(code: u8, cap: &Cap) -> ! {
    if code != 0 {
        cap.tell();
    }
    signal::end(code)
}

/// From now on the guest has the time that its handler gives it.
///
/// # Errors
/// None are expected.
pub(crate) fn limit_time(guest: &Guest) -> io::Result<()> {
    let Some(limit) = guest.options.time_limit else {
        return Ok(());
    };
    let words = format!(
        "skiff: {} was ended: it has run for {limit:?}, the longest that the handler's option TimeLimit allows",
        guest.name
    );
    signal::end_after(limit, words)
}

/// As the kernel makes one of what a process exits with.
pub(crate) fn exit_code(status: i32) -> u8 {
    u8::try_from(status & 0xff).unwrap_or(u8::MAX)
}

/// Where the host says what became of the guest.
pub(crate) struct Log {
    pub(crate) stdio: Stdio,
    /// See [`skiff_engine::notes`].
    pub(crate) notes: &'static File,
}

impl Log {
    /// Says why the guest ended, to the container's log, and to the shim for the termination message.
    pub(crate) fn last_words(&self, words: &str) {
        self.stdio.complain(words);
        // There is no room for it: the log has it.
        drop(notes::leave_words(self.notes, words));
    }
}

/// The guest's standard streams.
#[derive(Debug)]
pub(crate) struct Stdio {
    input: Input,
    output: Output,
    error: Output,
}

impl Stdio {
    /// Descriptors 0, 1 and 2.
    pub(crate) fn inherited() -> Self {
        Self {
            input: Input::new(rustix::stdio::stdin()),
            output: Output::new(rustix::stdio::stdout()),
            error: Output::new(rustix::stdio::stderr()),
        }
    }

    /// Writes a message of the host to the container's log.
    pub(crate) fn complain(&self, message: &str) {
        // Nobody reads it: then there is nobody to tell, either.
        drop(self.error.write_all(format!("{message}\n").as_bytes()));
    }
}

fn wasi(guest: &Guest, stdio: &Stdio) -> wasmtime::Result<WasiCtxBuilder> {
    let mut wasi = WasiCtxBuilder::new();
    // Before the directory is opened, which remembers it: no thread is needed to read or write a file.
    wasi.allow_blocking_current_thread(true)
        .stdin(stdio.input.again())
        .stdout(stdio.output)
        .stderr(stdio.error)
        .args(&guest.args)
        .initial_cwd(&guest.working_directory)
        .inherit_network()
        .allow_tcp(true)
        .allow_udp(true)
        .preopened_dir(ROOT, ROOT, FsPerms::ReadWrite)?;
    for variable in &guest.env {
        let (key, value) = variable.split_once('=').unwrap_or((variable, ""));
        wasi.env(key, value);
    }
    Ok(wasi)
}

async fn run_module(store: &mut Store<ModuleState>, module: &LinkedModule) -> wasmtime::Result<u8> {
    let instance = module.pre.instantiate_async(&mut *store).await?;
    store.data_mut().cap.instantiated();
    for name in module
        .initialize
        .into_iter()
        .chain([module.function.as_str()])
    {
        // Checked when it was linked.
        let Some(function) = instance.get_func(&mut *store, name) else {
            continue;
        };
        let mut results = vec![Val::I32(0); function.ty(&*store).results().len()];
        function.call_async(&mut *store, &[], &mut results).await?;
    }
    Ok(0)
}

async fn run_component(
    store: &mut Store<State>,
    component: LinkedComponent,
) -> wasmtime::Result<u8> {
    let failed = match component.entry {
        Entry::Run(export) => {
            let instance = component.pre.instantiate_async(&mut *store).await?;
            store.data_mut().cap.instantiated();
            let run = instance
                .get_export_index(&mut *store, None, &export)
                .and_then(|run| instance.get_export_index(&mut *store, Some(&run), "run"));
            let run = run.ok_or_else(|| {
                wasmtime::format_err!("the exported {export} has no function run")
            })?;
            let run = instance.get_typed_func::<(), (Result<(), ()>,)>(&mut *store, &run)?;
            let (result,) = run.call_async(&mut *store, ()).await?;
            result.is_err()
        }
        Entry::RunP3 => {
            let command = CommandPre::new(component.pre)?;
            let command = command.instantiate_async(&mut *store).await?;
            store.data_mut().cap.instantiated();
            let run =
                async |accessor: &Accessor<State>| command.wasi_cli_run().call_run(accessor).await;
            store.run_concurrent(run).await??.is_err()
        }
        Entry::Function(name) => {
            let instance = component.pre.instantiate_async(&mut *store).await?;
            store.data_mut().cap.instantiated();
            let function = instance.get_func(&mut *store, &name);
            let function = function
                .ok_or_else(|| wasmtime::format_err!("there is no function {name} any more"))?;
            let count = function.ty(&*store).results().len();
            let mut results = vec![ComponentVal::Bool(false); count];
            function.call_async(&mut *store, &[], &mut results).await?;
            matches!(results.first(), Some(ComponentVal::Result(Err(_))))
        }
    };
    Ok(u8::from(failed))
}
