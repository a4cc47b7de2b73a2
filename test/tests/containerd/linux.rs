//! Linux containers under our shim: what containerd's own shim with runc answers, ours does. Each question is asked of
//! both.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio as Streams;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use skiff_test::command::wait_for;
use skiff_test::image::Image;
use skiff_test::node::{Node, RUNC, Run, SKIFF, Task, Version};
use skiff_test::raw::{Shim, Stdio, code};
use skiff_test::tools;

skiff_test::cases!(
    runs_1_7,
    runs_2_1,
    runs_2_4,
    joined_1_7,
    joined_2_4,
    input_ends,
    at_a_terminal,
    all_are_killed,
    orphans_are_reaped,
    metrics_have_the_same_fields,
    calls_at_any_time,
    refused_by_runc,
    options_act,
    a_killed_shim_leaves_nothing,
    killed_while_it_creates,
    mounts_of_the_root_are_not_the_nodes,
    a_pod_of_wasm_pays_nothing,
);

const PATIENCE: Duration = Duration::from_secs(20);

fn runs_1_7() -> Result<()> {
    runs(Version::V1_7)
}

fn runs_2_1() -> Result<()> {
    runs(Version::V2_1)
}

fn runs_2_4() -> Result<()> {
    runs(Version::V2_4)
}

fn with_busybox(version: Version) -> Result<(Node, Image)> {
    let node = Node::start(version)?;
    let image = Image::busybox("busybox")?.environment(&["FROM=image"]);
    node.import(&image)?;
    Ok((node, image))
}

fn shell<'a>(node: &'a Node, image: &Image, runtime: &str, script: &str) -> Run<'a> {
    node.run(image)
        .runtime(runtime)
        .args(["/bin/sh", "-c", script])
}

fn up<'a>(node: &'a Node, image: &Image, runtime: &str, script: &str) -> Result<Task<'a>> {
    let task = shell(node, image, runtime, &format!("echo up; {script}")).start()?;
    task.wait_for_output("up")?;
    Ok(task)
}

/// Output, error output and code; a signal that the program handles.
fn runs(version: Version) -> Result<()> {
    let (node, image) = with_busybox(version)?;
    for runtime in [RUNC, SKIFF] {
        let ran = shell(&node, &image, runtime, "echo $FROM; echo bad >&2; exit 7").output()?;
        assert_eq!(
            (ran.code, ran.stdout.as_str(), ran.stderr.as_str()),
            (7, "image\n", "bad\n"),
            "{runtime}"
        );
        let script = "trap 'exit 3' TERM; while :; do sleep 0.1; done";
        let task = up(&node, &image, runtime, script)?;
        task.signal("SIGTERM")?.ok()?;
        task.wait_until_stopped(Duration::from_secs(10))?;
        assert_eq!(task.remove()?, 3, "{runtime}");
    }
    Ok(())
}

fn joined_1_7() -> Result<()> {
    joined(Version::V1_7)
}

fn joined_2_4() -> Result<()> {
    joined(Version::V2_4)
}

/// A process joins a container: its own streams, code, directory and user; what it can see is the container's.
fn joined(version: Version) -> Result<()> {
    let (node, image) = with_busybox(version)?;
    for runtime in [RUNC, SKIFF] {
        let task = up(&node, &image, runtime, "echo inside > /tmp.txt; sleep 1000")?;
        let exec = |id: &str, options: &[&str], script: &str| {
            let mut words = vec!["task", "exec", "--exec-id", id];
            words.extend(options);
            words.extend([task.id(), "/bin/sh", "-c", script]);
            node.ctr(&words)
        };
        let script = "cat /tmp.txt; pwd; id -u; echo bad >&2; exit 9";
        let ran = exec("one", &["--cwd", "/bin", "--user", "1000:1000"], script)?;
        assert_eq!(
            (ran.code, ran.stdout.as_str()),
            (9, "inside\n/bin\n1000\n"),
            "{runtime}: {}",
            ran.stderr
        );
        ensure!(ran.stderr.contains("bad\n"), "{runtime}: {}", ran.stderr);
        let ran = exec("two", &[], "kill -9 $$")?;
        assert_eq!(ran.code, 137, "{runtime}");
        let ran = node.ctr(&["task", "exec", "--exec-id", "three", task.id(), "/no/such"])?;
        ensure!(
            ran.code != 0 && ran.stderr.contains("/no/such"),
            "{runtime}: {}",
            ran.stderr
        );
        // The container's end is that of those that joined it.
        let processes =
            || -> Result<usize> { Ok(node.ctr(&["task", "ps", task.id()])?.ok()?.lines().count()) };
        let before = processes()?;
        let mut long = node.ctr_command(&[
            "task",
            "exec",
            "--exec-id",
            "four",
            task.id(),
            "/bin/sleep",
            "1000",
        ]);
        let mut long = long
            .stdout(Streams::null())
            .stderr(Streams::null())
            .spawn()?;
        wait_for("the exec does not start", PATIENCE, || {
            Ok((processes()? > before).then_some(()))
        })?;
        assert_eq!(task.remove()?, 137, "{runtime}");
        assert_eq!(long.wait()?.code(), Some(137), "{runtime}");
    }
    Ok(())
}

