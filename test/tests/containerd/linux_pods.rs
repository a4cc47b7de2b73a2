//! Pods with Wasm and Linux containers, as a kubelet makes them: init containers, sidecars, containers for debugging.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use skiff_test::command::{self, wait_for};
use skiff_test::guest;
use skiff_test::image::Image;
use skiff_test::node::{Cri, CriContainer, Node, Version};

skiff_test::cases!(
    init_container_2_4,
    init_container_1_7,
    sidecar_2_4,
    sidecar_1_7,
    shared_process_namespace,
    debug_container,
    stats_and_stop,
    containerd_restarts,
    exec_at_a_terminal,
    a_killed_shim_takes_the_pod,
);

const PATIENCE: Duration = Duration::from_secs(20);

/// References of a Linux image and of one with the tests' guest.
struct Images {
    linux: String,
    wasm: String,
}

fn images(node: &mut Node) -> Result<Images> {
    let registry = node.registry()?;
    Ok(Images {
        linux: registry.push(&Image::busybox("busybox")?, "busybox")?,
        wasm: registry.push(&Image::layer("layer", &guest::module()?), "layer")?,
    })
}

fn pull(cri: &Cri<'_>, images: &Images) -> Result<()> {
    cri.pull(&images.linux)?;
    cri.pull(&images.wasm)
}

/// A Linux container that runs a script, with the pod's directory at `/shared`.
fn script(text: &str, shared: &str) -> Value {
    json!({
        "command": ["/bin/sh", "-c", text],
        "mounts": [{ "container_path": "/shared", "host_path": shared }],
    })
}

fn words(words: &[&str], shared: &str) -> Value {
    json!({
        "args": words,
        "mounts": [{ "container_path": "/shared", "host_path": shared }],
    })
}

fn shared(node: &Node) -> Result<String> {
    let directory = node.directory().join("volume");
    fs::create_dir_all(&directory)?;
    Ok(directory.display().to_string())
}

fn says(container: &CriContainer<'_>, text: &str) -> Result<()> {
    wait_for(&format!("it does not say {text:?}"), PATIENCE, || {
        Ok(container.logs()?.0.contains(text).then_some(()))
    })
}

fn init_container_2_4() -> Result<()> {
    init_container(Version::V2_4)
}

fn init_container_1_7() -> Result<()> {
    init_container(Version::V1_7)
}

/// What a Linux init container has left in a volume, a Wasm container reads; a failed one has its code.
fn init_container(version: Version) -> Result<()> {
    let mut node = Node::start(version)?;
    let images = images(&mut node)?;
    let volume = shared(&node)?;
    let cri = node.cri()?;
    pull(&cri, &images)?;
    let pod = cri.pod("skiff", "pod")?;
    let first = pod.start(
        &images.linux,
        &script("echo made by the first > /shared/file; echo done", &volume),
    )?;
    assert_eq!(first.wait()?, 0);
    assert_eq!(first.logs()?.0, "done\n");
    let failing = pod.start(&images.linux, &script("echo no >&2; exit 12", &volume))?;
    assert_eq!(failing.wait()?, 12);
    assert_eq!(failing.logs()?.1, "no\n");
    let guest = pod.start(&images.wasm, &words(&["read", "/shared/file"], &volume))?;
    assert_eq!(guest.wait()?, 0);
    assert_eq!(guest.logs()?.0, "made by the first\n");
    ensure!(node.shims().len() == 1, "one pod has more than one shim");
    pod.remove()
}

fn sidecar_2_4() -> Result<()> {
    sidecar(Version::V2_4)
}

fn sidecar_1_7() -> Result<()> {
    sidecar(Version::V1_7)
}

/// A Linux sidecar that runs beside a Wasm container: each sees what the other writes, and it outlives the guest.
fn sidecar(version: Version) -> Result<()> {
    let mut node = Node::start(version)?;
    let images = images(&mut node)?;
    let volume = shared(&node)?;
    let cri = node.cri()?;
    pull(&cri, &images)?;
    let pod = cri.pod("skiff", "pod")?;
    let text = "echo up; while [ ! -e /shared/request ]; do sleep 0.05; done; cat /shared/request; \
                echo answer > /shared/answer; trap 'exit 5' TERM; while :; do sleep 0.1; done";
    let sidecar = pod.start(&images.linux, &script(text, &volume))?;
    says(&sidecar, "up\n")?;
    let guest = pod.start(
        &images.wasm,
        &words(
            &[
                "write",
                "/shared/request",
                "asked\n",
                "sleep",
                "1",
                "read",
                "/shared/answer",
            ],
            &volume,
        ),
    )?;
    assert_eq!(guest.wait()?, 0);
    says(&sidecar, "asked\n")?;
    ensure!(guest.logs()?.0.contains("answer\n"), "{:?}", guest.logs()?);
    assert_eq!(sidecar.status()?["state"], "CONTAINER_RUNNING");
    // The network is the pod's: what one serves on loopback, another reaches.
    let text = "port=18087; (echo -n served | nc -l -p $port 127.0.0.1 > /dev/null &) ; sleep 0.3; nc 127.0.0.1 $port < /dev/null";
    let both = pod.start(&images.linux, &script(text, &volume))?;
    assert_eq!(both.wait()?, 0);
    sidecar.stop(10)?.ok()?;
    assert_eq!(sidecar.wait()?, 5);
    pod.remove()
}

