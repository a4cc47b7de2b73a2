//! Modules and files that come from the cluster: what a kubelet binds into a container for a ConfigMap, a Secret, an
//! emptyDir, a hostPath, an image volume or a `subPath`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use skiff_test::command::{Ran, wait_for};
use skiff_test::guest;
use skiff_test::image::Image;
use skiff_test::node::{Node, Version};

skiff_test::cases!(
    a_module_of_every_kind_of_volume,
    a_volumes_links_stay_inside,
    what_is_no_module_is_refused,
    an_updated_config_map_is_seen,
    a_volume_in_memory_is_charged_to_the_container,
);

const MEGABYTE: u64 = 1 << 20;

/// A folder on the node, gone with the test.
struct Volume(PathBuf);

impl Volume {
    fn new(node: &Node) -> Result<Self> {
        let path = node.directory().join("tmp").join(node.new_id("volume"));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// As the kubelet writes a ConfigMap: a folder with a date for a name, a link `..data` to it that is swapped, and a link
    /// for each key.
    fn publish(&self, generation: u32, key: &str, value: &[u8]) -> Result<()> {
        let folder = format!("..2026_11_21_12_00_0{generation}.1");
        fs::create_dir(self.0.join(&folder))?;
        fs::write(self.0.join(&folder).join(key), value)?;
        symlink(&folder, self.0.join("..data_tmp"))?;
        fs::rename(self.0.join("..data_tmp"), self.0.join("..data"))?;
        if generation == 0 {
            symlink(Path::new("..data").join(key), self.0.join(key))?;
        }
        Ok(())
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // The node's own cleaning finds what stays.
        drop(fs::remove_dir_all(&self.0));
    }
}

fn a_module_of_every_kind_of_volume() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let module = guest::module()?;
    let empty = Image::linux("empty", &[]);
    let layers = Image::layer(
        "layers",
        &guest::text("(module (func (export \"_start\") unreachable))")?,
    );
    node.import(&empty)?;
    node.import(&layers)?;
    let plain = Volume::new(&node)?;
    fs::write(plain.path("filter.wasm"), &module)?;
    let farm = Volume::new(&node)?;
    farm.publish(0, "filter.wasm", &module)?;
    let words = ["/plugins/filter.wasm", "say", "up"];
    for image in [&empty, &layers] {
        for (kind, source, destination) in [
            (
                "hostPath, emptyDir or image volume",
                plain.path(""),
                "/plugins",
            ),
            ("ConfigMap or Secret", farm.path(""), "/plugins"),
            (
                "subPath",
                farm.path("..data/filter.wasm"),
                "/plugins/filter.wasm",
            ),
        ] {
            let run = node.run(image).bind(&source, destination, "ro").args(words);
            let ran = run.output()?;
            assert_eq!(
                (ran.code, ran.stdout.as_str()),
                (0, "up\n"),
                "{kind}: {}",
                ran.stderr
            );
        }
    }
    // A volume inside another hides what lies there.
    let below = Volume::new(&node)?;
    fs::create_dir(below.path("inner"))?;
    fs::write(below.path("inner/filter.wasm"), b"hidden")?;
    let run = node
        .run(&empty)
        .bind(&below.path(""), "/plugins", "ro")
        .bind(&plain.path(""), "/plugins/inner", "ro")
        .args(["/plugins/inner/filter.wasm", "say", "inner"]);
    assert_eq!(run.output()?.stdout, "inner\n");
    Ok(())
}

/// Runs `/plugins/filter.wasm` of a volume.
fn filter(node: &Node, image: &Image, volume: &Volume) -> Result<Ran> {
    let run = node.run(image).bind(&volume.path(""), "/plugins", "ro");
    run.args(["/plugins/filter.wasm", "say", "up"]).output()
}

fn a_volumes_links_stay_inside() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::linux("empty", &[]);
    node.import(&image)?;
    let outside = Volume::new(&node)?;
    fs::write(outside.path("secret.wasm"), guest::module()?)?;
    let secret = outside.path("secret.wasm");
    for target in [
        secret.clone(),
        format!("../../../../../../../../../..{secret}"),
        format!("/proc/1/root{secret}"),
        "/proc/self/exe".to_owned(),
        "filter.wasm".to_owned(),
    ] {
        let volume = Volume::new(&node)?;
        symlink(&target, volume.path("filter.wasm"))?;
        let ran = filter(&node, &image, &volume)?;
        ensure!(ran.code != 0 && ran.stdout.is_empty(), "{target} was run");
        ensure!(
            ran.stderr.contains("/plugins/filter.wasm"),
            "{target}: {}",
            ran.stderr
        );
    }
    // An absolute link is the volume's own, as it is in a ConfigMap's world.
    let volume = Volume::new(&node)?;
    fs::write(volume.path("real.wasm"), guest::module()?)?;
    symlink("/real.wasm", volume.path("filter.wasm"))?;
    assert_eq!(filter(&node, &image, &volume)?.stdout, "up\n");
    Ok(())
}

