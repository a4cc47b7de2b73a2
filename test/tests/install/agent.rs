//! The agent on a containerd that runs: what it tells the cluster, what it mends, and what it leaves.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use skiff_test::command::{self, Ran, wait_for};
use skiff_test::guest;
use skiff_test::image::Image;
use skiff_test::node::Version;

use crate::api_server::{ApiServer, LEASE, NODE};
use crate::real::Daemon;

skiff_test::cases!(
    a_proven_node_is_labelled_and_what_others_undo_is_mended,
    a_node_that_is_not_to_be_mended_loses_its_label,
    an_install_that_fails_is_told,
    nodes_take_turns,
    images_are_compiled_when_they_come_and_containers_are_counted,
    skiff_goes_when_the_last_pod_has_ended,
);

const PATIENCE: Duration = Duration::from_secs(30);

/// A node with an agent, and the API server that the agent talks to.
struct Cluster {
    api: ApiServer,
    daemon: Daemon,
}

/// An agent that runs; stopped with this.
struct Agent {
    process: Child,
    port: u16,
    log: PathBuf,
}

impl Cluster {
    fn start(version: Version) -> Result<Self> {
        let daemon = Daemon::start(version)?;
        fs::copy(
            std::env::var_os("SKIFF_AGENT")
                .context("SKIFF_AGENT names no skiff-agent; `test/run.sh install` builds it")?,
            daemon.path("bin/skiff-agent"),
        )?;
        let api = ApiServer::start(&daemon.path(""))?;
        Ok(Self { api, daemon })
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.daemon.path("bin/skiff-agent"));
        command
            .args(words)
            .envs(self.api.environment())
            .arg("--root=/")
            .arg("--from")
            .arg(self.daemon.path("bin"))
            .arg("--address")
            .arg(self.daemon.path("c.sock"))
            .arg("--restart-command")
            .arg(self.daemon.path("restart.sh"));
        command
    }

    fn run(&self, words: &[&str]) -> Result<Ran> {
        command::run(&mut self.command(words))
    }

    fn spawn(&self, words: &[&str]) -> Result<Agent> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let log = self.daemon.path("agent.log");
        let file = fs::File::options().create(true).append(true).open(&log)?;
        let process = self
            .command(words)
            .arg(format!("--listen=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .context("could not start the agent")?;
        Ok(Agent { process, port, log })
    }

    fn label(&self, handler: &str) -> Option<String> {
        self.api
            .node("labels", &format!("handler.skiff.dev/{handler}"))
    }

    fn annotation(&self, name: &str) -> Option<String> {
        self.api
            .node("annotations", &format!("node.skiff.dev/{name}"))
    }

    fn happened(&self, reason: &str) -> usize {
        let events = self.api.events();
        events.iter().filter(|(found, _)| found == reason).count()
    }

    fn wait(&self, what: &str, done: impl Fn() -> bool) -> Result<()> {
        wait_for(what, PATIENCE, || Ok(done().then_some(()))).with_context(|| {
            format!(
                "events: {:?}\nof ours: {:?}",
                self.api.events(),
                self.api.ours()
            )
        })
    }
}

impl Agent {
    /// Status and text of a page.
    fn page(&self, path: &str) -> Result<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        )?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let status = text.split_whitespace().nth(1).context("no status")?;
        Ok((status.parse()?, text))
    }

    fn is_ready(&self) -> bool {
        self.page("/readyz").is_ok_and(|(status, _)| status == 200)
    }

    /// A figure of `/metrics`, by the beginning of its line.
    fn figure(&self, begin: &str) -> Option<f64> {
        let (_, text) = self.page("/metrics").ok()?;
        let line = text.lines().find(|line| line.starts_with(begin))?;
        line.rsplit(' ').next()?.parse().ok()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        skiff_test::runner::keep_log("agent", fs::read_to_string(&self.log).unwrap_or_default());
        if self
            .process
            .kill()
            .and_then(|()| self.process.wait())
            .is_err()
        {
            skiff_test::runner::fault("the agent could not be stopped".to_owned());
        }
    }
}

