//! What WASI has only drafts of, as services get it: configuration, a key-value store, a log; and whose a line of it is.

use std::fs;

use anyhow::{Result, ensure};
use skiff_test::guest;
use skiff_test::image::Image;
use skiff_test::node::{Node, Version};

use crate::http::{served, served_as};

skiff_test::cases!(
    configuration_of_variables_and_files,
    a_store_that_instances_share,
    lines_of_a_log,
    lines_say_whose_they_are,
    a_draft_that_is_not_known,
);

fn image() -> Result<Image> {
    Ok(Image::layer("drafts", &guest::drafts()?))
}

fn configuration_of_variables_and_files() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let volume = node.directory().join("tmp/config");
    fs::create_dir_all(&volume)?;
    fs::write(volume.join("colour"), "green")?;
    let mount = format!(
        "type=bind,src={},dst=/etc/service,options=rbind:ro",
        volume.display()
    );
    let with = [
        "--mount",
        &mount,
        "--env",
        "colour=red",
        "--env",
        "SIZE=small",
        "--env",
        "SKIFF_CONFIG_DIR=/etc/service:/nowhere",
    ];
    let (task, network) = served_as(&node, &image()?, "", &with)?;
    let get = |key: &str| -> Result<String> {
        let answer = network.get(&format!("/config?{key}"))?.text();
        Ok(answer.trim_end().to_owned())
    };
    assert_eq!(get("colour")?, r#"Ok(Some("green"))"#);
    assert_eq!(get("SIZE")?, r#"Ok(Some("small"))"#);
    for none in ["nothing", "SKIFF_CONFIG_DIR", "../../etc/passwd", ".."] {
        assert_eq!(get(none)?, "Ok(None)", "{none}");
    }
    // As a ConfigMap that was changed.
    fs::write(volume.join("colour"), "blue")?;
    assert_eq!(get("colour")?, r#"Ok(Some("blue"))"#);
    fs::write(volume.join("picture"), [0xff])?;
    ensure!(get("picture")?.contains("not text"), "{}", get("picture")?);
    fs::remove_file(volume.join("picture"))?;
    let all = network.get("/config-all")?.text();
    ensure!(
        all.contains(r#"("SIZE", "small"), ("#) && all.contains(r#"("colour", "blue")"#),
        "{all}"
    );
    task.remove()?;
    Ok(fs::remove_dir_all(&volume)?)
}

fn a_store_that_instances_share() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let (task, network) = served_as(&node, &image()?, "", &[])?;
    // Each request has an instance of its own.
    for expected in 1..=20 {
        let count = network.get("/count")?.text();
        assert_eq!(count.trim(), expected.to_string());
    }
    let text = |path: &str| Ok::<_, anyhow::Error>(network.get(path)?.text().trim().to_owned());
    assert_eq!(
        text("/first")?,
        r#"42 ["b=2", "none"] (true, false) ["b", "visits"] None none"#
    );
    assert_eq!(
        text("/second")?,
        r#"-3 ["y=8", "z=none"] other, then mine ["y"] None"#
    );
    assert_eq!(text("/no-store")?, "Err(Error::NoSuchStore)");
    // 16 MiB with what keys take.
    assert_eq!(text("/fill")?, "15");
    assert_eq!(text("/fill")?, "15");
    task.remove()?;
    Ok(())
}

fn lines_of_a_log() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let (task, network) = served_as(&node, &image()?, "", &[])?;
    network.get("/log?something")?;
    task.wait_for_output("WARN drafts: something\nINFO no context\n")?;
    task.wait_for_output("begun something and ended\nnext\nopen\n")?;
    task.remove()?;
    Ok(())
}

fn lines_say_whose_they_are() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let toml = "[Http]\nLogPrefix = true\nInstanceRequests = 100";
    let (task, network) = served_as(&node, &image()?, toml, &["--cpus", "1"])?;
    network.get("/log?one")?;
    network.get("/log?two")?;
    for line in [
        "[request 1] WARN drafts: one\n",
        "[request 1] begun one and ended\n[request 1] next\n[request 1] open\n",
        "[request 2] WARN drafts: two\n",
        "[request 2] begun two and ended\n",
    ] {
        task.wait_for_output(line)?;
    }
    task.remove()?;
    let (task, network) = served(&node, "[Http]\nLogPrefix = true", &[])?;
    network.get("/trap?now")?;
    task.wait_for_output("it was asked to trap: now")?;
    task.wait_for_output("trapped at GET /trap?now (request 1)")?;
    task.remove()?;
    Ok(())
}

/// The sentence names those that are.
fn a_draft_that_is_not_known() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let component = guest::text(
        r#"(component
            (import "wasi:keyvalue/store@0.2.0-draft9" (instance (export "open" (func))))
            (core module $m (func (export "f") (result i32) i32.const 0))
            (core instance $i (instantiate $m))
            (func $f (result (result)) (canon lift (core func $i "f")))
            (instance $run (export "run" (func $f)))
            (export "wasi:cli/run@0.2.0" (instance $run)))"#,
    )?;
    let image = Image::layer("unknown", &component);
    node.import(&image)?;
    let ran = node.run(&image).output()?;
    ensure!(
        ran.code != 0
            && ran
                .stderr
                .contains("imports open from wasi:keyvalue/store@0.2.0-draft9")
            && ran.stderr.contains("0.2.0-draft2"),
        "{}",
        ran.stderr
    );
    Ok(())
}
