//! Every image layout on every containerd, by `ctr run`.

use anyhow::{Result, ensure};
use skiff_test::image::{COMPONENT_LAYER, Entry, Image};
use skiff_test::node::{Node, Version, WASMTIME, engine};
use skiff_test::{command, guest, tools};

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
    combined_as_wasm_2_4,
    artifact_is_refused_by_ctr,
    component_layer,
    component_root_file,
    text_in_the_root,
    entrypoint_with_function,
    entrypoint_and_command_of_the_image,
    working_directory_of_a_component,
    module_of_a_volume,
    name_of_another_engine,
    built_by_skiff_into_containerd,
);

fn layer_1_7() -> Result<()> {
    prints_and_exits(Version::V1_7, &Image::layer("layer", &guest::module()?))
}

fn layer_2_1() -> Result<()> {
    prints_and_exits(Version::V2_1, &Image::layer("layer", &guest::module()?))
}

fn layer_2_4() -> Result<()> {
    prints_and_exits(Version::V2_4, &Image::layer("layer", &guest::module()?))
}

fn root_file_1_7() -> Result<()> {
    prints_and_exits(Version::V1_7, &Image::root_file("file", &guest::module()?))
}

fn root_file_2_1() -> Result<()> {
    prints_and_exits(Version::V2_1, &Image::root_file("file", &guest::module()?))
}

fn root_file_2_4() -> Result<()> {
    prints_and_exits(Version::V2_4, &Image::root_file("file", &guest::module()?))
}

fn combined_1_7() -> Result<()> {
    prints_and_exits(Version::V1_7, &Image::combined("both", &guest::module()?))
}

fn combined_2_1() -> Result<()> {
    prints_and_exits(Version::V2_1, &Image::combined("both", &guest::module()?))
}

fn combined_2_4() -> Result<()> {
    prints_and_exits(Version::V2_4, &Image::combined("both", &guest::module()?))
}

/// Output, error output, code, arguments, environment: all at once, as a user would see them.
fn prints_and_exits(version: Version, image: &Image) -> Result<()> {
    let node = Node::start(version)?;
    node.import(image)?;
    let words = ["show", "say", "two words", "warn", "bad", "exit", "42"];
    let ran = node
        .run(image)
        .with(&["--env", "COLOUR=dark blue"])
        .guest(&words)
        .output()?;
    assert_eq!(
        ran.code, 42,
        "stdout: {}\nstderr: {}",
        ran.stdout, ran.stderr
    );
    assert_eq!(ran.stderr, "bad\n");
    for (place, word) in ["/app.wasm"].iter().chain(&words).enumerate() {
        ensure!(
            ran.stdout.contains(&format!("arg {place} {word}\n")),
            "argument {place} is not {word} in: {}",
            ran.stdout
        );
    }
    ensure!(
        ran.stdout.contains("env COLOUR=dark blue\n"),
        "the variable is not in: {}",
        ran.stdout
    );
    ensure!(
        ran.stdout.ends_with("\ntwo words\n"),
        "the last line is another: {}",
        ran.stdout
    );

    // The image's own entrypoint, and the other runtime type.
    let ran = node.run(image).runtime(WASMTIME).output()?;
    assert_eq!(
        (ran.code, ran.stdout.as_str(), ran.stderr.as_str()),
        (0, "hello from a guest\n", "")
    );
    Ok(())
}

fn combined_as_wasm_2_4() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::combined("both", &guest::module()?);
    let archive = node.directory().join("tmp/both.tar");
    image.write(&archive)?;
    node.ctr(&[
        "image",
        "import",
        "--local",
        "--platform",
        "wasip1/wasm",
        &archive.display().to_string(),
    ])?
    .ok()?;
    std::fs::remove_file(archive)?;
    let ran = node.run(&image).platform("wasip1/wasm").output()?;
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (0, "hello from a guest\n"),
        "{}",
        ran.stderr
    );
    Ok(())
}

/// `ctr` reads the config of an image before any shim is asked, and knows no artifact.
fn artifact_is_refused_by_ctr() -> Result<()> {
    for version in Version::ALL {
        let node = Node::start(version)?;
        let image = Image::artifact("artifact", &guest::module()?);
        let imported = node.try_import(&image)?;
        let ran = if imported.code == 0 {
            node.run(&image).output()?
        } else {
            imported
        };
        ran.fails_with(&["config"])?;
    }
    Ok(())
}

fn component_layer() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    for kind in [COMPONENT_LAYER, skiff_test::image::WASM_LAYER] {
        let image = Image::with_layer("component", kind, &guest::component()?);
        node.import(&image)?;
        let ran = node
            .run(&image)
            .guest(&["say", "of a component", "warn", "bad", "exit", "3"])
            .output()?;
        // wasi:cli 0.2's exit knows success and failure only.
        ensure!(
            ran.code == 1 || ran.code == 3,
            "the code is {}: {}",
            ran.code,
            ran.stderr
        );
        assert_eq!(
            (ran.stdout.as_str(), ran.stderr.as_str()),
            ("of a component\n", "bad\n")
        );
    }
    Ok(())
}

