//! The life of a container: signals, exit codes, calls at the wrong time, logs that nobody reads.

use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use skiff_test::image::Image;
use skiff_test::node::{Node, RUNC, Task, Version};
use skiff_test::raw::{Shim, Stdio, code, sentence};
use skiff_test::{guest, tools};

skiff_test::cases!(
    exit_codes,
    trap_names_its_functions,
    sigterm_ends_a_spinning_guest,
    every_terminating_signal_ends_a_guest,
    kill_ends_a_sleeping_guest,
    standard_input_reaches_the_guest,
    much_output_is_complete,
    stats_and_pids,
    containerd_killed_and_back,
    reference_of_the_raw_calls,
    calls_at_the_wrong_time,
    exec_of_what_is_not_there,
    log_fifo_that_nobody_opens,
    log_fifo_that_is_closed,
    log_fifo_that_is_opened_late,
    an_early_exit_is_not_lost,
);

fn sleeping<'a>(node: &'a Node, words: &[&str]) -> Result<Task<'a>> {
    let image = Image::layer("layer", &guest::module()?);
    node.import(&image)?;
    node.run(&image).guest(words).start()
}

fn exit_codes() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::layer("layer", &guest::module()?);
    node.import(&image)?;
    for code in [0, 1, 42, 125, 126, 127, 137, 255] {
        let ran = node
            .run(&image)
            .guest(&["exit", &code.to_string()])
            .output()?;
        assert_eq!(ran.code, code, "{}", ran.stderr);
    }
    Ok(())
}

fn trap_names_its_functions() -> Result<()> {
    guest::only_wasmtime("says where a trap was")?;
    let node = Node::start(Version::V2_4)?;
    let module = guest::text(
        r#"(module (memory (export "memory") 1)
             (func $the_one_that_traps unreachable)
             (func $its_caller call $the_one_that_traps)
             (func (export "_start") call $its_caller))"#,
    )?;
    let image = Image::layer("trap", &module);
    node.import(&image)?;
    let ran = node.run(&image).output()?;
    assert_eq!(ran.code, 134, "{}", ran.stderr);
    for word in ["unreachable", "the_one_that_traps", "its_caller"] {
        ensure!(
            ran.stderr.contains(word),
            "the message does not say {word}: {}",
            ran.stderr
        );
    }
    Ok(())
}

fn sigterm_ends_a_spinning_guest() -> Result<()> {
    for version in Version::ALL {
        let node = Node::start(version)?;
        let task = sleeping(&node, &["spin"])?;
        task.wait_for_output("spinning")?;
        let started = Instant::now();
        task.signal("SIGTERM")?.ok()?;
        task.wait_until_stopped(Duration::from_secs(5))?;
        ensure!(
            started.elapsed() < Duration::from_secs(1),
            "it took {:?}",
            started.elapsed()
        );
        assert_eq!(task.remove()?, 143);
    }
    Ok(())
}

fn every_terminating_signal_ends_a_guest() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    for (signal, code) in [
        ("SIGHUP", 129),
        ("SIGINT", 130),
        ("SIGQUIT", 131),
        ("SIGUSR1", 138),
        ("SIGUSR2", 140),
        ("SIGALRM", 142),
        ("37", 165),
    ] {
        let task = sleeping(&node, &["spin"])?;
        task.wait_for_output("spinning")?;
        task.signal(signal)?.ok()?;
        task.wait_until_stopped(Duration::from_secs(1))?;
        assert_eq!(task.remove()?, code, "after {signal}");
    }
    Ok(())
}

fn kill_ends_a_sleeping_guest() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let task = sleeping(&node, &["say", "up", "sleep", "1000"])?;
    task.wait_for_output("up")?;
    task.signal("SIGKILL")?.ok()?;
    task.wait_until_stopped(Duration::from_secs(1))?;
    assert_eq!(task.remove()?, 137);
    Ok(())
}

fn standard_input_reaches_the_guest() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let shim = ours(&node, &["/app.wasm", "echo", "exit", "4"])?;
    let stdio = Stdio {
        stdin: shim.fifo("in")?,
        stdout: shim.fifo("out")?,
        stderr: String::new(),
    };
    // Opening for both never blocks, and a reader that opens early loses nothing.
    let mut input = std::fs::File::options()
        .read(true)
        .write(true)
        .open(&stdio.stdin)?;
    let mut output = std::fs::File::options()
        .read(true)
        .write(true)
        .open(&stdio.stdout)?;
    shim.create(&stdio)?;
    shim.run()?;
    std::io::Write::write_all(&mut input, b"a line\n")?;
    let mut seen = [0; 7];
    output.read_exact(&mut seen)?;
    assert_eq!(&seen, b"a line\n");
    // The end of the input, once every writer is gone: the guest's next word is `exit 4`.
    drop(input);
    assert_eq!(shim.wait()?, 4);
    shim.clean()
}

