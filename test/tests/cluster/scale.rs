//! A Deployment from 0 to 50 pods and back, Wasm beside runc, in alternating rounds: `make test-scale`.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;
use skiff_test::cluster::Space;
use skiff_test::command::wait_for;

use crate::{cluster, pod_of};

skiff_test::cases!(fifty_pods_beside_runc);

/// How many pods, and how often.
const PODS: u32 = 50;
const ROUNDS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(300);

fn fifty_pods_beside_runc() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("scale")?;
    let images = cluster.images();
    let ours = ("wasm", "wasmtime", &images.guest, vec!["sleep", "100000"]);
    // The native twin sleeps as well.
    let theirs = ("native", "", &images.native, vec!["sleep", "100000"]);
    for (name, class, image, words) in [&ours, &theirs] {
        let mut pod = pod_of(name, image, words);
        pod["spec"]["restartPolicy"] = json!("Always");
        pod["spec"]["terminationGracePeriodSeconds"] = json!(1);
        if class.is_empty() {
            pod["spec"]["runtimeClassName"] = json!(null);
        }
        space.apply(&json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
            "spec": { "replicas": 0, "selector": { "matchLabels": { "app": name } },
                "template": { "metadata": pod["metadata"], "spec": pod["spec"] } },
        }))?;
        // The image is there before the first round.
        scale(&space, name, 1)?;
        scale(&space, name, 0)?;
    }
    let mut all = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        // Neither is always the first.
        let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        for which in order {
            let name = [ours.0, theirs.0][which];
            let (up, down) = (scale(&space, name, PODS)?, scale(&space, name, 0)?);
            all[which].push((up + down, up, down));
        }
    }
    let [mut ours, mut theirs] = all;
    ours.sort_by(|a, b| a.0.total_cmp(&b.0));
    theirs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let text = |name: &str, rounds: &[(f64, f64, f64)]| {
        let times: Vec<String> = rounds
            .iter()
            .map(|(all, up, down)| format!("{all:.1} ({up:.1} + {down:.1})"))
            .collect();
        format!(
            "{name} 0 → {PODS} → 0, seconds (up + down): {}",
            times.join(", ")
        )
    };
    let table = format!("{}\n{}", text("wasm  ", &ours), text("native", &theirs));
    crate::say(&table);
    let (our, their) = (ours[ROUNDS / 2].0, theirs[ROUNDS / 2].0);
    ensure!(
        our <= their,
        "the median of ours is {our:.1} s, of runc {their:.1} s\n{table}"
    );
    Ok(())
}

/// Seconds until all replicas are ready, or the last is gone.
fn scale(space: &Space<'_>, name: &str, replicas: u32) -> Result<f64> {
    let begin = Instant::now();
    let count = format!("--replicas={replicas}");
    space
        .kubectl(&["scale", "deployment", name, &count])?
        .ok()?;
    let selector = format!("app={name}");
    let words = ["get", "pods", "--selector", &selector, "--output", "json"];
    wait_for("it is not scaled", PATIENCE, || {
        let text = space.kubectl(&words)?.ok()?;
        let pods: serde_json::Value = serde_json::from_str(&text)?;
        let pods = pods["items"].as_array().cloned().unwrap_or_default();
        let ready = pods
            .iter()
            .filter(|pod| skiff_test::cluster::condition(pod, "Ready").as_deref() == Some("True"))
            .count();
        let wanted = usize::try_from(replicas)?;
        let done = ready == wanted && pods.len() == wanted;
        if !done {
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(done.then_some(()))
    })?;
    Ok(begin.elapsed().as_secs_f64())
}
