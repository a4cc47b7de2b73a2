//! Plans for nodes of each kind, as data.

use super::*;
use crate::config::Engine;

const OLD: &str = "version = 2\n[plugins.'io.containerd.grpc.v1.cri']\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\n";
const NEW: &str = "version = 3\n[plugins.'io.containerd.cri.v1.runtime']\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\n";

fn request() -> Request {
    Request {
        handlers: vec![Handler {
            name: "wasmtime".into(),
            engine: Engine::Wasmtime,
            folder: "/opt/skiff/current".into(),
            systemd_cgroup: false,
        }],
        prefix: "/opt/skiff".into(),
        take_over: false,
        local_pull: false,
    }
}

/// A node with this root file, whose dump says what the file says.
fn node(config: &str, text: &str, layout: Layout) -> Snapshot {
    Snapshot {
        layout,
        containerd_major: if text.contains("version = 2") { 1 } else { 2 },
        config: config.into(),
        texts: BTreeMap::from([(config.into(), text.to_owned())]),
        imported: Vec::new(),
        dump: Dump::parse(text).unwrap(),
    }
}

const CONFIG: &str = "/etc/containerd/config.toml";

fn first(node: &Snapshot) -> Attempt {
    install(node, &request()).unwrap().remove(0)
}

#[test]
fn a_folder_that_is_imported_takes_a_file_under_containerd_2_alone() {
    let imports = |text: &str| format!("imports = ['conf.d/*.toml']\n{text}");
    let newer = first(&node(CONFIG, &imports(NEW), Layout::Plain));
    assert_eq!(
        newer.change.path,
        Path::new("/etc/containerd/conf.d/skiff.toml")
    );
    assert_eq!(newer.change.form, Form::DropIn);
    assert!(newer.change.after.unwrap().contains("\nversion = 3\n"));
    // The candidate lies elsewhere: what it imports must not.
    let root = newer.candidate.root;
    assert!(
        root.contains(r#"["/etc/containerd/conf.d/*.toml", "/run/skiff-node/import.toml"]"#),
        "{root}"
    );

    let older = first(&node(CONFIG, &imports(OLD), Layout::Plain));
    assert_eq!(older.change.path, Path::new(CONFIG));
    assert_eq!(older.change.form, Form::Lines);
}

#[test]
fn what_is_installed_stays_where_it_is() {
    let plain = node(CONFIG, NEW, Layout::Plain);
    let installed = first(&plain).change.after.unwrap();
    let later = node(
        CONFIG,
        &format!("imports = ['/etc/containerd/conf.d/*.toml']\n{installed}"),
        Layout::Plain,
    );
    let again = first(&later);
    assert_eq!(again.change.path, Path::new(CONFIG));
    assert!(again.change.is_idle());
}

#[test]
fn a_distribution_is_told_by_the_file_that_lasts() {
    let k3s = "/var/lib/rancher/k3s/agent/etc/containerd/config.toml";
    let path =
        |text: &str, layout: Layout, config: &str| first(&node(config, text, layout)).change.path;
    assert_eq!(
        path(OLD, Layout::Rancher, k3s),
        Path::new(k3s).with_file_name("config.toml.tmpl")
    );
    assert_eq!(
        path(NEW, Layout::Rancher, k3s),
        Path::new(k3s).with_file_name("config-v3.toml.tmpl")
    );
    let later = format!(
        "imports = ['/var/lib/rancher/k3s/agent/etc/containerd/config-v3.toml.d/*.toml']\n{NEW}"
    );
    assert_eq!(
        path(&later, Layout::Rancher, k3s),
        Path::new(k3s)
            .with_file_name("config-v3.toml.d")
            .join(DROP_IN)
    );
    assert_eq!(
        path(OLD, Layout::K0s, "/etc/k0s/containerd.toml"),
        Path::new(K0S_DROP_INS).join(DROP_IN)
    );
}

#[test]
fn a_handler_that_the_distribution_added_is_told() {
    let text = format!(
        "{OLD}[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.wasmtime]\nruntime_type = 'io.containerd.wasmtime.v1'\n"
    );
    let k3s = node(
        "/var/lib/rancher/k3s/agent/etc/containerd/config.toml",
        &text,
        Layout::Rancher,
    );
    assert!(matches!(
        install(&k3s, &request()),
        Err(PlanError::Detected { .. })
    ));
    let plain = node(CONFIG, &text, Layout::Plain);
    let error = install(&plain, &request()).unwrap_err();
    assert!(error.to_string().contains("line 5"), "{error}");
}

#[test]
fn containerd_1_keeps_the_handler_that_it_has_by_itself() {
    let mut bare = node(CONFIG, OLD, Layout::Plain);
    bare.texts.insert(CONFIG.into(), "version = 2\n".into());
    let text = first(&bare).change.after.unwrap();
    assert!(text.contains("runtimes.\"runc\"]"), "{text}");
    let left = uninstall(
        &BTreeMap::from([(CONFIG.into(), text)]),
        &BTreeMap::new(),
        Path::new("/opt/skiff"),
    )
    .unwrap();
    assert_eq!(left[0].after.as_deref(), Some("version = 2\n"));
}

#[test]
fn files_of_ours_are_found_without_a_record() {
    let drop_in = first(&node(
        CONFIG,
        &format!("imports = ['/etc/containerd/conf.d/*.toml']\n{NEW}"),
        Layout::Plain,
    ))
    .change;
    let texts = BTreeMap::from([
        (drop_in.path, drop_in.after.unwrap()),
        (CONFIG.into(), NEW.into()),
    ]);
    let changes = uninstall(&texts, &BTreeMap::new(), Path::new("/opt/skiff")).unwrap();
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].after, None);
}
