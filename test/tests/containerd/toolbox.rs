//! The built-in tools in containers that hold nothing but a module, by `ctr task exec`: what `kubectl exec`, probes and
//! `kubectl cp` call.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use skiff_test::command::{self, Ran};
use skiff_test::guest;
use skiff_test::image::Image;
use skiff_test::node::{Node, Task, Version, engine};

skiff_test::cases!(
    looked_into_and_probed,
    copied_in_and_out,
    shell_reads_a_script
);

fn exec(node: &Node, task: &Task<'_>, words: &[&str], input: &[u8]) -> Result<Ran> {
    let exec = node.new_id("exec");
    let mut arguments = vec!["task", "exec", "--exec-id", &exec, task.id()];
    arguments.extend_from_slice(words);
    let mut command = node.ctr_command(&arguments);
    if input.is_empty() {
        return command::run(&mut command);
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("no input")?.write_all(input)?;
    let output = child.wait_with_output()?;
    Ok(Ran {
        line: words.join(" "),
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        time: std::time::Duration::ZERO,
    })
}

fn looked_into_and_probed() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::layer("alone", &guest::module()?);
    node.import(&image)?;
    let task = node.run(&image).guest(&["sleep", "600"]).start()?;
    for (words, code, stdout) in [
        (&["sh", "-c", "echo $((1)) || echo no"][..], 2, ""),
        (
            &["/bin/sh", "-c", "pwd && test ! -e /x && echo fine"],
            0,
            "/\nfine\n",
        ),
        (&["cat", "/nothing"], 1, ""),
        (&["test", "-d", "/"], 0, ""),
        (&["test", "-f", "/nothing"], 1, ""),
        (&["sh", "-c", "exit 7"], 7, ""),
        (&["sh", "-c", "no-such-tool"], 127, ""),
    ] {
        let ran = exec(&node, &task, words, b"")?;
        ensure!(
            ran.code == code && ran.stdout == stdout,
            "{words:?}: {ran:?}"
        );
    }
    let ran = exec(&node, &task, &["ps"], b"")?;
    ensure!(
        ran.code == 0 && ran.stdout.contains(&format!(" skiff-host-{} ", engine())),
        "{ran:?}"
    );
    task.remove()?;
    Ok(())
}

/// Both directions of `kubectl cp`, with its very words.
fn copied_in_and_out() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::layer("copied", &guest::module()?);
    node.import(&image)?;
    let task = node.run(&image).guest(&["sleep", "600"]).start()?;
    let here = node.directory().join("tmp/files");
    fs::create_dir_all(here.join("d"))?;
    fs::write(here.join("d/one"), "1\n")?;
    fs::write(here.join("big"), vec![b'x'; 2 << 20])?;
    let packed = std::process::Command::new("tar")
        .args(["cf", "-", "d", "big"])
        .current_dir(&here)
        .output()?;
    let ran = exec(
        &node,
        &task,
        &["tar", "-xmf", "-", "-C", "/"],
        &packed.stdout,
    )?;
    ensure!(ran.code == 0, "{ran:?}");
    let ran = exec(&node, &task, &["sh", "-c", "cat /d/one; wc -c < /big"], b"")?;
    ensure!(ran.stdout == "1\n2097152\n", "{ran:?}");
    for words in [
        &["tar", "cf", "-", "/d"][..],
        &["sh", "-c", "tar cf - /d | tail -c+1"],
    ] {
        let ran = exec(&node, &task, words, b"")?;
        ensure!(ran.code == 0, "{ran:?}");
        let archive = here.join("back.tar");
        fs::write(&archive, &ran.stdout)?;
        let listed = std::process::Command::new("tar")
            .arg("tf")
            .arg(&archive)
            .output()?;
        assert_eq!(String::from_utf8_lossy(&listed.stdout), "d/\nd/one\n");
    }
    fs::remove_dir_all(here)?;
    task.remove()?;
    Ok(())
}

fn shell_reads_a_script() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::layer("script", &guest::module()?);
    node.import(&image)?;
    let task = node.run(&image).guest(&["sleep", "600"]).start()?;
    let script = b"mkdir -p /a/b\necho one > /a/b/c\nfind /a -type f\ngrep -c o /a/b/c\nexit 3\n";
    let ran = exec(&node, &task, &["sh"], script)?;
    ensure!(ran.code == 3 && ran.stdout == "/a/b/c\n1\n", "{ran:?}");
    let ran = exec(&node, &task, &["vi"], b"")?;
    ensure!(ran.code != 0 && ran.stderr.contains("vi"), "{ran:?}");
    task.remove()?;
    Ok(())
}
