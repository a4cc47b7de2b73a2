//! What `skiff build` writes, on every containerd: imported without any option, and pulled through CRI.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::json;
use skiff_test::image::{Image, Parts};
use skiff_test::node::{Node, Version};
use skiff_test::{command, guest, tools};

skiff_test::cases!(
    by_ctr_1_7,
    by_ctr_2_1,
    by_ctr_2_4,
    by_cri_1_7,
    by_cri_2_1,
    by_cri_2_4,
    same_bytes_again,
);

fn by_ctr_1_7() -> Result<()> {
    by_ctr(Version::V1_7)
}

fn by_ctr_2_1() -> Result<()> {
    by_ctr(Version::V2_1)
}

fn by_ctr_2_4() -> Result<()> {
    by_ctr(Version::V2_4)
}

fn by_cri_1_7() -> Result<()> {
    by_cri(Version::V1_7)
}

fn by_cri_2_1() -> Result<()> {
    by_cri(Version::V2_1)
}

fn by_cri_2_4() -> Result<()> {
    by_cri(Version::V2_4)
}

/// Entrypoint, arguments, environment and a file of the image.
fn by_ctr(version: Version) -> Result<()> {
    let node = Node::start(version)?;
    for layout in ["combined", "root", "layer"] {
        let archive = build(&node, layout, Furniture::All)?;
        node.ctr(&["image", "import", &archive.display().to_string()])?
            .ok()?;
        std::fs::remove_file(archive)?;
        // The name is all that is taken of this image.
        let ran = node.run(&Image::root_file(layout, b"")).output()?;
        assert_eq!(
            (ran.code, ran.stdout.as_str(), ran.stderr.as_str()),
            (7, "a file of the image\n", "bad\n"),
            "{layout}"
        );
        let ran = node
            .run(&Image::root_file(layout, b""))
            .guest(&["show"])
            .output()?;
        ensure!(
            ran.stdout.contains("env COLOUR=blue\n"),
            "{layout}: {}{}",
            ran.stdout,
            ran.stderr
        );
    }
    Ok(())
}

fn by_cri(version: Version) -> Result<()> {
    let mut node = Node::start(version)?;
    let mut references = Vec::new();
    for layout in ["combined", "root", "layer", "artifact"] {
        let furniture = match layout {
            "artifact" => Furniture::None,
            // Files beside a layer are not unpacked for pods by every containerd, of which the builder warns.
            "layer" => Furniture::Config,
            _ => Furniture::All,
        };
        let parts = parts(&build(&node, layout, furniture)?)?;
        let reference = node.registry()?.push_parts(&parts, layout)?;
        references.push((layout, reference));
    }
    let cri = node.cri()?;
    let pod = cri.pod("wasmtime", "pod")?;
    for (layout, reference) in references {
        cri.pull(&reference)?;
        let config = match layout {
            "artifact" => json!({ "command": ["/app.wasm"], "args": ["warn", "bad", "exit", "7"] }),
            _ => json!({}),
        };
        let container = pod.start(&reference, &config)?;
        assert_eq!(container.wait()?, 7, "{layout}: {:?}", container.logs()?);
        let out = match layout {
            "artifact" | "layer" => "",
            _ => "a file of the image\n",
        };
        assert_eq!(
            container.logs()?,
            (out.to_owned(), "bad\n".to_owned()),
            "{layout}"
        );
    }
    pod.remove()
}

fn same_bytes_again() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    for layout in ["combined", "root", "layer", "artifact"] {
        let bytes = || -> Result<Vec<u8>> {
            let furniture = match layout {
                "artifact" => Furniture::None,
                _ => Furniture::All,
            };
            let archive = build(&node, layout, furniture)?;
            let bytes = std::fs::read(&archive)?;
            std::fs::remove_file(archive)?;
            Ok(bytes)
        };
        ensure!(bytes()? == bytes()?, "two builds of {layout} differ");
    }
    Ok(())
}

/// What comes with the module.
#[derive(Clone, Copy, PartialEq)]
enum Furniture {
    /// Nothing.
    None,
    /// Arguments and environment.
    Config,
    /// A file, too.
    All,
}

/// An archive of the guest, with the name that [`Image`] gives to `layout`.
fn build(node: &Node, layout: &str, furniture: Furniture) -> Result<PathBuf> {
    let directory = node.directory().join("tmp");
    let module = directory.join("app.wasm");
    let file = directory.join("note");
    std::fs::write(&module, guest::module()?)?;
    std::fs::write(&file, "a file of the image\n")?;
    let archive = directory.join(format!("{layout}.tar"));
    let mut build = Command::new(tools::skiff("skiff")?);
    build
        .args(["build", "--layout", layout, "--tag"])
        .arg(Image::root_file(layout, b"").name())
        .arg("--output")
        .args([&archive, &module]);
    if furniture == Furniture::All {
        build
            .arg("--file")
            .arg(format!("{}:/etc/note", file.display()));
    }
    match furniture {
        Furniture::None => &mut build,
        Furniture::Config => build.args(["--env", "COLOUR=blue", "--"]),
        Furniture::All => build.args(["--env", "COLOUR=blue", "--", "read", "/etc/note"]),
    };
    if furniture != Furniture::None {
        build.args(["warn", "bad", "exit", "7"]);
    }
    command::run(&mut build)?.ok()?;
    std::fs::remove_file(module)?;
    std::fs::remove_file(file)?;
    Ok(archive)
}

/// Takes an archive apart, as a registry wants it.
fn parts(archive: &Path) -> Result<Parts> {
    let parts = Parts::read(archive)?;
    std::fs::remove_file(archive)?;
    Ok(parts)
}