fn what_is_no_module_is_refused() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::linux("empty", &[]);
    node.import(&image)?;
    let module = guest::module()?;
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0".to_vec();
    elf.resize(4096, 0);
    let cut = module[..module.len() / 2].to_vec();
    for (what, bytes, words) in [
        ("cut short", cut, "/plugins/filter.wasm"),
        ("native code", elf, "native"),
        ("empty", Vec::new(), "empty"),
        ("text", b"hello".to_vec(), "/plugins/filter.wasm"),
    ] {
        let volume = Volume::new(&node)?;
        volume.publish(0, "filter.wasm", &bytes)?;
        let ran = filter(&node, &image, &volume)?;
        ensure!(
            ran.code != 0 && ran.stderr.contains(words),
            "{what}: {}",
            ran.stderr
        );
    }
    let volume = Volume::new(&node)?;
    fs::create_dir(volume.path("filter.wasm"))?;
    let ran = filter(&node, &image, &volume)?;
    ensure!(
        ran.code != 0 && ran.stderr.contains("/plugins/filter.wasm"),
        "{}",
        ran.stderr
    );
    Ok(())
}

fn an_updated_config_map_is_seen() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::layer("layer", &guest::module()?);
    node.import(&image)?;
    let config = Volume::new(&node)?;
    config.publish(0, "key", b"old\n")?;
    let scratch = Volume::new(&node)?;
    let task = node
        .run(&image)
        .bind(&config.path(""), "/config", "ro")
        .bind(&scratch.path(""), "/scratch", "rw")
        .guest(&[
            "read",
            "/config/key",
            "write",
            "/config/new",
            "x",
            "write",
            "/config/key",
            "x",
            "write",
            "/scratch/new",
            "x",
            "say",
            "up",
            "sleep",
            "4",
            "read",
            "/config/key",
        ])
        .start()?;
    task.wait_for_output("up\n")?;
    config.publish(1, "key", b"new\n")?;
    task.wait_until_stopped(Duration::from_secs(20))?;
    let output = task.output();
    ensure!(
        output.starts_with("old\nwrite failed: ") && output.ends_with("up\nnew\n"),
        "{output}"
    );
    assert_eq!(output.matches("write failed").count(), 2, "{output}");
    ensure!(output.contains("written /scratch/new"), "{output}");
    assert_eq!(task.remove()?, 0);
    assert_eq!(fs::read_to_string(config.path("key"))?, "new\n");
    Ok(())
}

fn a_volume_in_memory_is_charged_to_the_container() -> Result<()> {
    let mut node = Node::start(Version::V2_4)?;
    let image = Image::layer("layer", &guest::module()?);
    let reference = node.registry()?.push(&image, "image")?;
    let cri = node.cri()?;
    cri.pull(&reference)?;
    // What the kubelet has mounted for an emptyDir of medium Memory lies on a tmpfs.
    let volume = PathBuf::from("/dev/shm").join(node.new_id("volume"));
    fs::create_dir(&volume)?;
    let pod = cri.pod("wasmtime", "pod")?;
    let container = pod.start(
        &reference,
        &serde_json::json!({
            "args": ["fill", "/memory/file", "100"],
            "mounts": [{ "container_path": "/memory", "host_path": volume }],
            "linux": { "resources": { "memory_limit_in_bytes": 32 * MEGABYTE } },
        }),
    )?;
    let ended = container.wait();
    let size = fs::metadata(volume.join("file")).map(|file| file.len());
    fs::remove_dir_all(&volume)?;
    assert_eq!(ended?, 137);
    ensure!(
        size? > 20 * MEGABYTE,
        "it was killed before it had filled its limit"
    );
    wait_for("CRI does not say OOMKilled", Duration::from_secs(5), || {
        Ok((container.status()?["reason"] == "OOMKilled").then_some(()))
    })?;
    let log = node.log();
    let told = log.matches("TaskOOM event").count();
    ensure!(told == 1, "containerd was told {told} times");
    pod.remove()
}
