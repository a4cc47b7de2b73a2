//! Exec with real clients: `ctr task exec` and `crictl exec`, of modules, of built-in tools and of Linux programs.

use anyhow::{Result, ensure};
use serde_json::json;
use skiff_test::command::Ran;
use skiff_test::guest;
use skiff_test::image::{Entry, Image};
use skiff_test::node::{Node, Task, Version, engine};

skiff_test::cases!(
    a_layer_by_its_title,
    a_tool_where_the_image_has_none,
    a_linux_program_beside_a_module,
    processes_are_told_apart,
    while_the_guest_spins,
    through_cri,
);

fn running<'a>(node: &'a Node, image: &Image, words: &[&str]) -> Result<Task<'a>> {
    node.import(image)?;
    node.run(image).guest(words).start()
}

fn exec(node: &Node, task: &Task<'_>, name: &str, words: &[&str]) -> Result<Ran> {
    let mut all = vec!["task", "exec", "--exec-id", name, task.id()];
    all.extend(words);
    node.ctr(&all)
}

fn a_layer_by_its_title() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::layer("layer", &guest::module()?).title("app.wasm");
    let task = running(&node, &image, &["say", "up", "sleep", "1000"])?;
    task.wait_for_output("up")?;
    let said = exec(&node, &task, "a", &["/app.wasm", "say", "from an exec"])?.ok()?;
    ensure!(said.contains("from an exec"), "{said}");
    let ran = exec(&node, &task, "b", &["app.wasm", "exit", "42"])?;
    ensure!(ran.code == 42, "{}: {}", ran.code, ran.stderr);
    exec(&node, &task, "c", &["frob"])?.fails_with(&["executable file not found", "app.wasm"])?;
    task.remove()?;
    Ok(())
}

fn a_tool_where_the_image_has_none() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let task = running(
        &node,
        &Image::layer("layer", &guest::module()?),
        &["say", "up", "sleep", "1000"],
    )?;
    task.wait_for_output("up")?;
    let said = exec(
        &node,
        &task,
        "a",
        &["sh", "-c", "echo hello && echo to /file > /file; cat /file"],
    )?
    .ok()?;
    ensure!(said.contains("hello\nto /file"), "{said}");
    let shown = exec(&node, &task, "b", &["ps"])?.ok()?;
    ensure!(
        shown.contains(&format!("skiff-host-{}", engine())),
        "{shown}"
    );
    task.remove()?;
    Ok(())
}

fn a_linux_program_beside_a_module() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let busybox = std::fs::read("/bin/busybox")?;
    let image = Image::root_file("file", &guest::module()?).with_root(&[Entry::file(
        "bin/busybox",
        0o755,
        &busybox,
    )]);
    let task = running(&node, &image, &["say", "up", "sleep", "1000"])?;
    task.wait_for_output("up")?;
    let said = exec(
        &node,
        &task,
        "a",
        &[
            "/bin/busybox",
            "sh",
            "-c",
            "busybox cat /proc/1/comm; busybox id -u; exit 7",
        ],
    )?;
    ensure!(
        said.code == 7 && said.stdout.contains("skiff-host"),
        "{} {}",
        said.stdout,
        said.stderr
    );
    task.remove()?;
    Ok(())
}

/// As with runc's shim, a list of processes says which of them is which exec.
fn processes_are_told_apart() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let task = running(
        &node,
        &Image::layer("layer", &guest::module()?).title("app.wasm"),
        &["say", "up", "sleep", "1000"],
    )?;
    task.wait_for_output("up")?;
    let words = [
        "task",
        "exec",
        "--exec-id",
        "the-second",
        task.id(),
        "/app.wasm",
        "sleep",
        "1000",
    ];
    let mut waiting = node
        .ctr_command(&words)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()?;
    let shown = skiff_test::command::wait_for(
        "it is not in the list",
        std::time::Duration::from_secs(10),
        || {
            let shown = node.ctr(&["task", "ps", task.id()])?.ok()?;
            // It is in the cgroup before it is known as started.
            Ok(shown.contains("the-second").then_some(shown))
        },
    );
    let killed = node.ctr(&[
        "task",
        "kill",
        "--exec-id",
        "the-second",
        "-s",
        "9",
        task.id(),
    ])?;
    waiting.wait()?;
    killed.ok()?;
    let shown = shown?;
    let named = shown
        .lines()
        .filter(|line| line.contains("the-second"))
        .count();
    ensure!(named == 1 && shown.lines().count() == 3, "{shown}");
    task.remove()?;
    Ok(())
}

fn while_the_guest_spins() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::layer("layer", &guest::module()?).title("app.wasm");
    let task = running(&node, &image, &["say", "up", "spin"])?;
    task.wait_for_output("up")?;
    let said = exec(&node, &task, "a", &["app.wasm", "say", "meanwhile"])?.ok()?;
    ensure!(said.contains("meanwhile"), "{said}");
    task.remove()?;
    Ok(())
}

fn through_cri() -> Result<()> {
    let mut node = Node::start(Version::V2_4)?;
    let image = Image::layer("layer", &guest::module()?).title("app.wasm");
    let reference = node.registry()?.push(&image, "layer")?;
    let cri = node.cri()?;
    cri.pull(&reference)?;
    let pod = cri.pod("wasmtime", "pod")?;
    let container = pod.start(&reference, &json!({ "args": ["sleep", "1000"] }))?;
    let id = container.id.as_str();
    let said = cri
        .crictl(&["exec", "-s", id, "app.wasm", "say", "from a probe"])?
        .ok()?;
    ensure!(said.contains("from a probe"), "{said}");
    let failed = cri.crictl(&["exec", "-s", id, "app.wasm", "exit", "9"])?;
    ensure!(failed.stderr.contains('9'), "{}", failed.stderr);
    let late = cri.crictl(&[
        "exec",
        "-s",
        "--timeout",
        "1",
        id,
        "app.wasm",
        "sleep",
        "100",
    ])?;
    ensure!(
        late.code != 0 && late.time.as_secs() < 10,
        "{:?} {}",
        late.time,
        late.stderr
    );
    let tools = cri.crictl(&["exec", id, "sh", "-c", "pwd"])?.ok()?;
    ensure!(tools.starts_with('/'), "{tools}");
    pod.remove()
}
