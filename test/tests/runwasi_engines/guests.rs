//! What a guest gets: its module from every kind of image, arguments, files, an exit code, signals, a second process.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use skiff_test::command::wait_for;
use skiff_test::guest;
use skiff_test::image::{Entry, Image};
use skiff_test::node::{Node, Version};

use crate::{ENGINES, each, runtime};

skiff_test::cases!(
    hello_on_every_containerd,
    arguments_environment_and_exit_code,
    exit_codes,
    text_and_functions,
    volumes,
    traps_are_told,
    what_does_not_fit_is_told,
    signals,
    exec_of_a_module,
    exec_of_a_tool,
    a_pod_of_cri,
    native_code_is_refused,
);

fn hello_on_every_containerd() -> Result<()> {
    let module = guest::module()?;
    let images = [
        Image::layer("layer", &module),
        Image::root_file("file", &module),
    ];
    for version in Version::ALL {
        let node = Node::start(version)?;
        for image in &images {
            node.import(image)?;
            for engine in ENGINES {
                let ran = node.run(image).runtime(&runtime(engine)).output()?;
                ensure!(
                    ran.code == 0 && ran.stdout == "hello from a guest\n",
                    "{engine}: {ran:?}"
                );
            }
        }
    }
    Ok(())
}

fn arguments_environment_and_exit_code() -> Result<()> {
    each(&Image::layer("layer", &guest::module()?), |_, run, _| {
        let words = ["show", "say", "two words", "warn", "bad", "exit", "42"];
        let ran = run()
            .with(&["--env", "COLOUR=dark blue"])
            .guest(&words)
            .output()?;
        ensure!(ran.code == 42 && ran.stderr == "bad\n", "{ran:?}");
        for (place, word) in ["/app.wasm"].iter().chain(&words).enumerate() {
            ensure!(
                ran.stdout.contains(&format!("arg {place} {word}\n")),
                "{ran:?}"
            );
        }
        ensure!(ran.stdout.contains("env COLOUR=dark blue\n"), "{ran:?}");
        ensure!(ran.stdout.ends_with("\ntwo words\n"), "{ran:?}");
        Ok(())
    })
}

fn exit_codes() -> Result<()> {
    each(&Image::layer("layer", &guest::module()?), |_, run, _| {
        for code in [0, 1, 125] {
            let ran = run().guest(&["exit", &code.to_string()]).output()?;
            ensure!(ran.code == code, "{ran:?}");
        }
        Ok(())
    })
}

/// The text of a module that exits with 3, or with 4 from its function `other`.
const EXITS: &str = r#"(module
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (func (export "_start") (call $exit (i32.const 3)))
    (func (export "other") (call $exit (i32.const 4))))"#;

fn text_and_functions() -> Result<()> {
    let text = Image::linux("text", &[Entry::file("app.wat", 0o644, EXITS.as_bytes())]);
    each(&text.entrypoint(&["/app.wat"]), |_, run, _| {
        let ran = run().output()?;
        ensure!(ran.code == 3, "{ran:?}");
        let ran = run().args(["/app.wat#other"]).output()?;
        ensure!(ran.code == 4, "{ran:?}");
        Ok(())
    })
}

/// What a guest is told that writes where it may not is the engine's affair; that nothing is written is ours.
fn volumes() -> Result<()> {
    each(
        &Image::root_file("file", &guest::module()?),
        |node, run, _| {
            let volume = node.directory().join("tmp/volume");
            fs::create_dir_all(&volume)?;
            fs::write(volume.join("given"), "from the node\n")?;
            let source = volume.display().to_string();
            let words = ["read", "/data/given", "write", "/data/made", "by the guest"];
            let ran = run().bind(&source, "/data", "rw").guest(&words).output()?;
            let made = fs::read_to_string(volume.join("made"));
            let fixed = run().bind(&source, "/data", "ro");
            let fixed = fixed.guest(&["read", "/data/given", "write", "/data/x", "y"]);
            let fixed = fixed.output()?;
            let is_written = volume.join("x").exists();
            fs::remove_dir_all(&volume)?;
            ensure!(
                ran.code == 0 && ran.stdout == "from the node\nwritten /data/made\n",
                "{ran:?}"
            );
            ensure!(made? == "by the guest", "another text was written");
            ensure!(
                fixed.stdout.starts_with("from the node\n")
                    && !fixed.stdout.contains("written")
                    && !is_written,
                "{fixed:?}"
            );
            Ok(())
        },
    )
}

fn traps_are_told() -> Result<()> {
    each(
        &Image::layer("layer", &guest::module()?),
        |_, run, engine| {
            let ran = run().guest(&["say", "so far", "trap"]).output()?;
            let told = format!("ended with an error of {engine}: ");
            ensure!(ran.code == 134 && ran.stdout == "so far\n", "{ran:?}");
            ensure!(
                ran.stderr.contains(&told) && ran.stderr.contains("unreachable"),
                "{ran:?}"
            );
            Ok(())
        },
    )
}

