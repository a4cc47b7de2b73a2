//! The installer on a containerd that runs: with a configuration, a socket and a way to be restarted of its own.
//!
//! `test/run.sh install` gives these tests a mount namespace in which /opt, /var/lib/skiff and /run are their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use skiff_test::command::{self, Ran, wait_for};
use skiff_test::image::Image;
use skiff_test::node::Version;
use skiff_test::{guest, tools};

use crate::tree::skiff_node;

skiff_test::cases!(
    installed_proven_and_taken_off_again,
    a_broken_configuration_is_refused,
    a_containerd_that_does_not_come_back_gets_its_configuration_back,
    a_shim_that_does_not_work_changes_nothing,
    a_handler_that_cri_does_not_show_is_rolled_back,
    a_node_whose_cgroups_systemd_makes,
    an_upgrade_keeps_what_running_pods_need,
    a_node_that_is_mounted_in_a_container,
    wasmedge_is_proven_like_the_others,
);

/// A containerd that a script starts and restarts, as a service manager would.
pub(crate) struct Daemon {
    folder: PathBuf,
    programs: PathBuf,
}

static DAEMONS: AtomicU32 = AtomicU32::new(0);

impl Daemon {
    pub(crate) fn start(version: Version) -> Result<Self> {
        ensure!(
            std::env::var_os("SKIFF_OWN_MOUNTS").is_some(),
            "these tests remove /opt/skiff and /var/lib/skiff: run them by `test/run.sh install`"
        );
        let number = DAEMONS.fetch_add(1, Ordering::Relaxed);
        let folder = Path::new("/tmp").join(format!("skt{}-real{number}", std::process::id()));
        for part in ["root", "state", "bin"] {
            fs::create_dir_all(folder.join(part))?;
        }
        fs::create_dir_all("/run/containerd/fifo")?;
        let daemon = Self {
            programs: tools::component(version.folder())?,
            folder,
        };
        for entry in fs::read_dir(tools::skiff_dir())? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                fs::copy(entry.path(), daemon.path("bin").join(entry.file_name()))?;
            }
        }
        fs::copy(skiff_node()?, daemon.path("bin/skiff-node"))?;
        fs::write(daemon.path("config.toml"), daemon.configuration(version))?;
        daemon.write_script()?;
        command::run(&mut Command::new(daemon.path("restart.sh")))?.ok()?;
        daemon.wait_until_up()?;
        Ok(daemon)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn configuration(&self, version: Version) -> String {
        let (form, plugin) = match version {
            Version::V1_7 => (2, "io.containerd.grpc.v1.cri"),
            Version::V2_1 | Version::V2_4 => (3, "io.containerd.cri.v1.runtime"),
        };
        let place = self.folder.display();
        format!(
            "# kept by the platform team\nversion = {form}\nroot = '{place}/root'\nstate = '{place}/state'\n\
             disabled_plugins = ['io.containerd.snapshotter.v1.devmapper', 'io.containerd.snapshotter.v1.blockfile', 'io.containerd.snapshotter.v1.erofs']\n\n\
             [grpc]\naddress = '{place}/c.sock'\n\n[ttrpc]\naddress = '{place}/t.sock'\n\n\
             [plugins.'io.containerd.internal.v1.opt']\npath = '{place}/opt'\n\n[plugins.'io.containerd.nri.v1.nri']\ndisable = true\n\n\
             [plugins.'{plugin}']\nrestrict_oom_score_adj = true # no CAP_SYS_RESOURCE here\n\n\
             [plugins.'{plugin}'.containerd.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\n"
        )
    }

    /// What a service manager is: it stops what runs, and starts it, unless the file `down` says that it cannot.
    fn write_script(&self) -> Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let (place, programs) = (self.folder.display(), self.programs.display());
        let script = format!(
            "#!/bin/sh\n\
             if [ -f {place}/pid ]; then\n  pid=$(cat {place}/pid); kill $pid; while [ -S {place}/c.sock ] && [ -d /proc/$pid ] && ! grep -q Z /proc/$pid/status; do sleep 0.05; done\nfi\n\
             if [ -f {place}/down ]; then rm {place}/down {place}/pid; exit 0; fi\n\
             PATH={programs}:/usr/sbin:/usr/bin:/sbin:/bin setsid nsenter --mount=/proc/{own}/ns/mnt {programs}/containerd --config {place}/config.toml >>{place}/log 2>&1 </dev/null &\n\
             echo $! >{place}/pid\n",
            own = std::process::id(),
        );
        let path = self.path("restart.sh");
        fs::write(&path, script)?;
        Ok(fs::set_permissions(
            path,
            fs::Permissions::from_mode(0o755),
        )?)
    }

    pub(crate) fn skiff_node(&self, words: &[&str]) -> Result<Ran> {
        let mut command = Command::new(self.path("bin/skiff-node"));
        command.arg("--address").arg(self.path("c.sock"));
        command
            .arg("--restart-command")
            .arg(self.path("restart.sh"));
        command::run(command.args(words))
    }

    pub(crate) fn ctr(&self, words: &[&str]) -> Result<Ran> {
        let mut command = Command::new(self.programs.join("ctr"));
        command::run(
            command
                .arg("--address")
                .arg(self.path("c.sock"))
                .args(words),
        )
    }

    pub(crate) fn wait_until_up(&self) -> Result<()> {
        wait_for(
            "containerd does not answer",
            Duration::from_secs(30),
            || Ok((self.ctr(&["version"])?.code == 0).then_some(())),
        )
        .with_context(|| fs::read_to_string(self.path("log")).unwrap_or_default())
    }

    pub(crate) fn pid(&self) -> String {
        fs::read_to_string(self.path("pid")).unwrap_or_default()
    }

    pub(crate) fn config(&self) -> Result<String> {
        Ok(fs::read_to_string(self.path("config.toml"))?)
    }

    /// Nothing of ours is left but what the node had.
    pub(crate) fn ensure_clean(&self) -> Result<()> {
        for ours in [
            "/opt/skiff",
            "/var/lib/skiff/node",
            "/var/lib/skiff/cache",
            "/run/skiff",
            "/run/skiff-node",
            "/var/lib/skiff/warm",
        ] {
            ensure!(!Path::new(ours).exists(), "{ours} is still there");
        }
        let namespaces = self.ctr(&["namespaces", "list", "--quiet"])?.ok()?;
        ensure!(
            !namespaces.contains("skiff-probe"),
            "the probes' namespace is still there"
        );
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let stopped = command::run(Command::new("kill").arg(self.pid().trim()));
        if stopped.is_err() {
            skiff_test::runner::fault("containerd could not be stopped".to_owned());
        }
        skiff_test::runner::keep_log(
            "containerd",
            fs::read_to_string(self.path("log")).unwrap_or_default(),
        );
        // It ends within a second; its files are gone when nothing holds them.
        let removed = wait_for("the folder stays", Duration::from_secs(10), || {
            Ok(fs::remove_dir_all(&self.folder).is_ok().then_some(()))
        });
        for ours in ["/opt/skiff", "/var/lib/skiff/node", "/var/lib/skiff/cache"] {
            fs::remove_dir_all(ours).ok();
        }
        if let Err(error) = removed {
            skiff_test::runner::fault(format!("{error:#}"));
        }
    }
}