/// With the pod's own pid namespace the containers see each other; without, they do not.
fn shared_process_namespace() -> Result<()> {
    let mut node = Node::start(Version::V2_4)?;
    let images = images(&mut node)?;
    let volume = shared(&node)?;
    let cri = node.cri()?;
    pull(&cri, &images)?;
    let pod = cri.pod("skiff", "pod")?;
    let guest = pod.start(
        &images.wasm,
        &words(&["say", "up", "sleep", "1000"], &volume),
    )?;
    says(&guest, "up\n")?;
    // 0 is the pod's, 1 the container's.
    for (kind, sees) in [(0, true), (1, false)] {
        let mut config = script("ps -o pid,args; (sleep 1000 &); (sleep 1000 &)", &volume);
        config["linux"] =
            json!({ "security_context": { "namespace_options": { "network": 2, "pid": kind } } });
        let container = pod.start(&images.linux, &config)?;
        assert_eq!(container.wait()?, 0);
        let (shown, _) = container.logs()?;
        ensure!(
            shown.contains("skiff-pause") == sees || shown.contains("pause") == sees,
            "{kind}: {shown}"
        );
        ensure!(shown.contains("skiff-host") == sees, "{kind}: {shown}");
        // What it left in a namespace that goes on has ended with it.
        let pids = fs::read_to_string(format!(
            "/sys/fs/cgroup/pids/{}/{}/cgroup.procs",
            node.namespace(),
            container.id
        ));
        ensure!(
            pids.unwrap_or_default().is_empty(),
            "{kind}: processes are left"
        );
    }
    pod.remove()
}

/// An ephemeral container, which joins the pid namespace of another container while that runs.
fn debug_container() -> Result<()> {
    let mut node = Node::start(Version::V2_4)?;
    let images = images(&mut node)?;
    let volume = shared(&node)?;
    let cri = node.cri()?;
    pull(&cri, &images)?;
    let pod = cri.pod("skiff", "pod")?;
    let mut own = words(&["say", "up", "sleep", "1000"], &volume);
    own["linux"] =
        json!({ "security_context": { "namespace_options": { "network": 2, "pid": 1 } } });
    let guest = pod.start(&images.wasm, &own)?;
    says(&guest, "up\n")?;
    let mut config = script("ps -o pid,args", &volume);
    // 3 is that of the container that is named.
    config["linux"] = json!({ "security_context": { "namespace_options": {
        "network": 2, "pid": 3, "target_id": guest.id,
    } } });
    let debug = pod.start(&images.linux, &config)?;
    assert_eq!(debug.wait()?, 0);
    let (shown, _) = debug.logs()?;
    ensure!(shown.contains("1 skiff-host"), "{shown}");
    assert_eq!(guest.status()?["state"], "CONTAINER_RUNNING");
    pod.remove()
}

fn stats_and_stop() -> Result<()> {
    let mut node = Node::start(Version::V2_4)?;
    let images = images(&mut node)?;
    let volume = shared(&node)?;
    let cri = node.cri()?;
    pull(&cri, &images)?;
    let pod = cri.pod("skiff", "pod")?;
    let spinning = pod.start(
        &images.linux,
        &script("echo up; while :; do :; done", &volume),
    )?;
    says(&spinning, "up\n")?;
    wait_for("no processor time is counted", PATIENCE, || {
        let text = cri
            .crictl(&["stats", "--output", "json", &spinning.id])?
            .ok()?;
        let stats: Value = serde_json::from_str(&text)?;
        let used = &stats["stats"][0]["cpu"]["usageCoreNanoSeconds"]["value"];
        let used: u64 = used
            .as_str()
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        Ok((used > 100_000_000).then_some(()))
    })?;
    spinning.stop(5)?.ok()?;
    assert_eq!(spinning.wait()?, 143);
    pod.remove()
}

