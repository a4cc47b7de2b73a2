//! Services: found by name, reached by their address, rolled over without a failed request.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use skiff_test::cluster::Space;
use skiff_test::command::wait_for;

use crate::{cluster, holds, pod_of};

skiff_test::cases!(
    found_by_name_from_both_kinds,
    rolled_over_without_a_failed_request,
    a_component_that_handles_requests_is_rolled_over,
);

/// Replicas that answer, and a Service before them.
pub(crate) fn web(image: &str, mark: &str) -> Value {
    let mut pod = pod_of("web", image, &["serve", "8080"]);
    pod["spec"]["restartPolicy"] = json!("Always");
    pod["spec"]["terminationGracePeriodSeconds"] = json!(20);
    let container = &mut pod["spec"]["containers"][0];
    container["readinessProbe"] =
        json!({ "httpGet": { "port": 8080, "path": "/" }, "periodSeconds": 1 });
    // Until everybody knows that the endpoint is gone: what every server needs that ends when it is told to.
    container["lifecycle"] = json!({ "preStop": { "sleep": { "seconds": 4 } } });
    container["env"] = json!([{ "name": "MARK", "value": mark }]);
    json!([
        { "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
            "spec": { "replicas": 3, "selector": { "matchLabels": { "app": "web" } },
                "strategy": { "rollingUpdate": { "maxUnavailable": 0, "maxSurge": 1 } },
                "template": { "metadata": pod["metadata"], "spec": pod["spec"] } } },
        { "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" },
            "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80, "targetPort": 8080 }] } },
    ])
}

/// The same of a component of wasi:http, which needs nothing said: it drains by itself when it is told to end.
fn handler(mark: &str) -> Result<Value> {
    let mut objects = web(&cluster()?.images().http, mark);
    let container = &mut objects[0]["spec"]["template"]["spec"]["containers"][0];
    container["args"] = json!(null);
    container["lifecycle"] = json!(null);
    Ok(objects)
}

fn rolled_out(space: &Space<'_>) -> Result<()> {
    let words = ["rollout", "status", "deployment/web", "--timeout=58s"];
    space.kubectl(&words)?.ok()?;
    Ok(())
}

fn found_by_name_from_both_kinds() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("names")?;
    let images = cluster.images();
    space.apply(&web(&images.component, "first"))?;
    rolled_out(&space)?;
    space.apply(&pod_of(
        "wasm",
        &images.component,
        &[
            "fetch",
            "web:80",
            "/short",
            "fetch",
            "web.names.svc.cluster.local:80",
            "/long",
        ],
    ))?;
    space.phase("wasm", "Succeeded")?;
    let log = space.logs("wasm")?;
    holds(&log, "was asked for /short")?;
    holds(&log, "was asked for /long")?;
    let mut native = pod_of("native", &images.native, &[]);
    native["spec"]["runtimeClassName"] = json!(null);
    native["spec"]["containers"][0]["command"] =
        json!(["busybox", "wget", "-q", "-O", "-", "http://web/native"]);
    space.apply(&native)?;
    space.phase("native", "Succeeded")?;
    holds(&space.logs("native")?, "was asked for /native")
}

fn rolled_over_without_a_failed_request() -> Result<()> {
    let cluster = cluster()?;
    let image = &cluster.images().component;
    roll_over(
        "rolling",
        &web(image, "first"),
        &web(image, "second"),
        "/load",
        "was asked for /load",
    )
}

fn a_component_that_handles_requests_is_rolled_over() -> Result<()> {
    roll_over(
        "rolling-http",
        &handler("first")?,
        &handler("second")?,
        "/",
        "hello from a component",
    )
}

/// The Service's address, asked again and again from the node while all pods are replaced.
fn roll_over(name: &str, first: &Value, second: &Value, path: &str, answer: &str) -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space(name)?;
    space.apply(first)?;
    rolled_out(&space)?;
    let service = space.get("service/web")?;
    let address = service["spec"]["clusterIP"]
        .as_str()
        .context("no address")?;
    wait_for(
        "the Service does not answer",
        Duration::from_secs(30),
        || Ok(ask(address, path, answer).ok()),
    )?;
    let stop = AtomicBool::new(false);
    let (asked, failed) = std::thread::scope(|scope| -> Result<(u32, Vec<String>)> {
        let load = scope.spawn(|| {
            let (mut asked, mut failed) = (0, Vec::new());
            while !stop.load(Ordering::Acquire) {
                asked += 1;
                if let Err(error) = ask(address, path, answer) {
                    failed.push(format!("{error:#}"));
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            (asked, failed)
        });
        let rolled = space.apply(second).and_then(|()| rolled_out(&space));
        // The last of the old ones goes when the new ones are there.
        let gone = rolled.and_then(|()| {
            space.wait("the old pods stay", "pods", |pods| {
                (pods["items"].as_array()?.len() == 3).then_some(())
            })
        });
        stop.store(true, Ordering::Release);
        let counted = load.join();
        gone?;
        counted.map_err(|_| anyhow::anyhow!("the load panicked"))
    })?;
    ensure!(
        failed.is_empty() && asked > 100,
        "{} of {asked} requests failed: {:?}",
        failed.len(),
        failed.first()
    );
    Ok(())
}

fn ask(address: &str, path: &str, wanted: &str) -> Result<()> {
    let to = format!("{address}:80").parse()?;
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(
        answer.starts_with("HTTP/1.1 200") && answer.contains(wanted),
        "{answer}"
    );
    Ok(())
}