fn installed_proven_and_taken_off_again() -> Result<()> {
    for version in Version::ALL {
        let daemon = Daemon::start(version)?;
        let (config, pid) = (daemon.config()?, daemon.pid());
        let diff = daemon.skiff_node(&["install", "--dry-run"])?.ok()?;
        ensure!(
            diff.contains("runtimes.wasmtime]") && daemon.config()? == config,
            "{diff}"
        );
        let said = daemon.skiff_node(&["install", "--json"])?.ok()?;
        ensure!(
            said.contains("\"proven\":true") && said.contains("\"restarted\":true"),
            "{said}"
        );
        let (installed, restarted) = (daemon.config()?, daemon.pid());
        ensure!(
            installed.starts_with(&config) && restarted != pid,
            "{installed}"
        );

        let said = daemon.skiff_node(&["install", "--json"])?.ok()?;
        ensure!(
            said.contains("\"changed\":false") && said.contains("\"restarted\":false"),
            "{said}"
        );
        ensure!(
            daemon.config()? == installed && daemon.pid() == restarted,
            "the second install did something"
        );
        let status = daemon.skiff_node(&["status"])?.ok()?;
        ensure!(
            status.contains("proven") && status.contains("wasmtime"),
            "{status}"
        );

        daemon.skiff_node(&["uninstall"])?.ok()?;
        ensure!(daemon.config()? == config, "{}", daemon.config()?);
        daemon.ensure_clean()?;
    }
    Ok(())
}

