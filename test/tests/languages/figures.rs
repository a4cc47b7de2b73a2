//! Figures of a guest on an engine: how long its code is compiled, how long a start takes, how much memory it needs.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::fs::OFlags;
use serde_json::json;
use skiff_test::image::Image;
use skiff_test::node::{Node, WASMEDGE};
use skiff_test::raw::{Shim, Stdio};
use skiff_test::{process, tools};

use crate::guests::{self, Guest};
use crate::steps::{INPUT, Place, WORDS};

/// So many starts are measured, and the median of them is told.
const STARTS: usize = 9;

/// How long a guest may be silent.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was measured.
#[derive(Debug)]
pub(crate) struct Figures {
    /// The worker's time for the code that was in no cache.
    pub(crate) compiled: Duration,
    /// From the order to create the container to its first line, with the code in the cache.
    pub(crate) start: Duration,
    /// PSS of the container's process while it waits for its input, in KiB.
    pub(crate) memory: u64,
}

/// On a node whose cache does not have the guest's code.
pub(crate) fn measured(node: &Node, guest: &Guest, bytes: &[u8], runtime: &str) -> Result<Figures> {
    let image = Image::root_file(guest.name, bytes);
    node.import(&image)?;
    let before = node.log().len();
    guests::run(node, &image, guest, runtime, "")?;
    let log = node.log();
    let (compiled, _) = log
        .get(before..)
        .and_then(|log| log.split_once(" was compiled in ")?.1.split_once(" ms"))
        .context("the shim does not say that it compiled the module")?;
    let compiled = Duration::from_millis(compiled.parse()?);
    let (mut starts, mut memory) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let (start, kilobytes) = start(node, guest, bytes, runtime)?;
        starts.push(start);
        memory.push(kilobytes);
    }
    starts.sort();
    memory.sort_unstable();
    Ok(Figures {
        compiled,
        start: starts[STARTS / 2],
        memory: memory[STARTS / 2],
    })
}

/// One container by the task API: the time to its first line, and its memory when it has said all that it says before it reads.
fn start(node: &Node, guest: &Guest, bytes: &[u8], runtime: &str) -> Result<(Duration, u64)> {
    let engine = if runtime == WASMEDGE {
        "wasmedge"
    } else {
        "wasmtime"
    };
    let program = tools::skiff_dir().join(format!("containerd-shim-{engine}-v1"));
    let mut arguments = vec!["/app.wasm"];
    arguments.extend(WORDS);
    let place = Place::new(node)?;
    let shim = Shim::start(node, &program, &[("app.wasm", bytes)], &arguments)?;
    shim.change_spec(|spec| {
        spec["process"]["env"] = json!(["PATH=/bin", "COLOUR=dark blue"]);
        if let Some(mounts) = spec["mounts"].as_array_mut() {
            mounts.push(json!({
                "destination": "/data", "type": "bind", "source": place.path(), "options": ["rbind", "rw"],
            }));
        }
    })?;
    let stdio = Stdio {
        stdin: shim.fifo("in")?,
        stdout: shim.fifo("out")?,
        stderr: String::new(),
    };
    let mut input = both_ways(&stdio.stdin)?;
    let mut output = both_ways(&stdio.stdout)?;
    let began = Instant::now();
    let pid = shim.create(&stdio)?;
    shim.run()?;
    let mut said = read_until(&mut output, "\n", String::new())?;
    let time = began.elapsed();
    if !said.contains("checksum: ") {
        said = read_until(&mut output, "checksum: ", said)?;
    }
    let memory = process::memory(pid, "Pss")?;
    input.write_all(INPUT.as_bytes())?;
    // The end of the input, once every writer is gone.
    drop(input);
    let code = shim.wait()?;
    ensure!(
        i64::from(code) == i64::from(guest.code),
        "it ended with {code} after: {said}"
    );
    shim.clean()?;
    place.remove()?;
    Ok((time, memory))
}

/// Opening for both never blocks, and a reader that opens early loses nothing; nor does reading, which has no end here.
fn both_ways(fifo: &str) -> Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits())?;
    let mut options = File::options();
    options.read(true).write(true).custom_flags(flags);
    Ok(options.open(fifo)?)
}

/// Reads on until these words are there.
fn read_until(output: &mut File, words: &str, mut said: String) -> Result<String> {
    let mut bytes = [0; 4096];
    let end = Instant::now() + PATIENCE;
    while !said.contains(words) {
        match output.read(&mut bytes) {
            Ok(length) => said.push_str(&String::from_utf8_lossy(&bytes[..length])),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                ensure!(Instant::now() < end, "it has not said \"{words}\": {said}");
                std::thread::sleep(Duration::from_micros(50));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(said)
}