/// What is written to it reaches the program, and so does its end.
fn input_ends() -> Result<()> {
    let (node, image) = with_busybox(Version::V2_4)?;
    for runtime in [RUNC, SKIFF] {
        let id = node.new_id("in");
        let mut command = node.ctr_command(&[
            "run",
            "--rm",
            "--runtime",
            runtime,
            image.name(),
            &id,
            "/bin/sh",
            "-c",
            "cat; echo end",
        ]);
        let mut child = command
            .stdin(Streams::piped())
            .stdout(Streams::piped())
            .stderr(Streams::null())
            .spawn()?;
        // A client that is done with its input before there is a task forgets to say so.
        wait_for("it does not start", PATIENCE, || {
            let listed = node.ctr(&["task", "ls"])?.ok()?;
            Ok(listed.contains("RUNNING").then_some(()))
        })?;
        let mut input = child.stdin.take().context("it was asked for")?;
        input.write_all(b"one\ntwo\n")?;
        drop(input);
        let limit = std::time::Instant::now() + PATIENCE;
        while child.try_wait()?.is_none() {
            if std::time::Instant::now() > limit {
                child.kill()?;
                anyhow::bail!("{runtime}: the end of its input does not reach it");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut text = String::new();
        child
            .stdout
            .take()
            .context("it was asked for")?
            .read_to_string(&mut text)?;
        assert_eq!(text, "one\ntwo\nend\n", "{runtime}");
    }
    Ok(())
}

/// A terminal of its own, for the container and for what joins it.
fn at_a_terminal() -> Result<()> {
    let (node, image) = with_busybox(Version::V2_4)?;
    for runtime in [RUNC, SKIFF] {
        let shown = |words: &[&str]| -> Result<(String, Option<i32>)> {
            let command = node.ctr_command(words);
            let mut line = format!("exec {}", command.get_program().display());
            for word in command.get_args() {
                line.push_str(&format!(" '{}'", word.display()));
            }
            let mut script = std::process::Command::new("script");
            script.args(["-q", "-e", "-c", &line, "/dev/null"]);
            script.envs(
                command
                    .get_envs()
                    .filter_map(|(name, value)| value.map(|value| (name, value))),
            );
            let output = script.stdin(Streams::null()).output()?;
            let text = String::from_utf8_lossy(&output.stdout).replace('\r', "");
            Ok((text, output.status.code()))
        };
        let id = node.new_id("tty");
        let (text, code) = shown(&[
            "run",
            "--rm",
            "--tty",
            "--runtime",
            runtime,
            image.name(),
            &id,
            "/bin/sh",
            "-c",
            "test -t 0 && test -t 1 && test -t 2 && echo at a terminal; exit 4",
        ])?;
        ensure!(text.contains("at a terminal\n"), "{runtime}: {text}");
        assert_eq!(code, Some(4), "{runtime}: {text}");
        let task = up(&node, &image, runtime, "sleep 1000")?;
        let (text, code) = shown(&[
            "task",
            "exec",
            "--tty",
            "--exec-id",
            "e",
            task.id(),
            "/bin/sh",
            "-c",
            "test -t 0 && test -t 1 && echo joined at a terminal; exit 6",
        ])?;
        ensure!(text.contains("joined at a terminal\n"), "{runtime}: {text}");
        assert_eq!(code, Some(6), "{runtime}: {text}");
        task.remove()?;
    }
    Ok(())
}

/// `kill --all` reaches every process, also where the pid namespace is another's; and what is left there when the first
/// process ends, ends with it.
fn all_are_killed() -> Result<()> {
    let (node, image) = with_busybox(Version::V2_4)?;
    for runtime in [RUNC, SKIFF] {
        let namespace = format!("pid:/proc/{}/ns/pid", std::process::id());
        for script in [
            "echo up; sleep 1000 & sleep 1000 & wait",
            // Not at once: where the end comes before Start has answered, runc's shim leaves the others alive.
            "sleep 1000 & sleep 1000 & echo up; sleep 1; exit 0",
        ] {
            let task = shell(&node, &image, runtime, script)
                .with(&["--with-ns", &namespace])
                .start()?;
            task.wait_for_output("up")?;
            if script.starts_with("echo") {
                node.ctr(&["task", "kill", "--all", "--signal", "SIGKILL", task.id()])?
                    .ok()?;
            }
            task.wait_until_stopped(PATIENCE)?;
            let path = format!(
                "/sys/fs/cgroup/pids/{}/{}/cgroup.procs",
                node.namespace(),
                task.id()
            );
            wait_for("processes are left", PATIENCE, || {
                Ok(fs::read_to_string(&path)
                    .unwrap_or_default()
                    .is_empty()
                    .then_some(()))
            })?;
            let code = task.remove()?;
            assert_eq!(
                code,
                if script.starts_with("echo") { 137 } else { 0 },
                "{runtime}"
            );
        }
    }
    Ok(())
}

/// A process that loses its parent in the node's own pid namespace becomes the shim's.
fn orphans_are_reaped() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let program = tools::skiff("containerd-shim-skiff-v1")?;
    let script =
        "for n in 1 2 3 4 5 6 7 8 9 10; do (/busybox sleep 0.2 &) ; done; /busybox sleep 1000";
    let shim = raw(&node, &program, &["/busybox", "sh", "-c", script])?;
    change_spec(&shim, |spec| {
        if let Some(kinds) = spec["linux"]["namespaces"].as_array_mut() {
            kinds.retain(|kind| kind["type"] != "pid");
        }
    })?;
    shim.create(&Stdio::default())?;
    shim.run()?;
    let process = shim.connect()?;
    std::thread::sleep(Duration::from_millis(500));
    wait_for("orphans are left", PATIENCE, || {
        let list = fs::read_to_string(format!("/proc/{process}/task/{process}/children"))?;
        Ok((list.split_whitespace().count() == 1).then_some(()))
    })?;
    shim.kill(9)?;
    assert_eq!(shim.wait()?, 137);
    shim.clean()
}

/// Every figure that runc's shim fills, ours fills.
fn metrics_have_the_same_fields() -> Result<()> {
    let (node, image) = with_busybox(Version::V2_4)?;
    let fields = |runtime: &str| -> Result<Vec<String>> {
        let task = up(&node, &image, runtime, "sleep 1000")?;
        let text = node
            .ctr(&["task", "metrics", "--format", "json", task.id()])?
            .ok()?;
        let metrics: serde_json::Value = serde_json::from_str(&text)?;
        let mut names = Vec::new();
        collect("", &metrics, &mut names);
        names.retain(|name| !name.starts_with("/blkio"));
        task.remove()?;
        Ok(names)
    };
    let (theirs, ours) = (fields(RUNC)?, fields(SKIFF)?);
    let missing: Vec<_> = theirs.iter().filter(|name| !ours.contains(name)).collect();
    ensure!(missing.is_empty(), "not filled: {missing:?}");
    Ok(())
}

fn collect(path: &str, value: &serde_json::Value, names: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                collect(&format!("{path}/{name}"), value, names);
            }
        }
        _ => names.push(path.to_owned()),
    }
}

