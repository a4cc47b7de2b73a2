//! A service whose limits change while it serves, as Kubernetes resizes a pod in place.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use skiff_test::command::wait_for;
use skiff_test::guest;
use skiff_test::http::{Network, connect};
use skiff_test::image::Image;
use skiff_test::node::{Cri, CriContainer, Node, Version};

skiff_test::cases!(threads_follow_the_limit, memory_follows_the_limit);

const PERIOD: usize = 100_000;

/// A service in a pod, with these resources, for as long as `work` takes.
fn served(
    resources: &Value,
    work: impl FnOnce(&Cri<'_>, &CriContainer<'_>, &Network) -> Result<()>,
) -> Result<()> {
    let mut node = Node::start(Version::V2_4)?;
    let image = Image::layer("http", &guest::service()?);
    let reference = node.registry()?.push(&image, "http")?;
    let cri = node.cri()?;
    cri.pull(&reference)?;
    let pod = cri.pod("wasmtime", "pod")?;
    let container = pod.start(&reference, &json!({ "linux": { "resources": resources } }))?;
    let network = Network::of(container.pid()?)?;
    network.wait()?;
    work(&cri, &container, &network)?;
    pod.remove()
}

/// More processors: more threads. Fewer: those go that are too many, and nobody's request with them.
fn threads_follow_the_limit() -> Result<()> {
    let processors = thread::available_parallelism()?.get();
    if processors < 2 {
        skiff_test::skip!("one processor is not enough to be given another");
    }
    let limit = json!({ "cpu_period": PERIOD, "cpu_quota": PERIOD });
    served(&limit, resize_threads)
}

fn resize_threads(cri: &Cri<'_>, container: &CriContainer<'_>, network: &Network) -> Result<()> {
    let process = container.pid()?;
    let threads = |expected: usize| {
        wait_for("other threads than that", Duration::from_secs(20), || {
            let now = fs::read_dir(format!("/proc/{process}/task"))?.count();
            // Beside them the clock.
            Ok((now == expected + 1).then_some(()))
        })
    };
    threads(1)?;
    let (stop, answers) = (AtomicBool::new(false), AtomicUsize::new(0));
    let client = || {
        network.inside(|| {
            let mut client = connect()?;
            while !stop.load(Ordering::Relaxed) {
                client.ask("/")?;
                let answer = client.answer()?;
                assert_eq!(answer.status, 200);
                answers.fetch_add(1, Ordering::Relaxed);
                if answer
                    .headers
                    .get("connection")
                    .is_some_and(|value| value == "close")
                {
                    client = connect()?;
                }
                thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        })
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..8).map(|_| scope.spawn(client)).collect();
        let resized = (|| -> Result<()> {
            for count in [2, 1, 2, 1] {
                let quota = format!("--cpu-quota={}", count * PERIOD);
                cri.crictl(&["update", &quota, &container.id])?.ok()?;
                threads(count)?;
                // New connections find both.
                let before = answers.load(Ordering::Relaxed);
                for _ in 0..20 {
                    assert_eq!(network.get("/")?.status, 200);
                }
                wait_for("nobody is answered", Duration::from_secs(20), || {
                    Ok((answers.load(Ordering::Relaxed) > before + 100).then_some(()))
                })?;
            }
            Ok(())
        })();
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().expect("it does not panic")?;
        }
        resized
    })
}

/// What all instances may have together is what the container may have.
fn memory_follows_the_limit() -> Result<()> {
    let limit = json!({ "memory_limit_in_bytes": 64 << 20 });
    served(&limit, |cri, container, network| {
        let grown = network.get("/grow?100")?;
        ensure!(grown.status == 500, "{}", grown.text());
        let memory = format!("--memory={}", 256 << 20);
        cri.crictl(&["update", &memory, &container.id])?.ok()?;
        wait_for("it has no more memory", Duration::from_secs(20), || {
            Ok((network.get("/grow?100")?.status == 200).then_some(()))
        })
    })
}