/// An import that nothing provides; a function that is not there.
fn what_does_not_fit_is_told() -> Result<()> {
    let wat = r#"(module (import "env" "nothing" (func)) (func (export "_start")))"#;
    each(
        &Image::layer("import", &guest::text(wat)?),
        |_, run, engine| {
            let ran = run().output()?;
            ensure!(
                ran.code == 134 && ran.stderr.contains(engine) && ran.stderr.contains("nothing"),
                "{ran:?}"
            );
            Ok(())
        },
    )?;
    each(&Image::layer("exits", &guest::text(EXITS)?), |_, run, _| {
        let ran = run().args(["/app.wasm#missing"]).output()?;
        ensure!(
            ran.code == 134 && ran.stderr.contains("exports no function missing"),
            "{ran:?}"
        );
        Ok(())
    })
}

fn signals() -> Result<()> {
    each(&Image::layer("layer", &guest::module()?), |_, run, _| {
        for (signal, code) in [("SIGTERM", 143), ("SIGKILL", 137)] {
            let task = run().guest(&["spin"]).start()?;
            task.wait_for_output("spinning")?;
            task.signal(signal)?.ok()?;
            task.wait_until_stopped(Duration::from_secs(10))?;
            let ended = task.remove()?;
            ensure!(ended == code, "{signal}: {ended}");
        }
        Ok(())
    })
}

/// A second process of the container: it sees the files of the first, and has a code of its own.
fn exec_of_a_module() -> Result<()> {
    each(
        &Image::layer("layer", &guest::module()?).title("app.wasm"),
        |node, run, engine| {
            let task = run()
                .guest(&["write", "/left", "for exec", "say", "up", "sleep", "1000"])
                .start()?;
            task.wait_for_output("up")?;
            let exec = |name: &str, words: &[&str]| {
                let mut all = vec!["task", "exec", "--exec-id", name, task.id()];
                all.extend(words);
                node.ctr(&all)
            };
            let said = exec("a", &["/app.wasm", "say", "from an exec", "read", "/left"])?.ok()?;
            ensure!(said.contains("from an exec\nfor exec"), "{said}");
            let ran = exec("b", &["/app.wasm", "exit", "42"])?;
            ensure!(ran.code == 42, "{ran:?}");
            let ran = exec("c", &["/app.wasm", "trap"])?;
            ensure!(ran.code == 134 && ran.stderr.contains(engine), "{ran:?}");
            ensure!(task.state()?.0 == "RUNNING", "the first process has ended");
            task.remove()?;
            Ok(())
        },
    )
}

fn exec_of_a_tool() -> Result<()> {
    each(
        &Image::layer("layer", &guest::module()?),
        |node, run, engine| {
            let task = run().guest(&["say", "up", "sleep", "1000"]).start()?;
            task.wait_for_output("up")?;
            let shown = node
                .ctr(&["task", "exec", "--exec-id", "a", task.id(), "ps"])?
                .ok()?;
            ensure!(shown.contains(&format!("skiff-host-{engine}")), "{shown}");
            task.remove()?;
            Ok(())
        },
    )
}

/// As with a RuntimeClass whose handler is the engine: output, code, memory limit and the reason when it is reached.
fn a_pod_of_cri() -> Result<()> {
    let mut node = Node::start(Version::V2_4)?;
    let image = Image::layer("layer", &guest::module()?);
    let reference = node.registry()?.push(&image, "layer")?;
    let cri = node.cri()?;
    cri.pull(&reference)?;
    for engine in ENGINES {
        let pod = cri.pod(engine, "pod")?;
        let container = pod.start(
            &reference,
            &json!({ "args": ["say", "hello", "exit", "7"] }),
        )?;
        assert_eq!(container.wait()?, 7);
        assert_eq!(container.logs()?.0, "hello\n");
        let limits = json!({ "resources": { "memory_limit_in_bytes": 64 << 20 } });
        let config = json!({ "args": ["grow", "1000"], "linux": limits });
        let container = pod.start(&reference, &config)?;
        assert_eq!(container.wait()?, 137);
        wait_for("CRI does not say OOMKilled", Duration::from_secs(5), || {
            Ok((container.status()?["reason"] == "OOMKilled").then_some(()))
        })?;
        pod.remove()?;
    }
    Ok(())
}

/// An image's own "precompiled" code, which runwasi would hand to the engine.
fn native_code_is_refused() -> Result<()> {
    let native = fs::read("/bin/busybox")?;
    each(&Image::layer("native", &native), |_, run, _| {
        run()
            .output()?
            .fails_with(&["it is native code", "never taken from an image"])?;
        Ok(())
    })
}