fn raw<'a>(node: &'a Node, program: &Path, arguments: &[&str]) -> Result<Shim<'a>> {
    Shim::start(
        node,
        program,
        &[("busybox", &fs::read("/bin/busybox")?)],
        arguments,
    )
}

fn change_spec(shim: &Shim<'_>, change: impl FnOnce(&mut serde_json::Value)) -> Result<()> {
    let path = shim.bundle().join("config.json");
    let mut spec = serde_json::from_slice(&fs::read(&path)?)?;
    change(&mut spec);
    fs::write(path, spec.to_string())?;
    Ok(())
}

/// The same answers to the same calls, in an order that containerd never sends. Where runc's shim has no word for
/// what is wrong (`UNKNOWN`), ours may.
fn calls_at_any_time() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    // That of 2.4 cannot be started with flags any more.
    let theirs = tools::component("containerd-2.1")?.join("containerd-shim-runc-v2");
    let ours = tools::skiff("containerd-shim-skiff-v1")?;
    let life = |program: &Path| -> Result<Vec<(&'static str, String)>> {
        let mut seen = Vec::new();
        let shim = raw(
            &node,
            program,
            &["/busybox", "sh", "-c", "/busybox sleep 1000"],
        )?;
        seen.push(("state of nothing", code(&shim.state())));
        seen.push(("start of nothing", code(&shim.run())));
        seen.push(("kill of nothing", code(&shim.kill(9))));
        seen.push(("delete of nothing", code(&shim.delete())));
        seen.push(("create", code(&shim.create(&Stdio::default()))));
        seen.push(("state created", state(&shim)?));
        seen.push(("pids created", format!("{:?}", shim.pids())));
        seen.push(("start", code(&shim.run())));
        seen.push(("state running", state(&shim)?));
        seen.push(("start again", code(&shim.run())));
        seen.push(("delete running", code(&shim.delete())));
        seen.push(("no such signal", code(&shim.kill(250))));
        ensure!(!shim.stats()?.is_empty(), "the metrics are empty");
        seen.push(("kill", code(&shim.kill(9))));
        seen.push(("wait", format!("{:?}", shim.wait().ok())));
        seen.push(("state stopped", state(&shim)?));
        seen.push(("kill again", code(&shim.kill(9))));
        seen.push(("start stopped", code(&shim.run())));
        seen.push(("delete", format!("{:?}", shim.delete().ok())));
        seen.push(("delete again", code(&shim.delete())));
        seen.push(("state deleted", code(&shim.state())));
        shim.clean()?;
        // One that is deleted before it was started.
        let shim = raw(&node, program, &["/busybox", "sleep", "1000"])?;
        shim.create(&Stdio::default())?;
        seen.push(("kill created", code(&shim.kill(9))));
        seen.push(("wait created", format!("{:?}", shim.wait().ok())));
        seen.push(("delete created", format!("{:?}", shim.delete().ok())));
        shim.clean()?;
        Ok(seen)
    };
    let (theirs, ours) = (life(&theirs)?, life(&ours)?);
    for (theirs, ours) in theirs.iter().zip(&ours) {
        ensure!(
            theirs == ours
                || theirs.1 == "UNKNOWN" && ours.1 == "FAILED_PRECONDITION"
                || theirs.1 == "UNKNOWN" && ours.1 == "INVALID_ARGUMENT",
            "runc's shim answers {theirs:?}, ours {ours:?}"
        );
    }
    Ok(())
}

