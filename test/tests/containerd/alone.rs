//! `skiff run`, beside `ctr run` of the same image: the same output and the same exit code; and nothing is left of it,
//! however it ended.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use skiff_test::command::{self, Ran};
use skiff_test::image::{Entry, Image};
use skiff_test::node::{Node, Version, engine};
use skiff_test::{guest, tools};

skiff_test::cases!(
    the_same_as_ctr_run,
    a_module_alone,
    input_and_volumes,
    limits_and_options,
    signals_go_to_the_container,
    nothing_is_left_after_a_kill,
    what_cannot_be_run,
);

/// `skiff run …` with the node's cache and a folder of its own for temporary files.
fn skiff_run(node: &Node, arguments: &[&str]) -> Result<Command> {
    let programs = tools::component(node.version().folder())?;
    let mut command = Command::new(tools::skiff("skiff")?);
    command.arg("run");
    if engine() != "wasmtime" && !arguments.contains(&"--engine") {
        command.args(["--engine", engine()]);
    }
    command
        .args(arguments)
        .current_dir(node.directory().join("tmp"))
        .env("PATH", format!("{}:/usr/bin:/bin", programs.display()))
        .env("TMPDIR", node.directory().join("tmp"))
        .env("CONTAINERD_ADDRESS", node.directory().join("c.sock"))
        .env("CONTAINERD_NAMESPACE", node.namespace())
        .env("SKIFF_CACHE_DIR", node.cache());
    Ok(command)
}

fn run(node: &Node, arguments: &[&str]) -> Result<Ran> {
    let ran = command::run(&mut skiff_run(node, arguments)?)?;
    nothing_left(node)?;
    Ok(ran)
}

/// Bundles, cgroups and processes of runs are gone when the command is.
fn nothing_left(node: &Node) -> Result<()> {
    let left = || {
        let bundles = fs::read_dir(node.directory().join("tmp"))
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| {
                entry
                    .file_name()
                    .to_string_lossy()
                    .starts_with("skiff-run-")
            })
            .map(|entry| entry.path());
        let cgroups = skiff_test::residue::cgroup_trees()
            .into_iter()
            .map(|tree| tree.join("skiff-run"))
            .filter(|path| path.exists());
        bundles.chain(cgroups).collect::<Vec<PathBuf>>()
    };
    let left = left();
    ensure!(left.is_empty(), "left: {left:?}");
    Ok(())
}

fn the_same_as_ctr_run() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let module = guest::module()?;
    let images = [
        Image::layer("layer", &module),
        Image::root_file("file", &module),
        Image::combined("both", &module),
        Image::root_file("component", &guest::component()?),
    ];
    for image in &images {
        node.import(image)?;
        let archive = node.directory().join("tmp/image.tar");
        image.write(&archive)?;
        for words in [
            &["show", "say", "two words", "warn", "bad", "exit", "42"][..],
            &["exit", "0"],
            &["trap"],
        ] {
            let theirs = node.run(image).guest(words).output()?;
            let guest: Vec<&str> = ["--env", "KEY=value", "image.tar", "--"]
                .into_iter()
                .chain(words.iter().copied())
                .collect();
            let archive = run(&node, &guest)?;
            let mut guest = guest;
            guest[2] = image.name();
            let name = run(&node, &guest)?;
            for ours in [archive, name] {
                let told = |ran: &Ran| {
                    (
                        ran.code,
                        ran.stdout
                            .lines()
                            .filter(|line| !line.contains("PATH=") && !line.contains("KEY="))
                            .map(str::to_owned)
                            .collect::<Vec<_>>(),
                    )
                };
                assert_eq!(
                    told(&ours),
                    told(&theirs),
                    "{words:?} of {}: {ours:?} {theirs:?}",
                    image.name()
                );
            }
        }
        fs::remove_file(archive)?;
    }
    Ok(())
}

fn a_module_alone() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    fs::write(node.directory().join("tmp/app.wasm"), guest::module()?)?;
    let ran = run(&node, &["app.wasm", "--", "say", "hello", "exit", "7"])?;
    ensure!(
        ran.code == 7 && ran.stdout == "hello\n" && ran.stderr.is_empty(),
        "{ran:?}"
    );
    let name = Image::root_file("folder", &guest::module()?);
    name.write(&node.directory().join("tmp/image.tar"))?;
    let folder = node.directory().join("tmp/image");
    fs::create_dir(&folder)?;
    command::run(
        Command::new("tar")
            .arg("xf")
            .arg("image.tar")
            .arg("-C")
            .arg(&folder)
            .current_dir(node.directory().join("tmp")),
    )?
    .ok()?;
    let ran = run(&node, &["image", "--", "exit", "9"])?;
    ensure!(ran.code == 9, "{ran:?}");
    fs::remove_dir_all(folder)?;
    fs::remove_file(node.directory().join("tmp/image.tar"))?;
    fs::remove_file(node.directory().join("tmp/app.wasm"))?;
    Ok(())
}