fn a_proven_node_is_labelled_and_what_others_undo_is_mended() -> Result<()> {
    for version in [Version::V2_4, Version::V1_7] {
        let cluster = Cluster::start(version)?;
        let config = cluster.daemon.config()?;
        cluster.run(&["install"])?.ok()?;
        ensure!(cluster.happened("SkiffInstalled") == 1, "no event");
        ensure!(
            cluster.label("wasmtime").is_none(),
            "labelled by the installer"
        );
        let agent = cluster.spawn(&["watch", "--interval=1", "--no-precompile"])?;
        cluster.wait("the node is not ready", || agent.is_ready())?;
        ensure!(
            cluster.label("wasmtime").as_deref() == Some("true"),
            "no label"
        );
        ensure!(
            cluster.label("skiff").as_deref() == Some("true"),
            "no label"
        );
        ensure!(cluster.label("gone").is_none(), "a label of no handler");
        ensure!(
            cluster.api.node("labels", "kubernetes.io/os").is_some(),
            "a label of others is gone"
        );
        ensure!(
            cluster.annotation("state").as_deref() == Some("ready"),
            "{:?}",
            cluster.annotation("state")
        );
        ensure!(
            agent.page("/healthz")?.0 == 200 && agent.page("/x")?.0 == 404,
            "pages"
        );
        ensure!(
            agent.figure("skiff_handler_proven{handler=\"wasmtime\"}") == Some(1.0),
            "{}",
            agent.page("/metrics")?.1
        );

        // A node that is well is left alone.
        let changes = cluster.api.changes();
        std::thread::sleep(Duration::from_secs(3));
        ensure!(
            cluster.api.changes() == changes,
            "the node is told what it says already"
        );

        // Another tool writes containerd's configuration anew, and restarts it.
        let installed = cluster.daemon.config()?;
        fs::write(cluster.daemon.path("config.toml"), &config)?;
        command::run(&mut Command::new(cluster.daemon.path("restart.sh")))?.ok()?;
        cluster.wait("it is not mended", || {
            cluster.happened("SkiffRepaired") == 1 && agent.is_ready()
        })?;
        ensure!(
            cluster.daemon.config()? == installed,
            "{}",
            cluster.daemon.config()?
        );
        ensure!(cluster.happened("SkiffDrifted") > 0, "no event");
        ensure!(
            agent.figure("skiff_repairs_total{result=\"done\"}") == Some(1.0),
            "not counted"
        );
        drop(agent);

        // Somebody removes a binary. A new agent mends at once; the one before would have waited for a minute.
        let lost = Path::new("/opt/skiff/current/skiff-pause");
        fs::remove_file(lost)?;
        let agent = cluster.spawn(&["watch", "--interval=1", "--no-precompile"])?;
        cluster.wait("the binary is not put back", || {
            lost.exists() && agent.is_ready()
        })?;
        drop(agent);
        cluster.daemon.skiff_node(&["uninstall"])?.ok()?;
        ensure!(cluster.daemon.config()? == config, "not as it was");
        cluster.daemon.ensure_clean()?;
    }
    Ok(())
}

fn a_node_that_is_not_to_be_mended_loses_its_label() -> Result<()> {
    let cluster = Cluster::start(Version::V2_4)?;
    let config = cluster.daemon.config()?;
    cluster.run(&["install"])?.ok()?;
    let watch = ["watch", "--interval=1", "--no-precompile", "--no-repair"];
    let agent = cluster.spawn(&watch)?;
    cluster.wait("the node is not ready", || agent.is_ready())?;
    fs::write(cluster.daemon.path("config.toml"), &config)?;
    command::run(&mut Command::new(cluster.daemon.path("restart.sh")))?.ok()?;
    cluster.wait("the label stays", || {
        cluster.label("wasmtime").is_none() && !agent.is_ready()
    })?;
    let reason = cluster.annotation("reason").unwrap_or_default();
    ensure!(reason.contains("no handler wasmtime"), "{reason}");
    ensure!(
        cluster.annotation("state").as_deref() == Some("failed"),
        "{:?}",
        cluster.annotation("state")
    );
    ensure!(cluster.daemon.config()? == config, "it was mended");
    // Mended by hand, it is told.
    cluster.daemon.skiff_node(&["install"])?.ok()?;
    cluster.wait("the label does not come back", || {
        cluster.label("wasmtime").is_some() && agent.is_ready()
    })?;
    ensure!(cluster.annotation("reason").is_none(), "an old reason");
    drop(agent);
    cluster.daemon.skiff_node(&["uninstall"])?.ok()?;
    cluster.daemon.ensure_clean()
}

