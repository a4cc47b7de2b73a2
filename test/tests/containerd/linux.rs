//! Linux containers under our shim: what runc's own shim answers, ours does.

use anyhow::Result;
use skiff_test::image::Image;
use skiff_test::node::{Node, RUNC, SKIFF, Version};

skiff_test::cases!(runs_1_7, runs_2_1, runs_2_4);

fn runs_1_7() -> Result<()> {
    runs(Version::V1_7)
}

fn runs_2_1() -> Result<()> {
    runs(Version::V2_1)
}

fn runs_2_4() -> Result<()> {
    runs(Version::V2_4)
}

/// Output, error output and code, of the image's own words and of others.
fn runs(version: Version) -> Result<()> {
    let node = Node::start(version)?;
    let image = Image::busybox("busybox")?.environment(&["FROM=image"]);
    node.import(&image)?;
    for runtime in [RUNC, SKIFF] {
        let run = || node.run(&image).runtime(runtime);
        let ran = run()
            .args(["/bin/sh", "-c", "echo $FROM; echo bad >&2; exit 7"])
            .output()?;
        assert_eq!(
            (ran.code, ran.stdout.as_str(), ran.stderr.as_str()),
            (7, "image\n", "bad\n"),
            "{runtime}"
        );
        let task = run()
            .args([
                "/bin/sh",
                "-c",
                "trap 'exit 3' TERM; echo up; while :; do sleep 0.1; done",
            ])
            .start()?;
        task.wait_for_output("up")?;
        task.signal("SIGTERM")?.ok()?;
        task.wait_until_stopped(std::time::Duration::from_secs(10))?;
        assert_eq!(task.remove()?, 3, "{runtime}");
    }
    Ok(())
}
