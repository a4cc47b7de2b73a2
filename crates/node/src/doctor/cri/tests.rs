use super::super::Status;
use super::*;

const VERSION_3: &str = r#"
version = 3
disabled_plugins = []
[plugins.'io.containerd.cri.v1.images']
  use_local_image_pull = true
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.containerd]
    default_runtime_name = 'runc'
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
      runtime_type = 'io.containerd.runc.v2'
      pod_annotations = []
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.wasmtime]
      runtime_type = 'io.containerd.wasmtime.v1'
      runtime_path = ''
      pod_annotations = ['module.wasm.image/*', 'run.oci.handler']
      [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.wasmtime.options]
        SystemdCgroup = true
"#;

const VERSION_2: &str = r#"
version = 2
disabled_plugins = []
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = false
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.wasm]
    runtime_type = "io.containerd.wasmtime.v1"
    runtime_engine = ""
"#;

fn facts(config: &str, kubelet: bool) -> Facts {
    Facts {
        config: CriConfig::parse(config).map_err(|error| error.to_string()),
        kubelet,
    }
}

#[test]
fn version_3_is_read() {
    let config = CriConfig::parse(VERSION_3).unwrap();
    assert!(config.enabled && config.restrict_oom_score_adj);
    assert_eq!(config.local_pull, Some(true));
    let handlers: Vec<&Handler> = config.skiff_handlers().collect();
    assert_eq!(handlers.len(), 1);
    assert_eq!(
        (handlers[0].name.as_str(), handlers[0].systemd_cgroup),
        ("wasmtime", true)
    );
    assert_eq!(
        handlers[0].binary().as_deref(),
        Some("containerd-shim-wasmtime-v1")
    );
}

#[test]
fn version_2_is_read() {
    let config = CriConfig::parse(VERSION_2).unwrap();
    assert!(config.enabled && !config.restrict_oom_score_adj);
    assert_eq!(config.local_pull, None);
    assert_eq!(
        config
            .skiff_handlers()
            .map(|handler| handler.name.as_str())
            .collect::<Vec<_>>(),
        ["wasm"]
    );
}

#[test]
fn judgements() {
    use Status::{Fail, Ok, Warn};
    let without_handler = "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\n";
    let disabled_v2 = VERSION_2.replace(
        "disabled_plugins = []",
        "disabled_plugins = [\"io.containerd.grpc.v1.cri\"]",
    );
    let disabled_v3 = VERSION_3.replace(
        "disabled_plugins = []",
        "disabled_plugins = ['io.containerd.cri.v1.runtime']",
    );
    type Row<'a> = (&'a str, bool, &'a [(&'a str, Status)]);
    let odd_option = VERSION_3.replace(
        "SystemdCgroup = true",
        "SystemdCgroup = true\nNoSuchOption = 'x'",
    );
    let table: [Row<'_>; 8] = [
        (
            &odd_option,
            true,
            &[("cri.handler", Ok), ("cri.options", Fail)],
        ),
        (VERSION_3, true, &[("cri.handler", Ok)]),
        (
            VERSION_2,
            true,
            &[("cri.handler", Ok), ("cri.annotations", Warn)],
        ),
        (without_handler, true, &[("cri.handler", Fail)]),
        (without_handler, false, &[("cri.handler", Warn)]),
        (&disabled_v2, true, &[("cri.enabled", Warn)]),
        (&disabled_v3, false, &[("cri.enabled", Warn)]),
        ("version = = 3", true, &[("cri.config", Warn)]),
    ];
    for (config, kubelet, expected) in table {
        let findings = judge(&facts(config, kubelet), None);
        let found: Vec<(&str, Status)> = findings
            .iter()
            .map(|finding| (finding.id.as_str(), finding.status))
            .collect();
        assert_eq!(found, expected, "{config}");
    }
}

#[test]
fn the_snippet_fits_the_version() {
    let next = |version: &str| {
        let findings = judge(
            &facts("version = 2\n[plugins.'io.containerd.grpc.v1.cri']\n", true),
            Version::of(version),
        );
        findings[0].next_step.clone().unwrap()
    };
    assert!(next("containerd x v1.7.35").contains("containerd-v2.toml"));
    assert!(next("containerd x v2.4.2").contains("containerd-v3.toml"));
}

#[test]
fn patterns_match_as_containerd_does() {
    assert!(matches("module.wasm.image/*", "module.wasm.image/variant"));
    assert!(matches("run.oci.handler", "run.oci.handler"));
    assert!(!matches("module.wasm.image/*", "module.wasm.image/a/b"));
    assert!(!matches("*", "module.wasm.image/variant"));
    assert!(!matches("run.oci", "run.oci.handler"));
}

/// The snippets that users append, as they are shipped.
#[test]
fn the_shipped_snippets_make_a_handler_that_nothing_is_wrong_with() {
    let snippets = [
        include_str!("../../../../../runtimeclass/containerd-v2.toml"),
        include_str!("../../../../../runtimeclass/containerd-v3.toml"),
    ];
    for snippet in snippets {
        let findings = judge(&facts(snippet, true), None);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].status, Status::Ok, "{findings:?}");
        assert!(
            findings[0]
                .finding
                .contains("wasmtime (io.containerd.wasmtime.v1)"),
            "{findings:?}"
        );
    }
}