fn much_output_is_complete() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::layer("layer", &guest::module()?);
    node.import(&image)?;
    let ran = node
        .run(&image)
        .guest(&["lines", "100000"])
        .output()?
        .ok()?;
    assert_eq!(ran.lines().count(), 100_000);
    ensure!(
        ran.ends_with("line 00099999 of a guest that has much to say\n"),
        "the last line is missing"
    );
    Ok(())
}

fn stats_and_pids() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let task = sleeping(&node, &["say", "up", "sleep", "1000"])?;
    task.wait_for_output("up")?;
    let metrics = node
        .ctr(&["task", "metrics", "--format", "json", task.id()])?
        .ok()?;
    ensure!(
        metrics.contains("usage"),
        "no usage in the metrics: {metrics}"
    );
    let listed = node.ctr(&["task", "ps", task.id()])?.ok()?;
    assert_eq!(
        listed.lines().count(),
        2,
        "a header and one process: {listed}"
    );
    task.remove()?;
    Ok(())
}

/// A task outlives containerd; its exit while containerd is away is not lost either.
fn containerd_killed_and_back() -> Result<()> {
    let mut node = Node::start(Version::V2_4)?;
    let image = Image::layer("layer", &guest::module()?);
    node.import(&image)?;
    let ids = {
        let stays = node
            .run(&image)
            .guest(&["say", "up", "sleep", "1000"])
            .start()?;
        let ends = node
            .run(&image)
            .guest(&["say", "up", "sleep", "1.5", "exit", "7"])
            .start()?;
        stays.wait_for_output("up")?;
        ends.wait_for_output("up")?;
        [stays.id().to_owned(), ends.id().to_owned()]
    };
    std::thread::sleep(Duration::from_millis(500));
    node.restart()?;
    std::thread::sleep(Duration::from_secs(2));
    let listed = node.ctr(&["task", "ls"])?.ok()?;
    let state = |id: &str| {
        listed
            .lines()
            .find(|line| line.starts_with(id))
            .unwrap_or_default()
            .to_owned()
    };
    ensure!(
        state(&ids[0]).contains("RUNNING"),
        "the sleeping task does not run: {listed}"
    );
    ensure!(
        state(&ids[1]).contains("STOPPED"),
        "the other task has not stopped: {listed}"
    );
    node.ctr(&["task", "delete", &ids[1]])?
        .stderr
        .contains("exit code 7")
        .then_some(())
        .context("the code is another")?;
    node.ctr(&["task", "delete", "--force", &ids[0]])?;
    for id in &ids {
        node.ctr(&["container", "rm", id])?.ok()?;
    }
    Ok(())
}

fn ours<'a>(node: &'a Node, arguments: &[&str]) -> Result<Shim<'a>> {
    Shim::start(
        node,
        &tools::skiff("containerd-shim-skiff-v1")?,
        &[("app.wasm", &guest::module()?)],
        arguments,
    )
}

/// What `calls_at_the_wrong_time` expects is what containerd's own shim answers, where that is defined. That of 2.1:
/// the one of 2.4 cannot be started with flags any more.
fn reference_of_the_raw_calls() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let program = tools::component("containerd-2.1")?.join("containerd-shim-runc-v2");
    ensure!(
        node.run(&Image::linux("none", &[]))
            .runtime(RUNC)
            .id()
            .starts_with(node.namespace()),
        "ids begin with the namespace"
    );
    let shim = Shim::start(
        &node,
        &program,
        &[("busybox", &std::fs::read("/bin/busybox")?)],
        &["/busybox", "sleep", "1000"],
    )?;
    shim.create(&Stdio::default())?;
    shim.run()?;
    shim.kill(9)?;
    assert_eq!(shim.wait()?, 137);
    assert_eq!(code(&shim.kill(9)), "NOT_FOUND");
    assert_eq!(shim.delete()?, 137);
    assert_eq!(code(&shim.delete()), "NOT_FOUND");
    shim.clean()
}