fn input_and_volumes() -> Result<()> {
    guest::only_wasmtime("runs components, which the built-in tools are")?;
    let node = Node::start(Version::V2_4)?;
    let toolbox = tools::skiff("skiff-toolbox.wasm")?;
    let folder = node.directory().join("tmp/data");
    fs::create_dir(&folder)?;
    fs::write(folder.join("a"), "from here\n")?;
    let toolbox = toolbox.to_str().context("a path")?;
    let sh = |volume: &str, script: &str| {
        let arguments = [
            "--volume",
            volume,
            "--workdir",
            "/data",
            "--env",
            "A=1 2",
            toolbox,
            "--",
            "sh",
            "-c",
            script,
        ];
        run(&node, &arguments)
    };
    let ran = sh("data:/data", "pwd; cat a; echo $A; echo back > b")?;
    ensure!(
        ran.code == 0 && ran.stdout == "/data\nfrom here\n1 2\n",
        "{ran:?}"
    );
    assert_eq!(fs::read_to_string(folder.join("b"))?, "back\n");
    let ran = sh("data:/data:ro", "echo no > b")?;
    ensure!(
        ran.code == 1 && ran.stderr.contains("can't create b"),
        "{ran:?}"
    );
    let mut child = skiff_run(&node, &[toolbox, "--", "wc", "-c"])?
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("no input")?;
    let writer = std::thread::spawn(move || stdin.write_all(&vec![b'x'; 3 << 20]));
    let output = child.wait_with_output()?;
    writer.join().expect("it does not panic")?;
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        (3 << 20).to_string()
    );
    fs::remove_dir_all(folder)?;
    nothing_left(&node)
}

fn limits_and_options() -> Result<()> {
    guest::only_wasmtime("runs components, which the built-in tools are")?;
    let node = Node::start(Version::V2_4)?;
    let toolbox = tools::skiff("skiff-toolbox.wasm")?;
    let toolbox = toolbox.to_str().context("a path")?;
    let ran = run(
        &node,
        &[
            "--memory",
            "256M",
            "--cpus",
            "0.5",
            "--user",
            "1000:1000",
            toolbox,
            "--",
            "touch",
            "/x",
        ],
    )?;
    ensure!(
        ran.code == 1 && ran.stderr.contains("touch: /x:"),
        "{ran:?}"
    );
    let ran = run(
        &node,
        &["--engine-option", "NoSuchOption=1", toolbox, "--", "true"],
    )?;
    ensure!(
        ran.code == 125 && ran.stderr.contains("NoSuchOption"),
        "{ran:?}"
    );
    let ran = run(
        &node,
        &["--engine-option", "WasiP3=true", toolbox, "--", "true"],
    )?;
    ensure!(ran.code == 0, "{ran:?}");
    Ok(())
}

fn signals_go_to_the_container() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    fs::write(node.directory().join("tmp/app.wasm"), guest::module()?)?;
    for (signal, code) in [(2, 130), (15, 143), (1, 129)] {
        let mut child = skiff_run(&node, &["app.wasm", "--", "say", "up", "sleep", "60"])?
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut word = [0; 3];
        std::io::Read::read_exact(&mut child.stdout.take().context("no output")?, &mut word)?;
        let begun = Instant::now();
        let pid = rustix::process::Pid::from_child(&child);
        let signal = rustix::process::Signal::from_named_raw(signal).context("a signal")?;
        rustix::process::kill_process(pid, signal)?;
        assert_eq!(child.wait()?.code(), Some(code));
        ensure!(
            begun.elapsed() < Duration::from_secs(20),
            "{:?}",
            begun.elapsed()
        );
        nothing_left(&node)?;
    }
    fs::remove_file(node.directory().join("tmp/app.wasm"))?;
    Ok(())
}

fn nothing_is_left_after_a_kill() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    fs::write(node.directory().join("tmp/app.wasm"), guest::module()?)?;
    let mut child = skiff_run(&node, &["app.wasm", "--", "say", "up", "sleep", "60"])?
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut word = [0; 3];
    std::io::Read::read_exact(&mut child.stdout.take().context("no output")?, &mut word)?;
    child.kill()?;
    child.wait()?;
    let begun = Instant::now();
    while let Err(error) = nothing_left(&node) {
        ensure!(begun.elapsed() < Duration::from_secs(20), "{error}");
        sleep(Duration::from_millis(50));
    }
    fs::remove_file(node.directory().join("tmp/app.wasm"))?;
    Ok(())
}

fn what_cannot_be_run() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    fs::write(
        node.directory().join("tmp/text.wasm"),
        "this is no module\n",
    )?;
    for (arguments, words) in [
        (&["no-such-file.wasm"][..], "there is no file"),
        (&["localhost/no-such-image:1"], "not found"),
        (&["text.wasm"], "neither WebAssembly nor"),
        (
            &["--engine", "nothing", "text.wasm"],
            "containerd-shim-nothing-v1",
        ),
        (
            &["--volume", "nothing:/x", "text.wasm"],
            "could not find the volume",
        ),
        (&["--user", "nobody", "text.wasm"], "has no user"),
    ] {
        let ran = run(&node, arguments)?;
        ensure!(
            ran.code == 125 && ran.stderr.contains(words),
            "{arguments:?}: {ran:?}"
        );
    }
    let image = Image::linux("data", &[Entry::file("a", 0o644, b"b")]);
    image.write(&node.directory().join("tmp/image.tar"))?;
    let ran = run(&node, &["image.tar", "--", "/a"])?;
    ensure!(ran.code == 125, "{ran:?}");
    fs::remove_file(node.directory().join("tmp/image.tar"))?;
    fs::remove_file(node.directory().join("tmp/text.wasm"))?;
    Ok(())
}
