//! Components: `wasi:cli` 0.2 and, where the handler's options say so, 0.3.
//!
//! Only the interfaces that a component imports are linked: all of WASI costs as much time as the rest of a start.

use skiff_engine::order::Guest;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, HasData, InstancePre, Linker, ResourceTable};
use wasmtime::{Engine, StoreContextMut};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, io, random, sockets};
use wasmtime_wasi::p3;
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView};

use super::{LinkError, State, exported, imports, link_error, names};
use skiff_host::sys::signal;

/// A component that lacks nothing.
pub(crate) struct LinkedComponent {
    /// To be instantiated.
    pub(crate) pre: InstancePre<State>,
    /// What to call.
    pub(crate) entry: Entry,
}

/// The function of a component that is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// `run` of the exported instance with this name, `wasi:cli/run@0.2.x`.
    Run(String),
    /// The same of WASI 0.3, where it is asynchronous.
    RunP3,
    /// An exported function.
    Function(String),
}

type Add = fn(&mut Linker<State>) -> wasmtime::Result<()>;

struct Io;

impl HasData for Io {
    type Data<'a> = &'a mut ResourceTable;
}

/// WASI 0.2, all minor versions of which are one.
const P2: &[(&str, Add)] = &[
    ("wasi:io/error", |l| {
        io::error::add_to_linker::<State, Io>(l, |state| state.ctx().table)
    }),
    ("wasi:io/poll", |l| {
        io::poll::add_to_linker::<State, Io>(l, |state| state.ctx().table)
    }),
    ("wasi:io/streams", |l| {
        io::streams::add_to_linker::<State, Io>(l, |state| state.ctx().table)
    }),
    ("wasi:cli/environment", |l| {
        cli::environment::add_to_linker::<State, WasiCli>(l, State::cli)
    }),
    ("wasi:cli/exit", add_exit),
    ("wasi:cli/stdin", |l| {
        cli::stdin::add_to_linker::<State, WasiCli>(l, State::cli)
    }),
    ("wasi:cli/stdout", |l| {
        cli::stdout::add_to_linker::<State, WasiCli>(l, State::cli)
    }),
    ("wasi:cli/stderr", |l| {
        cli::stderr::add_to_linker::<State, WasiCli>(l, State::cli)
    }),
    ("wasi:cli/terminal-input", |l| {
        cli::terminal_input::add_to_linker::<State, WasiCli>(l, State::cli)
    }),
    ("wasi:cli/terminal-output", |l| {
        cli::terminal_output::add_to_linker::<State, WasiCli>(l, State::cli)
    }),
    ("wasi:cli/terminal-stdin", |l| {
        cli::terminal_stdin::add_to_linker::<State, WasiCli>(l, State::cli)
    }),
    ("wasi:cli/terminal-stdout", |l| {
        cli::terminal_stdout::add_to_linker::<State, WasiCli>(l, State::cli)
    }),
    ("wasi:cli/terminal-stderr", |l| {
        cli::terminal_stderr::add_to_linker::<State, WasiCli>(l, State::cli)
    }),
    ("wasi:clocks/wall-clock", |l| {
        clocks::wall_clock::add_to_linker::<State, WasiClocks>(l, State::clocks)
    }),
    ("wasi:clocks/monotonic-clock", |l| {
        clocks::monotonic_clock::add_to_linker::<State, WasiClocks>(l, State::clocks)
    }),
    ("wasi:filesystem/types", |l| {
        filesystem::types::add_to_linker::<State, WasiFilesystem>(l, State::filesystem)
    }),
    ("wasi:filesystem/preopens", |l| {
        filesystem::preopens::add_to_linker::<State, WasiFilesystem>(l, State::filesystem)
    }),
    ("wasi:random/random", |l| {
        random::random::add_to_linker::<State, WasiRandom>(l, |state| state.ctx.random())
    }),
    ("wasi:random/insecure", |l| {
        random::insecure::add_to_linker::<State, WasiRandom>(l, |state| state.ctx.random())
    }),
    ("wasi:random/insecure-seed", |l| {
        random::insecure_seed::add_to_linker::<State, WasiRandom>(l, |state| state.ctx.random())
    }),
    ("wasi:sockets/network", |l| {
        let options = sockets::network::LinkOptions::default();
        sockets::network::add_to_linker::<State, WasiSockets>(l, &options, State::sockets)
    }),
    ("wasi:sockets/instance-network", |l| {
        sockets::instance_network::add_to_linker::<State, WasiSockets>(l, State::sockets)
    }),
    ("wasi:sockets/ip-name-lookup", names::add_p2),
    ("wasi:sockets/tcp", |l| {
        sockets::tcp::add_to_linker::<State, WasiSockets>(l, State::sockets)
    }),
    ("wasi:sockets/tcp-create-socket", |l| {
        sockets::tcp_create_socket::add_to_linker::<State, WasiSockets>(l, State::sockets)
    }),
    ("wasi:sockets/udp", |l| {
        sockets::udp::add_to_linker::<State, WasiSockets>(l, State::sockets)
    }),
    ("wasi:sockets/udp-create-socket", |l| {
        sockets::udp_create_socket::add_to_linker::<State, WasiSockets>(l, State::sockets)
    }),
];

/// WASI 0.3, by package: it is an option, and who takes it pays for it.
const P3: &[(&str, Add)] = &[
    ("wasi:cli/", |l| p3::cli::add_to_linker(l)),
    ("wasi:clocks/", |l| p3::clocks::add_to_linker(l)),
    ("wasi:filesystem/", |l| p3::filesystem::add_to_linker(l)),
    ("wasi:random/", |l| p3::random::add_to_linker(l)),
    ("wasi:sockets/ip-name-lookup", names::add_p3),
    ("wasi:sockets/types", |l| {
        p3::bindings::sockets::types::add_to_linker::<_, WasiSockets>(l, State::sockets)
    }),
];

