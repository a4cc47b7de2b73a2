//! An engine host for tests of the shim: no engine, it does what the guest's arguments say.

use std::fs::File;
use std::io::{IsTerminal, Read, Write};
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
    skiff_sandbox::sys::process::ignore_children()?;
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
        Some("environment") => {
            std::io::stdout().write_all(guest.env.join("\n").as_bytes())?;
            return Ok(0.into());
        }
        Some("terminal") => {
            return Ok(ExitCode::from(at_terminal()?));
        }
        // 1,000 lines, or 100,000, and one.
        Some(word @ ("pour" | "flood")) => {
            let lines = if word == "pour" { 1_000 } else { 100_000 };
            let text = "0123456789\n".repeat(lines) + "the last line\n";
            std::io::stdout().write_all(text.as_bytes())?;
            return Ok(number.into());
        }
        _ => {}
    }
    loop {
        std::thread::park();
    }
}

/// Says what it was given, then answers each line.
fn at_terminal() -> Result<u8, Failure> {
    let size = || {
        let size = rustix::termios::tcgetwinsize(std::io::stdin())?;
        Ok::<_, Failure>(format!("size {} {}", size.ws_row, size.ws_col))
    };
    let terminals = [
        std::io::stdin().is_terminal(),
        std::io::stdout().is_terminal(),
        std::io::stderr().is_terminal(),
    ];
    let [stdin, stdout, stderr] = terminals;
    let own = rustix::termios::tcgetsid(std::io::stdin())? == rustix::process::getsid(None)?;
    let mut stdout_stream = std::io::stdout();
    writeln!(
        stdout_stream,
        "terminals: {stdin} {stdout} {stderr}, {}, controlled: {own}",
        size()?
    )?;
    for line in std::io::stdin().lines() {
        match line?.as_str() {
            "size" => writeln!(stdout_stream, "{}", size()?)?,
            "exit" => {
                writeln!(std::io::stderr(), "bye")?;
                return Ok(9);
            }
            other => writeln!(stdout_stream, "read {other}")?,
        }
    }
    writeln!(stdout_stream, "end of file")?;
    Ok(0)
}
