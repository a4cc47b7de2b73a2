//! Components that handle HTTP requests are served: what they get, what is refused for them, what is told.

use std::fs;
use std::io::Write as _;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use skiff_test::command::wait_for;
use skiff_test::guest;
use skiff_test::http::{Network, connect, get};
use skiff_test::image::Image;
use skiff_test::node::{Node, Task, Version};

skiff_test::cases!(
    a_component_is_served_2_4,
    a_component_is_served_1_7,
    bodies_are_streamed,
    it_has_what_a_container_has,
    a_trap_is_one_answer,
    half_an_answer_is_not_taken_for_a_whole_one,
    limits_have_codes,
    one_instance_for_each_request_or_more,
    it_calls_where_it_may,
    counters,
    threads_by_the_limit,
    a_port_that_is_taken,
);

/// A service with options in a file, as `ctr run --runtime-config-path` passes them on.
pub(crate) fn served<'a>(node: &'a Node, toml: &str, with: &[&str]) -> Result<(Task<'a>, Network)> {
    served_as(node, &Image::layer("http", &guest::service()?), toml, with)
}

/// The same of another component.
pub(crate) fn served_as<'a>(
    node: &'a Node,
    image: &Image,
    toml: &str,
    with: &[&str],
) -> Result<(Task<'a>, Network)> {
    node.import(image)?;
    let file = node.directory().join("tmp").join(node.new_id("options"));
    fs::write(&file, toml)?;
    let path = file.display().to_string();
    let run = node.run(image).with(&["--runtime-config-path", &path]);
    let task = run.with(with).guest(&["one", "two"]).start()?;
    fs::remove_file(&file)?;
    let network = Network::of(task.state()?.1)?;
    network.wait()?;
    Ok((task, network))
}

fn a_component_is_served_2_4() -> Result<()> {
    a_component_is_served(Version::V2_4)
}

fn a_component_is_served_1_7() -> Result<()> {
    a_component_is_served(Version::V1_7)
}

fn a_component_is_served(version: Version) -> Result<()> {
    let node = Node::start(version)?;
    let (task, network) = served(&node, "", &[])?;
    let answer = network.get("/")?;
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (200, "hello from a component\n")
    );
    assert_eq!(network.get("/nothing")?.status, 404);
    network.inside(|| {
        let mut client = connect()?;
        // One connection, many requests, also before the answer of the one before.
        for _ in 0..3 {
            client.ask("/")?;
        }
        for _ in 0..3 {
            assert_eq!(client.answer()?.status, 200);
        }
        // IPv6, too.
        let mut client = skiff_test::http::Client::at("[::1]:8080".parse()?)?;
        client.ask("/")?;
        assert_eq!(client.answer()?.status, 200);
        client.send(
            b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        )?;
        assert_eq!(client.answer()?.status, 501);
        Ok(())
    })?;
    ensure!(
        task.output()
            .contains(" is served on 0.0.0.0:8080 and [::]:8080"),
        "{}",
        task.output()
    );
    assert_eq!(task.remove()?, 137);
    Ok(())
}

/// A body larger than any buffer goes through while it is still being sent.
fn bodies_are_streamed() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let (task, network) = served(&node, "", &[])?;
    let size = 8 << 20;
    let body: Vec<u8> = (0..size)
        .map(|index: usize| index.to_le_bytes()[index % 3])
        .collect();
    network.inside(|| {
        let mut client = connect()?;
        let mut writer = client.writer()?;
        let head = format!("POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: {size}\r\n\r\n");
        let answer = thread::scope(|scope| {
            let writing = scope.spawn(|| -> Result<()> {
                writer.write_all(head.as_bytes())?;
                Ok(writer.write_all(&body)?)
            });
            let answer = client.answer();
            writing.join().expect("it does not panic")?;
            answer
        })?;
        assert_eq!(answer.status, 200);
        ensure!(
            answer.body == body,
            "{} bytes came back, or others",
            answer.body.len()
        );
        let mut client = connect()?;
        client.send(
            b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        )?;
        thread::sleep(Duration::from_millis(100));
        client.send(b"6\r\n world\r\n0\r\n\r\n")?;
        assert_eq!(client.answer()?.text(), "hello world");
        Ok(())
    })?;
    task.remove()?;
    Ok(())
}

