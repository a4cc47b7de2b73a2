//! The WASI cases on wasmtime alone: `skiff-bare-wasmtime MODULE DIRECTORY NAME=VALUE… -- WORD…`.
//!
//! Of each line of its input, a case, it prints the name, how the case ended, and what it wrote to its standard error, with
//! tabs between. The directory is the guest's "/"; the guest has the user and group 1000.
#![expect(
    clippy::print_stdout,
    reason = "what it prints is what the suite reads"
)]

use std::io::BufRead as _;

use rustix::thread::{Gid, Uid, set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use wasmtime::{Config, Engine, Linker, Module, OptLevel, Result, Store};
use wasmtime_wasi::p1::{self, WasiP1Ctx};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtxBuilder};

/// What the engine ends with after a trap, as its command does.
const TRAP: i32 = 134;
/// More than a case writes.
const MOST: usize = 1 << 16;

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let module = words.next().unwrap_or_default();
    let directory = words.next().unwrap_or_default();
    let environment: Vec<(String, String)> = words
        .by_ref()
        .take_while(|word| word != "--")
        .filter_map(|word| {
            let (name, value) = word.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        })
        .collect();
    let last: Vec<String> = words.collect();

    let mut config = Config::new();
    config.cranelift_opt_level(OptLevel::None);
    let engine = Engine::new(&config)?;
    let module = Module::from_file(&engine, module)?;
    let mut linker: Linker<WasiP1Ctx> = Linker::new(&engine);
    p1::add_to_linker_sync(&mut linker, |state| state)?;
    // Threads that are started from now on have it from this one.
    set_thread_groups(&[])?;
    let (user, group) = (Uid::from_raw(1000), Gid::from_raw(1000));
    set_thread_res_gid(group, group, group)?;
    set_thread_res_uid(user, user, user)?;
    for case in std::io::stdin().lock().lines() {
        let case = case?;
        let mut arguments = vec!["/app.wasm".to_owned(), case.clone()];
        arguments.extend(last.iter().cloned());
        let (output, error) = (MemoryOutputPipe::new(MOST), MemoryOutputPipe::new(MOST));
        let mut wasi = WasiCtxBuilder::new();
        wasi.args(&arguments)
            .envs(&environment)
            .stdout(output)
            .stderr(error.clone())
            .preopened_dir(&directory, "/", FsPerms::ReadWrite)?;
        let code = run(&engine, &linker, &module, wasi.build_p1());
        let said = error.contents();
        let said = String::from_utf8_lossy(&said).replace(['\n', '\t'], " ");
        println!("{case}\t{code}\t{}", said.trim_end());
    }
    Ok(())
}

fn run(engine: &Engine, linker: &Linker<WasiP1Ctx>, module: &Module, wasi: WasiP1Ctx) -> i32 {
    let mut store = Store::new(engine, wasi);
    let ended = linker
        .instantiate(&mut store, module)
        .and_then(|instance| instance.get_typed_func::<(), ()>(&mut store, "_start"))
        .and_then(|start| start.call(&mut store, ()));
    match ended {
        Ok(()) => 0,
        Err(error) => error.downcast_ref::<I32Exit>().map_or(TRAP, |exit| exit.0),
    }
}
