//! Pods with `hostUsers: false`: a user namespace of their own, volumes and images with mapped ids, as the kubelet asks
//! CRI for them; and recursively read-only mounts, which CRI tells the kubelet of in the same breath.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::{Value, json};
use skiff_test::command;
use skiff_test::guest;
use skiff_test::image::{Entry, Image};
use skiff_test::node::{Cri, Node, Options, Pod, Version, engine};

skiff_test::cases!(
    handlers_tell_what_they_can,
    a_volume_in_a_pod_of_its_own_2_4,
    a_volume_in_a_pod_of_its_own_2_1,
    a_pod_in_the_nodes_network,
    a_user_without_rights,
    what_joins_a_container,
    read_only_below_too,
    options_of_a_handler_are_in_containerds_way,
    maps_of_the_namespace_are_announced,
);

const FIRST: u32 = 1_310_720;
const COUNT: u32 = 65_536;

fn mapping() -> Value {
    json!([{ "host_id": FIRST, "container_id": 0, "length": COUNT }])
}

/// Namespace options of a pod and its containers.
fn namespaces(network: u32) -> Value {
    json!({
        "network": network,
        "userns_options": { "mode": 0, "uids": mapping(), "gids": mapping() },
    })
}

/// A host with libraries of its own finds their loader through /proc. Where a container is started as root of its user
/// namespace, everybody must be able to search that, as is usual.
fn proc_is_open() -> Result<()> {
    let mode = fs::metadata("/proc")?.mode();
    if engine() == "wasmedge" && mode & 1 == 0 {
        skiff_test::skip!(
            "only root may search this machine's /proc (mode {:o})",
            mode & 0o777
        );
    }
    Ok(())
}

/// A container with a volume at `/data` that shows its ids as the pod's.
fn container(volume: &Path, network: u32, words: &[&str]) -> Value {
    json!({
        "args": words,
        "mounts": [{
            "container_path": "/data",
            "host_path": volume,
            "uidMappings": mapping(),
            "gidMappings": mapping(),
        }],
        "linux": { "security_context": { "namespace_options": namespaces(network) } },
    })
}

fn open_node(version: Version) -> Result<Node> {
    Node::with(
        version,
        Options {
            open_proc: true,
            ..Options::default()
        },
    )
}

/// A network for the node's pods, on a bridge that nobody else uses and that leads nowhere.
struct Network(String);

impl Network {
    fn new(node: &Node) -> Result<Self> {
        let bridge = format!("skt{}", std::process::id());
        let configuration = json!({ "cniVersion": "1.0.0", "name": "pods", "plugins": [
            { "type": "bridge", "bridge": bridge, "ipam": {
                "type": "host-local", "dataDir": node.directory().join("cni/addresses"),
                "ranges": [[{ "subnet": "10.211.0.0/24" }]] } },
        ] });
        let path = node.directory().join("cni/10-pods.conflist");
        fs::write(path, configuration.to_string())?;
        Ok(Self(bridge))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        command::run(Command::new("ip").args(["link", "delete", &self.0])).ok();
    }
}

/// Waits until CRI has seen its network.
fn ready(cri: &Cri<'_>) -> Result<()> {
    command::wait_for(
        "the pods' network is not ready",
        std::time::Duration::from_secs(20),
        || {
            let info: Value = serde_json::from_str(&cri.crictl(&["info"])?.ok()?)?;
            let conditions = info["status"]["conditions"].as_array().cloned();
            let ready = conditions.unwrap_or_default().iter().any(|condition| {
                condition["type"] == "NetworkReady" && condition["status"] == true
            });
            Ok(ready.then_some(()))
        },
    )
}

fn handlers_tell_what_they_can() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let cri = node.cri()?;
    let info: Value = serde_json::from_str(&cri.crictl(&["info"])?.ok()?)?;
    let handlers = info["runtimeHandlers"]
        .as_array()
        .with_context(|| format!("no handlers in {info}"))?;
    // The reference, and ours, with options and without.
    for name in ["runc", "wasmtime", "skiff", "wasmtime-half"] {
        let handler = handlers.iter().find(|handler| handler["name"] == name);
        let features = &handler.context("it is not listed")?["features"];
        ensure!(
            features["user_namespaces"] == true && features["recursive_read_only_mounts"] == true,
            "{name}: {features}"
        );
    }
    Ok(())
}

/// The pod's first process, as the node sees it.
fn pause_pid(cri: &Cri<'_>, pod: &Pod<'_>) -> Result<u64> {
    let text = cri
        .crictl(&["inspectp", "--output", "json", &pod.id])?
        .ok()?;
    let status: Value = serde_json::from_str(&text)?;
    status["info"]["pid"].as_u64().context("no pid")
}

fn a_volume_in_a_pod_of_its_own_2_4() -> Result<()> {
    a_volume_in_a_pod_of_its_own(Version::V2_4)
}

