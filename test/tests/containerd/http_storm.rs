//! A service in bad weather: many requests, some of which trap, and clients that hang or send too much.
//!
//! `make test-http-storm` has a million requests and 200 ends (`http_end`); these are as few as `make test` has time for.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use skiff_test::command::wait_for;
use skiff_test::http::{Client, Network, connect, get};
use skiff_test::node::{Node, Task, Version};
use skiff_test::process;

use crate::http::{read_counters, served};

skiff_test::cases!(everybody_else_is_answered);

/// How many requests there are.
const REQUESTS: &str = "SKIFF_TEST_STORM_REQUESTS";
/// One of so many traps.
const TRAPS: u64 = 1000;
/// Clients that behave.
const CLIENTS: u64 = 8;
/// Requests of a connection.
const KEPT: u64 = 5000;

const OPTIONS: &str = "[Http]
HeaderLimit = '16Ki'
BodyLimit = '16Ki'
ClientTime = '3s'
Metrics = '127.0.0.1:9090'
";

/// A number from the environment.
pub(crate) fn setting(name: &str, without: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(value) => value
            .parse()
            .with_context(|| format!("{name}={value} is not a number")),
        Err(_) => Ok(without),
    }
}

/// What the clients have come to know.
#[derive(Default)]
struct Weather {
    /// The number of the next request.
    next: AtomicU64,
    over: AtomicBool,
    /// Anonymous memory of the server in KiB, when a fifth of the requests was answered.
    early: AtomicU64,
    hung: AtomicU64,
    refused: AtomicU64,
}

fn everybody_else_is_answered() -> Result<()> {
    let requests = setting(REQUESTS, 20_000)?;
    let node = Node::start(Version::V2_4)?;
    let (task, network) = served(&node, OPTIONS, &[])?;
    let process = task.state()?.1;
    let threads = threads(process)?;
    let weather = Weather::default();
    thread::scope(|scope| -> Result<()> {
        let (weather, network) = (&weather, &network);
        let rude: Vec<_> = [hang, headers, bodies]
            .into_iter()
            .map(|client| scope.spawn(move || network.inside(|| until(weather, client))))
            .collect();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(move || behave(weather, network, requests, process)))
            .collect();
        let ended: Vec<_> = clients
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .collect();
        weather.over.store(true, Ordering::Relaxed);
        for client in ended
            .into_iter()
            .chain(rude.into_iter().map(thread::ScopedJoinHandle::join))
        {
            client.map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        Ok(())
    })?;
    let text = settled(&network)?;
    let traps = requests.div_ceil(TRAPS);
    for line in [
        format!("skiff_http_traps_total {traps}"),
        format!("skiff_http_requests_total{{code=\"500\"}} {traps}"),
        "skiff_http_requests_waiting 0".to_owned(),
    ] {
        ensure!(
            text.lines().any(|other| other == line),
            "{line} is not in\n{text}"
        );
    }
    let (hung, refused) = (weather.hung.into_inner(), weather.refused.into_inner());
    ensure!(
        hung > 0 && refused > 1,
        "{hung} have hung, {refused} were refused"
    );
    assert_eq!(self::threads(process)?, threads, "a worker is lost");
    let (early, late) = (weather.early.into_inner(), anonymous(process)?);
    ensure!(
        late < early + early / 4 + (8 << 10),
        "the memory has grown from {early} KiB to {late} KiB"
    );
    assert_eq!(network.get("/")?.status, 200);
    end(task)
}

/// Told to end with nobody there, it ends at once after the time for those who have not heard of it.
fn end(task: Task<'_>) -> Result<()> {
    task.signal("SIGTERM")?.ok()?;
    task.wait_until_stopped(Duration::from_secs(30))?;
    assert_eq!(task.remove()?, 0);
    Ok(())
}

