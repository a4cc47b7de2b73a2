//! From created to removed.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::world::{World, has_line, says};

crate::specs!(
    created_does_not_run,
    started_is_running,
    code_of_a_normal_end,
    code_of_an_exit,
    trap_is_a_failure,
    term_ends_a_sleeper_in_its_grace,
    kill_ends_a_spinning_guest,
    times_are_in_order,
    second_start_is_refused,
    stop_of_what_has_ended,
    forced_removal_of_a_running_one,
    removed_is_not_listed,
    two_at_once_in_a_pod,
    another_attempt_in_the_same_pod,
    found_by_its_label,
    metadata_is_kept,
    missing_module_is_a_sentence,
    pod_goes_on_after_a_refusal,
    stopped_pod_has_no_running_container,
    arguments_as_given,
    environment_as_given,
    environment_of_the_image,
    container_environment_over_the_images,
    command_over_the_entrypoint,
);

fn created_does_not_run(world: &World<'_>) -> Result<()> {
    world.pod(|pod| {
        let config = json!({ "args": ["say", "early"] });
        let container = pod
            .try_create(&world.images.guest, &config)?
            .map_err(|ran| anyhow::anyhow!(ran.stderr))?;
        std::thread::sleep(Duration::from_millis(300));
        ensure!(container.status()?["state"] == "CONTAINER_CREATED");
        ensure!(!container.raw_log().unwrap_or_default().contains("early"));
        Ok(())
    })
}

fn started_is_running(world: &World<'_>) -> Result<()> {
    world.sleeping(&json!({}), |container| {
        ensure!(container.status()?["state"] == "CONTAINER_RUNNING");
        Ok(())
    })
}

fn code_of_a_normal_end(world: &World<'_>) -> Result<()> {
    let ended = world.run(&["say", "done"])?;
    ensure!(
        ended.code == 0 && ended.status["reason"] == "Completed",
        "{ended:?}"
    );
    Ok(())
}

fn code_of_an_exit(world: &World<'_>) -> Result<()> {
    let ended = world.run(&["exit", "42"])?;
    ensure!(
        ended.code == 42 && ended.status["reason"] == "Error",
        "{ended:?}"
    );
    Ok(())
}

fn trap_is_a_failure(world: &World<'_>) -> Result<()> {
    let ended = world.run(&["trap"])?;
    ensure!(ended.code != 0, "{ended:?}");
    Ok(())
}

fn term_ends_a_sleeper_in_its_grace(world: &World<'_>) -> Result<()> {
    world.sleeping(&json!({}), |container| {
        let begin = Instant::now();
        container.stop(30)?.ok()?;
        let code = container.wait()?;
        ensure!(
            code == 143 && begin.elapsed() < Duration::from_secs(15),
            "code {code} after {:?}",
            begin.elapsed()
        );
        Ok(())
    })
}

fn kill_ends_a_spinning_guest(world: &World<'_>) -> Result<()> {
    world.pod(|pod| {
        let container = pod.start(&world.images.guest, &json!({ "args": ["spin"] }))?;
        says(&container, "spinning")?;
        container.stop(0)?.ok()?;
        let code = container.wait()?;
        ensure!(code == 137, "code {code}");
        Ok(())
    })
}

fn times_are_in_order(world: &World<'_>) -> Result<()> {
    let ended = world.run(&["sleep", "0.2"])?;
    let time = |field: &str| {
        ended.status[field]
            .as_str()
            .map(str::to_owned)
            .with_context(|| format!("no {field}"))
    };
    let (created, started, finished) =
        (time("createdAt")?, time("startedAt")?, time("finishedAt")?);
    ensure!(
        created < started && started < finished,
        "{created}, {started}, {finished}"
    );
    Ok(())
}

fn second_start_is_refused(world: &World<'_>) -> Result<()> {
    world.sleeping(&json!({}), |container| {
        let ran = world.cri.crictl(&["start", &container.id])?;
        ensure!(ran.code != 0, "it was started twice");
        Ok(())
    })
}

fn stop_of_what_has_ended(world: &World<'_>) -> Result<()> {
    world.pod(|pod| {
        let container = pod.start(&world.images.guest, &json!({ "args": ["exit", "3"] }))?;
        container.wait()?;
        container.stop(1)?.ok()?;
        ensure!(container.status()?["exitCode"] == 3);
        Ok(())
    })
}

fn forced_removal_of_a_running_one(world: &World<'_>) -> Result<()> {
    world.sleeping(&json!({}), |container| {
        let pid = container.pid()?;
        world.cri.crictl(&["rm", "--force", &container.id])?.ok()?;
        ensure!(
            !std::path::Path::new(&format!("/proc/{pid}/root/greeting")).exists(),
            "its process is there"
        );
        Ok(())
    })
}

fn removed_is_not_listed(world: &World<'_>) -> Result<()> {
    world.pod(|pod| {
        let container = pod.start(&world.images.guest, &json!({ "args": ["say", "x"] }))?;
        container.wait()?;
        world.cri.crictl(&["rm", &container.id])?.ok()?;
        let listed = world.cri.crictl(&["ps", "--all", "--quiet"])?.ok()?;
        ensure!(!listed.contains(&container.id), "{listed}");
        Ok(())
    })
}