fn a_volume_in_a_pod_of_its_own_2_1() -> Result<()> {
    a_volume_in_a_pod_of_its_own(Version::V2_1)
}

/// All layouts of images: a layer, and a file of the root.
fn a_volume_in_a_pod_of_its_own(version: Version) -> Result<()> {
    let mut node = open_node(version)?;
    let network = Network::new(&node)?;
    let module = guest::module()?;
    for (name, image) in [
        ("layer", Image::layer("layer", &module)),
        ("file", Image::root_file("file", &module)),
    ] {
        let reference = node.registry()?.push(&image, name)?;
        let cri = node.cri()?;
        ready(&cri)?;
        cri.pull(&reference)?;
        let volume = node.directory().join("tmp/volume");
        fs::create_dir_all(&volume)?;
        fs::write(volume.join("from-the-node"), "of the node's root\n")?;
        let pod = cri.pod_with("wasmtime", "pod", &namespaces(0))?;
        let words = [
            "read",
            "/data/from-the-node",
            "write",
            "/data/from-the-guest",
            "hello",
            "write",
            "/new",
            "x",
            "list",
            "/",
        ];
        let container = pod.start(&reference, &container(&volume, 0, &words))?;
        let code = container.wait()?;
        let (out, err) = container.logs()?;
        ensure!(code == 0, "{code}: {out}{err}");
        for line in [
            "of the node's root",
            "written /data/from-the-guest",
            "written /new",
        ] {
            ensure!(
                out.lines().any(|seen| seen == line),
                "no {line:?} in {out}{err}"
            );
        }
        let written = fs::metadata(volume.join("from-the-guest"))?;
        ensure!(
            (written.uid(), written.gid()) == (0, 0),
            "it belongs to {}",
            written.uid()
        );
        pod.remove()?;
        fs::remove_dir_all(volume)?;
    }
    drop(network);
    Ok(())
}

fn a_pod_in_the_nodes_network() -> Result<()> {
    proc_is_open()?;
    let mut node = Node::start(Version::V2_4)?;
    let image = Image::layer("layer", &guest::module()?);
    let reference = node.registry()?.push(&image, "guest")?;
    let cri = node.cri()?;
    cri.pull(&reference)?;
    let volume = node.directory().join("tmp/volume");
    fs::create_dir_all(&volume)?;
    let pod = cri.pod_with("wasmtime", "pod", &namespaces(2))?;
    let container = pod.start(
        &reference,
        &container(&volume, 2, &["write", "/data/x", "x"]),
    )?;
    let code = container.wait()?;
    ensure!(code == 0, "{:?}", container.logs()?);
    ensure!(
        fs::metadata(volume.join("x"))?.uid() == 0,
        "it is not root's"
    );
    pod.remove()?;
    fs::remove_dir_all(volume)?;
    Ok(())
}

/// Not root in there: what it writes is that user's on the node, what is root's it cannot write.
fn a_user_without_rights() -> Result<()> {
    proc_is_open()?;
    let mut node = Node::start(Version::V2_4)?;
    let image = Image::layer("layer", &guest::module()?);
    let reference = node.registry()?.push(&image, "guest")?;
    let cri = node.cri()?;
    cri.pull(&reference)?;
    let volume = node.directory().join("tmp/volume");
    fs::create_dir_all(volume.join("open"))?;
    std::os::unix::fs::chown(volume.join("open"), Some(1000), Some(1000))?;
    let pod = cri.pod_with("wasmtime", "pod", &namespaces(2))?;
    let mut config = container(
        &volume,
        2,
        &["write", "/data/x", "x", "write", "/data/open/x", "x"],
    );
    config["linux"]["security_context"]["run_as_user"] = json!({ "value": 1000 });
    config["linux"]["security_context"]["run_as_group"] = json!({ "value": 1000 });
    let container = pod.start(&reference, &config)?;
    let code = container.wait()?;
    let (out, err) = container.logs()?;
    ensure!(
        code == 0 && out == "write failed: permission denied\nwritten /data/open/x\n",
        "{code}: {out}{err}"
    );
    let written = fs::metadata(volume.join("open/x"))?;
    ensure!(
        (written.uid(), written.gid()) == (1000, 1000),
        "it belongs to {}",
        written.uid()
    );
    pod.remove()?;
    fs::remove_dir_all(volume)?;
    Ok(())
}