fn a_broken_configuration_is_refused() -> Result<()> {
    for version in [Version::V2_4, Version::V1_7] {
        let daemon = Daemon::start(version)?;
        let (pid, broken) = (daemon.pid(), daemon.config()? + "[debug\nlevel = 'info'\n");
        let line = broken
            .lines()
            .position(|line| line == "[debug")
            .context("no such line")?
            + 1;
        fs::write(daemon.path("config.toml"), &broken)?;
        let ran = daemon.skiff_node(&["install"])?;
        ran.fails_with(&[&line.to_string()])?;
        ensure!(
            daemon.config()? == broken && daemon.pid() == pid,
            "something was done"
        );
        ensure!(!Path::new("/opt/skiff").exists(), "binaries were installed");
    }
    Ok(())
}

fn a_containerd_that_does_not_come_back_gets_its_configuration_back() -> Result<()> {
    for version in [Version::V2_4, Version::V1_7] {
        let daemon = Daemon::start(version)?;
        let config = daemon.config()?;
        fs::write(daemon.path("down"), "")?;
        let begun = Instant::now();
        let ran = daemon.skiff_node(&["install"])?;
        let took = begun.elapsed();
        ran.fails_with(&["put back", "did not answer"])?;
        ensure!(took < Duration::from_secs(30), "it took {took:?}");
        ensure!(daemon.config()? == config, "{}", daemon.config()?);
        daemon.wait_until_up()?;
        let status = daemon.skiff_node(&["status"])?.ok()?;
        ensure!(
            status.contains("not installed") && status.contains("did not answer"),
            "{status}"
        );
        daemon.skiff_node(&["install"])?.ok()?;
        daemon.skiff_node(&["uninstall"])?.ok()?;
        ensure!(daemon.config()? == config, "{}", daemon.config()?);
    }
    Ok(())
}

fn a_shim_that_does_not_work_changes_nothing() -> Result<()> {
    let daemon = Daemon::start(Version::V2_4)?;
    let (config, pid) = (daemon.config()?, daemon.pid());
    let host = daemon.path("bin/skiff-host-wasmtime");
    fs::write(&host, "#!/bin/sh\nexit 9\n")?;
    let ran = daemon.skiff_node(&["install"])?;
    ran.fails_with(&["nothing was changed", "wasmtime"])?;
    ensure!(
        daemon.config()? == config && daemon.pid() == pid,
        "something was done"
    );
    daemon.skiff_node(&["uninstall"])?.ok()?;
    daemon.ensure_clean()
}

