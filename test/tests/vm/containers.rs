//! Containers by containerd: they run, end, lack memory, are counted, and outlive containerd.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use skiff_test::command::wait_for;
use skiff_test::guest;
use skiff_test::image::{Entry, Image};
use skiff_test::node::{Node, RUNC, Run, Version};

use super::{Driver, needs_v2};

skiff_test::cases!(
    run_and_end,
    execs_are_the_containers,
    out_of_memory,
    every_figure_of_runc,
    a_restart_of_containerd,
);

/// Puts a container into a cgroup of a driver.
fn placed<'a>(run: Run<'a>, node: &Node, driver: Driver) -> Run<'a> {
    let path = driver.path(node, run.id());
    run.with(&["--cgroup", &path])
}

fn run_and_end() -> Result<()> {
    needs_v2!();
    let node = Node::start(Version::V2_4)?;
    let image = Image::layer("layer", &guest::module()?);
    node.import(&image)?;
    for driver in Driver::BOTH {
        let ran = placed(node.run(&image), &node, driver)
            .guest(&["say", "hello", "exit", "7"])
            .output()?;
        assert_eq!(
            (ran.stdout.as_str(), ran.code),
            ("hello\n", 7),
            "{driver:?}: {}",
            ran.stderr
        );
    }
    Ok(())
}

/// Modules, built-in tools and Linux programs, and that they are in the container's own cgroup.
fn execs_are_the_containers() -> Result<()> {
    needs_v2!();
    let node = Node::start(Version::V2_4)?;
    let busybox = fs::read("/bin/busybox").context("the machine has no busybox")?;
    let image = Image::root_file("file", &guest::module()?).with_root(&[Entry::file(
        "bin/busybox",
        0o755,
        &busybox,
    )]);
    node.import(&image)?;
    for driver in Driver::BOTH {
        let task = placed(node.run(&image), &node, driver)
            .guest(&["say", "up", "sleep", "1000"])
            .start()?;
        task.wait_for_output("up")?;
        let command = |name: &str, words: &[&str]| {
            let mut all = vec!["task", "exec", "--exec-id", name, task.id()];
            all.extend(words);
            node.ctr_command(&all)
        };
        for (name, words, said, code) in [
            (
                "module",
                &["/app.wasm", "say", "a module", "exit", "9"][..],
                "a module\n",
                9,
            ),
            ("tool", &["sh", "-c", "echo a tool; exit 8"], "a tool\n", 8),
            (
                "linux",
                &["/bin/busybox", "sh", "-c", "echo linux; exit 7"],
                "linux\n",
                7,
            ),
        ] {
            let ran = skiff_test::command::run(&mut command(name, words))?;
            assert_eq!(
                (ran.stdout.as_str(), ran.code),
                (said, code),
                "{driver:?} {name}: {}",
                ran.stderr
            );
        }
        for (name, words) in [
            ("s1", &["/app.wasm", "sleep", "1000"][..]),
            ("s2", &["/bin/busybox", "sleep", "1000"]),
        ] {
            let mut waiting = command(name, words)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?;
            let joined = wait_for("it is not there", Duration::from_secs(20), || {
                let shown = node.ctr(&["task", "ps", task.id()])?.ok()?;
                Ok((shown.contains(name)).then_some(shown))
            });
            let killed = node.ctr(&["task", "kill", "--exec-id", name, "-s", "9", task.id()])?;
            killed.ok()?;
            waiting.wait()?;
            let shown = joined?;
            // A line of names, the guest and the exec.
            assert_eq!(shown.lines().count(), 3, "{driver:?} {name}: {shown}");
        }
        task.remove()?;
    }
    Ok(())
}

/// The events of a node from now on.
struct Events {
    listener: Child,
    path: std::path::PathBuf,
}

impl Events {
    fn listen(node: &Node) -> Result<Self> {
        let path = node.directory().join("logs/events");
        let listener = node
            .ctr_command(&["events"])
            .stdout(fs::File::create(&path)?)
            .stderr(Stdio::null())
            .spawn()?;
        // It has no way to say that it listens.
        std::thread::sleep(Duration::from_secs(3));
        Ok(Self { listener, path })
    }

    fn of(&self, topic: &str, id: &str) -> usize {
        let text = fs::read_to_string(&self.path).unwrap_or_default();
        text.lines()
            .filter(|line| line.contains(topic) && line.contains(id))
            .count()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.listener.kill().ok();
        self.listener.wait().ok();
    }
}

/// Takes a page of Wasm after the other, and writes to each of the kernel's in it, until it gets no more.
const GREEDY: &str = r#"(module (memory (export "memory") 1)
  (func (export "_start") (local $at i32)
    (loop $more
      (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable))
      (local.set $at (i32.mul (i32.sub (memory.size) (i32.const 16)) (i32.const 65536)))
      (loop $page
        (i32.store8 (local.get $at) (i32.const 1))
        (local.set $at (i32.add (local.get $at) (i32.const 4096)))
        (br_if $page (i32.rem_u (local.get $at) (i32.const 1048576))))
      (br $more))))"#;

