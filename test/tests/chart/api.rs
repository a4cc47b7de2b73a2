//! The chart's objects in a real API server: taken as they are, and what an agent's token may do by them.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use skiff_test::command::{self, Ran, wait_for};
use skiff_test::tools;

use super::template;

skiff_test::cases!(
    the_api_server_takes_all_objects,
    an_agents_token_reaches_its_own_node_only,
);

const SPACE: &str = "skiff-system";

/// etcd and an API server on loopback, without nodes.
struct Control {
    folder: PathBuf,
    port: u16,
    processes: Vec<Child>,
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Control {
    /// Starts one; `None` where the programs are not there.
    fn start() -> Result<Option<Self>> {
        let (Ok(etcd), Ok(kubernetes)) = (tools::component("etcd"), tools::component("kubernetes"))
        else {
            return Ok(None);
        };
        let folder = std::env::temp_dir().join(format!("skt{}-api", std::process::id()));
        fs::create_dir_all(&folder)?;
        let mut control = Self {
            folder,
            port: free_port()?,
            processes: Vec::new(),
        };
        let key = control.path("accounts.key");
        let openssl = ["genrsa", "-out", &key, "2048"];
        command::run(Command::new("openssl").args(openssl))?.ok()?;
        fs::write(control.path("tokens.csv"), "admin,admin,1,system:masters\n")?;
        let (client, peer) = (free_port()?, free_port()?);
        let [client, peer] = [client, peer].map(|port| format!("http://127.0.0.1:{port}"));
        control.spawn(
            &etcd.join("server"),
            &[
                &format!("--data-dir={}", control.path("etcd")),
                &format!("--listen-client-urls={client}"),
                &format!("--advertise-client-urls={client}"),
                &format!("--listen-peer-urls={peer}"),
                &format!("--initial-advertise-peer-urls={peer}"),
                &format!("--initial-cluster=default={peer}"),
                "--unsafe-no-fsync",
            ],
        )?;
        control.spawn(
            &kubernetes.join("kube-apiserver"),
            &[
                &format!("--etcd-servers={client}"),
                &format!("--secure-port={}", control.port),
                "--bind-address=127.0.0.1",
                "--advertise-address=192.0.2.1",
                "--endpoint-reconciler-type=none",
                &format!("--cert-dir={}", control.path("certificates")),
                &format!("--token-auth-file={}", control.path("tokens.csv")),
                "--authorization-mode=RBAC",
                "--allow-privileged=true",
                "--service-cluster-ip-range=10.96.0.0/16",
                "--service-account-issuer=https://kubernetes.default.svc",
                &format!("--service-account-key-file={key}"),
                &format!("--service-account-signing-key-file={key}"),
            ],
        )?;
        wait_for(
            "the API server is not ready",
            Duration::from_secs(120),
            || Ok((control.kubectl(&["get", "--raw", "/readyz"])?.code == 0).then_some(())),
        )?;
        control.kubectl(&["create", "namespace", SPACE])?.ok()?;
        Ok(Some(control))
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn spawn(&mut self, program: &Path, words: &[&str]) -> Result<()> {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let log = fs::File::create(self.folder.join(format!("{name}.log")))?;
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(program)
            .args(words)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("could not start {name}"))?;
        self.processes.push(process);
        Ok(())
    }

    fn kubectl(&self, words: &[&str]) -> Result<Ran> {
        self.kubectl_by("admin", words)
    }

    /// `kubectl …`, as whoever has this token.
    fn kubectl_by(&self, token: &str, words: &[&str]) -> Result<Ran> {
        let mut command = Command::new(tools::component("kubernetes")?.join("kubectl"));
        command.env_clear().env("HOME", &self.folder).args([
            format!("--server=https://127.0.0.1:{}", self.port),
            format!("--token={token}"),
            "--insecure-skip-tls-verify".to_owned(),
        ]);
        command::run(command.args(words))
    }

    fn apply(&self, name: &str, objects: &str, words: &[&str]) -> Result<Ran> {
        let file = self.path(name);
        fs::write(&file, objects)?;
        self.kubectl(&[&["apply", "--validate=strict", "-f", &file], words].concat())
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        for name in ["kube-apiserver", "server"] {
            let log = fs::read_to_string(self.path(&format!("{name}.log"))).unwrap_or_default();
            skiff_test::runner::keep_log(name, log);
        }
        for process in self.processes.iter_mut().rev() {
            if process.kill().and_then(|()| process.wait()).is_err() {
                skiff_test::runner::fault("a component could not be stopped".to_owned());
            }
        }
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            skiff_test::runner::fault(format!("could not remove {}: {error}", self.path("")));
        }
    }
}

