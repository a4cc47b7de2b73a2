//! The harness, tried on containerd's own shim with runc: what these tests see must be true of it too.

use anyhow::{Result, ensure};
use serde_json::json;
use skiff_test::image::Image;
use skiff_test::node::{Node, RUNC, Version};

skiff_test::cases!(
    ctr_1_7,
    ctr_2_1,
    ctr_2_4,
    cri_1_7,
    cri_2_1,
    cri_2_4,
    leftovers_are_found
);

fn ctr_1_7() -> Result<()> {
    ctr(Version::V1_7)
}

fn ctr_2_1() -> Result<()> {
    ctr(Version::V2_1)
}

fn ctr_2_4() -> Result<()> {
    ctr(Version::V2_4)
}

fn cri_1_7() -> Result<()> {
    cri(Version::V1_7)
}

fn cri_2_1() -> Result<()> {
    cri(Version::V2_1)
}

fn cri_2_4() -> Result<()> {
    cri(Version::V2_4)
}

fn ctr(version: Version) -> Result<()> {
    let node = Node::start(version)?;
    let image = Image::busybox("busybox")?.environment(&["FROM=image"]);
    node.import(&image)?;
    let ran = node
        .run(&image)
        .runtime(RUNC)
        .args(["/bin/sh", "-c", "echo $FROM; echo bad >&2; exit 7"])
        .output()?;
    assert_eq!(
        (ran.code, ran.stdout.as_str(), ran.stderr.as_str()),
        (7, "image\n", "bad\n")
    );

    let task = node
        .run(&image)
        .runtime(RUNC)
        .args([
            "/bin/sh",
            "-c",
            "trap 'exit 3' TERM; echo up; while :; do sleep 0.1; done",
        ])
        .start()?;
    task.wait_for_output("up")?;
    task.signal("SIGTERM")?.ok()?;
    task.wait_until_stopped(std::time::Duration::from_secs(10))?;
    assert_eq!(task.remove()?, 3);
    Ok(())
}

fn cri(version: Version) -> Result<()> {
    let mut node = Node::start(version)?;
    let image = Image::busybox("busybox")?;
    let reference = node.registry()?.push(&image, "busybox")?;
    let cri = node.cri()?;
    cri.pull(&reference)?;
    let pod = cri.pod("runc", "pod")?;
    let container = pod.start(
        &reference,
        &json!({ "command": ["/bin/sh", "-c", "echo out; echo err >&2; exit 5"] }),
    )?;
    assert_eq!(container.wait()?, 5);
    assert_eq!(container.logs()?, ("out\n".to_owned(), "err\n".to_owned()));
    pod.remove()
}

/// The probe must see what a test forgets: it is worth nothing if it cannot fail.
fn leftovers_are_found() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::busybox("busybox")?;
    node.import(&image)?;
    let task = node
        .run(&image)
        .runtime(RUNC)
        .args(["/bin/sleep", "1000"])
        .start()?;
    let found = node.probe().look();
    for kind in ["process ", "mount on ", "cgroup ", "file ", "descriptor "] {
        let seen = found
            .difference(node.before())
            .any(|line| line.starts_with(kind));
        // Output goes to a file that the shim opens: containerd holds no descriptor of it.
        ensure!(
            seen || kind == "descriptor ",
            "a running container shows no {kind}in {found:#?}"
        );
    }
    task.remove()?;
    Ok(())
}
