//! The interfaces of WASI that every component gets, one by one: all of them cost as much time as the rest of a start.

use skiff_engine::order::Guest;
use wasmtime::Engine;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, HasData, Linker, ResourceTable};
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, io, random, sockets};
use wasmtime_wasi::p3;
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView};

use super::{LinkError, Resolves, drafts, link_error, missing, names};

/// Adds an interface to a linker.
pub type Add<T> = fn(&mut Linker<T>) -> wasmtime::Result<()>;

/// What a host has of its own: by interface (`wasi:cli/exit`) and version. Asked before the tables here are.
pub type Own<T> = fn(interface: &str, version: &str, guest: &Guest) -> Option<Add<T>>;

struct Io;

impl HasData for Io {
    type Data<'a> = &'a mut ResourceTable;
}

/// A linker with what `component` imports, and nothing else.
///
/// # Errors
/// Nobody provides an import.
pub fn linker<T: Resolves>(
    engine: &Engine,
    component: &Component,
    guest: &Guest,
    own: Own<T>,
) -> Result<Linker<T>, LinkError> {
    let mut linker: Linker<T> = Linker::new(engine);
    // Functions are the same wherever they are added from.
    let mut added: Vec<(String, bool)> = Vec::new();
    for (name, import) in component.component_type().imports(engine) {
        if drafts::add(&mut linker, name).map_err(|error| link_error(guest, error))? {
            continue;
        }
        match provider(name, guest, own) {
            Some((key, add)) if !added.contains(&key) => {
                add(&mut linker).map_err(|error| link_error(guest, error))?;
                added.push(key);
            }
            Some(_) => {}
            // Types alone need nobody to provide them.
            None => {
                if let Some(item) = needed(engine, &import.ty) {
                    let wasi_p3 = guest.options.code.wasi_p3;
                    return Err(missing::unknown(&guest.name, name, &item, wasi_p3));
                }
            }
        }
    }
    Ok(linker)
}

/// Who provides an interface, and a key to know it again: what is added, and whether it is of WASI 0.3.
fn provider<T: Resolves>(
    name: &str,
    guest: &Guest,
    own: Own<T>,
) -> Option<((String, bool), Add<T>)> {
    let (interface, version) = name.split_once('@')?;
    let wasi_p3 = version.starts_with("0.3.");
    if wasi_p3 && !guest.options.code.wasi_p3 {
        return None;
    }
    if let Some(add) = own(interface, version, guest) {
        return Some(((interface.to_owned(), wasi_p3), add));
    }
    if version.contains('-') {
        return None;
    }
    if version.starts_with("0.2.") {
        return Some(((interface.to_owned(), false), p2(interface)?));
    }
    if wasi_p3 {
        let (key, add) = p3(interface)?;
        return Some(((key.to_owned(), true), add));
    }
    None
}

/// WASI 0.2, all minor versions of which are one.
fn p2<T: Resolves>(interface: &str) -> Option<Add<T>> {
    let add: Add<T> = match interface {
        "wasi:io/error" => |l| io::error::add_to_linker::<T, Io>(l, |state| state.ctx().table),
        "wasi:io/poll" => |l| io::poll::add_to_linker::<T, Io>(l, |state| state.ctx().table),
        "wasi:io/streams" => |l| io::streams::add_to_linker::<T, Io>(l, |state| state.ctx().table),
        "wasi:cli/environment" => |l| cli::environment::add_to_linker::<T, WasiCli>(l, T::cli),
        "wasi:cli/stdin" => |l| cli::stdin::add_to_linker::<T, WasiCli>(l, T::cli),
        "wasi:cli/stdout" => |l| cli::stdout::add_to_linker::<T, WasiCli>(l, T::cli),
        "wasi:cli/stderr" => |l| cli::stderr::add_to_linker::<T, WasiCli>(l, T::cli),
        "wasi:cli/terminal-input" => {
            |l| cli::terminal_input::add_to_linker::<T, WasiCli>(l, T::cli)
        }
        "wasi:cli/terminal-output" => {
            |l| cli::terminal_output::add_to_linker::<T, WasiCli>(l, T::cli)
        }
        "wasi:cli/terminal-stdin" => {
            |l| cli::terminal_stdin::add_to_linker::<T, WasiCli>(l, T::cli)
        }
        "wasi:cli/terminal-stdout" => {
            |l| cli::terminal_stdout::add_to_linker::<T, WasiCli>(l, T::cli)
        }
        "wasi:cli/terminal-stderr" => {
            |l| cli::terminal_stderr::add_to_linker::<T, WasiCli>(l, T::cli)
        }
        "wasi:clocks/wall-clock" => {
            |l| clocks::wall_clock::add_to_linker::<T, WasiClocks>(l, T::clocks)
        }
        "wasi:clocks/monotonic-clock" => {
            |l| clocks::monotonic_clock::add_to_linker::<T, WasiClocks>(l, T::clocks)
        }
        "wasi:filesystem/types" => {
            |l| filesystem::types::add_to_linker::<T, WasiFilesystem>(l, T::filesystem)
        }
        "wasi:filesystem/preopens" => {
            |l| filesystem::preopens::add_to_linker::<T, WasiFilesystem>(l, T::filesystem)
        }
        "wasi:random/random" => {
            |l| random::random::add_to_linker::<T, WasiRandom>(l, |state| state.ctx().ctx.random())
        }
        "wasi:random/insecure" => |l| {
            random::insecure::add_to_linker::<T, WasiRandom>(l, |state| state.ctx().ctx.random())
        },
        "wasi:random/insecure-seed" => |l| {
            random::insecure_seed::add_to_linker::<T, WasiRandom>(l, |state| {
                state.ctx().ctx.random()
            })
        },
        "wasi:sockets/network" => |l| {
            let options = sockets::network::LinkOptions::default();
            sockets::network::add_to_linker::<T, WasiSockets>(l, &options, T::sockets)
        },
        "wasi:sockets/instance-network" => {
            |l| sockets::instance_network::add_to_linker::<T, WasiSockets>(l, T::sockets)
        }
        "wasi:sockets/ip-name-lookup" => names::add_p2::<T>,
        "wasi:sockets/tcp" => |l| sockets::tcp::add_to_linker::<T, WasiSockets>(l, T::sockets),
        "wasi:sockets/tcp-create-socket" => {
            |l| sockets::tcp_create_socket::add_to_linker::<T, WasiSockets>(l, T::sockets)
        }
        "wasi:sockets/udp" => |l| sockets::udp::add_to_linker::<T, WasiSockets>(l, T::sockets),
        "wasi:sockets/udp-create-socket" => {
            |l| sockets::udp_create_socket::add_to_linker::<T, WasiSockets>(l, T::sockets)
        }
        _ => return None,
    };
    Some(add)
}

/// WASI 0.3, by package: it is an option, and who takes it pays for it.
fn p3<T: Resolves>(interface: &str) -> Option<(&'static str, Add<T>)> {
    let packages: [(&'static str, Add<T>); 6] = [
        ("wasi:cli/", |l| p3::cli::add_to_linker(l)),
        ("wasi:clocks/", |l| p3::clocks::add_to_linker(l)),
        ("wasi:filesystem/", |l| p3::filesystem::add_to_linker(l)),
        ("wasi:random/", |l| p3::random::add_to_linker(l)),
        ("wasi:sockets/ip-name-lookup", names::add_p3::<T>),
        ("wasi:sockets/types", |l| {
            p3::bindings::sockets::types::add_to_linker::<_, WasiSockets>(l, T::sockets)
        }),
    ];
    packages
        .into_iter()
        .find(|(key, _)| interface.starts_with(key))
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