/// `wasi:cli/exit`, as [`super::core`] does it.
fn add_exit(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut instance = linker.instance("wasi:cli/exit@0.2.12")?;
    instance.func_wrap(
        "exit",
        |_: StoreContextMut<'_, State>, (status,): (Result<(), ()>,)| -> wasmtime::Result<()> {
            signal::end(u8::from(status.is_err()))
        },
    )?;
    instance.func_wrap(
        "exit-with-code",
        |_: StoreContextMut<'_, State>, (code,): (u8,)| -> wasmtime::Result<()> {
            signal::end(code)
        },
    )
}

pub(super) fn link(
    engine: &Engine,
    component: &Component,
    guest: &Guest,
) -> Result<LinkedComponent, LinkError> {
    let entry = entry(engine, component, guest)?;
    let mut linker: Linker<State> = Linker::new(engine);
    let mut added: Vec<&str> = Vec::new();
    for (name, import) in component.component_type().imports(engine) {
        match provider(name, guest.options.code.wasi_p3) {
            Some((key, add)) if !added.contains(key) => {
                add(&mut linker).map_err(|error| link_error(guest, error))?;
                added.push(key);
            }
            Some(_) => {}
            // Types alone need nobody to provide them.
            None => {
                if let Some(item) = needed(engine, &import.ty) {
                    return Err(imports::unknown(
                        &guest.name,
                        name,
                        &item,
                        guest.options.code.wasi_p3,
                    ));
                }
            }
        }
    }
    let pre = linker
        .instantiate_pre(component)
        .map_err(|error| link_error(guest, error))?;
    Ok(LinkedComponent { pre, entry })
}

/// Who provides an interface: an entry of the tables, its key for knowing it again.
fn provider(name: &str, wasi_p3: bool) -> Option<(&'static &'static str, Add)> {
    let (interface, version) = name.split_once('@')?;
    if version.contains('-') {
        return None;
    }
    if version.starts_with("0.2.") {
        return P2
            .iter()
            .find(|(key, _)| *key == interface)
            .map(|(key, add)| (key, *add));
    }
    if version.starts_with("0.3.") && wasi_p3 {
        return P3
            .iter()
            .find(|(key, _)| interface.starts_with(key))
            .map(|(key, add)| (key, *add));
    }
    None
}

/// The first thing of an import that somebody must provide: a function or resource, `None` for types.
fn needed(engine: &Engine, import: &ComponentItem) -> Option<String> {
    match import {
        ComponentItem::ComponentInstance(instance) => instance
            .exports(engine)
            .find(|(_, export)| !matches!(export.ty, ComponentItem::Type(_)))
            .map(|(name, _)| name.to_owned()),
        ComponentItem::Type(_) => None,
        _ => Some("an item".to_owned()),
    }
}

fn entry(engine: &Engine, component: &Component, guest: &Guest) -> Result<Entry, LinkError> {
    let exports = component.component_type();
    let Some(function) = &guest.function else {
        return default_entry(engine, component, guest);
    };
    match exports.get_export(engine, function).map(|export| export.ty) {
        Some(ComponentItem::ComponentFunc(kind)) if kind.params().len() == 0 => {
            Ok(Entry::Function(function.clone()))
        }
        Some(ComponentItem::ComponentFunc(kind)) => Err(LinkError::Parameters {
            guest: guest.name.clone(),
            function: function.clone(),
            count: kind.params().len(),
        }),
        _ => Err(no_function(engine, component, guest, function)),
    }
}

fn default_entry(
    engine: &Engine,
    component: &Component,
    guest: &Guest,
) -> Result<Entry, LinkError> {
    let exports = component.component_type();
    let mut http = false;
    for (name, _) in exports.exports(engine) {
        match name.split_once('@') {
            Some(("wasi:cli/run", version))
                if version.starts_with("0.2.") && !version.contains('-') =>
            {
                return Ok(Entry::Run(name.to_owned()));
            }
            Some(("wasi:cli/run", version))
                if version.starts_with("0.3.") && guest.options.code.wasi_p3 =>
            {
                return Ok(Entry::RunP3);
            }
            Some(("wasi:cli/run", version)) if version.starts_with("0.3.") => {
                return Err(imports::unknown(&guest.name, name, "run", false));
            }
            Some((interface, _)) => {
                http |=
                    interface == "wasi:http/incoming-handler" || interface == "wasi:http/handler";
            }
            None => {}
        }
    }
    if http {
        return Err(LinkError::NoFunction {
            guest: guest.name.clone(),
            function: "wasi:cli/run".to_owned(),
            hint:
                "it handles HTTP requests (wasi:http), which wasmtime containers do not serve yet"
                    .to_owned(),
        });
    }
    Err(no_function(engine, component, guest, "wasi:cli/run"))
}

fn no_function(engine: &Engine, component: &Component, guest: &Guest, function: &str) -> LinkError {
    let component = component.component_type();
    let names = component
        .exports(engine)
        .filter(|(_, export)| matches!(&export.ty, ComponentItem::ComponentFunc(kind) if kind.params().len() == 0))
        .map(|(name, _)| name.to_owned())
        .collect();
    LinkError::NoFunction {
        guest: guest.name.clone(),
        function: function.to_owned(),
        hint: exported(names),
    }
}
