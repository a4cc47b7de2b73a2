//! Every image layout on every containerd, as a kubelet starts it: pulled from a registry, through CRI.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use skiff_test::guest;
use skiff_test::image::Image;
use skiff_test::node::{Node, Version};

skiff_test::cases!(
    layer_1_7,
    layer_2_1,
    layer_2_4,
    root_file_1_7,
    root_file_2_1,
    root_file_2_4,
    combined_1_7,
    combined_2_1,
    combined_2_4,
    artifact_1_7,
    artifact_2_1,
    artifact_2_4,
    wasm_only_index,
    many_containers_in_one_pod,
    pod_restarts_its_container,
    stop_ends_a_spinning_guest,
);

fn layer_1_7() -> Result<()> {
    pulls_and_runs(Version::V1_7, &Image::layer("layer", &guest::module()?), "")
}

fn layer_2_1() -> Result<()> {
    pulls_and_runs(Version::V2_1, &Image::layer("layer", &guest::module()?), "")
}

fn layer_2_4() -> Result<()> {
    pulls_and_runs(Version::V2_4, &Image::layer("layer", &guest::module()?), "")
}

fn root_file_1_7() -> Result<()> {
    pulls_and_runs(
        Version::V1_7,
        &Image::root_file("file", &guest::module()?),
        "",
    )
}

fn root_file_2_1() -> Result<()> {
    pulls_and_runs(
        Version::V2_1,
        &Image::root_file("file", &guest::module()?),
        "",
    )
}

fn root_file_2_4() -> Result<()> {
    pulls_and_runs(
        Version::V2_4,
        &Image::root_file("file", &guest::module()?),
        "",
    )
}

fn combined_1_7() -> Result<()> {
    pulls_and_runs(
        Version::V1_7,
        &Image::combined("both", &guest::module()?),
        "",
    )
}

fn combined_2_1() -> Result<()> {
    pulls_and_runs(
        Version::V2_1,
        &Image::combined("both", &guest::module()?),
        "",
    )
}

fn combined_2_4() -> Result<()> {
    pulls_and_runs(
        Version::V2_4,
        &Image::combined("both", &guest::module()?),
        "",
    )
}

fn artifact_1_7() -> Result<()> {
    pulls_and_runs(
        Version::V1_7,
        &Image::artifact("artifact", &guest::module()?),
        "/app.wasm",
    )
}

fn artifact_2_1() -> Result<()> {
    pulls_and_runs(
        Version::V2_1,
        &Image::artifact("artifact", &guest::module()?),
        "/app.wasm",
    )
}

fn artifact_2_4() -> Result<()> {
    pulls_and_runs(
        Version::V2_4,
        &Image::artifact("artifact", &guest::module()?),
        "/app.wasm",
    )
}

/// `command` takes the place of an entrypoint where the image has none.
fn pulls_and_runs(version: Version, image: &Image, command: &str) -> Result<()> {
    let mut node = Node::start(version)?;
    let reference = node.registry()?.push(image, "guest")?;
    let cri = node.cri()?;
    cri.pull(&reference)?;
    let pod = cri.pod("wasmtime", "pod")?;
    let mut config = json!({
        "args": ["show", "warn", "bad", "exit", "42"],
        "envs": [{ "key": "COLOUR", "value": "dark blue" }],
    });
    if !command.is_empty() {
        config["command"] = json!([command]);
    }
    let container = pod.start(&reference, &config)?;
    let code = container.wait()?;
    let (out, err) = container.logs()?;
    assert_eq!(code, 42, "stdout: {out}\nstderr: {err}");
    assert_eq!(err, "bad\n");
    for line in [
        "arg 0 /app.wasm",
        "arg 1 show",
        "arg 5 42",
        "env COLOUR=dark blue",
    ] {
        ensure!(
            out.lines().any(|seen| seen == line),
            "\"{line}\" is not in: {out}"
        );
    }
    pod.remove()
}

/// An index with nothing but a Wasm entry: CRI's platform matcher decides before any shim is asked.
fn wasm_only_index() -> Result<()> {
    let mut node = Node::start(Version::V2_4)?;
    let image = Image::layer("only", &guest::module()?).as_index();
    let reference = node.registry()?.push(&image, "only")?;
    let cri = node.cri()?;
    // Documented: build it as one manifest or as the combined index, which pull everywhere.
    cri.crictl(&["pull", &reference])?
        .fails_with(&["platform"])?;
    Ok(())
}

fn many_containers_in_one_pod() -> Result<()> {
    let mut node = Node::start(Version::V2_4)?;
    let reference = node
        .registry()?
        .push(&Image::layer("layer", &guest::module()?), "layer")?;
    let cri = node.cri()?;
    cri.pull(&reference)?;
    let pod = cri.pod("wasmtime", "pod")?;
    let containers = (0..5)
        .map(|n| {
            pod.start(
                &reference,
                &words(&["say", &format!("number {n}"), "sleep", "0.5"]),
            )
        })
        .collect::<Result<Vec<_>>>()?;
    ensure!(
        node.shims().len() == 1,
        "one pod has {} shims",
        node.shims().len()
    );
    for (n, container) in containers.iter().enumerate() {
        assert_eq!(container.wait()?, 0);
        assert_eq!(container.logs()?.0, format!("number {n}\n"));
    }
    pod.remove()
}

/// A container that ends is started anew in the same pod, by the same shim, which must not grow.
fn pod_restarts_its_container() -> Result<()> {
    let mut node = Node::start(Version::V2_4)?;
    let reference = node
        .registry()?
        .push(&Image::layer("layer", &guest::module()?), "layer")?;
    let cri = node.cri()?;
    cri.pull(&reference)?;
    let pod = cri.pod("wasmtime", "pod")?;
    let mut descriptors = Vec::new();
    for _ in 0..20 {
        let container = pod.start(&reference, &words(&["exit", "1"]))?;
        assert_eq!(container.wait()?, 1);
        cri.crictl(&["rm", &container.id])?.ok()?;
        let shims = node.shims();
        ensure!(shims.len() == 1, "one pod has {} shims", shims.len());
        descriptors.push(std::fs::read_dir(format!("/proc/{}/fd", shims[0]))?.count());
    }
    // After the first container everything is there that a shim keeps open.
    ensure!(
        descriptors[1] == descriptors[19],
        "descriptors of the shim after each container: {descriptors:?}"
    );
    pod.remove()
}

fn stop_ends_a_spinning_guest() -> Result<()> {
    let mut node = Node::start(Version::V2_4)?;
    let reference = node
        .registry()?
        .push(&Image::layer("layer", &guest::module()?), "layer")?;
    let cri = node.cri()?;
    cri.pull(&reference)?;
    let pod = cri.pod("wasmtime", "pod")?;
    let container = pod.start(&reference, &words(&["spin"]))?;
    let ran = container.stop(20)?;
    ensure!(
        ran.time.as_secs_f64() < 2.0,
        "stopping took {:?}, so SIGTERM was not enough",
        ran.time
    );
    ran.ok()?;
    assert_eq!(container.wait()?, 143);
    pod.remove()
}

fn words(words: &[&str]) -> Value {
    json!({ "args": words })
}