fn state(shim: &Shim<'_>) -> Result<String> {
    let state = shim.state()?;
    Ok(format!(
        "{:?} pid {} terminal {} code {} ended {} bundle {} id {}",
        state.status,
        state.pid > 0,
        state.terminal,
        state.exit_status,
        state.exited_at.seconds > 0,
        state.bundle == shim.bundle().display().to_string(),
        state.id == shim.id(),
    ))
}

/// A program that is no file, or no program: runc's own words, in the answer and nothing left.
fn refused_by_runc() -> Result<()> {
    let (node, image) = with_busybox(Version::V2_4)?;
    for runtime in [RUNC, SKIFF] {
        let ran = node
            .run(&image)
            .runtime(runtime)
            .with(&["--cwd", "/bin/busybox/x"])
            .args(["/bin/busybox", "true"])
            .output()?;
        ensure!(ran.code != 0, "{runtime}: a directory in a file");
        ensure!(
            ran.stderr.contains("/bin/busybox") && ran.stderr.contains("not a directory"),
            "{runtime}: {}",
            ran.stderr
        );
    }
    Ok(())
}

/// Another runc by name or path, its state elsewhere, systemd's cgroups, no Linux programs.
fn options_act() -> Result<()> {
    let (node, image) = with_busybox(Version::V2_4)?;
    let place = node.directory().join("logs");
    let with = |options: &str| -> Result<skiff_test::command::Ran> {
        let path = place.join("options.toml");
        fs::write(&path, options)?;
        let path = path.display().to_string();
        shell(&node, &image, SKIFF, "exit 3")
            .with(&["--runtime-config-path", &path])
            .output()
    };
    with("LinuxPrograms = false")?.fails_with(&["/bin/sh", "LinuxPrograms = false"])?;
    with("BinaryName = \"no-such-runc\"")?
        .fails_with(&["no-such-runc is not installed", "BinaryName"])?;
    // One that only says how it was called.
    let fake = place.join("fake-runc");
    let called = place.join("called");
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {}\necho '{{\"level\":\"error\",\"msg\":\"first\"}}\n{{\"level\":\"error\",\"msg\":\"no room\"}}' >> \"$4\"\nexit 1\n",
        called.display()
    );
    fs::write(&fake, script)?;
    fs::set_permissions(&fake, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let options = format!(
        "BinaryName = \"{}\"\nRoot = \"{}/states\"\n",
        fake.display(),
        place.display()
    );
    with(&options)?.fails_with(&["fake-runc create failed: no room"])?;
    let calls = fs::read_to_string(&called)?;
    let first = calls.lines().next().unwrap_or_default();
    let begin = format!(
        "--root {}/states/{} --log ",
        place.display(),
        node.namespace()
    );
    ensure!(first.starts_with(&begin), "{first}");
    for word in ["--log-format json", "create --bundle", "--pid-file"] {
        ensure!(first.contains(word), "{word} is not in {first}");
    }
    // A runc of the user's own, with its state where he wants it.
    let runc = tools::component("runc")?.join("runc");
    let options = format!(
        "BinaryName = \"{}\"\nRoot = \"{}/states\"\n",
        runc.display(),
        place.display()
    );
    assert_eq!(with(&options)?.code, 3);
    ensure!(
        place.join("states").join(node.namespace()).is_dir(),
        "its state was elsewhere"
    );
    Ok(())
}