fn two_at_once_in_a_pod(world: &World<'_>) -> Result<()> {
    world.pod(|pod| {
        let first = world.sleeper(pod, &json!({}))?;
        let second = world.sleeper(pod, &json!({}))?;
        ensure!(
            first.status()?["state"] == "CONTAINER_RUNNING"
                && second.status()?["state"] == "CONTAINER_RUNNING"
        );
        ensure!(first.pid()? != second.pid()?);
        Ok(())
    })
}

fn another_attempt_in_the_same_pod(world: &World<'_>) -> Result<()> {
    world.pod(|pod| {
        for attempt in 0..3 {
            let metadata = json!({ "name": "same", "attempt": attempt });
            let word = format!("attempt {attempt}");
            let config = json!({ "metadata": metadata, "args": ["say", word] });
            has_line(&world.end(pod, &config)?.out, &word)?;
        }
        Ok(())
    })
}

fn found_by_its_label(world: &World<'_>) -> Result<()> {
    world.sleeping(&json!({ "labels": { "colour": "blue" } }), |container| {
        let listed = |label: &str| world.cri.crictl(&["ps", "--quiet", "--label", label])?.ok();
        ensure!(listed("colour=blue")?.contains(&container.id[..10]));
        ensure!(!listed("colour=red")?.contains(&container.id[..10]));
        Ok(())
    })
}

fn metadata_is_kept(world: &World<'_>) -> Result<()> {
    let config = json!({ "annotations": { "note": "kept" }, "metadata": { "name": "its-name", "attempt": 7 } });
    world.sleeping(&config, |container| {
        let status = container.status()?;
        ensure!(
            status["annotations"]["note"] == "kept"
                && status["metadata"]["name"] == "its-name"
                && status["metadata"]["attempt"] == 7,
            "{status}"
        );
        Ok(())
    })
}

fn missing_module_is_a_sentence(world: &World<'_>) -> Result<()> {
    world.pod(|pod| {
        let said = refusal(world, pod, &json!({ "command": ["/nowhere.wasm"] }))?;
        ensure!(said.contains("nowhere.wasm"), "{said}");
        Ok(())
    })
}

fn pod_goes_on_after_a_refusal(world: &World<'_>) -> Result<()> {
    world.pod(|pod| {
        refusal(world, pod, &json!({ "command": ["/nowhere.wasm"] }))?;
        has_line(
            &world.end(pod, &json!({ "args": ["say", "on"] }))?.out,
            "on",
        )
    })
}

/// What is said of a container that cannot be.
fn refusal(world: &World<'_>, pod: &skiff_test::node::Pod<'_>, config: &Value) -> Result<String> {
    match pod.try_create(&world.images.guest, config)? {
        Err(ran) => Ok(ran.stderr),
        Ok(container) => {
            let ran = world.cri.crictl(&["start", &container.id])?;
            ensure!(ran.code != 0, "it was started");
            Ok(ran.stderr)
        }
    }
}

fn stopped_pod_has_no_running_container(world: &World<'_>) -> Result<()> {
    world.pod(|pod| {
        let container = world.sleeper(pod, &json!({}))?;
        world.cri.crictl(&["stopp", &pod.id])?.ok()?;
        ensure!(container.status()?["state"] == "CONTAINER_EXITED");
        Ok(())
    })
}

fn arguments_as_given(world: &World<'_>) -> Result<()> {
    let ended = world.run(&["show", "say", "two words", "say", "", "say", "q\"'\\$x"])?;
    for line in ["arg 3 two words", "arg 5 ", "arg 7 q\"'\\$x"] {
        has_line(&ended.out, line)?;
    }
    Ok(())
}

fn environment_as_given(world: &World<'_>) -> Result<()> {
    let envs = json!([{ "key": "A", "value": "b=c d" }]);
    let ended = world.run_with(&json!({ "args": ["show"], "envs": envs }))?;
    has_line(&ended.out, "env A=b=c d")
}

fn environment_of_the_image(world: &World<'_>) -> Result<()> {
    has_line(&world.run(&["show"])?.out, "env FROM=image")
}

fn container_environment_over_the_images(world: &World<'_>) -> Result<()> {
    let envs = json!([{ "key": "OVER", "value": "container" }]);
    let ended = world.run_with(&json!({ "args": ["show"], "envs": envs }))?;
    has_line(&ended.out, "env OVER=container")?;
    ensure!(!ended.out.contains("env OVER=image"), "{}", ended.out);
    Ok(())
}

fn command_over_the_entrypoint(world: &World<'_>) -> Result<()> {
    let ended =
        world.run_with(&json!({ "command": ["/app.wasm", "show"], "args": ["say", "x"] }))?;
    for line in ["arg 0 /app.wasm", "arg 1 show", "arg 2 say"] {
        has_line(&ended.out, line)?;
    }
    Ok(())
}