/// containerd that comes back finds the containers, and is told of their ends.
fn containerd_restarts() -> Result<()> {
    for version in [Version::V2_4, Version::V1_7] {
        let node = &mut Node::start(version)?;
        let image = Image::busybox("busybox")?;
        node.import(&image)?;
        let script = "echo up; while [ ! -e /tmp-end ]; do sleep 0.1; done; exit 8";
        let id = {
            let task = node.run(&image).args(["/bin/sh", "-c", script]).start()?;
            task.wait_for_output("up")?;
            task.id().to_owned()
        };
        node.restart()?;
        let listed = node.ctr(&["task", "ls"])?.ok()?;
        ensure!(listed.contains("RUNNING"), "{listed}");
        node.ctr(&[
            "task",
            "exec",
            "--exec-id",
            "e",
            &id,
            "/bin/busybox",
            "touch",
            "/tmp-end",
        ])?
        .ok()?;
        wait_for("it does not end", PATIENCE, || {
            Ok(node
                .ctr(&["task", "ls"])?
                .ok()?
                .contains("STOPPED")
                .then_some(()))
        })?;
        let deleted = node.ctr(&["task", "delete", &id])?;
        ensure!(deleted.stderr.contains("exit code 8"), "{}", deleted.stderr);
        node.ctr(&["container", "rm", &id])?.ok()?;
    }
    Ok(())
}

fn exec_at_a_terminal() -> Result<()> {
    for version in [Version::V2_4, Version::V1_7] {
        let mut node = Node::start(version)?;
        let images = images(&mut node)?;
        let volume = shared(&node)?;
        let cri = node.cri()?;
        pull(&cri, &images)?;
        let pod = cri.pod("skiff", "pod")?;
        let container = pod.start(&images.linux, &script("echo up; sleep 1000", &volume))?;
        says(&container, "up\n")?;
        let exec = |options: &[&str], script: &str| {
            let mut words = vec!["exec"];
            words.extend(options);
            words.extend([container.id.as_str(), "/bin/sh", "-c", script]);
            cri.crictl(&words)
        };
        // Without and with a terminal, in step and not.
        let ran = exec(&["--sync"], "echo in step")?;
        ensure!(ran.stdout.contains("in step\n"), "{ran:?}");
        let ran = exec(&["--sync"], "exit 3")?;
        ensure!(
            ran.code != 0 && ran.stderr.contains("exited with 3"),
            "{ran:?}"
        );
        // crictl wants one of its own for it.
        let program = cri.crictl_command(&["exec", "--interactive", "--tty", &container.id]);
        let mut line = format!("exec {}", program.get_program().display());
        for word in program.get_args() {
            line.push_str(&format!(" '{}'", word.display()));
        }
        line.push_str(" /bin/sh -c 'test -t 1 && echo at a terminal'");
        let ran =
            command::run(Command::new("script").args(["-q", "-e", "-c", &line, "/dev/null"]))?;
        ensure!(
            ran.code == 0 && ran.stdout.contains("at a terminal"),
            "{ran:?}"
        );
        let ran = exec(&["--sync", "--timeout", "1"], "sleep 1000")?;
        ensure!(
            ran.code != 0 && (ran.stderr.contains("timed out") || ran.stderr.contains("deadline")),
            "{ran:?}"
        );
        pod.remove()?;
    }
    Ok(())
}

/// The pod's shim is killed: containerd finds both kinds of containers ended, and nothing stays.
fn a_killed_shim_takes_the_pod() -> Result<()> {
    let mut node = Node::start(Version::V2_4)?;
    let images = images(&mut node)?;
    let volume = shared(&node)?;
    let cri = node.cri()?;
    pull(&cri, &images)?;
    let pod = cri.pod("skiff", "pod")?;
    let linux = pod.start(
        &images.linux,
        &script("echo up; (sleep 1000 &); sleep 1000", &volume),
    )?;
    says(&linux, "up\n")?;
    let guest = pod.start(
        &images.wasm,
        &words(&["say", "up", "sleep", "1000"], &volume),
    )?;
    says(&guest, "up\n")?;
    let shim = node.shims().pop().context("no shim")?;
    let id = i32::try_from(shim)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(id.context("no id")?, rustix::process::Signal::KILL)?;
    // containerd's own code for an end that nobody has told it, or that of its cleanup.
    for container in [&linux, &guest] {
        let code = container.wait()?;
        ensure!([137, 255].contains(&code), "it ended with {code}");
    }
    let state = std::path::Path::new("/run/containerd/runc/k8s.io").join(&linux.id);
    wait_for("runc's state is left", PATIENCE, || {
        Ok((!state.exists()).then_some(()))
    })?;
    pod.remove()
}
