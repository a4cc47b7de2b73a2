//! A service that is told to end leaves nobody without an answer.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use skiff_test::command::wait_for;
use skiff_test::http::{Network, connect, get};
use skiff_test::node::{Node, Task, Version};

use crate::http::served;
use crate::http_storm::setting;

skiff_test::cases!(
    nobody_is_left_without_an_answer,
    what_is_in_flight_is_answered,
    a_second_signal_ends_it_at_once,
);

/// Clients that keep connecting, and clients that keep their connection, until `stop`. Failures are counted.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    answers: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

impl Load {
    fn count(&self, result: Result<()>) {
        match result {
            Ok(()) => {
                self.answers.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
                failures.push(format!("{error:#}"));
            }
        }
    }

    fn connecting(&self, network: &Network) -> Result<()> {
        network.inside(|| {
            while !self.stop.load(Ordering::Relaxed) {
                self.count(get("/").map(|answer| assert_eq!(answer.status, 200)));
                thread::sleep(Duration::from_millis(2));
            }
            Ok(())
        })
    }

    fn keeping(&self, network: &Network) -> Result<()> {
        network.inside(|| {
            let mut client = connect()?;
            while !self.stop.load(Ordering::Relaxed) {
                let answer = client.ask("/").and_then(|()| client.answer());
                // Who is told so connects anew, and nobody else need.
                let closes = answer.as_ref().is_ok_and(|answer| {
                    answer
                        .headers
                        .get("connection")
                        .is_some_and(|value| value == "close")
                });
                self.count(answer.map(|answer| assert_eq!(answer.status, 200)));
                if closes {
                    client = connect()?;
                }
                thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        })
    }
}

/// How many services are told to end; `make test-http-storm` has 200.
const ENDS: &str = "SKIFF_TEST_STORM_ENDS";
/// At a time, where there are many.
const TOGETHER: u64 = 4;

fn nobody_is_left_without_an_answer() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let mut left = setting(ENDS, 5)?;
    let together = if left > 5 { TOGETHER } else { 1 };
    while left > 0 {
        let mut services = Vec::new();
        for _ in 0..together.min(left) {
            let (task, network) = served(&node, "", &[])?;
            services.push((task, network, Load::default()));
        }
        left -= together.min(left);
        under_load(&services)?;
        for (task, _, load) in services {
            let answers = load.answers.into_inner();
            let failures = load
                .failures
                .into_inner()
                .unwrap_or_else(PoisonError::into_inner);
            ensure!(
                failures.is_empty() && answers > 100,
                "after {answers} answers: {failures:?}"
            );
            task.wait_until_stopped(Duration::from_secs(10))?;
            assert_eq!(task.remove()?, 0);
        }
    }
    Ok(())
}

/// Tells services with clients to end, whose clients go on for two seconds.
fn under_load(services: &[(Task<'_>, Network, Load)]) -> Result<()> {
    thread::scope(|scope| -> Result<()> {
        let mut clients = Vec::new();
        for (_, network, load) in services {
            for number in 0..8 {
                clients.push(scope.spawn(move || {
                    if number % 2 == 0 {
                        load.connecting(network)
                    } else {
                        load.keeping(network)
                    }
                }));
            }
        }
        thread::sleep(Duration::from_millis(300));
        let mut signalled = Vec::new();
        for (task, _, load) in services {
            signalled.push(task.signal("SIGTERM"));
            // Each goes on for as long after its own signal.
            let stop = Instant::now() + Duration::from_secs(2);
            clients.push(scope.spawn(move || {
                thread::sleep(stop - Instant::now());
                load.stop.store(true, Ordering::Relaxed);
                Ok(())
            }));
        }
        for client in clients {
            client.join().expect("a client does not panic")?;
        }
        for signalled in signalled {
            signalled?.ok()?;
        }
        Ok(())
    })
}

fn what_is_in_flight_is_answered() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let (task, network) = served(&node, "[Http]\nDrainDelay = '1s'", &[])?;
    let (mut slow, mut idle) = network.inside(|| {
        let mut slow = connect()?;
        slow.ask("/sleep?4000")?;
        let mut idle = connect()?;
        idle.ask("/")?;
        assert_eq!(idle.answer()?.status, 200);
        Ok((slow, idle))
    })?;
    thread::sleep(Duration::from_millis(300));
    let begin = Instant::now();
    task.signal("SIGTERM")?.ok()?;
    network.inside(|| {
        let answer = get("/")?;
        assert_eq!(
            (answer.status, answer.headers["connection"].as_str()),
            (200, "close")
        );
        ensure!(idle.is_closed()?, "an idle connection stays");
        ensure!(
            begin.elapsed() > Duration::from_millis(900),
            "it did not wait"
        );
        wait_for("the port stays open", Duration::from_secs(5), || {
            Ok(connect().is_err().then_some(()))
        })?;
        assert_eq!(slow.answer().context("it was in flight")?.text(), "slept\n");
        Ok(())
    })?;
    task.wait_until_stopped(Duration::from_secs(10))?;
    assert_eq!(task.remove()?, 0);
    Ok(())
}

fn a_second_signal_ends_it_at_once() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let (task, network) = served(&node, "[Http]\nDrainDelay = '60s'", &[])?;
    task.signal("SIGTERM")?.ok()?;
    assert_eq!(network.get("/")?.status, 200);
    task.signal("SIGTERM")?.ok()?;
    task.wait_until_stopped(Duration::from_secs(5))?;
    assert_eq!(task.remove()?, 143);
    Ok(())
}
