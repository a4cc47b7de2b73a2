//! Services of WASI 0.3: an instance answers several requests, also at the same time.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use skiff_test::command::wait_for;
use skiff_test::guest;
use skiff_test::http::{Client, Network, connect, get};
use skiff_test::image::Image;
use skiff_test::node::{Node, Task, Version};

use crate::http::{in_flight, read_counters, served_as};

skiff_test::cases!(
    a_component_of_0_3_is_served,
    an_instance_answers_many_requests,
    requests_share_an_instance,
    requests_of_one_moment_share_instances,
    nobody_waits_for_one_that_computes,
    a_trap_leaves_the_service_alone,
    what_is_in_flight_is_answered_of_0_3,
    what_takes_too_long_is_ended_of_0_3,
    it_is_said_that_0_3_is_off,
);

const PATIENCE: Duration = Duration::from_secs(10);
const COUNTED: &str = "WasiP3 = true\n[Http]\nMetrics = '127.0.0.1:9090'\n";

fn image() -> Result<Image> {
    Ok(Image::layer("http-p3", &guest::service_p3()?))
}

fn served<'a>(node: &'a Node, toml: &str) -> Result<(Task<'a>, Network)> {
    // One thread: which of several has a connection is nobody's promise.
    let more = ["--cpus", "1", "--env", "COLOUR=red"];
    served_as(node, &image()?, toml, &more)
}

fn a_component_of_0_3_is_served() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let (task, network) = served(&node, "WasiP3 = true")?;
    network.inside(|| {
        let mut client = connect()?;
        for _ in 0..3 {
            client.ask("/")?;
            let answer = client.answer()?;
            assert_eq!(
                (answer.status, answer.text().as_str()),
                (200, "hello from a component\n")
            );
        }
        assert_eq!(get("/nothing")?.status, 404);
        let environment = get("/environment")?.text();
        for line in ["COLOUR=red", "argument one", "argument two"] {
            ensure!(
                environment.lines().any(|other| other == line),
                "{line}: {environment}"
            );
        }
        let large = get("/bytes?300000")?.body;
        ensure!(
            large.len() == 300_000 && large.iter().all(|byte| *byte == b'x'),
            "{} bytes came, or others",
            large.len()
        );
        let body = "y".repeat(100_000);
        let head = format!(
            "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let mut client = connect()?;
        client.send(head.as_bytes())?;
        client.send(body.as_bytes())?;
        let answer = client.answer()?;
        ensure!(
            answer.status == 200 && answer.text() == body,
            "{} with {} bytes",
            answer.status,
            answer.body.len()
        );
        // It calls itself.
        let fetched = get("/fetch?http://127.0.0.1:8080/")?;
        assert_eq!(fetched.text(), "hello from a component\n");
        let failed = get("/fetch?http://127.0.0.1:81/")?;
        assert_eq!(failed.status, 502, "{}", failed.text());
        assert_eq!(get("/say?something")?.status, 200);
        Ok(())
    })?;
    task.wait_for_output("said something\n")?;
    task.wait_for_output("complained something\n")?;
    task.remove()?;
    Ok(())
}

fn an_instance_answers_many_requests() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let most = |toml: &str| -> Result<u32> {
        let (task, network) = served(&node, toml)?;
        let counts = network.inside(|| {
            let mut client = connect()?;
            (0..140)
                .map(|_| {
                    client.ask("/count")?;
                    Ok(client.answer()?.text().trim().parse()?)
                })
                .collect::<Result<Vec<u32>>>()
        })?;
        task.remove()?;
        counts.into_iter().max().context("nothing was counted")
    };
    // An instance that nobody asks for a second is gone: a slow machine may not get so far.
    let found = most("WasiP3 = true")?;
    ensure!((2..=128).contains(&found), "{found}");
    let found = most("WasiP3 = true\n[Http]\nInstanceRequests = 3")?;
    ensure!((2..=3).contains(&found), "{found}");
    assert_eq!(most("WasiP3 = true\n[Http]\nInstanceRequests = 1")?, 1);
    Ok(())
}

fn requests_share_an_instance() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let (task, network) = served(&node, COUNTED)?;
    network.inside(|| {
        let mut clients = Vec::new();
        for count in 1..=8 {
            let mut client = connect()?;
            client.ask("/sleep?50000")?;
            clients.push(client);
            in_flight(count, PATIENCE)?;
        }
        // One to see that it can be made, and those that answered.
        let instances = instances()?;
        ensure!(instances < 8, "{instances} instances");
        Ok(())
    })?;
    task.remove()?;
    Ok(())
}