fn an_install_that_fails_is_told() -> Result<()> {
    let cluster = Cluster::start(Version::V2_4)?;
    let config = cluster.daemon.config()?;
    let host = cluster.daemon.path("bin/skiff-host-wasmtime");
    let good = fs::read(&host)?;
    fs::write(&host, "#!/bin/sh\nexit 9\n")?;
    cluster
        .run(&["install"])?
        .fails_with(&["nothing was changed"])?;
    ensure!(cluster.daemon.config()? == config, "something was changed");
    ensure!(
        cluster.annotation("state").as_deref() == Some("failed"),
        "{:?}",
        cluster.annotation("state")
    );
    let reason = cluster.annotation("reason").unwrap_or_default();
    ensure!(reason.contains("does not work on this node"), "{reason}");
    let events = cluster.api.events();
    ensure!(
        events
            .iter()
            .any(|(name, text)| name == "SkiffInstallFailed" && *text == reason),
        "{events:?}"
    );

    // An upgrade that fails: the version before still works, and keeps its label.
    fs::write(&host, &good)?;
    cluster.run(&["install"])?.ok()?;
    let agent = cluster.spawn(&["watch", "--interval=1", "--no-precompile"])?;
    cluster.wait("the node is not ready", || agent.is_ready())?;
    drop(agent);
    fs::write(&host, "#!/bin/sh\nexit 9\n")?;
    cluster
        .run(&["install"])?
        .fails_with(&["nothing was changed"])?;
    ensure!(
        cluster.annotation("state").as_deref() == Some("degraded"),
        "{:?}",
        cluster.annotation("state")
    );
    ensure!(
        cluster.label("wasmtime").is_some(),
        "the label of the version before is gone"
    );
    cluster.daemon.skiff_node(&["uninstall"])?.ok()?;
    cluster.daemon.ensure_clean()
}

fn nodes_take_turns() -> Result<()> {
    let cluster = Cluster::start(Version::V2_4)?;
    let config = cluster.daemon.config()?;
    let words = ["install".to_owned(), format!("--turn={LEASE}")];
    let words = words.each_ref().map(String::as_str);
    // Another node has failed, and keeps its turn.
    cluster.api.turn(Some("worker-0"));
    let mut waiting = cluster.command(&words).stdout(Stdio::piped()).spawn()?;
    std::thread::sleep(Duration::from_secs(3));
    ensure!(waiting.try_wait()?.is_none(), "it did not wait");
    ensure!(cluster.daemon.config()? == config, "it changed something");
    cluster.api.turn(Some(""));
    let mut said = String::new();
    waiting
        .stdout
        .take()
        .context("no output")?
        .read_to_string(&mut said)?;
    ensure!(waiting.wait()?.success(), "{said}");
    ensure!(said.contains("waiting for worker-0"), "{said}");
    ensure!(
        cluster.api.turn(None).as_deref() == Some(""),
        "the turn was not passed on"
    );
    // Who has nothing to do waits for nobody.
    cluster.api.turn(Some("worker-0"));
    let said = cluster.run(&words)?.ok()?;
    ensure!(said.contains("nothing to do"), "{said}");
    // Who fails keeps the turn, and has it for the next try.
    let host = cluster.daemon.path("bin/skiff-host-wasmtime");
    let good = fs::read(&host)?;
    fs::write(&host, "#!/bin/sh\nexit 9\n")?;
    cluster.api.turn(Some(""));
    cluster.run(&words)?.fails_with(&["nothing was changed"])?;
    ensure!(
        cluster.api.turn(None).as_deref() == Some(NODE),
        "the turn was passed on"
    );
    fs::write(&host, good)?;
    let mut bytes = fs::read(cluster.daemon.path("bin/skiff"))?;
    bytes.push(0);
    fs::write(cluster.daemon.path("bin/skiff"), bytes)?;
    cluster.run(&words)?.ok()?;
    ensure!(
        cluster.api.turn(None).as_deref() == Some(""),
        "the turn was not passed on"
    );
    cluster.daemon.skiff_node(&["uninstall"])?.ok()?;
    cluster.daemon.ensure_clean()
}

