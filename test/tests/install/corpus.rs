//! Configurations as they are met on nodes: installed, only our handlers differ; installed again, nothing does;
//! uninstalled, every byte is what it was. What cannot be edited is refused, and not touched.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use toml::{Table, Value};

use crate::tree::{Entry, Fixture, Tree, remove_shared};

skiff_test::cases!(
    every_node_is_installed_on_and_left_as_it_was,
    what_cannot_be_edited_is_refused,
    a_file_that_was_edited_since_keeps_the_edit,
    a_dry_run_changes_nothing,
);

/// Distributions are to be among the fixtures, and enough of them.
fn every_node_is_installed_on_and_left_as_it_was() -> Result<()> {
    let all = Fixture::all()?;
    ensure!(all.len() >= 40, "there are only {} fixtures", all.len());
    for distribution in [
        "kubeadm", "k3s", "rke2", "k0s", "microk8s", "kind", "aks", "eks", "gke",
    ] {
        ensure!(
            all.iter()
                .any(|fixture| fixture.name.starts_with(distribution)),
            "no fixture of {distribution}"
        );
    }
    let mut wrong = Vec::new();
    for fixture in all
        .iter()
        .filter(|fixture| fixture.get("refused").is_none())
    {
        if let Err(error) = round(fixture) {
            wrong.push(format!("{}: {error:#}", fixture.name));
        }
    }
    remove_shared();
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn round(fixture: &Fixture) -> Result<()> {
    let tree = Tree::new(fixture)?;
    let config = config_of(&tree);
    let (files, dump) = (tree.files()?, tree.dump(&config)?);
    tree.run(&["install"])?.ok()?;
    let installed = tree.files()?;
    let changed = changed(&files, &installed);
    ensure!(changed.len() == 1, "changed {changed:?}");
    if let Some(expected) = fixture.get("changes").filter(|expected| *expected != "*") {
        ensure!(
            changed[0] == Path::new(expected),
            "changed {changed:?} and not {expected}"
        );
    }
    check_dump(&tree, &config, &dump, &changed[0])?;

    let again = tree.run(&["install", "--json"])?.ok()?;
    ensure!(
        tree.files()? == installed,
        "the second install changed {:?}",
        self::changed(&installed, &tree.files()?)
    );
    ensure!(
        again.contains("\"changed\":false"),
        "the second install says {again}"
    );

    tree.run(&["uninstall"])?.ok()?;
    let left = tree.files()?;
    ensure!(
        left == files,
        "after uninstall differ {:?}",
        self::changed(&files, &left)
    );
    for ours in ["/opt/skiff", "/var/lib/skiff", "/run/skiff-node"] {
        ensure!(!tree.exists(ours), "{ours} is still there");
    }
    tree.run(&["uninstall"])?.ok()?;
    ensure!(
        tree.files()? == files,
        "the second uninstall changed something"
    );
    Ok(())
}

/// The file that this node's containerd is started with.
fn config_of(tree: &Tree) -> String {
    let known = [
        "/var/lib/rancher/k3s/agent/etc/containerd/config.toml",
        "/var/lib/rancher/rke2/agent/etc/containerd/config.toml",
        "/etc/k0s/containerd.toml",
        "/var/snap/microk8s/current/args/containerd.toml",
    ];
    let found = known.iter().find(|path| tree.exists(path));
    (*found.unwrap_or(&"/etc/containerd/config.toml")).to_owned()
}

/// Does what the distribution does at its next start, and compares what containerd makes of it.
fn check_dump(tree: &Tree, config: &str, before: &Table, changed: &Path) -> Result<()> {
    if tree.fixture.get("render") == Some("no") {
        return Ok(());
    }
    let name = changed.to_string_lossy();
    let written = tree.text(&name).context("the changed file is gone")?;
    let mut put_back = Vec::new();
    let mut put = |path: &str, text: &str| -> Result<()> {
        put_back.push((path.to_owned(), tree.text(path)));
        tree.write(path, text)
    };
    if name.ends_with(".tmpl") {
        let base = tree.text(config).context("no configuration")?;
        // What the operator's template adds is in the rendered file of the fixture already.
        let ours = written
            .find("\n# skiff-node: begin")
            .context("no block in the template")?;
        put(config, &format!("{base}{}", &written[ours..]))?;
    } else if name.ends_with("-template.toml") {
        let rendered = [
            ("SNAPSHOTTER", "overlayfs"),
            ("RUNTIME", "runc"),
            ("SNAP_DATA", "/var/snap/microk8s/current"),
        ]
        .iter()
        .fold(written, |text, (name, value)| {
            text.replace(&format!("${{{name}}}"), value)
        });
        put(config, &rendered)?;
    } else if name.starts_with("/etc/k0s/containerd.d/") {
        let merged = "/run/k0s/containerd-cri.toml";
        let base = tree.text(merged).context("no merged file")?;
        let ours: String = written
            .lines()
            .filter(|line| !line.starts_with("version"))
            .map(|line| format!("{line}\n"))
            .collect();
        put(merged, &format!("{base}\n{ours}"))?;
    }
    let after = tree.dump(config)?;
    for (path, text) in put_back {
        tree.write(&path, &text.unwrap_or_default())?;
    }
    let (before, after) = (settings(before), settings(&after));
    for (path, value) in &after {
        if before.get(path) != Some(value) {
            let ours = [".runtimes.wasmtime.", ".runtimes.skiff."]
                .iter()
                .any(|ours| path.contains(ours));
            ensure!(
                ours,
                "containerd reads {path} as {value}, and not as {:?}",
                before.get(path)
            );
        }
    }
    for path in before
        .keys()
        .filter(|path| !path.contains(".runtimes.wasmtime."))
    {
        ensure!(
            after.contains_key(path),
            "containerd does not read {path} any more"
        );
    }
    for handler in ["wasmtime", "skiff"] {
        let end = format!(".containerd.runtimes.{handler}.runtime_path");
        let path = after.iter().find(|(path, _)| path.ends_with(&end));
        let (_, value) = path.with_context(|| format!("containerd has no handler {handler}"))?;
        ensure!(
            value.contains(&format!("/opt/skiff/current/containerd-shim-{handler}-v1")),
            "{value}"
        );
    }
    let systemd = |handler: &str| {
        let end = format!(".containerd.runtimes.{handler}.options.systemdcgroup");
        after
            .iter()
            .any(|(path, value)| path.to_lowercase().ends_with(&end) && value == "Boolean(true)")
    };
    let node = ["runc", "nvidia-container-runtime"]
        .into_iter()
        .any(systemd);
    ensure!(
        systemd("wasmtime") == node,
        "the cgroup driver of wasmtime is not that of the node"
    );
    Ok(())
}

/// Every value with its path. The list of imports is left out: an older containerd lists the file itself there.
fn settings(table: &Table) -> BTreeMap<String, String> {
    fn add(path: &str, value: &Value, all: &mut BTreeMap<String, String>) {
        match value {
            Value::Table(table) if !table.is_empty() => {
                for (key, value) in table {
                    add(&format!("{path}.{key}"), value, all);
                }
            }
            other => {
                all.insert(path.to_owned(), format!("{other:?}"));
            }
        }
    }
    let mut all = BTreeMap::new();
    add("", &Value::Table(table.clone()), &mut all);
    all.remove(".imports");
    all
}

/// Files that are in one and not in the other, or not the same.
fn changed(before: &BTreeMap<PathBuf, Entry>, after: &BTreeMap<PathBuf, Entry>) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = before.keys().chain(after.keys()).cloned().collect();
    paths.sort();
    paths.dedup();
    paths.retain(|path| before.get(path) != after.get(path));
    paths
}

