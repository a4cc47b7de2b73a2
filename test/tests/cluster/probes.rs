//! Liveness, readiness and startup probes of every kind.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use skiff_test::cluster::{Space, condition, container_state};

use crate::{cluster, holds, pod, pod_of};

skiff_test::cases!(
    readiness_by_exec,
    liveness_by_exec,
    startup_by_exec,
    startup_by_tcp_and_http,
    readiness_and_liveness_by_tcp,
    readiness_and_liveness_by_http,
    a_hook_runs_before_the_end,
);

/// Asked every second; two answers in a row count.
fn probe(how: &Value) -> Value {
    let mut probe = json!({ "periodSeconds": 1, "failureThreshold": 2, "timeoutSeconds": 5 });
    if let (Some(probe), Some(how)) = (probe.as_object_mut(), how.as_object()) {
        probe.extend(how.clone());
    }
    probe
}

fn cat(path: &str) -> Value {
    json!({ "exec": { "command": ["cat", path] } })
}

fn becomes(space: &Space<'_>, name: &str, ready: &str) -> Result<()> {
    let what = format!("{name} does not become Ready={ready}");
    space.wait(&what, &format!("pod/{name}"), |pod| {
        (condition(pod, "Ready").as_deref() == Some(ready)).then_some(())
    })
}

fn restarts(space: &Space<'_>, name: &str) -> Result<()> {
    let what = format!("{name} is not restarted");
    space.wait(&what, &format!("pod/{name}"), |pod| {
        (container_state(pod, "main")?["restartCount"].as_u64()? >= 1).then_some(())
    })
}

fn readiness_by_exec() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("readiness-exec")?;
    let mut one = pod("one", &["sleep", "1000"])?;
    one["spec"]["containers"][0]["readinessProbe"] = probe(&cat("/up"));
    space.apply(&one)?;
    space.phase("one", "Running")?;
    let text = space.wait("no event tells of the probe", "events", |events| {
        let text = events.to_string();
        text.contains("Readiness probe failed").then_some(text)
    })?;
    // What the tool said is what Kubernetes shows.
    holds(&text, "/up")?;
    space.exec("one", &["touch", "/up"])?.ok()?;
    becomes(&space, "one", "True")?;
    space.exec("one", &["rm", "/up"])?.ok()?;
    becomes(&space, "one", "False")
}

fn liveness_by_exec() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("liveness-exec")?;
    let mut one = pod("one", &["sleep", "1000"])?;
    one["spec"]["restartPolicy"] = json!("Always");
    one["spec"]["containers"][0]["livenessProbe"] = probe(&cat("/greeting"));
    space.apply(&one)?;
    space.ready("one")?;
    space.exec("one", &["rm", "/greeting"])?.ok()?;
    restarts(&space, "one")
}

fn startup_by_exec() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("startup-exec")?;
    let mut one = pod(
        "one",
        &["sleep", "2", "write", "/up", "now", "sleep", "1000"],
    )?;
    let mut patient = probe(&cat("/up"));
    patient["failureThreshold"] = json!(30);
    one["spec"]["containers"][0]["startupProbe"] = patient;
    space.apply(&one)?;
    let seen = space.ready("one")?;
    let state = container_state(&seen, "main").expect("a container");
    ensure!(
        state["started"] == true && state["restartCount"] == 0,
        "{state}"
    );
    Ok(())
}

/// The liveness probe, which would end them before they serve, waits for it.
fn startup_by_tcp_and_http() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("startup")?;
    let image = &cluster.images().component;
    let kinds = [
        ("tcp", json!({ "tcpSocket": { "port": 8080 } })),
        ("http", json!({ "httpGet": { "port": 8080, "path": "/" } })),
    ];
    for (name, how) in &kinds {
        let mut one = pod_of(name, image, &["sleep", "4", "serve", "8080"]);
        let container = &mut one["spec"]["containers"][0];
        container["livenessProbe"] = probe(how);
        container["livenessProbe"]["failureThreshold"] = json!(1);
        container["startupProbe"] = probe(how);
        container["startupProbe"]["failureThreshold"] = json!(50);
        space.apply(&one)?;
    }
    for (name, _) in &kinds {
        let seen = space.ready(name)?;
        let state = container_state(&seen, "main").expect("a container");
        ensure!(
            state["started"] == true && state["restartCount"] == 0,
            "{state}"
        );
    }
    Ok(())
}

fn readiness_and_liveness_by_tcp() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("tcp")?;
    let image = &cluster.images().component;
    let mut open = pod_of("open", image, &["sleep", "1", "serve", "8080"]);
    let how = probe(&json!({ "tcpSocket": { "port": 8080 } }));
    open["spec"]["containers"][0]["readinessProbe"] = how.clone();
    let mut closed = pod_of("closed", image, &["sleep", "1000"]);
    closed["spec"]["restartPolicy"] = json!("Always");
    closed["spec"]["containers"][0]["livenessProbe"] = how;
    space.apply(&json!([open, closed]))?;
    becomes(&space, "open", "True")?;
    restarts(&space, "closed")
}

fn readiness_and_liveness_by_http() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("http")?;
    let mut web = pod_of("web", &cluster.images().component, &["serve", "8080"]);
    web["spec"]["restartPolicy"] = json!("Always");
    let how = json!({ "httpGet": { "port": 8080, "path": "/healthz" } });
    let container = &mut web["spec"]["containers"][0];
    container["readinessProbe"] = probe(&how);
    container["livenessProbe"] = probe(&how);
    container["livenessProbe"]["failureThreshold"] = json!(6);
    space.apply(&web)?;
    becomes(&space, "web", "True")?;
    space.exec("web", &["touch", "/sick"])?.ok()?;
    becomes(&space, "web", "False")?;
    // Restarted it has no such file any more.
    restarts(&space, "web")?;
    becomes(&space, "web", "True")
}

fn a_hook_runs_before_the_end() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("hooks")?;
    let mut one = pod("one", &["sleep", "1000"])?;
    let mark = |name: &str| json!({ "exec": { "command": ["touch", format!("/share/{name}")] } });
    let mount = json!([{ "name": "share", "mountPath": "/share" }]);
    let place = cluster.directory().join("files/hooks");
    std::fs::create_dir_all(&place)?;
    let container = &mut one["spec"]["containers"][0];
    container["lifecycle"] = json!({ "postStart": mark("begin"), "preStop": mark("end") });
    container["volumeMounts"] = mount;
    one["spec"]["volumes"] = json!([{ "name": "share", "hostPath": { "path": place } }]);
    space.apply(&one)?;
    space.ready("one")?;
    ensure!(place.join("begin").exists() && !place.join("end").exists());
    space.delete("pod/one")?;
    ensure!(place.join("end").exists(), "preStop did not run");
    Ok(())
}
