//! An engine host for tests of the shim: no engine, it does what the guest's arguments say.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::process::ExitCode;

use skiff_engine::exit::EarlyRecord;
use skiff_engine::order::HostOrder;
use skiff_sandbox::control::{ChildControl, Report, adopt_slot, read_order};
use skiff_sandbox::execute::execute;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<ExitCode, Failure> {
    let control = ChildControl::inherited()?;
    let HostOrder { plan, guest } = read_order()?;
    let words: Vec<&str> = guest.args.iter().skip(1).map(String::as_str).collect();
    let number = words
        .get(1)
        .and_then(|word| word.parse::<u8>().ok())
        .unwrap_or(0);
    match words.first().copied() {
        Some("die") => return Ok(number.into()),
        Some("fail") => {
            control.report(&Report::Failed(
                "the guest imports moon#rise, which nothing provides".to_owned(),
            ))?;
            return Ok(ExitCode::FAILURE);
        }
        // As a host whose guest's names are made for a log, and for a pipe that nobody reads.
        Some("fail-at-length") => {
            let name = format!("\x1b[31mred\nlevel=fatal {}", "x".repeat(100_000));
            control.fail(&format!("the guest exports {name}"));
            return Ok(ExitCode::FAILURE);
        }
        _ => {}
    }
    if let Err(error) = execute(&plan) {
        control.report(&Report::Failed(skiff_sandbox::sentence::chain(&error)))?;
        return Ok(ExitCode::FAILURE);
    }
    let record = File::from(adopt_slot(guest.exit_record)?);
    control.report(&Report::Ready)?;
    if !control.wait_for_go()? {
        return Ok(ExitCode::FAILURE);
    }
    let exit = |code: u8| {
        record.write_all_at(
            &EarlyRecord {
                code,
                unix_nanos: 5_000_000_000,
            }
            .encode(),
            0,
        )
    };
    match words.first().copied() {
        Some("exit") => {
            exit(number)?;
            return Ok(number.into());
        }
        // As if it were killed between its record and its exit.
        Some("almost-exit") => {
            exit(number)?;
            std::io::stdout().write_all(b"recorded")?;
            std::io::stdout().flush()?;
        }
        // More memory than it may have, in MiB.
        Some("eat") => {
            std::hint::black_box(vec![1_u8; usize::from(number) << 20]);
        }
        Some("cat") => {
            let mut text = Vec::new();
            std::io::stdin().read_to_end(&mut text)?;
            std::io::stdout().write_all(&text)?;
            std::io::stderr().write_all(b"done")?;
            return Ok(number.into());
        }
        _ => {}
    }
    loop {
        std::thread::park();
    }
}
