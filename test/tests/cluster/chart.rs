//! The chart on a clean node, by Helm: refused, rolled back, installed, upgraded under pods, put back, taken off. One node is
//! enough for all of them, so each scenario begins where the one before has ended; the node is compared at the end.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use skiff_test::cluster::{NODE, Space};
use skiff_test::command::{Ran, run, run_within, wait_for};
use skiff_test::image::Parts;
use skiff_test::tools;

use crate::node::{containers, rolled_out, sleepers};
use crate::{cluster, holds, pod};

skiff_test::cases!(
    a_broken_configuration_is_left_alone,
    a_containerd_that_does_not_come_back,
    from_install_to_the_first_pod,
    its_own_tests_pass,
    an_upgrade_with_twenty_pods,
    a_rollback,
    it_waits_for_pods_and_goes,
);

/// How long Helm may take on a machine that is busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);
const RELEASE: &str = "skiff";
pub(crate) const SPACE: &str = "skiff-system";
pub(crate) const UNINSTALL: [&str; 4] = ["uninstall", RELEASE, "--wait", "--timeout=200s"];

/// `helm …` in the release's namespace.
pub(crate) fn helm(words: &[&str]) -> Result<Ran> {
    run_within(&mut helm_command(words)?, PATIENCE)
}

/// `helm …` in the release's namespace, to be run.
fn helm_command(words: &[&str]) -> Result<Command> {
    let cluster = cluster()?;
    let mut command = Command::new(tools::component("helm")?.join("helm"));
    command
        .env_clear()
        .env("HOME", cluster.directory())
        .env("KUBECONFIG", cluster.directory().join("admin.conf"))
        .args(words)
        .args(["--namespace", SPACE]);
    Ok(command)
}

/// `helm install` or `helm upgrade`, of one of the images, with more words.
pub(crate) fn chart(verb: &str, image: &str, restart: &Path, words: &[&str]) -> Result<Ran> {
    let chart = tools::checkout().join("charts/skiff").display().to_string();
    let (repository, tag) = image.rsplit_once(':').context("no tag")?;
    let values = [
        format!("image.repository={repository}"),
        format!("image.tag={tag}"),
        format!("install.restartCommand={}", restart.display()),
    ];
    let mut all = vec![verb, RELEASE, &chart, "--set", "agent.interval=2"];
    if verb == "install" {
        all.push("--create-namespace");
    }
    for value in &values {
        all.extend(["--set-string", value]);
    }
    all.extend(words);
    helm(&all)
}

/// The chart's image of the binaries under test, pushed under this name. What has another `build` differs in a file.
pub(crate) fn image(build: &str) -> Result<String> {
    image_with(build, |_| Ok(()))
}

/// The same, with something changed in the folder of its binaries.
pub(crate) fn image_with(build: &str, change: impl Fn(&Path) -> Result<()>) -> Result<String> {
    let cluster = cluster()?;
    let builder = std::env::var_os("SKIFF_IMAGE_BUILDER").context(
        "SKIFF_IMAGE_BUILDER does not name the image's builder; test/cluster/run.sh does",
    )?;
    let folder = cluster.directory().join(format!("files/image-{build}"));
    fs::create_dir_all(&folder)?;
    for entry in fs::read_dir(tools::skiff_dir())? {
        let entry = entry?;
        // Links and engines with libraries of their own are not needed here.
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), folder.join(entry.file_name()))?;
        }
    }
    let marked = folder.join("skiff");
    let mut program = fs::read(&marked)?;
    program.extend(build.as_bytes());
    fs::write(&marked, program)?;
    change(&folder)?;
    let archive = cluster.directory().join(format!("files/image-{build}.tar"));
    let mut script = Command::new(tools::checkout().join("test/image.sh"));
    script
        .arg(&folder)
        .arg(&builder)
        .arg(format!("localhost/skiff:{build}"))
        .arg(&archive);
    run_within(&mut script, PATIENCE)?.ok()?;
    let parts = Parts::read(&archive)?;
    fs::remove_file(archive)?;
    fs::remove_dir_all(folder)?;
    cluster
        .images()
        .registry()
        .push_parts(&parts, &format!("skiff-{build}"))
}

