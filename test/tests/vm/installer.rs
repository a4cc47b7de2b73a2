//! The installer where systemd keeps containerd running as distributions have it: a unit of that name, the usual paths,
//! systemd's cgroup driver. What it restarts containerd by is what it finds out itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use skiff_test::command::{self, Ran};
use skiff_test::tools;

use super::{needs_v2, systemctl};

skiff_test::cases!(
    installed_and_taken_off_by_the_unit,
    rolled_back_when_the_unit_does_not_start,
);

const UNIT: &str = "containerd.service";
const FOLDER: &str = "/etc/containerd";
/// Longer than the installer's own: this machine is emulated.
const PATIENCE: &str = "--patience=120";

/// containerd as a unit; it is taken away with this value.
struct Unit {
    binaries: PathBuf,
}

impl Unit {
    /// Starts it. `before` is a shell command that must succeed before each start.
    fn start(before: &str) -> Result<Self> {
        let programs = tools::component("containerd-2.4")?;
        let runc = tools::component("runc")?;
        let binaries = std::env::temp_dir().join("skiff-test-binaries");
        fs::create_dir_all(&binaries)?;
        for entry in fs::read_dir(tools::skiff_dir())? {
            let entry = entry?;
            // Engines with libraries of their own take long to be copied here.
            if entry.file_type()?.is_file() {
                fs::copy(entry.path(), binaries.join(entry.file_name()))?;
            }
        }
        let unit = Self { binaries };
        fs::create_dir_all(Path::new(FOLDER).join("conf.d"))?;
        fs::write(
            Path::new(FOLDER).join("config.toml"),
            "# Kept by whoever keeps this node.\nversion = 3\nimports = ['/etc/containerd/conf.d/*.toml']\n\n\
             [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\n\n\
             [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]\nSystemdCgroup = true\n",
        )?;
        let (programs, runc) = (programs.display(), runc.display());
        let text = format!(
            "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=notify\nDelegate=yes\nKillMode=process\nEnvironment=PATH={programs}:{runc}:/usr/sbin:/usr/bin\n\
             ExecStartPre=/bin/sh -c '{before}'\nExecStart={programs}/containerd\nTimeoutStartSec=120\n"
        );
        fs::write(Path::new("/run/systemd/system").join(UNIT), text)?;
        systemctl(&["daemon-reload"])?;
        systemctl(&["start", UNIT])?;
        Ok(unit)
    }

    fn skiff_node(&self, words: &[&str]) -> Result<Ran> {
        command::run(Command::new(self.binaries.join("skiff-node")).args(words))
    }

    /// Which process it is, and which start.
    fn process(&self) -> Result<String> {
        systemctl(&["show", UNIT, "--property=MainPID,InvocationID"])
    }

    fn is_active(&self) -> Result<bool> {
        let mut command = Command::new("systemctl");
        Ok(command::run(command.args(["is-active", UNIT]))?
            .stdout
            .trim()
            == "active")
    }

    /// Every file of containerd's configuration.
    fn files(&self) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
        let mut found = BTreeMap::new();
        for folder in [FOLDER.into(), Path::new(FOLDER).join("conf.d")] {
            for entry in fs::read_dir(folder)? {
                let path = entry?.path();
                if path.is_file() {
                    found.insert(path.clone(), fs::read(&path)?);
                }
            }
        }
        Ok(found)
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        if let Err(error) = systemctl(&["stop", UNIT]) {
            skiff_test::runner::fault(format!("{error:#}"));
        }
        if let Ok(log) =
            command::run(Command::new("journalctl").args(["--unit", UNIT, "--lines=60"]))
        {
            skiff_test::runner::keep_log("containerd", log.stdout);
        }
        fs::remove_file(Path::new("/run/systemd/system").join(UNIT)).ok();
        systemctl(&["daemon-reload"]).ok();
        for place in [FOLDER, "/opt/skiff", "/var/lib/skiff"] {
            fs::remove_dir_all(place).ok();
        }
        fs::remove_dir_all(&self.binaries).ok();
    }
}

/// What these tests write to is the machine's own.
macro_rules! needs_this_machine {
    () => {
        needs_v2!();
        if std::env::var_os("SKIFF_TEST_OWN_MACHINE").is_none() {
            skiff_test::skip!(
                "it changes the machine's containerd: `make test-vm` has a machine for that"
            );
        }
    };
}

fn installed_and_taken_off_by_the_unit() -> Result<()> {
    needs_this_machine!();
    let unit = Unit::start("true")?;
    let (files, process) = (unit.files()?, unit.process()?);
    let said = unit.skiff_node(&["install", "--json", PATIENCE])?.ok()?;
    for words in [
        "\"proven\":true",
        "\"restarted\":true",
        "systemctl restart containerd.service",
    ] {
        ensure!(said.contains(words), "{words} is not in {said}");
    }
    let installed = unit.process()?;
    ensure!(
        installed != process,
        "systemd has not restarted it: {process}"
    );
    let ours =
        fs::read_to_string("/etc/containerd/conf.d/skiff.toml").context("no file of ours")?;
    ensure!(ours.contains("SystemdCgroup = true"), "{ours}");
    let said = unit.skiff_node(&["install", "--json", PATIENCE])?.ok()?;
    ensure!(
        said.contains("\"changed\":false") && unit.process()? == installed,
        "{said}"
    );
    unit.skiff_node(&["uninstall", PATIENCE])?.ok()?;
    ensure!(unit.files()? == files, "{:?}", unit.files()?.keys());
    ensure!(unit.is_active()?, "containerd does not run");
    for ours in ["/opt/skiff", "/var/lib/skiff", "/run/skiff"] {
        ensure!(!Path::new(ours).exists(), "{ours} is there");
    }
    Ok(())
}

/// containerd's unit fails with the new configuration, as it does when a plugin of the node refuses it.
fn rolled_back_when_the_unit_does_not_start() -> Result<()> {
    needs_this_machine!();
    let unit = Unit::start("! grep -rq skiff /etc/containerd")?;
    let (files, process) = (unit.files()?, unit.process()?);
    let ran = unit.skiff_node(&["install", PATIENCE])?;
    ran.fails_with(&["put back"])?;
    ensure!(unit.files()? == files, "{:?}", unit.files()?.keys());
    ensure!(
        unit.is_active()? && unit.process()? != process,
        "containerd does not run: {}",
        unit.process()?
    );
    let status = unit.skiff_node(&["status"])?.ok()?;
    ensure!(status.contains("not installed"), "{status}");
    Ok(())
}
