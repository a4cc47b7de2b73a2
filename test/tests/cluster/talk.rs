//! Talking to a running pod: exec, attach, cp, port-forward, debug.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::{cluster, holds, pod, pod_of};

skiff_test::cases!(
    exec_with_the_toolbox,
    attach_reads_and_writes,
    cp_both_ways,
    port_forward_to_a_guest_that_listens,
    debug_puts_a_native_container_beside_the_guest,
    logs_follow,
);

fn exec_with_the_toolbox() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("exec")?;
    space.apply(&pod("box", &["sleep", "1000"])?)?;
    space.ready("box")?;
    ensure!(space.exec("box", &["cat", "/greeting"])?.ok()? == "good morning\n");
    let line = "echo one two | wc -w; exit 5";
    let ran = space.exec("box", &["sh", "-c", line])?;
    ensure!(ran.code == 5 && ran.stdout.trim() == "2", "{ran:?}");
    // The container's own module, with other words.
    let ran = space.exec("box", &["/guest.wasm", "say", "again"])?.ok()?;
    ensure!(ran == "again\n", "{ran}");
    let ran = space.kubectl_with("from outside\n", &["exec", "-i", "box", "--", "cat"])?;
    ensure!(ran.clone().ok()? == "from outside\n", "{ran:?}");
    let ran = space.exec("box", &["no-such-program"])?;
    ran.fails_with(&["no-such-program"])?;
    Ok(())
}

fn attach_reads_and_writes() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("attach")?;
    let mut echo = pod("echo", &["echo"])?;
    echo["spec"]["containers"][0]["stdin"] = json!(true);
    echo["spec"]["containers"][0]["stdinOnce"] = json!(true);
    space.apply(&echo)?;
    space.ready("echo")?;
    let words = ["attach", "-i", "echo", "--quiet"];
    let ran = space.kubectl_with("is anybody there?\n", &words)?;
    holds(&ran.ok()?, "is anybody there?")?;
    space.phase("echo", "Succeeded")?;
    holds(&space.logs("echo")?, "is anybody there?")
}

fn cp_both_ways() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("cp")?;
    space.apply(&pod("box", &["sleep", "1000"])?)?;
    space.ready("box")?;
    let folder = cluster.directory().join("files/cp");
    fs::create_dir_all(folder.join("site/below"))?;
    let bytes: Vec<u8> = (0..300_000u32).map(|n| n.to_le_bytes()[0]).collect();
    fs::write(folder.join("site/below/data"), &bytes)?;
    let (here, back) = (folder.join("site"), folder.join("back"));
    let (here, back) = (here.display().to_string(), back.display().to_string());
    space.kubectl(&["cp", &here, "box:/site"])?.ok()?;
    let ran = space.exec("box", &["wc", "-c", "/site/below/data"])?.ok()?;
    holds(&ran, "300000")?;
    space.kubectl(&["cp", "box:/site", &back])?.ok()?;
    ensure!(
        fs::read(folder.join("back/below/data"))? == bytes,
        "what came back is not what was sent"
    );
    Ok(fs::remove_dir_all(folder)?)
}

fn port_forward_to_a_guest_that_listens() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("forward")?;
    space.apply(&pod_of(
        "server",
        &cluster.images().component,
        &["serve", "8080"],
    ))?;
    space.says("server", "serving on port 8080")?;
    let mut command = space.command(&["port-forward", "pod/server", ":8080"])?;
    let mut forward = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let output = forward.stdout.take().context("it has no output")?;
    // Kept: it writes a line for each connection, and ends when nobody reads them.
    let mut output = BufReader::new(output);
    let result = (|| {
        let mut line = String::new();
        output.read_line(&mut line)?;
        let port: u16 = line
            .split("127.0.0.1:")
            .nth(1)
            .and_then(|rest| rest.split(' ').next()?.parse().ok())
            .with_context(|| format!("no port in: {line}"))?;
        for path in ["/first", "/second"] {
            let mut stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            holds(&answer, &format!("server was asked for {path}"))?;
        }
        Ok(())
    })();
    forward.kill()?;
    forward.wait()?;
    result
}

fn debug_puts_a_native_container_beside_the_guest() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("debug")?;
    let images = cluster.images();
    space.apply(&pod_of("server", &images.component, &["serve", "8080"]))?;
    space.says("server", "serving on port 8080")?;
    // It is in the pod's network: the guest answers it on localhost.
    let line = "printf 'GET /debug HTTP/1.0\\r\\n\\r\\n' | busybox nc 127.0.0.1 8080; sleep 1000";
    let words = [
        "debug",
        "server",
        "--image",
        &images.native,
        "--container",
        "probe",
        "--quiet",
        "--",
        "sh",
        "-c",
        line,
    ];
    space.kubectl(&words)?.ok()?;
    let logs = ["logs", "server", "--container", "probe"];
    skiff_test::command::wait_for("no answer", Duration::from_secs(30), || {
        let ran = space.kubectl(&logs)?;
        Ok(ran
            .stdout
            .contains("server was asked for /debug")
            .then_some(()))
    })?;
    let words = [
        "exec",
        "server",
        "--container",
        "probe",
        "--",
        "busybox",
        "id",
        "-u",
    ];
    ensure!(space.kubectl(&words)?.ok()?.trim() == "0");
    Ok(())
}

fn logs_follow() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("follow")?;
    let words = ["say", "first", "sleep", "2", "lines", "1000", "say", "last"];
    space.apply(&pod("long", &words)?)?;
    space.says("long", "first")?;
    let log = space.kubectl(&["logs", "--follow", "long"])?.ok()?;
    ensure!(
        log.lines().count() == 1002 && log.ends_with("last\n"),
        "{} lines",
        log.lines().count()
    );
    Ok(())
}