fn it_has_what_a_container_has() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let volume = node.directory().join("tmp/volume");
    fs::create_dir_all(&volume)?;
    fs::write(volume.join("file"), "of the volume\n")?;
    let mount = format!(
        "type=bind,src={},dst=/data,options=rbind:rw",
        volume.display()
    );
    let (task, network) = served(
        &node,
        "",
        &[
            "--mount",
            &mount,
            "--env",
            "COLOUR=red",
            "--env",
            "WASMTIME_HTTP_BACKLOG=50",
        ],
    )?;
    let environment = network.get("/environment")?.text();
    for line in ["COLOUR=red", "argument one", "argument two"] {
        ensure!(
            environment.lines().any(|other| other == line),
            "{line}: {environment}"
        );
    }
    ensure!(!environment.contains("WASMTIME_HTTP"), "{environment}");
    assert_eq!(network.get("/read?/data/file")?.text(), "of the volume\n");
    assert_eq!(network.get("/write?/data/new")?.status, 200);
    assert_eq!(fs::read_to_string(volume.join("new"))?, "written\n");
    assert_eq!(network.get("/read?/proc/self/status")?.status, 404);
    network.get("/say?something")?;
    task.wait_for_output("said something\n")?;
    task.wait_for_output("complained something\n")?;
    task.remove()?;
    fs::remove_dir_all(&volume)?;
    Ok(())
}

fn a_trap_is_one_answer() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let (task, network) = served(&node, "", &[])?;
    network.inside(|| {
        let mut other = connect()?;
        other.ask("/sleep?1000")?;
        for _ in 0..20 {
            assert_eq!(get("/trap?now")?.status, 500);
            assert_eq!(get("/")?.status, 200);
        }
        assert_eq!(get("/silence")?.status, 500);
        assert_eq!(other.answer()?.text(), "slept\n");
        Ok(())
    })?;
    task.wait_for_output("it was asked to trap: now")?;
    let output = task.output();
    ensure!(
        output.contains("trapped at GET /trap?now: ")
            && output.contains("wasm `unreachable` instruction executed")
            && output.contains("http::trap"),
        "no backtrace: {output}"
    );
    assert_eq!(task.state()?.0, "RUNNING");
    task.remove()?;
    Ok(())
}

const LIMITS: &str = r#"
[Http]
HeaderLimit = "16Ki"
BodyLimit = "1Ki"
RequestTime = "5s"
Concurrency = 2
Queue = 0
Metrics = '127.0.0.1:9090'
InstanceMemory = "8Mi"
ClientTime = "2s"
"#;

/// A trap before anything has gone out is 500, whatever was promised; later, the connection is cut.
fn half_an_answer_is_not_taken_for_a_whole_one() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let (task, network) = served(&node, "", &[])?;
    for _ in 0..3 {
        let answer = network.get("/promise")?;
        assert_eq!(answer.status, 500, "{}", answer.text());
        let cut = network.get("/begin");
        ensure!(cut.is_err(), "half an answer ends as a whole one: {cut:?}");
        assert_eq!(network.get("/")?.status, 200);
    }
    task.wait_for_output("in the middle of an answer")?;
    task.remove()?;
    Ok(())
}

fn limits_have_codes() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let (task, network) = served(&node, LIMITS, &[])?;
    network.inside(|| {
        let mut client = connect()?;
        client.send(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 1025\r\n\r\n")?;
        assert_eq!(client.answer()?.status, 413);
        let mut client = connect()?;
        client.send(b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")?;
        client.send(format!("800\r\n{}\r\n0\r\n\r\n", "x".repeat(0x800)).as_bytes())?;
        assert_eq!(client.answer()?.status, 413);
        let mut client = connect()?;
        let header = "y".repeat(20 << 10);
        client.send(format!("GET / HTTP/1.1\r\nhost: x\r\nx: {header}\r\n\r\n").as_bytes())?;
        assert_eq!(client.answer()?.status, 431);
        // One that computes lets others in meanwhile.
        let mut spinning = connect()?;
        spinning.ask("/spin")?;
        assert_eq!(get("/")?.status, 200);
        assert_eq!(spinning.answer()?.status, 504);
        let mut sleeping = connect()?;
        sleeping.ask("/sleep?60000")?;
        let mut other = connect()?;
        other.ask("/sleep?60000")?;
        // Each is read by a thread of its own: a third that came too early would have one of the two places.
        in_flight(2, Duration::from_secs(4))?;
        let refused = get("/")?;
        assert_eq!(
            (refused.status, refused.headers["retry-after"].as_str()),
            (503, "1")
        );
        assert_eq!(sleeping.answer()?.status, 504);
        assert_eq!(other.answer()?.status, 504);
        assert_eq!(get("/grow?4")?.text(), format!("{}\n", 4 << 20));
        assert_eq!(get("/grow?32")?.status, 500);
        // Half a head, and half a body.
        let mut slow = connect()?;
        slow.send(b"GET / HTT")?;
        let mut half = connect()?;
        half.send(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nhalf")?;
        ensure!(slow.is_closed()?, "a client may take its time");
        drop(half);
        assert_eq!(get("/")?.status, 200);
        Ok(())
    })?;
    task.wait_for_output("handler option Http.InstanceMemory")?;
    assert_eq!(task.state()?.0, "RUNNING");
    task.remove()?;
    Ok(())
}

fn one_instance_for_each_request_or_more() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let counts = |toml: &str| -> Result<Vec<u32>> {
        let (task, network) = served(&node, toml, &["--cpus", "1"])?;
        let counts = network.inside(|| {
            let mut client = connect()?;
            (0..7)
                .map(|_| {
                    client.ask("/count")?;
                    Ok(client.answer()?.text().trim().parse()?)
                })
                .collect()
        });
        task.remove()?;
        counts
    };
    assert_eq!(counts("")?, [1; 7]);
    let reused = counts("[Http]\nInstanceRequests = 3")?;
    ensure!(reused.iter().max() == Some(&3), "{reused:?}");
    Ok(())
}

fn it_calls_where_it_may() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let (task, network) = served(&node, "[Http]\nEgress = ['127.0.0.0/8:8080']", &[])?;
    // It calls itself.
    assert_eq!(
        network.get("/fetch?http://127.0.0.1:8080/")?.text(),
        "hello from a component\n"
    );
    for _ in 0..3 {
        assert_eq!(network.get("/fetch?http://localhost:8080/")?.status, 200);
    }
    for elsewhere in [
        "http://127.0.0.1:81/",
        "http://[::1]:8080/",
        "http://192.0.2.1/",
    ] {
        let answer = network.get(&format!("/fetch?{elsewhere}"))?;
        assert_eq!(answer.status, 502, "{elsewhere}: {}", answer.text());
        ensure!(
            answer.text().contains("IpProhibited"),
            "{elsewhere}: {}",
            answer.text()
        );
    }
    task.remove()?;
    Ok(())
}

