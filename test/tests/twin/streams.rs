//! Output, logs, terminals, attach.

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use skiff_test::command::wait_for;

use crate::world::{World, has_line, says};

crate::specs!(
    output_is_tagged,
    errors_are_tagged,
    ten_thousand_lines_in_order,
    long_line_is_cut_and_whole,
    end_without_newline_is_not_lost,
    times_of_lines_do_not_fall,
    letters_of_all_scripts,
    silence_is_an_empty_log,
    last_line_of_the_log,
    terminal_joins_errors_with_output,
    attached_input_reaches_the_guest,
    no_input_is_an_end_of_file,
);

fn output_is_tagged(world: &World<'_>) -> Result<()> {
    let ended = world.run(&["say", "words"])?;
    ensure!(
        ended.log.trim_end().ends_with(" stdout F words"),
        "{}",
        ended.log
    );
    Ok(())
}

fn errors_are_tagged(world: &World<'_>) -> Result<()> {
    let ended = world.run(&["warn", "words"])?;
    ensure!(ended.log.contains(" stderr F words\n"), "{}", ended.log);
    ensure!(ended.err == "words\n" && ended.out.is_empty(), "{ended:?}");
    Ok(())
}

fn ten_thousand_lines_in_order(world: &World<'_>) -> Result<()> {
    let ended = world.run(&["lines", "10000"])?;
    let numbers: Vec<usize> = ended
        .out
        .lines()
        .filter_map(|line| line.split(' ').nth(1)?.parse().ok())
        .collect();
    ensure!(
        numbers == (0..10_000).collect::<Vec<_>>(),
        "{} lines",
        numbers.len()
    );
    Ok(())
}

fn long_line_is_cut_and_whole(world: &World<'_>) -> Result<()> {
    let long: String = "0123456789".repeat(4_000);
    let ended = world.run(&["say", &long])?;
    ensure!(ended.log.contains(" stdout P 0123"), "nothing is cut");
    ensure!(
        ended.out == format!("{long}\n"),
        "{} bytes",
        ended.out.len()
    );
    Ok(())
}

fn end_without_newline_is_not_lost(world: &World<'_>) -> Result<()> {
    let ended = world.run(&["say", "first", "read", "/unended"])?;
    ensure!(
        ended.out.trim_end() == "first\nno newline",
        "{:?}",
        ended.out
    );
    Ok(())
}

fn times_of_lines_do_not_fall(world: &World<'_>) -> Result<()> {
    let ended = world.run(&["say", "a", "sleep", "0.1", "say", "b", "warn", "c"])?;
    let times: Vec<&str> = ended
        .log
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    ensure!(times.len() == 3 && times.is_sorted(), "{times:?}");
    Ok(())
}

fn letters_of_all_scripts(world: &World<'_>) -> Result<()> {
    let words = "žluťoučký 日本語 🦀";
    has_line(&world.run(&["say", words])?.out, words)
}

fn silence_is_an_empty_log(world: &World<'_>) -> Result<()> {
    let ended = world.run(&["sleep", "0"])?;
    ensure!(ended.log.is_empty(), "{}", ended.log);
    Ok(())
}

fn last_line_of_the_log(world: &World<'_>) -> Result<()> {
    world.pod(|pod| {
        let config = json!({ "args": ["say", "one", "say", "two"] });
        let container = pod.start(&world.images.guest, &config)?;
        container.wait()?;
        let tail = world
            .cri
            .crictl(&["logs", "--tail", "1", &container.id])?
            .ok()?;
        ensure!(tail == "two\n", "{tail:?}");
        Ok(())
    })
}

fn terminal_joins_errors_with_output(world: &World<'_>) -> Result<()> {
    let ended = world.run_with(&json!({ "tty": true, "args": ["warn", "words"] }))?;
    ensure!(
        ended.out.trim_end() == "words" && ended.err.is_empty(),
        "{ended:?}"
    );
    Ok(())
}

fn attached_input_reaches_the_guest(world: &World<'_>) -> Result<()> {
    world.pod(|pod| {
        let config = json!({ "stdin": true, "args": ["say", "up", "echo"] });
        let container = pod.start(&world.images.guest, &config)?;
        says(&container, "up")?;
        let mut attach = world
            .cri
            .crictl_command(&["attach", "--stdin", &container.id])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut input = attach.stdin.take().context("attach has no input")?;
        input.write_all(b"typed\n")?;
        input.flush()?;
        let heard = says(&container, "typed");
        drop(input);
        attach.kill().ok();
        attach.wait()?;
        heard
    })
}

fn no_input_is_an_end_of_file(world: &World<'_>) -> Result<()> {
    world.pod(|pod| {
        let config = json!({ "args": ["echo", "say", "ended"] });
        let container = pod.start(&world.images.guest, &config)?;
        wait_for("the guest waits for input", Duration::from_secs(10), || {
            let ended = container.status()?["state"] == "CONTAINER_EXITED";
            Ok(ended.then_some(()))
        })?;
        says(&container, "ended")
    })
}