fn component_root_file() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::root_file("component", &guest::component()?).with_root(&[Entry::file(
        "data",
        0o644,
        b"of the image\n",
    )]);
    node.import(&image)?;
    let ran = node
        .run(&image)
        .guest(&["read", "/data", "list", "/"])
        .output()?;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    ensure!(
        ran.stdout
            .starts_with("of the image\nlist /: app.wasm data"),
        "stdout: {}",
        ran.stdout
    );
    Ok(())
}

const TEXT: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "from text\n")
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 10))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))))"#;

fn text_in_the_root() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::linux("text", &[Entry::file("app.wat", 0o644, TEXT.as_bytes())])
        .entrypoint(&["/app.wat"]);
    node.import(&image)?;
    let ran = node.run(&image).output()?;
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (0, "from text\n"),
        "{}",
        ran.stderr
    );
    Ok(())
}

fn entrypoint_with_function() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    for image in [
        Image::layer("layer", &guest::module()?),
        Image::root_file("file", &guest::module()?),
    ] {
        let image = image.entrypoint(&["/app.wasm#other"]);
        node.import(&image)?;
        let ran = node.run(&image).output()?;
        assert_eq!(
            (ran.code, ran.stdout.as_str()),
            (0, "the other function\n"),
            "{}",
            ran.stderr
        );
    }
    Ok(())
}

fn entrypoint_and_command_of_the_image() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::root_file("words", &guest::module()?)
        .command(&["show", "exit", "9"])
        .environment(&["FROM=image"]);
    node.import(&image)?;
    let ran = node.run(&image).output()?;
    assert_eq!(ran.code, 9, "{}", ran.stderr);
    for line in ["arg 0 /app.wasm", "arg 1 show", "arg 3 9", "env FROM=image"] {
        ensure!(
            ran.stdout.lines().any(|seen| seen == line),
            "\"{line}\" is not in: {}",
            ran.stdout
        );
    }
    Ok(())
}

fn working_directory_of_a_component() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let root = [
        Entry::directory("srv"),
        Entry::file("srv/data", 0o644, b"found\n"),
    ];
    let image = Image::root_file("directory", &guest::component()?).with_root(&root);
    node.import(&image)?;
    let out = node
        .run(&image)
        .with(&["--cwd", "/srv"])
        .guest(&["show", "read", "data"])
        .output()?
        .ok()?;
    // The component is told; whether its language's library opens relative paths there is that library's.
    ensure!(
        out.contains("directory /srv") || out.contains("found"),
        "the working directory is unknown to: {out}"
    );
    Ok(())
}

/// The image brings nothing but a file system; the module is a file of a volume, as from a ConfigMap.
fn module_of_a_volume() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::linux("empty", &[Entry::directory("code")]);
    node.import(&image)?;
    let volume = node.directory().join("volume");
    std::fs::create_dir(&volume)?;
    std::fs::write(volume.join("mine.wasm"), guest::module()?)?;
    let run = node
        .run(&image)
        .bind(&volume.display().to_string(), "/code", "ro");
    let ran = run
        .args(["/code/mine.wasm", "say", "from a volume"])
        .output()?;
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (0, "from a volume\n"),
        "{}",
        ran.stderr
    );
    Ok(())
}

/// An annotation that asks for another engine than the RuntimeClass names must not be passed over.
fn name_of_another_engine() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::layer("layer", &guest::module()?);
    node.import(&image)?;
    for accepted in ["wasm", engine()] {
        let run = node
            .run(&image)
            .with(&["--annotation", &format!("run.oci.handler={accepted}")]);
        assert_eq!(run.output()?.ok()?, "hello from a guest\n");
    }
    Ok(())
}

fn built_by_skiff_into_containerd() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let socket = node.directory().join("c.sock").display().to_string();
    let module = node.directory().join("logs/app.wasm");
    std::fs::write(&module, guest::module()?)?;
    let mut command = std::process::Command::new(tools::skiff("skiff")?);
    // It calls `ctr`, as a user's shell would find it.
    let shell = node.ctr_command::<&str>(&[]);
    let path = shell.get_envs().find(|(name, _)| *name == "PATH");
    command.env(
        "PATH",
        path.and_then(|(_, value)| value).unwrap_or_default(),
    );
    command
        .arg("build")
        .arg(&module)
        .args(["--tag", "skiff.test/built:1", "--env", "MODE=test"]);
    command.args([
        "--containerd",
        "--address",
        &socket,
        "--namespace",
        node.namespace(),
    ]);
    command::run(command.args(["--", "show"]))?.ok()?;
    let id = node.new_id("b");
    let out = node
        .ctr(&[
            "run",
            "--rm",
            "--runtime",
            WASMTIME,
            "skiff.test/built:1",
            &id,
        ])?
        .ok()?;
    ensure!(
        out.contains("env MODE=test"),
        "the variable is not in: {out}"
    );

    // The node's cache, as an operator looks at it.
    let skiff = |words: &[&str]| {
        let mut command = std::process::Command::new(tools::skiff("skiff")?);
        command::run(command.args(words).env("SKIFF_CACHE_DIR", node.cache()))
    };
    let listed = skiff(&["cache", "ls"])?.ok()?;
    ensure!(
        listed.lines().count() >= 2,
        "one module was compiled, and a head line: {listed}"
    );
    skiff(&["cache", "verify"])?.ok()?;
    Ok(())
}