/// A module, a built-in tool and a Linux program: each has the container's ids, and no more rights.
fn what_joins_a_container() -> Result<()> {
    proc_is_open()?;
    let mut node = open_node(Version::V2_4)?;
    let busybox = fs::read("/bin/busybox")?;
    let image = Image::root_file("file", &guest::module()?).with_root(&[Entry::file(
        "bin/busybox",
        0o755,
        &busybox,
    )]);
    let reference = node.registry()?.push(&image, "guest")?;
    let cri = node.cri()?;
    cri.pull(&reference)?;
    let volume = node.directory().join("tmp/volume");
    fs::create_dir_all(&volume)?;
    let pod = cri.pod_with("wasmtime", "pod", &namespaces(2))?;
    let container = pod.start(&reference, &container(&volume, 2, &["sleep", "1000"]))?;
    for (file, words) in [
        ("module", &["/app.wasm", "write", "/data/module", "x"][..]),
        ("tool", &["sh", "-c", "echo x > /data/tool"]),
        (
            "linux",
            &["/bin/busybox", "sh", "-c", "echo x > /data/linux"],
        ),
    ] {
        let mut all = vec!["exec", container.id.as_str()];
        all.extend(words);
        let ran = cri.crictl(&all)?;
        ensure!(ran.code == 0, "{file}: {}{}", ran.stdout, ran.stderr);
        let written = fs::metadata(volume.join(file)).context(file)?;
        ensure!(written.uid() == 0, "{file} belongs to {}", written.uid());
    }
    let seen = cri
        .crictl(&[
            "exec",
            &container.id,
            "/bin/busybox",
            "cat",
            "/proc/self/uid_map",
        ])?
        .ok()?;
    ensure!(
        seen.split_whitespace().eq(["0", "1310720", "65536"]),
        "it is in another namespace: {seen}"
    );
    let refused = cri.crictl(&["exec", &container.id, "/bin/busybox", "hostname", "x"])?;
    ensure!(refused.code != 0, "it may name the node");
    pod.remove()?;
    fs::remove_dir_all(volume)?;
    Ok(())
}

fn read_only_below_too() -> Result<()> {
    let mut node = Node::start(Version::V2_4)?;
    let image = Image::layer("layer", &guest::module()?);
    let reference = node.registry()?.push(&image, "guest")?;
    let cri = node.cri()?;
    cri.pull(&reference)?;
    let volume = node.directory().join("tmp/volume");
    let below = volume.join("below");
    fs::create_dir_all(&below)?;
    mount("tmpfs", &below, "tmpfs", MountFlags::empty(), None)?;
    // The engines have other numbers for the same error.
    let refused = match engine() {
        "wasmedge" => "write failed: read-only filesystem or storage medium\n",
        _ => "write failed: uncategorized error\n",
    };
    let result = (|| {
        let pod = cri.pod("wasmtime", "pod")?;
        for (recursive, expected) in [
            (false, format!("{refused}written /data/below/x\n")),
            (true, refused.repeat(2)),
        ] {
            let config = json!({
                "args": ["write", "/data/x", "x", "write", "/data/below/x", "x"],
                "mounts": [{ "container_path": "/data", "host_path": volume, "readonly": true,
                             "recursive_read_only": recursive }],
            });
            let container = pod.start(&reference, &config)?;
            let code = container.wait()?;
            let (out, err) = container.logs()?;
            ensure!(
                code == 0 && out == expected,
                "{recursive}: {code}: {out}{err}"
            );
        }
        pod.remove()
    })();
    unmount(&below, UnmountFlags::DETACH)?;
    fs::remove_dir_all(volume)?;
    result
}

/// The shim is not even asked: what docs/troubleshooting.md says of it.
fn options_of_a_handler_are_in_containerds_way() -> Result<()> {
    let mut node = Node::start(Version::V2_4)?;
    let image = Image::layer("layer", &guest::module()?);
    let reference = node.registry()?.push(&image, "guest")?;
    let cri = node.cri()?;
    cri.pull(&reference)?;
    let volume = node.directory().join("tmp/volume");
    fs::create_dir_all(&volume)?;
    let pod = cri.pod_with("wasmtime-half", "pod", &namespaces(2))?;
    let started = pod.start(&reference, &container(&volume, 2, &["exit", "0"]));
    let Err(error) = started else {
        anyhow::bail!("it was started: the page has a line too many");
    };
    let sentence = format!("{error:#}");
    ensure!(
        sentence.contains("failed to get runtime v2 options: can't unmarshal type"),
        "{sentence}"
    );
    pod.remove()?;
    fs::remove_dir_all(volume)?;
    Ok(())
}

/// A pod's pause process has the namespace, and what containerd finds by its number belongs to it.
fn maps_of_the_namespace_are_announced() -> Result<()> {
    let node = open_node(Version::V2_4)?;
    let network = Network::new(&node)?;
    let cri = node.cri()?;
    ready(&cri)?;
    let pod = cri.pod_with("wasmtime", "pod", &namespaces(0))?;
    let pid = pause_pid(&cri, &pod)?;
    for file in ["uid_map", "gid_map"] {
        let map = fs::read_to_string(format!("/proc/{pid}/{file}"))?;
        let words: Vec<_> = map.split_whitespace().collect();
        ensure!(words == ["0", "1310720", "65536"], "{file}: {map}");
    }
    pod.remove()?;
    drop(network);
    Ok(())
}