/// What a node's object says of Skiff: the state, and the reason.
pub(crate) fn said(node: &str) -> Result<(String, String)> {
    let text = cluster()?
        .kubectl(&["get", "node", node, "--output", "json"])?
        .ok()?;
    let node: Value = serde_json::from_str(&text)?;
    let annotations = &node["metadata"]["annotations"];
    let of = |name: &str| annotations[name].as_str().unwrap_or_default().to_owned();
    Ok((of("node.skiff.dev/state"), of("node.skiff.dev/reason")))
}

/// Waits until the node is in that state, and answers the reason.
fn state(wanted: &str) -> Result<String> {
    state_of(NODE, wanted)
}

/// The same of a node of several.
pub(crate) fn state_of(node: &str, wanted: &str) -> Result<String> {
    let found = wait_for("the node does not say so", PATIENCE, || {
        let (state, reason) = said(node)?;
        Ok((state == wanted).then_some(reason))
    });
    found.with_context(|| {
        let logs = helm_story().unwrap_or_default();
        let said = said(node).unwrap_or_default();
        format!("{node} is not {wanted}, but {said:?}\n{logs}")
    })
}

/// The logs of the agent's pods.
fn helm_story() -> Result<String> {
    let words = [
        "logs",
        "--namespace",
        SPACE,
        "--selector=app.kubernetes.io/name=skiff",
        "--all-containers",
        "--tail=20",
    ];
    Ok(cluster()?.kubectl(&words)?.stdout)
}

fn uninstall() -> Result<()> {
    helm(&UNINSTALL)?
        .ok()
        .with_context(|| helm_story().unwrap_or_default())?;
    ensure!(
        cluster()?.is_clean()?,
        "containerd's configuration is not what it was"
    );
    ensure!(!Path::new("/opt/skiff").exists(), "/opt/skiff is there");
    Ok(())
}

/// Runs a Wasm pod to its end: the handler works.
fn runs(space: &Space<'_>, name: &str) -> Result<()> {
    space.apply(&pod(name, &["say", "it works"])?)?;
    space.phase(name, "Succeeded")?;
    holds(&space.logs(name)?, "it works")
}

/// Folders of builds on the node.
fn builds() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/opt/skiff")? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// A script on the node.
fn script(name: &str, text: &str) -> Result<PathBuf> {
    let path = cluster()?.directory().join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n"))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// Its user broke it while containerd runs on with what it has read before.
fn a_broken_configuration_is_left_alone() -> Result<()> {
    let cluster = cluster()?;
    let file = "/etc/containerd/config.toml";
    let before = fs::read_to_string(file)?;
    let broken = format!("{before}\n[plugins.\n");
    fs::write(file, &broken)?;
    let starts = cluster.containerd().starts();
    let tried = (|| {
        chart("install", &image("one")?, &cluster.restart_script()?, &[])?.ok()?;
        holds(&state("failed")?, file)?;
        ensure!(
            fs::read_to_string(file)? == broken && cluster.containerd().starts() == starts,
            "something was touched"
        );
        Ok(())
    })();
    // Mended, it is installed by the next try.
    fs::write(file, before)?;
    tried?;
    state("ready")?;
    uninstall()
}

/// The new configuration is fine and containerd answers no more with it.
fn a_containerd_that_does_not_come_back() -> Result<()> {
    let cluster = cluster()?;
    let process = cluster.directory().join("pids/containerd");
    let process = process.display();
    let restart = cluster.restart_script()?;
    let restart = restart.display();
    let stubborn = script(
        "stubborn",
        &format!(
            "if grep -rq containerd-shim-skiff /etc/containerd; then exec kill -STOP $(cat {process}); fi\nkill -CONT $(cat {process}); exec {restart}"
        ),
    )?;
    chart("install", &image("one")?, &stubborn, &[])?.ok()?;
    wait_for(
        "containerd is not given a new configuration",
        PATIENCE,
        || Ok((!cluster.is_clean()?).then_some(())),
    )?;
    let begin = Instant::now();
    wait_for("nothing is rolled back", PATIENCE, || {
        Ok(cluster.is_clean()?.then_some(()))
    })?;
    let files = begin.elapsed().as_secs_f64();
    cluster.wait_for_containerd()?;
    let whole = begin.elapsed().as_secs_f64();
    crate::say(&format!(
        "the files are put back {files:.1} s after the change, and containerd answers after {whole:.1} s"
    ));
    ensure!(whole < 30.0, "30 s are promised for it");
    holds(&state("failed")?, "containerd")?;
    cluster.wait_until_ready()?;
    // The next try would do it all again.
    uninstall()
}

fn from_install_to_the_first_pod() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("first")?;
    let image = image("one")?;
    // Of both images, the pod's and the chart's, the second is on the node since the scenarios before.
    let begin = Instant::now();
    chart("install", &image, &cluster.restart_script()?, &[])?.ok()?;
    let mut first = pod("first", &["say", "up", "sleep", "100000"])?;
    first["spec"]["restartPolicy"] = serde_json::json!("Always");
    // Until the RuntimeClass is known to the admission, which is a moment after its creation, a pod is refused.
    wait_for("the pod is refused", PATIENCE, || {
        Ok((space.try_apply(&first)?.code == 0).then_some(()))
    })?;
    space.ready("first")?;
    let whole = begin.elapsed().as_secs_f64();
    crate::say(&format!(
        "from `helm install` to the first Wasm pod Ready: {whole:.1} s"
    ));
    state("ready")?;
    space.delete("pod/first")
}