macro_rules! control {
    () => {
        match Control::start()? {
            Some(control) => control,
            None => skiff_test::skip!(
                "there is no API server; test/node/build.sh etcd kubernetes builds it"
            ),
        }
    };
}

fn the_api_server_takes_all_objects() -> Result<()> {
    let control = control!();
    control
        .kubectl(&["create", "serviceaccount", "default", "-n", SPACE])?
        .ok()?;
    let folder = tools::checkout().join("test/fixtures/chart");
    for name in ["default", "all", "remove"] {
        let values = folder.join(format!("{name}.values.yaml"));
        let values = values.display().to_string();
        let with = |words: &[&str]| template("helm", &[&["--values", &values], words].concat());
        let objects = with(&["--no-hooks"])?.ok()?;
        let said = control
            .apply("objects.yaml", &objects, &[])?
            .ok()
            .with_context(|| format!("with the values {name}"))?;
        ensure!(said.contains("daemonset.apps/skiff"), "{said}");
        // Pods of hooks name RuntimeClasses, which are there now.
        control
            .apply("hooks.yaml", &with(&[])?.ok()?, &["--dry-run=server"])?
            .ok()
            .with_context(|| format!("with the values {name}"))?;
    }
    wasm_pods_are_restricted(&control)?;
    for file in fs::read_dir(tools::checkout().join("runtimeclass"))? {
        let path = file?.path();
        if path.extension().is_some_and(|ending| ending == "yaml") {
            let objects = fs::read_to_string(&path)?;
            control
                .apply("objects.yaml", &objects, &["--dry-run=server"])?
                .ok()?;
        }
    }
    Ok(())
}

/// Wasm pods need nothing that a strict namespace refuses; the installer does.
fn wasm_pods_are_restricted(control: &Control) -> Result<()> {
    let enforce = "pod-security.kubernetes.io/enforce=restricted";
    control
        .kubectl(&["label", "namespace", SPACE, enforce])?
        .ok()?;
    let test = "templates/tests/handlers.yaml";
    let pods = template("helm", &["--show-only", test])?.ok()?;
    let said = control
        .apply("pods.yaml", &pods, &["--dry-run=server"])?
        .ok()?;
    ensure!(said.contains("pod/skiff-test-wasmtime"), "{said}");
    let privileged = pods.replace("allowPrivilegeEscalation: false", "privileged: true");
    control
        .apply("pods.yaml", &privileged, &["--dry-run=server"])?
        .fails_with(&["violates PodSecurity"])?;
    Ok(())
}

/// A pod of the DaemonSet's, on a node that needs no kubelet to have a name.
const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: agent, namespace: skiff-system}, \
    spec: {nodeName: worker-1, serviceAccountName: skiff, containers: [{name: a, image: a}]}}";

fn node(name: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Node, metadata: {{name: {name}, labels: {{zone: a}}, annotations: {{note: b}}}}}}"
    )
}

