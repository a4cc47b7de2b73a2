//! An engine that runs no guest, and tries out itself what an engine can do: each argument is one thing, in order.
#![expect(clippy::print_stdout, reason = "its output is what a test looks at")]

use std::io::Write as _;
use std::net::ToSocketAddrs as _;
use std::process::{Command, ExitCode};

use anyhow::{Result, anyhow, ensure};
use containerd_shim_wasm::sandbox::Sandbox;
use containerd_shim_wasm::sandbox::context::{RuntimeContext, WasmLayer};
use containerd_shim_wasm::shim::{Compiler, Shim};

struct Probe;

impl Shim for Probe {
    type Sandbox = ProbeSandbox;

    fn name() -> &'static str {
        "probe"
    }

    async fn compiler() -> Option<impl Compiler> {
        Some(ProbeCompiler)
    }
}

struct ProbeCompiler;

impl Compiler for ProbeCompiler {
    fn cache_key(&self) -> impl std::hash::Hash {}

    /// "Compiles" a module to a word, and refuses one of 8 bytes, which is the empty one.
    async fn compile(&self, layers: &[WasmLayer]) -> Result<Vec<Option<Vec<u8>>>> {
        ensure!(
            layers.iter().all(|layer| layer.layer.len() > 8),
            "it does not like empty modules"
        );
        Ok(layers.iter().map(|_| Some(b"compiled".to_vec())).collect())
    }
}

#[derive(Default)]
struct ProbeSandbox;

impl Sandbox for ProbeSandbox {
    async fn can_handle(&self, ctx: &impl RuntimeContext) -> Result<()> {
        ensure!(
            ctx.args().iter().all(|word| word != "refuse"),
            "it was told to refuse"
        );
        Ok(())
    }

    async fn run_wasi(&self, ctx: &impl RuntimeContext) -> Result<i32> {
        let mut words = ctx.args().iter().skip(1).map(String::as_str);
        while let Some(word) = words.next() {
            let mut next = || words.next().unwrap_or_default();
            match word {
                "code" => {
                    let source = ctx.entrypoint().source;
                    let code = String::from_utf8_lossy(&source.as_bytes()?).into_owned();
                    println!("code {code} {}", source.is_precompiled()?);
                }
                "open" => open(next()),
                "list" => println!("list {:?}", std::fs::read_dir(next())?.count()),
                "lookup" => println!(
                    "lookup {:?}",
                    (next(), 80).to_socket_addrs().map_err(|error| error.kind())
                ),
                "threads" => threads().await?,
                "unended" => {
                    print!("a line without its end");
                    std::io::stdout().lock().flush()?;
                    print!(" and what is buffered");
                }
                "execute" => println!("execute {:?}", Command::new(next()).status()),
                "panic" => panic!("as it was told"),
                "fail" => return Err(anyhow!("the cause").context("it failed as it was told")),
                "return" => return Ok(next().parse()?),
                other => println!("unknown word {other}"),
            }
        }
        Ok(0)
    }
}

/// `OPEN` is what must not be seen.
fn open(path: &str) {
    let read = std::fs::read(path).map(|bytes| bytes.len());
    let write = std::fs::File::options().append(true).open(path).map(drop);
    let listed = std::fs::read_dir(path).map(Iterator::count);
    match (&read, &write, &listed) {
        (Err(error), Err(_), Err(_)) => println!("closed {path}: {}", error.kind()),
        _ => println!("OPEN {path}: {read:?} {write:?} {listed:?}"),
    }
}

/// Threads of the standard library and of tokio, and its blocking ones.
async fn threads() -> Result<()> {
    let plain = std::thread::spawn(|| 1)
        .join()
        .map_err(|_| anyhow!("a thread panicked"))?;
    let task = tokio::spawn(async {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        2
    });
    let blocking = tokio::task::spawn_blocking(|| 3);
    println!("threads {}", plain + task.await? + blocking.await?);
    Ok(())
}

fn main() -> ExitCode {
    skiff_runwasi::run::<Probe>()
}