fn what_cannot_be_edited_is_refused() -> Result<()> {
    let mut wrong = Vec::new();
    for fixture in Fixture::all()? {
        let Some(words) = fixture.get("refused").map(str::to_owned) else {
            continue;
        };
        let tree = Tree::new(&fixture)?;
        let files = tree.files()?;
        let ran = tree.run(&["install"])?;
        if ran.code != 3 || !ran.stderr.contains(&words) {
            wrong.push(format!(
                "{}: ended with {}, and says {}",
                fixture.name, ran.code, ran.stderr
            ));
        }
        if tree.files()? != files || tree.exists("/opt/skiff") {
            wrong.push(format!("{}: was touched", fixture.name));
        }
    }
    remove_shared();
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn a_file_that_was_edited_since_keeps_the_edit() -> Result<()> {
    let config = "/etc/containerd/config.toml";
    for name in ["kubeadm-minimal-1.7", "version-3-2.4", "crlf-1.7"] {
        let all = Fixture::all()?;
        let fixture = all
            .iter()
            .find(|fixture| fixture.name == name)
            .context("no such fixture")?;
        let tree = Tree::new(fixture)?;
        let before = tree.text(config).context("no configuration")?;
        tree.run(&["install"])?.ok()?;
        let edit = "\n[metrics]\n  address = \"127.0.0.1:1338\" # mine\n";
        let edited = tree.text(config).context("no configuration")?.replacen(
            "version = ",
            "# first\nversion = ",
            1,
        ) + edit;
        tree.write(config, &edited)?;
        let again = tree.run(&["install", "--json"])?.ok()?;
        ensure!(again.contains("\"changed\":false"), "{name}: {again}");
        let ran = tree.run(&["uninstall"])?;
        if fixture.get("containerd") == Some("1.7") {
            ensure!(
                ran.stderr.contains("was changed since"),
                "{name}: {}",
                ran.stderr
            );
        }
        ran.ok()?;
        let left = tree.text(config).context("no configuration")?;
        ensure!(
            left == before.replacen("version = ", "# first\nversion = ", 1) + edit,
            "{name}: {left}"
        );
    }
    remove_shared();
    Ok(())
}

fn a_dry_run_changes_nothing() -> Result<()> {
    for fixture in Fixture::all()?
        .iter()
        .filter(|fixture| fixture.get("refused").is_none())
        .step_by(7)
    {
        let tree = Tree::new(fixture)?;
        let files = tree.files()?;
        let diff = tree.run(&["install", "--dry-run"])?.ok()?;
        ensure!(
            diff.contains("\n+++ b/") && diff.contains("runtime_path"),
            "{}: {diff}",
            fixture.name
        );
        ensure!(
            tree.files()? == files && !tree.exists("/opt/skiff") && !tree.exists("/var/lib/skiff"),
            "{}: was touched",
            fixture.name
        );
    }
    remove_shared();
    Ok(())
}