/// As many as there are connections would each need their memory.
fn requests_of_one_moment_share_instances() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let (task, network) = served(&node, COUNTED)?;
    let process = i32::try_from(task.state()?.1)?;
    let process = Pid::from_raw(process).context("the task has no process")?;
    network.inside(|| {
        let mut clients = (0..64)
            .map(|_| connect())
            .collect::<Result<Vec<Client>>>()?;
        wait_for("it has not accepted all", PATIENCE, || {
            let line = "skiff_http_connections 64\n";
            Ok(read_counters()?.contains(line).then_some(()))
        })?;
        kill_process(process, Signal::STOP)?;
        let asked = clients
            .iter_mut()
            .try_for_each(|client| client.ask("/sleep?50000"));
        kill_process(process, Signal::CONT)?;
        asked?;
        in_flight(64, PATIENCE)?;
        // They are counted before they come to an instance.
        let mut before = 0;
        wait_for("instances are made and made", PATIENCE, || {
            let now = instances()?;
            Ok((std::mem::replace(&mut before, now) == now).then_some(()))
        })?;
        // One to see that it can be made, and each of the others has 16 requests at a time.
        let instances = instances()?;
        ensure!((2..=8).contains(&instances), "{instances} instances");
        Ok(())
    })?;
    task.remove()?;
    Ok(())
}

/// One that computes lets the others have their turn a hundred times a second: all of them, not one.
fn nobody_waits_for_one_that_computes() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let (task, network) = served(&node, COUNTED)?;
    network.inside(|| {
        let mut spinner = connect()?;
        spinner.ask("/spin")?;
        in_flight(1, PATIENCE)?;
        let mut clients = (0..256)
            .map(|_| connect())
            .collect::<Result<Vec<Client>>>()?;
        let begin = Instant::now();
        for client in &mut clients {
            client.ask("/")?;
        }
        for client in &mut clients {
            assert_eq!(client.answer()?.status, 200);
        }
        let took = begin.elapsed();
        ensure!(took < Duration::from_secs(3), "it took {took:?}");
        Ok(())
    })?;
    task.remove()?;
    Ok(())
}

/// How many have been made.
fn instances() -> Result<u32> {
    let text = read_counters()?;
    let instances = text
        .lines()
        .find_map(|line| line.strip_prefix("skiff_http_instances_total "))
        .context("instances are not counted")?;
    Ok(instances.parse()?)
}

fn a_trap_leaves_the_service_alone() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let (task, network) = served(&node, COUNTED)?;
    network.inside(|| {
        for _ in 0..20 {
            assert_eq!(get("/trap?now")?.status, 500);
            assert_eq!(get("/")?.status, 200);
        }
        ensure!(
            read_counters()?.contains("skiff_http_traps_total 20\n"),
            "traps are not counted"
        );
        Ok(())
    })?;
    task.wait_for_output("it was asked to trap: now")?;
    task.wait_for_output("trapped at a request: ")?;
    task.wait_for_output("wasm `unreachable` instruction executed")?;
    assert_eq!(task.state()?.0, "RUNNING");
    task.remove()?;
    Ok(())
}

fn what_is_in_flight_is_answered_of_0_3() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let toml = "WasiP3 = true\n[Http]\nDrainDelay = '1s'\nMetrics = '127.0.0.1:9090'";
    let (task, network) = served(&node, toml)?;
    let mut slow = network.inside(|| {
        let mut slow = connect()?;
        slow.ask("/sleep?4000")?;
        in_flight(1, Duration::from_secs(3))?;
        Ok(slow)
    })?;
    task.signal("SIGTERM")?.ok()?;
    let answer = network.inside(|| slow.answer().context("it was in flight"))?;
    assert_eq!(answer.text(), "slept\n");
    task.wait_until_stopped(Duration::from_secs(20))?;
    assert_eq!(task.remove()?, 0);
    Ok(())
}

/// One that waits and one that computes: each is 504, and the service goes on.
fn what_takes_too_long_is_ended_of_0_3() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let toml = "WasiP3 = true\n[Http]\nRequestTime = '1s'\nMetrics = '127.0.0.1:9090'";
    let (task, network) = served(&node, toml)?;
    network.inside(|| {
        for target in ["/sleep?30000", "/spin", "/spin", "/sleep?30000"] {
            let begin = Instant::now();
            let answer = get(target)?;
            assert_eq!(answer.status, 504, "{target}: {}", answer.text());
            ensure!(
                begin.elapsed() >= Duration::from_secs(1),
                "{target}: too soon"
            );
            let next = get("/")?;
            assert_eq!(next.status, 200, "after {target}: {}", next.text());
        }
        let counters = read_counters()?;
        ensure!(
            counters.contains("skiff_http_refused_total{limit=\"time\"} 4\n"),
            "{counters}"
        );
        // Who computes for ever does not take the processor for ever.
        in_flight(0, Duration::from_secs(20))
    })?;
    let process = task.state()?.1;
    let used = || -> Result<u64> { skiff_test::process::processor_time(process) };
    wait_for("it still computes", Duration::from_secs(20), || {
        let before = used()?;
        std::thread::sleep(Duration::from_secs(1));
        Ok((used()? - before < 50).then_some(()))
    })?;
    task.remove()?;
    Ok(())
}

fn it_is_said_that_0_3_is_off() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = image()?;
    node.import(&image)?;
    let ran = node.run(&image).output()?;
    ensure!(
        ran.code != 0
            && ran
                .stderr
                .contains("it is a component of WASI 0.3, which is off"),
        "{}",
        ran.stderr
    );
    Ok(())
}
