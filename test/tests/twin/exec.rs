//! Another process in a container. `crictl exec --sync` adds empty lines to what it prints.

use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::world::{World, has_line, says};

crate::specs!(
    output_of_a_module,
    code_of_a_module,
    errors_apart_from_output,
    input_of_a_module,
    sees_what_the_guest_wrote,
    works_while_the_guest_spins,
    timeout_kills,
    unknown_command_is_named,
    refused_when_the_container_has_ended,
    environment_of_the_container,
    ten_at_a_time,
    native_program,
    native_code,
    native_program_in_the_same_pid_namespace,
    end_of_the_container_ends_it,
);

fn output_of_a_module(world: &World<'_>) -> Result<()> {
    world.sleeping(&json!({}), |container| {
        let said = world
            .exec(container, &["/app.wasm", "say", "from exec"])?
            .ok()?;
        ensure!(said.trim_end() == "from exec", "{said:?}");
        Ok(())
    })
}

fn code_of_a_module(world: &World<'_>) -> Result<()> {
    world.sleeping(&json!({}), |container| {
        let ran = world.exec(container, &["/app.wasm", "exit", "7"])?;
        ran.fails_with(&["exited with 7"]).map(drop)
    })
}

fn errors_apart_from_output(world: &World<'_>) -> Result<()> {
    world.sleeping(&json!({}), |container| {
        let words = [
            "exec",
            &container.id,
            "/app.wasm",
            "warn",
            "bad",
            "say",
            "good",
        ];
        let ran = world.cri.crictl(&words)?;
        ensure!(
            ran.stdout == "good\n" && ran.stderr.contains("bad\n"),
            "{ran:?}"
        );
        Ok(())
    })
}

fn input_of_a_module(world: &World<'_>) -> Result<()> {
    world.sleeping(&json!({}), |container| {
        let mut exec = world
            .cri
            .crictl_command(&["exec", "--interactive", &container.id, "/app.wasm", "echo"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut input = exec.stdin.take().context("exec has no input")?;
        input.write_all(b"typed\n")?;
        drop(input);
        let output = exec.wait_with_output()?;
        ensure!(output.stdout == b"typed\n", "{output:?}");
        Ok(())
    })
}

fn sees_what_the_guest_wrote(world: &World<'_>) -> Result<()> {
    let config = json!({ "args": ["write", "/tmp/note", "written", "say", "up", "sleep", "1000"] });
    world.sleeping(&config, |container| {
        let said = world
            .exec(container, &["/app.wasm", "read", "/tmp/note"])?
            .ok()?;
        ensure!(said.trim_end() == "written", "{said:?}");
        Ok(())
    })
}

fn works_while_the_guest_spins(world: &World<'_>) -> Result<()> {
    world.pod(|pod| {
        let container = pod.start(&world.images.guest, &json!({ "args": ["spin"] }))?;
        says(&container, "spinning")?;
        let said = world.exec(&container, &["/app.wasm", "say", "in"])?.ok()?;
        ensure!(said.trim_end() == "in", "{said:?}");
        Ok(())
    })
}

fn timeout_kills(world: &World<'_>) -> Result<()> {
    world.sleeping(&json!({}), |container| {
        let begin = Instant::now();
        let words = [
            "exec",
            "--sync",
            "--timeout",
            "1",
            &container.id,
            "/app.wasm",
            "spin",
        ];
        let ran = world.cri.crictl(&words)?;
        ensure!(
            ran.code != 0 && begin.elapsed() < Duration::from_secs(15),
            "{ran:?}"
        );
        Ok(())
    })
}

fn unknown_command_is_named(world: &World<'_>) -> Result<()> {
    world.sleeping(&json!({}), |container| {
        let ran = world.exec(container, &["no-such-command"])?;
        ran.fails_with(&["no-such-command"]).map(drop)
    })
}

fn refused_when_the_container_has_ended(world: &World<'_>) -> Result<()> {
    world.pod(|pod| {
        let container = pod.start(&world.images.guest, &json!({ "args": ["say", "x"] }))?;
        container.wait()?;
        let ran = world.exec(&container, &["/app.wasm", "say", "late"])?;
        ensure!(ran.code != 0, "{ran:?}");
        Ok(())
    })
}

fn environment_of_the_container(world: &World<'_>) -> Result<()> {
    let envs = json!([{ "key": "COLOUR", "value": "blue" }]);
    world.sleeping(&json!({ "envs": envs }), |container| {
        has_line(
            &world.exec(container, &["/app.wasm", "show"])?.ok()?,
            "env COLOUR=blue",
        )
    })
}

fn ten_at_a_time(world: &World<'_>) -> Result<()> {
    world.sleeping(&json!({}), |container| {
        let mut running = Vec::new();
        for number in 0..10 {
            let word = format!("number {number}");
            let child = world
                .cri
                .crictl_command(&["exec", "--sync", &container.id, "/app.wasm", "say", &word])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()?;
            running.push((word, child));
        }
        for (word, child) in running {
            let output = child.wait_with_output()?;
            ensure!(
                String::from_utf8_lossy(&output.stdout).trim_end() == word,
                "{word}: {output:?}"
            );
        }
        Ok(())
    })
}

fn native_program(world: &World<'_>) -> Result<()> {
    world.sleeping(&json!({}), |container| {
        let said = world
            .exec(container, &["/bin/busybox", "cat", "/greeting"])?
            .ok()?;
        ensure!(said.trim_end() == "good morning", "{said:?}");
        Ok(())
    })
}

fn native_code(world: &World<'_>) -> Result<()> {
    world.sleeping(&json!({}), |container| {
        let ran = world.exec(container, &["/bin/busybox", "sh", "-c", "exit 9"])?;
        ran.fails_with(&["exited with 9"]).map(drop)
    })
}

fn native_program_in_the_same_pid_namespace(world: &World<'_>) -> Result<()> {
    world.sleeping(&json!({}), |container| {
        let own = crate::world::namespace(container, "pid")?;
        let said = world
            .exec(
                container,
                &["/bin/busybox", "readlink", "/proc/self/ns/pid"],
            )?
            .ok()?;
        ensure!(said.trim() == own, "{said} and {own}");
        Ok(())
    })
}

fn end_of_the_container_ends_it(world: &World<'_>) -> Result<()> {
    world.sleeping(&json!({}), |container| {
        let mut exec = world
            .cri
            .crictl_command(&["exec", &container.id, "/app.wasm", "sleep", "1000"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        std::thread::sleep(Duration::from_secs(1));
        container.stop(0)?.ok()?;
        let ended = skiff_test::command::wait_for(
            "exec goes on without its container",
            Duration::from_secs(15),
            || Ok(exec.try_wait()?),
        );
        exec.kill().ok();
        exec.wait()?;
        ended.map(drop)
    })
}