fn an_agents_token_reaches_its_own_node_only() -> Result<()> {
    let control = control!();
    let objects = template("helm", &["--no-hooks"])?.ok()?;
    control.apply("objects.yaml", &objects, &[])?.ok()?;
    for (name, object) in [
        ("w1.yaml", node("worker-1")),
        ("w2.yaml", node("worker-2")),
        ("pod.yaml", POD.to_owned()),
    ] {
        control.apply(name, &object, &[])?.ok()?;
    }
    let bound = [
        "create",
        "token",
        "skiff",
        "--namespace",
        SPACE,
        "--bound-object-kind=Pod",
        "--bound-object-name=agent",
    ];
    let token = control.kubectl(&bound)?.ok()?;
    let patch = |node: &str, patch: &str| {
        control.kubectl_by(
            token.trim(),
            &["patch", "node", node, "--type=merge", "--patch", patch],
        )
    };
    let own = r#"{"metadata":{"labels":{"handler.skiff.dev/wasmtime":"true"},"annotations":{"node.skiff.dev/state":"ready"}}}"#;
    // The policy is in force a moment after it was made.
    wait_for(
        "another node can be changed",
        Duration::from_secs(30),
        || Ok((patch("worker-2", own)?.code != 0).then_some(())),
    )?;
    patch("worker-2", own)?.fails_with(&["the node that it runs on (worker-1), not worker-2"])?;
    patch("worker-1", own)?.ok()?;
    let gone = r#"{"metadata":{"labels":{"handler.skiff.dev/wasmtime":null},"annotations":{"node.skiff.dev/state":null}}}"#;
    patch("worker-1", gone)?.ok()?;
    for (change, word) in [
        (r#"{"metadata":{"labels":{"zone":"b"}}}"#, "labels below"),
        (r#"{"metadata":{"labels":{"zone":null}}}"#, "labels below"),
        (r#"{"metadata":{"labels":{"pool":"x"}}}"#, "labels below"),
        (
            r#"{"metadata":{"annotations":{"note":"c"}}}"#,
            "annotations below",
        ),
        (
            r#"{"metadata":{"annotations":{"note":null}}}"#,
            "annotations below",
        ),
        (
            r#"{"metadata":{"finalizers":["skiff.dev/x"]}}"#,
            "nothing of a node but",
        ),
        (
            r#"{"spec":{"unschedulable":true}}"#,
            "nothing of a node but",
        ),
        (
            r#"{"spec":{"taints":[{"key":"a","effect":"NoSchedule"}]}}"#,
            "nothing of a node but",
        ),
    ] {
        patch("worker-1", change)?
            .fails_with(&[word])
            .with_context(|| format!("with {change}"))?;
    }
    // A token that is bound to no pod is of no node.
    let loose = control
        .kubectl(&["create", "token", "skiff", "--namespace", SPACE])?
        .ok()?;
    let words = ["patch", "node", "worker-1", "--type=merge", "--patch", own];
    control
        .kubectl_by(loose.trim(), &words)?
        .fails_with(&["the node that it runs on"])?;

    let may = |words: &[&str]| -> Result<bool> {
        let ran = control.kubectl_by(token.trim(), &[&["auth", "can-i"], words].concat())?;
        Ok(ran.stdout.trim() == "yes")
    };
    for allowed in [
        &["get", "nodes/worker-1"][..],
        &["create", "events", "--namespace=default"],
        &[
            "update",
            "leases.coordination.k8s.io/skiff",
            "--namespace=skiff-system",
        ],
    ] {
        ensure!(may(allowed)?, "it may not {allowed:?}");
    }
    for forbidden in [
        &["list", "nodes"][..],
        &["delete", "nodes/worker-1"],
        &["update", "nodes/worker-1"],
        &["patch", "nodes/worker-1", "--subresource=status"],
        &["get", "secrets", "--namespace=skiff-system"],
        &["list", "pods", "--namespace=skiff-system"],
        &["create", "events", "--namespace=kube-system"],
        &[
            "update",
            "leases.coordination.k8s.io/other",
            "--namespace=skiff-system",
        ],
        &["create", "pods", "--namespace=skiff-system"],
    ] {
        ensure!(!may(forbidden)?, "it may {forbidden:?}");
    }
    Ok(())
}