fn kill(process: u32) -> Result<()> {
    let id = i32::try_from(process).ok().and_then(Pid::from_raw);
    kill_process(id.context("no process id")?, Signal::KILL)?;
    Ok(())
}

fn runc_state(node: &Node, id: &str) -> PathBuf {
    Path::new("/run/containerd/runc")
        .join(node.namespace())
        .join(id)
}

/// A shim that is killed takes nothing with it; containerd's cleanup takes all.
fn a_killed_shim_leaves_nothing() -> Result<()> {
    for version in [Version::V2_4, Version::V1_7] {
        let (node, image) = with_busybox(version)?;
        let task = up(
            &node,
            &image,
            SKIFF,
            "(sleep 1000 &); (sleep 1000 &); sleep 1000",
        )?;
        let id = task.id().to_owned();
        ensure!(
            runc_state(&node, &id).exists(),
            "runc keeps its state elsewhere"
        );
        let shim = node.shims().pop().context("no shim")?;
        kill(shim)?;
        wait_for("containerd does not clean up", PATIENCE, || {
            let listed = node.ctr(&["task", "ls"])?.ok()?;
            Ok((!listed.contains("RUNNING")).then_some(()))
        })?;
        // Some versions keep the task until it is deleted.
        node.ctr(&["task", "delete", &id])?;
        node.ctr(&["container", "rm", &id])?.ok()?;
        wait_for("runc's state is left", PATIENCE, || {
            Ok((!runc_state(&node, &id).exists()).then_some(()))
        })?;
        // Processes, mounts and cgroups are looked for when the node goes.
    }
    Ok(())
}

/// At any moment of Create.
fn killed_while_it_creates() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let program = tools::skiff("containerd-shim-skiff-v1")?;
    for round in 0..25_u64 {
        let shim = raw(&node, &program, &["/busybox", "sleep", "1000"])?;
        let process = shim.connect()?;
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(round * 4));
            kill(process)
        });
        // It may be done before, or not.
        shim.create(&Stdio::default()).ok();
        killer
            .join()
            .map_err(|_| anyhow::anyhow!("the killer panicked"))??;
        let code = shim.delete_by_command()?;
        ensure!(code == 137, "round {round}: delete answers {code}");
        ensure!(
            !runc_state(&node, shim.id()).exists(),
            "round {round}: runc's state is left"
        );
        fs::remove_dir_all(shim.bundle())?;
    }
    Ok(())
}

/// The root is on the node only while the container is made.
fn mounts_of_the_root_are_not_the_nodes() -> Result<()> {
    let (node, image) = with_busybox(Version::V2_4)?;
    let task = up(&node, &image, SKIFF, "sleep 1000")?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let place = format!("{}/rootfs", task.id());
    ensure!(!mounts.contains(&place), "the root is mounted on the node");
    task.remove()?;
    Ok(())
}

/// No thread and no child more, and no descriptor of what Linux containers need.
fn a_pod_of_wasm_pays_nothing() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::layer("layer", &skiff_test::guest::module()?);
    node.import(&image)?;
    let task = node
        .run(&image)
        .guest(&["say", "up", "sleep", "1000"])
        .start()?;
    task.wait_for_output("up")?;
    let shim = node.shims().pop().context("no shim")?;
    let status = fs::read_to_string(format!("/proc/{shim}/status"))?;
    let caught = status
        .lines()
        .find_map(|line| line.strip_prefix("SigCgt:"))
        .context("no SigCgt")?;
    let caught = u64::from_str_radix(caught.trim(), 16)?;
    ensure!(
        caught & (1 << 16) == 0,
        "it is told of the ends of children"
    );
    task.remove()?;
    Ok(())
}