/// A client that keeps to the rules: each of its requests is answered as it must be.
fn behave(weather: &Weather, network: &Network, requests: u64, process: u32) -> Result<()> {
    network.inside(|| {
        let mut client = connect()?;
        let mut asked = 0;
        loop {
            let number = weather.next.fetch_add(1, Ordering::Relaxed);
            if number >= requests {
                return Ok(());
            }
            if number == requests / 5 {
                weather.early.store(anonymous(process)?, Ordering::Relaxed);
            }
            one(&mut client, number).with_context(|| format!("request {number}"))?;
            asked += 1;
            if asked % KEPT == 0 {
                client = connect()?;
            }
        }
    })
}

fn one(client: &mut Client, number: u64) -> Result<()> {
    if number.is_multiple_of(TRAPS) {
        client.ask("/trap?storm")?;
        let answer = client.answer()?;
        ensure!(
            answer.status == 500,
            "a trap is answered with {}",
            answer.status
        );
        return Ok(());
    }
    let body = format!("number {number} ").repeat(50);
    let expected = if number.is_multiple_of(3) {
        let head = format!(
            "POST /echo HTTP/1.1\r\nhost: storm\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        client.send(format!("{head}{body}").as_bytes())?;
        body.as_str()
    } else {
        client.ask("/")?;
        "hello from a component\n"
    };
    let answer = client.answer()?;
    ensure!(
        answer.status == 200 && answer.text() == expected,
        "answered with {}: {}",
        answer.status,
        answer.text()
    );
    Ok(())
}

/// Again and again, until the others are through.
fn until(weather: &Weather, client: fn(&Weather) -> Result<()>) -> Result<()> {
    loop {
        client(weather)?;
        if weather.over.load(Ordering::Relaxed) {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Half a head, a head without its body, a connection without a word: each is ended by the server.
fn hang(weather: &Weather) -> Result<()> {
    let words: [&[u8]; 3] = [
        b"GET / HTT",
        b"POST /echo HTTP/1.1\r\nhost: storm\r\ncontent-length: 9\r\n\r\n",
        b"",
    ];
    let mut clients = Vec::new();
    for words in words.iter().cycle().take(30) {
        let mut client = connect()?;
        client.send(words)?;
        clients.push((client, words.len() > 20));
    }
    for (mut client, has_head) in clients {
        if has_head {
            let answer = client.answer().context("no body")?;
            ensure!(answer.status == 408, "no body: {}", answer.status);
        } else {
            ensure!(client.is_closed()?, "a client may take its time");
        }
        weather.hung.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn headers(weather: &Weather) -> Result<()> {
    let header = "y".repeat(20 << 10);
    let head = format!("GET / HTTP/1.1\r\nhost: storm\r\nx: {header}\r\n\r\n");
    refused(weather, &head, 431)
}

fn bodies(weather: &Weather) -> Result<()> {
    let head = "POST /echo HTTP/1.1\r\nhost: storm\r\ncontent-length: 16385\r\n\r\n";
    refused(weather, head, 413)
}

fn refused(weather: &Weather, words: &str, status: u16) -> Result<()> {
    let mut client = connect()?;
    client.send(words.as_bytes())?;
    let answer = client.answer().with_context(|| format!("{status}"))?;
    ensure!(answer.status == status, "{}, not {status}", answer.status);
    weather.refused.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// The counters, when nobody is there any more.
fn settled(network: &Network) -> Result<String> {
    network.inside(|| {
        ensure!(get("/")?.status == 200, "it does not answer");
        wait_for("somebody stays", Duration::from_secs(30), || {
            let text = read_counters()?;
            let idle = [
                "skiff_http_requests_in_flight 0\n",
                "skiff_http_connections 0\n",
            ];
            Ok(idle.iter().all(|line| text.contains(line)).then_some(text))
        })
    })
}

fn threads(process: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{process}/task"))?.count())
}

/// Memory that is no file's, in KiB.
fn anonymous(process: u32) -> Result<u64> {
    process::memory(process, "Anonymous")
}
