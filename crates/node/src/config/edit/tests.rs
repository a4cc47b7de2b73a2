use super::super::handler::Engine;
use super::*;

const PREFIX: &str = "/opt/skiff";

fn handler(name: &str, systemd_cgroup: bool) -> Handler {
    Handler {
        name: name.into(),
        engine: Engine::Wasmtime,
        folder: "/opt/skiff/current".into(),
        systemd_cgroup,
    }
}

fn wanted(handlers: &[Handler], schema: Schema) -> Wanted<'_> {
    Wanted {
        handlers,
        schema,
        prefix: Path::new(PREFIX),
        take_over: false,
        local_pull: false,
        defaults: &[],
    }
}

const NODE: &str = "version = 2\n\n# ours\n[plugins]\n  [plugins.\"io.containerd.grpc.v1.cri\"]\n    sandbox_image = \"a:1\" # pause\n    [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\n      runtime_type = \"io.containerd.runc.v2\"\n";

#[test]
fn handlers_go_in_and_out_to_the_byte() {
    let handlers = [handler("wasmtime", true), handler("skiff", false)];
    for text in [
        NODE.to_owned(),
        NODE.replace('\n', "\r\n"),
        NODE.trim_end().to_owned(),
        String::new(),
        "# nothing\n".into(),
    ] {
        let edited = add(&text, wanted(&handlers, Schema::Cri)).unwrap();
        assert!(edited.starts_with(&text));
        assert_eq!(edited.contains("\r\n"), text.contains("\r\n"));
        assert_eq!(
            add(&edited, wanted(&handlers, Schema::Cri)).unwrap(),
            edited
        );
        assert_eq!(remove(&edited, Path::new(PREFIX)).unwrap(), text);
        assert_eq!(remove(&text, Path::new(PREFIX)).unwrap(), text);
    }
}

#[test]
fn an_update_touches_our_lines_alone() {
    let (before, after) = ([handler("wasmtime", false)], [handler("wasmtime", true)]);
    let edited = add(NODE, wanted(&before, Schema::Cri)).unwrap() + "\n[plugins.other]\nx = 1\n";
    let again = add(&edited, wanted(&after, Schema::Cri)).unwrap();
    assert!(
        again.ends_with("end\n\n[plugins.other]\nx = 1\n"),
        "{again}"
    );
    assert!(again.contains("SystemdCgroup"));
    let removed = remove(&again, Path::new(PREFIX)).unwrap();
    assert_eq!(removed, format!("{NODE}\n[plugins.other]\nx = 1\n"));
}

#[test]
fn tables_without_our_marks_are_still_ours() {
    let handlers = [handler("wasmtime", true)];
    let edited = add(NODE, wanted(&handlers, Schema::Cri)).unwrap();
    let bare: String = edited
        .lines()
        .filter(|line| !line.contains("skiff-node"))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(
        remove(&bare, Path::new(PREFIX)).unwrap().trim_end(),
        NODE.trim_end()
    );
    let again = add(&bare, wanted(&handlers, Schema::Cri)).unwrap();
    assert_eq!(again.matches("runtime_path").count(), 1, "{again}");
}

#[test]
fn what_somebody_put_into_our_block_stays() {
    let handlers = [handler("wasmtime", true)];
    let edited = add(NODE, wanted(&handlers, Schema::Cri)).unwrap();
    let meddled = edited.replace(
        "# skiff-node: end",
        "[plugins.other]\nx = 1\n# skiff-node: end",
    );
    let removed = remove(&meddled, Path::new(PREFIX)).unwrap();
    assert!(removed.contains("[plugins.other]\nx = 1"), "{removed}");
    assert!(!removed.contains("skiff"), "{removed}");
}

const TAKEN: &str = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.wasmtime]\n  runtime_type = \"io.containerd.wasmtime.v1\" # runwasi\n  [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.wasmtime.options]\n    SystemdCgroup = true\n\n[debug]\n  level = \"info\"\n";

#[test]
fn handlers_of_others_are_taken_over_only_when_asked() {
    let handlers = [handler("wasmtime", true)];
    let error = add(TAKEN, wanted(&handlers, Schema::Cri)).unwrap_err();
    assert!(
        matches!(&error, EditError::Taken { line: 2, .. }),
        "{error}"
    );
    let take = Wanted {
        take_over: true,
        ..wanted(&handlers, Schema::Cri)
    };
    let edited = add(TAKEN, take).unwrap();
    assert_eq!(taken_over(&edited).unwrap().lines().count(), 4, "{edited}");
    assert_eq!(
        add(&edited, wanted(&handlers, Schema::Cri)).unwrap(),
        edited
    );
    assert_eq!(remove(&edited, Path::new(PREFIX)).unwrap(), TAKEN);
}

#[test]
fn handlers_that_run_something_else_are_never_taken_over() {
    let text = TAKEN.replace("io.containerd.wasmtime.v1", "io.containerd.runc.v2");
    let handlers = [handler("wasmtime", true)];
    let take = Wanted {
        take_over: true,
        ..wanted(&handlers, Schema::Cri)
    };
    assert!(matches!(
        add(&text, take),
        Err(EditError::Foreign { line: 2, .. })
    ));
}

#[test]
fn inline_tables_are_refused_with_their_line() {
    let text = "version = 2\n\n[plugins]\n\"io.containerd.grpc.v1.cri\" = { containerd = { runtimes = {} } }\n";
    let handlers = [handler("wasmtime", true)];
    let error = add(text, wanted(&handlers, Schema::Cri)).unwrap_err();
    assert!(
        matches!(error, EditError::Closed { line: 4, .. }),
        "{error}"
    );
}

#[test]
fn local_pull_is_one_more_line() {
    let handlers = [handler("wasmtime", false)];
    let pull = Wanted {
        local_pull: true,
        ..wanted(&handlers, Schema::Split)
    };
    for text in [
        "version = 3\n",
        "version = 3",
        "version = 3\n[plugins.'io.containerd.cri.v1.images'] # i\n  snapshotter = 'x'\n",
        "[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = ''\n",
    ] {
        let edited = add(text, pull).unwrap();
        let value: toml::Table = toml::from_str(&edited).unwrap();
        assert_eq!(
            value["plugins"]["io.containerd.cri.v1.images"]["use_local_image_pull"].as_bool(),
            Some(true),
            "{edited}"
        );
        assert_eq!(add(&edited, pull).unwrap(), edited);
        assert_eq!(
            remove(&edited, Path::new(PREFIX)).unwrap().trim_end(),
            text.trim_end(),
            "{edited}"
        );
    }
    let off = "[plugins.'io.containerd.cri.v1.images']\nuse_local_image_pull = false\n";
    assert!(matches!(
        add(off, pull),
        Err(EditError::LocalPullOff { line: 2 })
    ));
}

#[test]
fn wasm_shims_are_known_by_their_type() {
    for kind in [
        "io.containerd.wasmtime.v1",
        "io.containerd.spin.v2",
        "io.containerd.wasmedge.v1",
    ] {
        assert!(is_wasm(kind), "{kind}");
    }
    for kind in [
        "io.containerd.runc.v2",
        "io.containerd.kata.v2",
        "",
        "wasmtime",
        "io.containerd.runsc.v1",
    ] {
        assert!(!is_wasm(kind), "{kind}");
    }
}