fn calls_at_the_wrong_time() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let shim = ours(&node, &["/app.wasm", "sleep", "1000"])?;
    assert_eq!(code(&shim.state()), "NOT_FOUND");
    assert_eq!(code(&shim.run()), "NOT_FOUND");
    assert_eq!(code(&shim.delete()), "NOT_FOUND");
    shim.create(&Stdio::default())?;
    let again = shim.create(&Stdio::default());
    assert_eq!(code(&again), "ALREADY_EXISTS", "{}", sentence(&again));
    shim.run()?;
    let again = shim.run();
    assert_eq!(code(&again), "FAILED_PRECONDITION", "{}", sentence(&again));
    let early = shim.delete();
    assert_eq!(code(&early), "FAILED_PRECONDITION", "{}", sentence(&early));
    ensure!(shim.connect()? > 1, "connect names no process");
    assert_eq!(shim.pids()?, 1);
    ensure!(!shim.stats()?.is_empty(), "the metrics are empty");
    shim.kill(9)?;
    assert_eq!(shim.wait()?, 137);
    assert_eq!(
        shim.wait()?,
        137,
        "a late wait answers at once, and the same"
    );
    let late = shim.run();
    assert_eq!(
        code(&late),
        "FAILED_PRECONDITION",
        "start after exit: {}",
        sentence(&late)
    );
    assert_eq!(code(&shim.kill(9)), "NOT_FOUND");
    assert_eq!(shim.delete()?, 137);
    let twice = shim.delete();
    assert_eq!(code(&twice), "NOT_FOUND", "{}", sentence(&twice));
    shim.clean()
}

fn exec_of_what_is_not_there() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let task = sleeping(&node, &["say", "up", "sleep", "1000"])?;
    task.wait_for_output("up")?;
    node.ctr(&["task", "exec", "--exec-id", "e", task.id(), "/bin/frob"])?
        .fails_with(&["executable file not found", "/bin/frob"])?;
    task.remove()?;
    Ok(())
}

/// A FIFO without a reader must hold up neither create, start, kill nor delete.
fn log_fifo_that_nobody_opens() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let shim = ours(&node, &["/app.wasm", "lines", "100000", "sleep", "1000"])?;
    let stdio = Stdio {
        stdin: String::new(),
        stdout: shim.fifo("out")?,
        stderr: shim.fifo("err")?,
    };
    // It may compile first; a call that hangs fails by its time limit.
    shim.create(&stdio)?;
    let started = Instant::now();
    shim.run()?;
    std::thread::sleep(Duration::from_millis(300));
    shim.kill(15)?;
    let ended = shim.wait()?;
    ensure!([143, 137].contains(&ended), "it ended with {ended}");
    shim.delete()?;
    ensure!(
        started.elapsed() < Duration::from_secs(5),
        "it took {:?}",
        started.elapsed()
    );
    shim.clean()
}

/// A reader that goes away must not kill the guest (SIGPIPE), nor stop it for good.
fn log_fifo_that_is_closed() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let shim = ours(
        &node,
        &[
            "/app.wasm",
            "say",
            "first",
            "sleep",
            "0.5",
            "say",
            "second",
            "exit",
            "6",
        ],
    )?;
    let stdio = Stdio {
        stdin: String::new(),
        stdout: shim.fifo("out")?,
        stderr: String::new(),
    };
    let path = stdio.stdout.clone();
    let reader = std::thread::spawn(move || -> std::io::Result<[u8; 6]> {
        let mut seen = [0; 6];
        std::fs::File::open(path)?.read_exact(&mut seen)?;
        Ok(seen)
    });
    shim.create(&stdio)?;
    shim.run()?;
    let seen = reader
        .join()
        .map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    assert_eq!(&seen, b"first\n");
    assert_eq!(shim.wait()?, 6);
    assert_eq!(shim.delete()?, 6);
    shim.clean()
}

/// Whoever hears of the end gives up opening the log, as containerd does: it is told when a reader has come.
fn log_fifo_that_is_opened_late() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let shim = ours(&node, &["/app.wasm", "say", "said early"])?;
    let stdio = Stdio {
        stdout: shim.fifo("out")?,
        ..Stdio::default()
    };
    shim.create(&stdio)?;
    let opened = Arc::new(AtomicBool::new(false));
    let reader = std::thread::spawn({
        let opened = Arc::clone(&opened);
        let path = stdio.stdout.clone();
        move || -> std::io::Result<String> {
            std::thread::sleep(Duration::from_millis(100));
            let mut file = std::fs::File::open(path)?;
            opened.store(true, Ordering::SeqCst);
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            Ok(text)
        }
    });
    shim.run()?;
    assert_eq!(shim.wait()?, 0);
    ensure!(
        opened.load(Ordering::SeqCst),
        "the end was told before the reader had come"
    );
    let text = reader
        .join()
        .map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    assert_eq!(text, "said early\n");
    shim.clean()
}

/// A guest that ends before anybody waits.
fn an_early_exit_is_not_lost() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    for round in 0..20 {
        let shim = ours(&node, &["/app.wasm", "exit", "9"])?;
        shim.create(&Stdio::default())?;
        shim.run()?;
        std::thread::sleep(Duration::from_millis(round));
        assert_eq!(shim.wait()?, 9);
        assert_eq!(shim.delete()?, 9);
        shim.clean()?;
    }
    Ok(())
}