/// The page of the port that [`LIMITS`] names.
pub(crate) fn read_counters() -> Result<String> {
    let mut client = skiff_test::http::Client::at("127.0.0.1:9090".parse()?)?;
    client.ask("/metrics")?;
    Ok(client.answer()?.text())
}

/// Waits until so many requests are being answered, and gives the page that says so.
pub(crate) fn in_flight(count: usize, limit: Duration) -> Result<String> {
    let line = format!("skiff_http_requests_in_flight {count}\n");
    wait_for(&line, limit, || {
        let text = read_counters()?;
        Ok(text.contains(&line).then_some(text))
    })
}

fn counters() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let (task, network) = served(&node, "[Http]\nMetrics = '127.0.0.1:9090'", &[])?;
    for target in ["/", "/", "/trap", "/nothing"] {
        network.get(target)?;
    }
    let text = network.inside(|| {
        // An instance may still be at work when its answer is there.
        in_flight(0, Duration::from_secs(4))
    })?;
    for line in [
        "skiff_http_requests_total{code=\"200\"} 2",
        "skiff_http_requests_total{code=\"404\"} 1",
        "skiff_http_requests_total{code=\"500\"} 1",
        "skiff_http_traps_total 1",
        "skiff_http_request_duration_seconds_count 4",
    ] {
        ensure!(
            text.lines().any(|other| other == line),
            "{line} is not in\n{text}"
        );
    }
    task.remove()?;
    Ok(())
}

/// One thread for each processor that the container may use, and the clock.
fn threads_by_the_limit() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let processors = thread::available_parallelism()?.get();
    for (cpus, expected) in [("0.3", 1), ("1", 1), ("1.5", 2), ("64", 64)] {
        let (task, _network) = served(&node, "", &["--cpus", cpus])?;
        let threads = fs::read_dir(format!("/proc/{}/task", task.state()?.1))?.count();
        assert_eq!(threads, processors.min(expected) + 1, "{cpus}");
        task.remove()?;
    }
    Ok(())
}

fn a_port_that_is_taken() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::layer("http", &guest::service()?);
    node.import(&image)?;
    let (task, network) = served(&node, "", &[])?;
    // A second container of the same pod.
    let network_of = format!("network:/proc/{}/ns/net", task.state()?.1);
    let ran = node
        .run(&image)
        .with(&["--with-ns", &network_of])
        .output()?;
    assert_eq!(ran.code, 134, "{}", ran.stderr);
    ensure!(
        ran.stderr.contains(
            "could not listen on 0.0.0.0:8080, which something else in the pod listens on"
        ),
        "{}",
        ran.stderr
    );
    let ran = node
        .run(&image)
        .with(&["--env", "WASMTIME_HTTP_PROXY_SOCKET_ADDR=elsewhere"])
        .output()?;
    ensure!(
        ran.code != 0 && ran.stderr.contains("is not understood"),
        "{}",
        ran.stderr
    );
    let elsewhere = node
        .run(&image)
        .with(&[
            "--with-ns",
            &network_of,
            "--env",
            "WASMTIME_HTTP_PROXY_SOCKET_ADDR=127.0.0.1:81",
        ])
        .start()?;
    elsewhere.wait_for_output("is served on 127.0.0.1:81")?;
    let answer = network.inside(|| {
        let mut client = skiff_test::http::Client::at("127.0.0.1:81".parse()?)?;
        client.ask("/")?;
        client.answer()
    });
    assert_eq!(answer.context("the second does not answer")?.status, 200);
    elsewhere.remove()?;
    task.remove()?;
    Ok(())
}