fn its_own_tests_pass() -> Result<()> {
    let ran = helm(&["test", RELEASE, "--timeout=100s"])?.ok()?;
    ensure!(ran.matches("Succeeded").count() >= 2, "{ran}");
    Ok(())
}

/// They run on from what they were started with, which goes with the last of them.
fn an_upgrade_with_twenty_pods() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("upgrade")?;
    space.apply(&sleepers(20)?)?;
    rolled_out(&space, "sleeper")?;
    let before = (containers(&space)?, builds()?);
    ensure!(before.1.len() == 1, "{:?}", before.1);
    let starts = cluster.containerd().starts();
    let second = image("two")?;
    chart("upgrade", &second, &cluster.restart_script()?, &["--wait"])?
        .ok()
        .with_context(|| helm_story().unwrap_or_default())?;
    state("ready")?;
    ensure!(
        cluster.containerd().starts() == starts,
        "containerd was restarted, though its configuration is the same"
    );
    ensure!(
        containers(&space)? == before.0,
        "{:?} became {:?}",
        before.0,
        containers(&space)?
    );
    ensure!(builds()?.len() == 2, "{:?}", builds()?);
    let one = before.0.keys().next().context("no pod")?;
    ensure!(space.exec(one, &["cat", "/greeting"])?.ok()? == "good morning\n");
    runs(&space, "after")?;
    space.delete("deployment/sleeper")?;
    let old = &before.1[0];
    wait_for("the binaries of the version before stay", PATIENCE, || {
        Ok((!old.exists()).then_some(()))
    })?;
    Ok(())
}

fn a_rollback() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("rollback")?;
    let second = fs::read_link("/opt/skiff/current")?;
    helm(&["rollback", RELEASE, "1", "--wait", "--timeout=200s"])?.ok()?;
    state("ready")?;
    let first = fs::read_link("/opt/skiff/current")?;
    ensure!(first != second, "the node still has {}", second.display());
    runs(&space, "after")
}

fn it_waits_for_pods_and_goes() -> Result<()> {
    let cluster = cluster()?;
    let space = cluster.space("going")?;
    space.apply(&sleepers(1)?)?;
    rolled_out(&space, "sleeper")?;
    let mut removal = helm_command(&UNINSTALL)?;
    let removal = std::thread::spawn(move || run_within(&mut removal, PATIENCE));
    let told = wait_for("nobody says which pods are waited for", PATIENCE, || {
        let (state, reason) = said(NODE)?;
        Ok((state == "removing" && reason.contains("sleeper")).then_some(()))
    });
    // Whatever came of it, Helm is not left waiting.
    space.delete("deployment/sleeper")?;
    let ran = removal.join().ok().context("Helm's thread died")??;
    told?;
    ran.ok()?;
    ensure!(
        cluster.is_clean()?,
        "containerd's configuration is not what it was"
    );
    let mut left = run(Command::new("sh").args([
        "-c",
        "ls -d /opt/skiff /var/lib/skiff /run/skiff 2>/dev/null; true",
    ]))?;
    ensure!(left.stdout.is_empty(), "left: {}", left.stdout);
    left = cluster.kubectl(&["get", "node", NODE, "--output", "json"])?;
    ensure!(!left.stdout.contains("skiff.dev/"), "{}", left.stdout);
    let kinds = "runtimeclasses,clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings";
    left = cluster.kubectl(&["get", kinds, "--output", "name"])?;
    ensure!(!left.stdout.contains("skiff"), "{}", left.stdout);
    Ok(())
}