/// The file says it, containerd's own dump says it, and the process that runs reads another file.
fn a_handler_that_cri_does_not_show_is_rolled_back() -> Result<()> {
    let daemon = Daemon::start(Version::V2_4)?;
    let config = daemon.config()?;
    fs::write(daemon.path("other.toml"), &config)?;
    let script = fs::read_to_string(daemon.path("restart.sh"))?;
    fs::write(
        daemon.path("restart.sh"),
        script.replace("/config.toml", "/other.toml"),
    )?;
    let ran = daemon.skiff_node(&["install"])?;
    ran.fails_with(&["put back", "has no handler"])?;
    ensure!(daemon.config()? == config, "{}", daemon.config()?);
    ensure!(
        !Path::new("/opt/skiff/current").exists(),
        "the link is still there"
    );
    Ok(())
}

/// Where there is no systemd that is all that is wrong: containerd takes a task with the options of such a handler, and it
/// is the shim that says so. `make test-vm` has the rest.
fn a_node_whose_cgroups_systemd_makes() -> Result<()> {
    if Path::new("/run/systemd/system").exists() {
        skiff_test::skip!("systemd runs here; `make test-vm` has this case");
    }
    for version in Version::ALL {
        let daemon = Daemon::start(version)?;
        let plugin = match version {
            Version::V1_7 => "io.containerd.grpc.v1.cri",
            Version::V2_1 | Version::V2_4 => "io.containerd.cri.v1.runtime",
        };
        let config = daemon.config()?
            + &format!(
                "\n[plugins.'{plugin}'.containerd.runtimes.runc.options]\nSystemdCgroup = true\n"
            );
        fs::write(daemon.path("config.toml"), &config)?;
        command::run(&mut Command::new(daemon.path("restart.sh")))?.ok()?;
        daemon.wait_until_up()?;
        let ran = daemon.skiff_node(&["install"])?;
        ran.fails_with(&["nothing was changed", "systemd"])?;
        ensure!(daemon.config()? == config, "{}", daemon.config()?);
        daemon.skiff_node(&["uninstall"])?.ok()?;
        daemon.ensure_clean()?;
    }
    Ok(())
}

fn an_upgrade_keeps_what_running_pods_need() -> Result<()> {
    let daemon = Daemon::start(Version::V2_4)?;
    daemon.skiff_node(&["install"])?.ok()?;
    let pid = daemon.pid();
    let first = fs::read_link("/opt/skiff/current")?;

    let image = Image::root_file("sleeper", &guest::module()?).command(&["sleep", "300"]);
    let archive = daemon.path("image.tar");
    image.write(&archive)?;
    let archive = archive.display().to_string();
    daemon.ctr(&["image", "import", &archive])?.ok()?;
    let id = format!("skt{}-sleeper", std::process::id());
    let shim = "/opt/skiff/current/containerd-shim-wasmtime-v1";
    let cgroup = format!("/{id}");
    let run = [
        "run",
        "--detach",
        "--cgroup",
        &cgroup,
        "--runtime",
        shim,
        image.name(),
        &id,
    ];
    daemon.ctr(&run)?.ok()?;

    // Another build: one byte more in a file that no pod runs.
    let command = daemon.path("bin/skiff");
    let mut bytes = fs::read(&command)?;
    bytes.push(0);
    fs::write(&command, bytes)?;
    let said = daemon.skiff_node(&["install", "--json"])?.ok()?;
    let second = fs::read_link("/opt/skiff/current")?;
    ensure!(
        second != first && said.contains("\"restarted\":false") && daemon.pid() == pid,
        "{said}"
    );
    ensure!(
        said.contains(&format!("\"kept\":[\"{}\"]", first.display())),
        "{said}"
    );
    let tasks = daemon.ctr(&["task", "list"])?.ok()?;
    ensure!(tasks.contains("RUNNING"), "{tasks}");
    daemon
        .skiff_node(&["uninstall"])?
        .fails_with(&["still runs", &id])?;

    daemon
        .ctr(&["task", "kill", "--signal", "SIGKILL", &id])?
        .ok()?;
    wait_for("the task does not end", Duration::from_secs(10), || {
        Ok((daemon.ctr(&["task", "delete", &id])?.code == 0).then_some(()))
    })?;
    daemon.ctr(&["container", "delete", &id])?.ok()?;
    let old = Path::new("/opt/skiff").join(&first);
    wait_for("the old binaries stay", Duration::from_secs(10), || {
        daemon.skiff_node(&["install"])?.ok()?;
        Ok((!old.exists()).then_some(()))
    })?;
    daemon.skiff_node(&["uninstall", "--timeout", "10"])?.ok()?;
    daemon.ensure_clean()
}

