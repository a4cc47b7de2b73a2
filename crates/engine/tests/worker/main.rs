//! A compile worker for tests of the driver. What it does is written in the module that it is given:
//! a line `;; do <something>` in the text format, or after a header of the binary format.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use skiff_engine::order::{CodeKind, CompileOrder, Compiled};
use skiff_sandbox::control::{ChildControl, Report, read_order};
use skiff_sandbox::execute::execute;
use skiff_sandbox::plan::Slot;
use skiff_sandbox::sys::process;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let control = ChildControl::inherited()?;
    let order: CompileOrder = read_order()?;
    if let Err(error) = execute(&order.plan) {
        control.report(&Report::Failed(skiff_sandbox::sentence::chain(&error)))?;
        return Ok(());
    }
    let mut input = Vec::new();
    take(order.input)?.read_to_end(&mut input)?;
    let text = String::from_utf8_lossy(&input);
    let what: Vec<&str> = text.split_once(";; do ").map_or(vec![], |(_, rest)| {
        rest.lines().next().unwrap_or("").split(' ').collect()
    });
    let kind = if what.contains(&"component") {
        CodeKind::Component
    } else {
        CodeKind::Module
    };
    let mut output = take(order.output)?;
    let number = || {
        what.get(1)
            .and_then(|text| text.parse::<u64>().ok())
            .unwrap_or(0)
    };
    match what.first().copied().unwrap_or("code") {
        "hang" => loop {
            std::thread::park();
        },
        "spin" => loop {
            std::hint::spin_loop();
        },
        "slow" => std::thread::sleep(Duration::from_millis(number())),
        "abort" => std::process::abort(),
        "stack" => {
            let mut depth = 0;
            deep(&mut depth);
        }
        "leave" => return Ok(()),
        "panic" => return Err("a panic, so to say, with\nlines and \u{1b}[31mcolours".into()),
        "fail" => {
            control.report(&Report::Failed(what[1..].join(" ")))?;
            return Ok(());
        }
        // More than a pipe holds, and on the socket more than anybody would read.
        "shout" => {
            let words = "\u{1b}[31mmany words\n".repeat(100_000);
            std::io::stderr().write_all(words.as_bytes()).ok();
            control.report(&Report::Failed(words))?;
            return Ok(());
        }
        "garbage" => {
            output.write_all(b"code")?;
            control.report(&Report::Done(vec![0xff; 100]))?;
            return Ok(());
        }
        "ready" => {
            control.report(&Report::Ready)?;
            return Ok(());
        }
        "empty" => {
            control.report(&Report::Done(postcard::to_stdvec(&Compiled {
                kind,
                milliseconds: 0,
            })?))?;
            return Ok(());
        }
        "memory" => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(vec![1u8; 1 << 20]);
            }
        }
        "large" => {
            let piece = vec![7; 1 << 16];
            for _ in 0..number() >> 16 {
                if let Err(error) = output.write_all(&piece) {
                    control.report(&Report::Failed(format!(
                        "could not write the code: {error}"
                    )))?;
                    return Ok(());
                }
            }
        }
        "threads" => {
            let mut running = Vec::new();
            for _ in 0..number() {
                match std::thread::Builder::new()
                    .spawn(|| std::thread::sleep(Duration::from_secs(60)))
                {
                    Ok(thread) => running.push(thread),
                    Err(_) => break,
                }
            }
            control.report(&Report::Failed(format!("{} threads", running.len())))?;
            return Ok(());
        }
        "probe" => {
            control.report(&Report::Failed(probe(&output)))?;
            return Ok(());
        }
        _ => {}
    }
    output.write_all(&[b"code of: ", input.as_slice()].concat())?;
    output.sync_all()?;
    control.report(&Report::Done(postcard::to_stdvec(&Compiled {
        kind,
        milliseconds: 5,
    })?))?;
    Ok(())
}

fn take(slot: Slot) -> std::io::Result<File> {
    Ok(process::adopt(slot.fd())?.into())
}

fn deep(depth: &mut u64) -> u64 {
    let mut bulk = [*depth; 512];
    *depth += 1;
    if std::hint::black_box(*depth) < u64::MAX {
        bulk[7] = std::hint::black_box(deep(depth));
    }
    bulk.iter().sum()
}

/// What is within reach, in one line.
fn probe(output: &File) -> String {
    let ok = |result: bool| if result { "yes" } else { "no" };
    let root: Vec<String> = match std::fs::read_dir("/") {
        Ok(entries) => entries
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect(),
        Err(error) => vec![error.to_string()],
    };
    let writable =
        std::fs::write("/file", b"x").is_ok() || std::fs::create_dir("/directory").is_ok();
    let reached =
        std::net::TcpStream::connect_timeout(&([127, 0, 0, 1], 9).into(), Duration::from_secs(1));
    let network = reached.map_or_else(
        |error| format!("{:?}", error.kind()),
        |_| "connected".to_owned(),
    );
    let caps = rustix::thread::capabilities(None).map_or(0, |sets| {
        sets.effective.bits() | sets.permitted.bits() | sets.inheritable.bits()
    });
    let open: Vec<String> = (0..64)
        .filter(|number| process::inherited(*number).is_ok())
        .map(|number| number.to_string())
        .collect();
    let mut read = [0; 1];
    format!(
        "pid={} ppid={} uid={} gid={} groups={} caps={caps} nnp={} root=[{}] writable={} network={network} proc={} open={} output-readable={}",
        std::process::id(),
        rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get()),
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw(),
        rustix::process::getgroups().map_or(99, |groups| groups.len()),
        ok(rustix::thread::no_new_privs().unwrap_or(false)),
        root.join(","),
        ok(writable),
        ok(std::path::Path::new("/proc").exists()),
        open.join(","),
        ok(rustix::io::pread(output.as_fd(), &mut read, 0).is_ok()),
    )
}
