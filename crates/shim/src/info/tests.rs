//! What is announced: with every kind of runc, and with none.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use serde_json::json;

use super::*;

fn with_runc(directory: &Path, script: &str) -> Vec<u8> {
    let path = directory.join("runc");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut options = RuncOptions::new();
    options.binary_name = path.display().to_string();
    let any = Any {
        type_url: "containerd.runc.v1.Options".to_owned(),
        value: options.write_to_bytes().unwrap(),
        ..Any::default()
    };
    any.write_to_bytes().unwrap()
}

fn announced(input: &[u8]) -> (RuntimeInfo, Option<Value>) {
    let info = RuntimeInfo::parse_from_bytes(&info("wasmtime", input).unwrap()).unwrap();
    let features = info.features.as_ref().map(|any| {
        assert_eq!(any.type_url, FEATURES);
        serde_json::from_slice(&any.value).unwrap()
    });
    (info, features)
}

#[test]
fn says_who_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let (info, _) = announced(&with_runc(directory.path(), "echo {}"));
    assert_eq!(info.name, "io.containerd.wasmtime.v1");
    assert_eq!(info.version.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(info.annotations["skiff.engine"], "wasmtime");
}

#[test]
fn only_what_runc_can_do_too() {
    let directory = tempfile::tempdir().unwrap();
    let script = r#"cat <<'END'
{ "ociVersionMin": "1.0.0", "ociVersionMax": "1.0.2-dev", "hooks": ["prestart"],
  "mountOptions": ["ro", "rro", "remount", "tmpcopyup"],
  "linux": { "namespaces": ["mount", "user", "pid"], "selinux": { "enabled": true },
             "cgroup": { "v1": true, "rdma": true }, "intelRdt": { "enabled": true } },
  "annotations": { "org.opencontainers.runc.version": "1.1.5" } }
END"#;
    let (_, features) = announced(&with_runc(directory.path(), script));
    let expected = json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.0.2-dev",
        "hooks": [],
        "mountOptions": ["ro", "rro"],
        "linux": {
            "namespaces": ["mount", "pid", "user"],
            "selinux": { "enabled": false },
            "cgroup": { "v1": true, "rdma": false },
            // No mountExtensions: this runc knows nothing of id-mapped mounts, so no pod may have a user namespace.
            "intelRdt": { "enabled": false },
        },
    });
    assert_eq!(features, Some(expected));
}

#[test]
fn what_is_ours_where_there_is_no_runc() {
    let mut options = RuncOptions::new();
    options.binary_name = "/no/such/runc".to_owned();
    let any = |type_url: &str, value| Any {
        type_url: type_url.to_owned(),
        value,
        ..Any::default()
    };
    let no_runc = any(
        "containerd.runc.v1.Options",
        options.write_to_bytes().unwrap(),
    );
    // Or where it is not to be used.
    let body = b"LinuxPrograms = false";
    let field = [0x1a, u8::try_from(body.len()).unwrap()];
    let forbidden = any("runtimeoptions.v1.Options", [&field[..], body].concat());
    for input in [no_runc, forbidden] {
        let (info, features) = announced(&input.write_to_bytes().unwrap());
        let features = features.unwrap();
        assert_eq!(features, skiff_sandbox::spec::features());
        assert_eq!(info.annotations["skiff.linux-programs"], "none");
    }
}

#[test]
fn nothing_where_runc_does_not_tell() {
    let directory = tempfile::tempdir().unwrap();
    for (script, words) in [
        ("exit 3", "it ended with exit status: 3"),
        ("echo nonsense", "did not print a features document"),
    ] {
        let (info, features) = announced(&with_runc(directory.path(), script));
        assert_eq!(features, None);
        let why = &info.annotations["skiff.linux-programs"];
        assert!(why.contains(words), "{why}");
    }
}

#[test]
fn a_runc_that_hangs_is_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let start = std::time::Instant::now();
    let (info, features) = announced(&with_runc(directory.path(), "exec sleep 60"));
    assert_eq!(features, None);
    assert!(start.elapsed() < std::time::Duration::from_secs(30));
    let why = &info.annotations["skiff.linux-programs"];
    assert!(why.contains("did not answer within 5 seconds"), "{why}");
}

#[test]
fn versions_are_compared_by_number() {
    let newer = |one, other| version_order(one) > version_order(other);
    assert!(newer("1.10.0", "1.9.0"));
    assert!(newer("1.0.2", "1.0.2-dev"));
    assert!(newer("1.0.2-dev", "1.0.1"));
}