/// As a DaemonSet has it: the node is at a folder, and what the container has at the same paths is its own.
fn a_node_that_is_mounted_in_a_container() -> Result<()> {
    let daemon = Daemon::start(Version::V2_4)?;
    let (config, place) = (daemon.config()?, daemon.folder.display());
    fs::create_dir_all(daemon.path("host"))?;
    let contained = |words: &str| {
        let script = format!(
            "mount --rbind / {place}/host && mount -t tmpfs skiff-test /opt && mount -t tmpfs skiff-test /usr/local || exit 99
             cp -r {place}/bin /opt/image || exit 98
             exec /opt/image/skiff-node --root {place}/host --address {place}/c.sock --restart-command {place}/restart.sh {words}"
        );
        let mut command = Command::new("unshare");
        command::run(command.args(["--mount", "--propagation", "private", "sh", "-c", &script]))
    };
    let said = contained("install --json")?.ok()?;
    ensure!(
        said.contains("\"proven\":true") && daemon.config()? != config,
        "{said}"
    );
    ensure!(
        Path::new("/opt/skiff/current/containerd-shim-wasmtime-v1").exists(),
        "nothing is on the node"
    );
    contained("uninstall")?.ok()?;
    ensure!(daemon.config()? == config, "{}", daemon.config()?);
    daemon.ensure_clean()
}

/// Its folder comes along, and a probe runs under it before anything is changed.
fn wasmedge_is_proven_like_the_others() -> Result<()> {
    let bundle = tools::skiff_dir().join("engines");
    if !bundle.is_dir() {
        skiff_test::skip!("there is no WasmEdge in {}", bundle.display());
    }
    for version in [Version::V2_4, Version::V1_7] {
        let daemon = Daemon::start(version)?;
        let copied = daemon.path("bin/engines");
        let mut copy = Command::new("cp");
        command::run(copy.arg("-r").arg(&bundle).arg(&copied))?.ok()?;
        let (config, pid) = (daemon.config()?, daemon.pid());
        let said = daemon.skiff_node(&["install", "--json"])?.ok()?;
        ensure!(said.contains("\"proven\":true"), "{said}");
        ensure!(
            daemon.config()?.contains("runtimes.wasmedge]"),
            "{}",
            daemon.config()?
        );
        let shim = Path::new("/opt/skiff/current/containerd-shim-wasmedge-v1");
        ensure!(shim.exists(), "{} was not made", shim.display());
        let status = daemon.skiff_node(&["status"])?.ok()?;
        ensure!(
            status.contains("proven") && status.contains("wasmedge"),
            "{status}"
        );
        daemon.skiff_node(&["uninstall"])?.ok()?;
        ensure!(daemon.config()? == config, "{}", daemon.config()?);
        daemon.ensure_clean()?;

        // A host that does not run is found by the probe.
        let pid_before = daemon.pid();
        ensure!(pid_before != pid, "containerd was not restarted");
        for engine in fs::read_dir(copied.join("wasmedge"))? {
            let host = engine?.path().join("skiff-host-wasmedge");
            fs::write(&host, "#!/bin/sh\nexit 9\n")?;
        }
        let ran = daemon.skiff_node(&["install"])?;
        ran.fails_with(&["nothing was changed", "wasmedge"])?;
        ensure!(
            daemon.config()? == config && daemon.pid() == pid_before,
            "something was done"
        );
        daemon.skiff_node(&["uninstall"])?.ok()?;
        daemon.ensure_clean()?;
    }
    Ok(())
}