fn out_of_memory() -> Result<()> {
    needs_v2!();
    let node = Node::start(Version::V2_4)?;
    let image = Image::layer("greedy", &guest::text(GREEDY)?);
    node.import(&image)?;
    let events = Events::listen(&node)?;
    for driver in Driver::BOTH {
        let run = placed(node.run(&image), &node, driver);
        let id = run.id().to_owned();
        let limit = (32 << 20).to_string();
        // The guest's own cap would make it a trap.
        let options = node.directory().join("tmp/options.toml");
        fs::write(&options, "MemoryCap = \"off\"\n")?;
        let path = options.display().to_string();
        let run = run.with(&["--memory-limit", &limit, "--runtime-config-path", &path]);
        let ran = run.output()?;
        assert_eq!(ran.code, 137, "{driver:?}: {}", ran.stderr);
        wait_for("there is no event", Duration::from_secs(10), || {
            Ok((events.of("/tasks/oom", &id) > 0).then_some(()))
        })?;
        assert_eq!(events.of("/tasks/oom", &id), 1, "{driver:?}");
        assert_eq!(events.of("/tasks/exit", &id), 1, "{driver:?}");
        fs::remove_file(options)?;
    }
    Ok(())
}

/// Where figures are, in a message as `ctr` prints it.
fn places(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                places(value, &format!("{at}/{name}"), found);
            }
        }
        // One of several devices, sizes …: they are alike.
        Value::Array(all) => all.iter().for_each(|value| places(value, at, found)),
        Value::Null => {}
        _ => {
            found.insert(at.to_owned());
        }
    }
}

fn every_figure_of_runc() -> Result<()> {
    needs_v2!();
    let node = Node::start(Version::V2_4)?;
    let module = Image::layer("layer", &guest::module()?);
    let busybox = Image::busybox("busybox")?;
    node.import(&module)?;
    node.import(&busybox)?;
    let limits = [
        "--memory-limit",
        "134217728",
        "--cpu-quota",
        "50000",
        "--cpu-period",
        "100000",
    ];
    let ours = node
        .run(&module)
        .with(&limits)
        .guest(&["say", "up", "spin"])
        .start()?;
    let script = "echo up; while :; do :; done";
    let theirs = node.run(&busybox).runtime(RUNC).with(&limits);
    let theirs = theirs.args(["/bin/busybox", "sh", "-c", script]).start()?;
    for task in [&ours, &theirs] {
        task.wait_for_output("up")?;
    }
    std::thread::sleep(Duration::from_secs(1));
    let figures = |id: &str| -> Result<BTreeSet<String>> {
        let text = node
            .ctr(&["task", "metrics", "--format", "json", id])?
            .ok()?;
        let mut found = BTreeSet::new();
        places(&serde_json::from_str(&text).context(text)?, "", &mut found);
        Ok(found)
    };
    let (of_ours, of_theirs) = (figures(ours.id())?, figures(theirs.id())?);
    // Counts of what may or may not have happened to a container: JSON has no place for a 0.
    let chance = [
        "pgmajfault",
        "workingset",
        "pgscan",
        "pgsteal",
        "pgrefill",
        "pgactivate",
        "pgdeactivate",
        "lazyfree",
        "thp_",
        "file_",
        "shmem",
        "sock",
        "active_",
        "unevictable",
        "avg",
        "slab",
        "kernel_stack",
        "rbytes",
        "wbytes",
        "rios",
        "wios",
        "/io/",
        "anon_thp",
        "total",
    ];
    let missing: Vec<&String> = of_theirs
        .difference(&of_ours)
        .filter(|place| !chance.iter().any(|word| place.contains(word)))
        .collect();
    ensure!(
        missing.is_empty(),
        "runc's shim fills {missing:?}, ours does not; ours: {of_ours:?}"
    );
    ensure!(of_ours.len() > 20, "hardly any figures: {of_ours:?}");
    for part in [
        "/cpu/psi",
        "/cpu/nr_throttled",
        "/memory/usage_limit",
        "/pids/current",
    ] {
        ensure!(
            of_ours.iter().any(|place| place.starts_with(part)),
            "no {part} in {of_ours:?}"
        );
    }
    ours.remove()?;
    theirs.remove()?;
    Ok(())
}

fn a_restart_of_containerd() -> Result<()> {
    needs_v2!();
    let mut node = Node::start(Version::V2_4)?;
    let image = Image::layer("layer", &guest::module()?);
    node.import(&image)?;
    let mut ids = Vec::new();
    for driver in Driver::BOTH {
        let run = placed(node.run(&image), &node, driver).guest(&["say", "up", "spin"]);
        let task = run.start()?;
        task.wait_for_output("up")?;
        ids.push((driver, task.id().to_owned()));
    }
    node.restart()?;
    for (driver, id) in ids {
        let listed = node.ctr(&["task", "ls"])?.ok()?;
        let line = listed
            .lines()
            .find(|line| line.starts_with(&id))
            .unwrap_or_default();
        ensure!(line.contains("RUNNING"), "{driver:?}: {listed}");
        node.ctr(&["task", "kill", "--signal", "SIGKILL", &id])?
            .ok()?;
        let deleted = wait_for("it does not stop", Duration::from_secs(20), || {
            let ran = node.ctr(&["task", "delete", &id])?;
            Ok((!ran.stderr.contains("must be stopped")).then_some(ran))
        })?;
        ensure!(
            deleted.stderr.contains("137"),
            "{driver:?}: {}",
            deleted.stderr
        );
        node.ctr(&["container", "rm", &id])?.ok()?;
        let place = driver.directory(&node, &id);
        ensure!(!place.exists(), "{} is left", place.display());
    }
    Ok(())
}