fn images_are_compiled_when_they_come_and_containers_are_counted() -> Result<()> {
    for version in [Version::V2_4, Version::V1_7] {
        let cluster = Cluster::start(version)?;
        let daemon = &cluster.daemon;
        // `ctr` cannot say where a shim is without giving the runtime that name; CRI can.
        let script = fs::read_to_string(daemon.path("restart.sh"))?;
        let script = script.replace("PATH=", "PATH=/opt/skiff/current:");
        fs::write(daemon.path("restart.sh"), script)?;
        cluster.run(&["install"])?.ok()?;
        let import = |name: &str, seconds: &str| -> Result<Image> {
            let image = Image::root_file(name, &guest::module()?).command(&["sleep", seconds]);
            let archive = daemon.path("image.tar");
            image.write(&archive)?;
            let archive = archive.display().to_string();
            daemon
                .ctr(&["-n", "k8s.io", "image", "import", &archive])?
                .ok()?;
            Ok(image)
        };
        import("early", "200")?;
        let agent = cluster.spawn(&["watch", "--interval=1"])?;
        cluster.wait("the node is not ready", || agent.is_ready())?;
        let modules = |state: &str| {
            agent.figure(&format!(
                "skiff_precompiled_modules_total{{state=\"{state}\"}}"
            ))
        };
        cluster.wait("what was there is not compiled", || {
            modules("compiled") == Some(1.0)
        })?;
        let image = import("sleeper", "300")?;
        cluster.wait("what came is not looked at", || {
            modules("cached") == Some(1.0)
        })?;
        ensure!(modules("compiled") == Some(1.0), "compiled twice");

        let id = format!("skt{}-counted", std::process::id());
        let cgroup = format!("/{id}");
        daemon
            .ctr(&[
                "-n",
                "k8s.io",
                "run",
                "--detach",
                "--cgroup",
                &cgroup,
                "--runtime",
                "io.containerd.wasmtime.v1",
                "--label=io.cri-containerd.kind=container",
                "--label=io.kubernetes.pod.namespace=shop",
                "--label=io.kubernetes.pod.name=cart-1",
                "--label=io.kubernetes.container.name=app",
                image.name(),
                &id,
            ])?
            .ok()?;
        let labels = "{namespace=\"shop\",pod=\"cart-1\",container=\"app\",runtime=\"io.containerd.wasmtime.v1\"}";
        let memory = format!("skiff_container_memory_usage_bytes{labels}");
        cluster.wait("the container is not told", || {
            agent.figure(&memory).is_some_and(|bytes| bytes > 10_000.0)
        })?;
        let processes = agent.figure(&format!("skiff_container_processes{labels}"));
        ensure!(processes.is_some_and(|count| count >= 1.0), "{processes:?}");
        daemon
            .ctr(&["-n", "k8s.io", "task", "kill", "--signal", "SIGKILL", &id])?
            .ok()?;
        wait_for("the task does not end", Duration::from_secs(10), || {
            let deleted = daemon.ctr(&["-n", "k8s.io", "task", "delete", &id])?;
            Ok((deleted.code == 0).then_some(()))
        })?;
        daemon
            .ctr(&["-n", "k8s.io", "container", "delete", &id])?
            .ok()?;
        cluster.wait("the container is still told", || {
            agent.figure(&memory).is_none()
        })?;
        ensure!(
            !Path::new("/var/lib/skiff/warm").exists(),
            "an archive was left"
        );
        drop(agent);
        daemon.skiff_node(&["uninstall", "--timeout", "10"])?.ok()?;
        daemon.ensure_clean()?;
    }
    Ok(())
}

fn skiff_goes_when_the_last_pod_has_ended() -> Result<()> {
    let cluster = Cluster::start(Version::V2_4)?;
    let daemon = &cluster.daemon;
    let config = daemon.config()?;
    cluster.run(&["install"])?.ok()?;
    let agent = cluster.spawn(&["watch", "--interval=1"])?;
    cluster.wait("the node is not ready", || agent.is_ready())?;
    drop(agent);

    let image = Image::root_file("sleeper", &guest::module()?).command(&["sleep", "300"]);
    let archive = daemon.path("image.tar");
    image.write(&archive)?;
    daemon
        .ctr(&["image", "import", &archive.display().to_string()])?
        .ok()?;
    let id = format!("skt{}-last", std::process::id());
    let shim = "/opt/skiff/current/containerd-shim-wasmtime-v1";
    let cgroup = format!("/{id}");
    daemon
        .ctr(&[
            "run",
            "--detach",
            "--cgroup",
            &cgroup,
            "--runtime",
            shim,
            image.name(),
            &id,
        ])?
        .ok()?;
    let agent = cluster.spawn(&["remove"])?;
    cluster.wait("what it waits for is not told", || {
        cluster
            .annotation("reason")
            .is_some_and(|reason| reason.contains(&id))
    })?;
    ensure!(
        cluster.label("wasmtime").is_none() && !agent.is_ready(),
        "new pods would come"
    );
    daemon
        .ctr(&["task", "kill", "--signal", "SIGKILL", &id])?
        .ok()?;
    wait_for("the task does not end", Duration::from_secs(10), || {
        Ok((daemon.ctr(&["task", "delete", &id])?.code == 0).then_some(()))
    })?;
    daemon.ctr(&["container", "delete", &id])?.ok()?;
    cluster.wait("Skiff stays", || agent.is_ready())?;
    ensure!(daemon.config()? == config, "{}", daemon.config()?);
    ensure!(cluster.api.ours().is_empty(), "{:?}", cluster.api.ours());
    ensure!(cluster.happened("SkiffRemoved") == 1, "no event");
    daemon.ensure_clean()?;
    // Started again, it finds nothing to do.
    drop(agent);
    let pid = daemon.pid();
    let agent = cluster.spawn(&["remove"])?;
    cluster.wait("the second run does not end", || agent.is_ready())?;
    ensure!(daemon.pid() == pid, "containerd was restarted");
    Ok(())
}
