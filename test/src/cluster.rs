//! A Kubernetes cluster of a test's own: a real control plane, a kubelet and a containerd with their usual paths, in
//! namespaces that end with the process that made them; Skiff on its node, put there by `skiff-node install`.

mod config;
mod daemon;
mod images;
mod kubectl;
mod metrics;
mod place;
mod residue;
mod second;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::command::{self, Ran, run_within, wait_for};
use crate::node::{Version, pause_image};
use crate::pki::Authority;
use crate::tools;

use config::{FIRST, Member, SECOND};

pub use config::{NODE, SECOND_NODE};
pub use daemon::Daemon;
pub use images::{Images, USER as READER};
pub use kubectl::{Space, condition, container_state};
pub use second::{Second, be_second};

/// How long a component may take to answer on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(120);
/// containerd's socket, as the node sees it.
const SOCKET: &str = "/run/containerd/containerd.sock";
/// Where a node's network namespaces are written down whenever its containerd is started.
const NETWORKS: &str = "networks-at-start";
/// containerd's configuration, as the node sees it.
const CONTAINERD_CONFIG: &str = "/etc/containerd/config.toml";

/// A running cluster of one node, or of two ([`Cluster::add_node`]). Dropping it ends all of it; [`Cluster::finish`] looks first whether anything is left.
#[derive(Debug)]
pub struct Cluster {
    version: Version,
    directory: PathBuf,
    /// The parent of all cgroups of pods.
    name: String,
    began: Instant,
    kubelet: Daemon,
    containerd: Daemon,
    /// In the order of their ends.
    control: Vec<Daemon>,
    images: Images,
    /// containerd's configuration before Skiff was there.
    clean: BTreeSet<(PathBuf, String)>,
    second: Option<Second>,
}

impl Cluster {
    /// Starts one in the namespaces that this process has entered ([`crate::inside::enter_with_processes`]), with all that
    /// it owns in `directory`; `name` is no other cluster's of this machine. Returns when its node is Ready.
    ///
    /// # Errors
    /// If a component is missing, or does not answer; the end of its log is part of the message.
    pub fn start(version: Version, directory: &Path, name: &str) -> Result<Self> {
        let began = Instant::now();
        place::ensure_inside()?;
        place::make(directory)?;
        place::mount_all(directory, &FIRST)?;
        place::network_up()?;
        place::make_cgroups(name)?;
        issue(directory)?;
        let keys = directory.join("keys");
        let kubernetes = tools::component("kubernetes")?;

        // The last that is started is the first that ends.
        let mut control = vec![etcd(directory)?];
        let words = config::api_server(&keys);
        let api = plain(directory, "kube-apiserver", &kubernetes, words)?;
        control.insert(0, api);

        fs::write(CONTAINERD_CONFIG, config::containerd(version))?;
        let containerd = containerd(version, directory)?;
        import_pause(version, directory)?;
        let images = Images::push(directory)?;

        wait_for("the API server is not ready", PATIENCE, || {
            let starts = control[0].starts();
            ensure!(starts < 5, "the API server was started {starts} times");
            let ran = kubectl(directory, &["get", "--raw", "/readyz"])?;
            Ok((ran.code == 0).then_some(()))
        })
        .with_context(|| end_of(&control[0].log()))?;
        let file = directory.join("controller-manager.conf");
        let words = config::controller_manager(&keys, &file);
        let name_of = "kube-controller-manager";
        control.insert(0, plain(directory, name_of, &kubernetes, words)?);
        let words = vec![
            format!(
                "--kubeconfig={}",
                directory.join("scheduler.conf").display()
            ),
            "--leader-elect=false".to_owned(),
            "--authentication-skip-lookup=true".to_owned(),
        ];
        control.insert(0, plain(directory, "kube-scheduler", &kubernetes, words)?);
        let words = config::proxy(&directory.join("proxy.conf"), &FIRST);
        control.insert(0, plain(directory, "kube-proxy", &kubernetes, words)?);
        let corefile = directory.join("Corefile");
        fs::write(&corefile, config::names(&directory.join("coredns.conf")))?;
        let words = vec![format!("-conf={}", corefile.display())];
        let coredns = tools::component("coredns")?;
        control.insert(0, plain(directory, "coredns", &coredns, words)?);
        let kubelet = kubelet(directory, &keys, &FIRST, name)?;
        let cluster = Self {
            version,
            directory: directory.to_owned(),
            name: name.to_owned(),
            began,
            kubelet,
            containerd,
            control,
            images,
            clean: containerd_files(Path::new("/"))?,
            second: None,
        };
        cluster.wait_until_ready()?;
        wait_for("the default service account is not made", PATIENCE, || {
            let ran = cluster.kubectl(&["get", "serviceaccount", "default"])?;
            Ok((ran.code == 0).then_some(()))
        })?;
        Ok(cluster)
    }

    /// Puts Skiff on the node as its users do, and applies the RuntimeClass that we ship.
    ///
    /// # Errors
    /// If the installer or the API server refuses.
    pub fn install(&self) -> Result<Ran> {
        let ran = self.skiff_node(&["install"])?;
        ran.clone().ok()?;
        let file = tools::checkout().join("runtimeclass/wasmtime.yaml");
        self.kubectl(&["apply", "-f", &file.display().to_string()])?
            .ok()?;
        let label = "handler.skiff.dev/wasmtime=true";
        self.kubectl(&["label", "--overwrite", "node", NODE, label])?
            .ok()?;
        Ok(ran)
    }

    /// `skiff-node …` on the node.
    ///
    /// # Errors
    /// If it cannot be run, or does not end.
    pub fn skiff_node(&self, words: &[&str]) -> Result<Ran> {
        let mut command = Command::new(tools::skiff("skiff-node")?);
        command.env("PATH", self.path()).args(words);
        command.arg("--restart-command").arg(self.restart_script()?);
        run_within(&mut command, PATIENCE)
    }

    /// Which containerd its node has.
    pub fn version(&self) -> Version {
        self.version
    }

    /// All that it owns.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The parent of all cgroups of pods, from the top of each hierarchy.
    pub fn cgroup(&self) -> &str {
        &self.name
    }

    /// Images in its registry.
    pub fn images(&self) -> &Images {
        &self.images
    }

    /// The kubelet.
    pub fn kubelet(&self) -> &Daemon {
        &self.kubelet
    }

    /// The node's containerd.
    pub fn containerd(&self) -> &Daemon {
        &self.containerd
    }

    /// How long it took to get so far.
    pub fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// Runs `kubectl …` as the cluster's administrator.
    ///
    /// # Errors
    /// If it cannot be run, or does not end. Any exit code is a success.
    pub fn kubectl(&self, words: &[&str]) -> Result<Ran> {
        kubectl(&self.directory, words)
    }

    /// `kubectl …`, to be run.
    ///
    /// # Errors
    /// If there is none.
    pub fn kubectl_command(&self, words: &[&str]) -> Result<Command> {
        kubectl_command(&self.directory, words)
    }

    /// Runs `ctr …` in the containerd namespace of pods.
    ///
    /// # Errors
    /// If it cannot be run, or does not end. Any exit code is a success.
    pub fn ctr(&self, words: &[&str]) -> Result<Ran> {
        ctr(self.version, words)
    }

    /// Waits until the node reports itself as Ready.
    ///
    /// # Errors
    /// If it does not; the end of the kubelet's log is part of the message.
    pub fn wait_until_ready(&self) -> Result<()> {
        wait_for("the node is not Ready", PATIENCE, || {
            let ran = self.kubectl(&["get", "node", NODE, "--output", "json"])?;
            if ran.code != 0 {
                return Ok(None);
            }
            let node = serde_json::from_str(&ran.stdout)?;
            Ok((condition(&node, "Ready").as_deref() == Some("True")).then_some(()))
        })
        .with_context(|| end_of(&self.kubelet.log()))
    }

    /// Waits until containerd answers.
    ///
    /// # Errors
    /// If it does not; the end of its log is part of the message.
    pub fn wait_for_containerd(&self) -> Result<()> {
        wait_for_containerd(self.version).with_context(|| end_of(&self.containerd.log()))
    }

    /// Where the node's programs are, and runc.
    pub fn path(&self) -> String {
        path(self.version)
    }

    /// A script that does what `systemctl restart containerd` does, at the same path on every node.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn restart_script(&self) -> Result<PathBuf> {
        restart_script(&self.directory)
    }

    /// Whether containerd's configuration is what it was before Skiff came, to the byte.
    ///
    /// # Errors
    /// If a file of it cannot be read.
    pub fn is_clean(&self) -> Result<bool> {
        Ok(containerd_files(Path::new("/"))? == self.clean)
    }

    /// Removes what runs in the cluster, takes Skiff off, and looks whether anything of either is left.
    ///
    /// # Errors
    /// If something is left, in one line for each thing.
    pub fn finish(&self) -> Result<()> {
        residue::empty(self)?;
        self.skiff_node(&["uninstall"])?.ok()?;
        let now = containerd_files(Path::new("/"))?;
        ensure!(
            now == self.clean,
            "after the uninstall containerd's configuration is not what it was: {now:?}"
        );
        for ours in ["/opt/skiff", "/var/lib/skiff", "/run/skiff"] {
            ensure!(
                !Path::new(ours).exists(),
                "after the uninstall {ours} is there"
            );
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Whoever would start something again ends first.
        drop(self.second.take());
        self.kubelet.stop();
        residue::kill_all(&self.name);
        self.containerd.stop();
        for daemon in &mut self.control {
            daemon.stop();
        }
        for left in place::drop_cgroups(&self.name) {
            crate::runner::fault(format!("{} could not be removed", left.display()));
        }
    }
}

/// Written to the `/etc` of the node that this process is on.
fn restart_script(directory: &Path) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let script = PathBuf::from("/etc/skiff-test-restart");
    let id = directory.join("pids/containerd");
    let id = id.display();
    let text = format!(
        "#!/bin/sh\nold=$(cat {id}); kill $old\n\
         for i in $(seq 100); do [ \"$(cat {id})\" != $old ] && exit 0; sleep 0.1; done\nexit 1\n"
    );
    fs::write(&script, text)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    Ok(script)
}

/// What a program wrote last.
fn end_of(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let end = lines[lines.len().saturating_sub(15)..].join("\n");
    format!("the last lines of its log:\n{end}")
}

/// Everybody's certificates and kubeconfigs.
fn issue(directory: &Path) -> Result<()> {
    let authority = Authority::new(directory.join("keys"))?;
    let address = format!("IP:{}", config::NODE_ADDRESS);
    let service = format!("IP:{}", config::API_SERVICE);
    let names = [
        "DNS:kubernetes",
        "DNS:kubernetes.default.svc",
        "DNS:kubernetes.default.svc.cluster.local",
    ];
    authority.server(
        "api-server",
        &[&address, &service, names[0], names[1], names[2]],
    )?;
    for member in [FIRST, SECOND] {
        let address = format!("IP:{}", member.address);
        authority.server(&format!("kubelet-server{}", member.suffix), &[&address])?;
        let name = format!("kubelet{}", member.suffix);
        let subject = format!("/O=system:nodes/CN=system:node:{}", member.name);
        client(&authority, directory, &name, &subject)?;
    }
    authority.server("metrics-server", &[&address])?;
    authority.client("front-proxy", "/CN=front-proxy")?;
    authority.client("accounts", "/CN=service-accounts")?;
    authority.client("api-client", "/O=system:masters/CN=api-server")?;
    let clients = [
        ("admin", "/O=system:masters/CN=admin"),
        ("controller-manager", "/CN=system:kube-controller-manager"),
        ("scheduler", "/CN=system:kube-scheduler"),
        ("proxy", "/CN=system:kube-proxy"),
        ("coredns", "/O=system:masters/CN=coredns"),
        ("metrics", "/O=system:masters/CN=metrics-server"),
    ];
    for (name, subject) in clients {
        client(&authority, directory, name, subject)?;
    }
    Ok(())
}

fn client(authority: &Authority, directory: &Path, name: &str, subject: &str) -> Result<()> {
    authority.client(name, subject)?;
    let file = directory.join(format!("{name}.conf"));
    authority.kubeconfig(name, config::API, &file)
}

fn plain(
    directory: &Path,
    name: &'static str,
    programs: &Path,
    words: Vec<String>,
) -> Result<Daemon> {
    let program = programs.join(name);
    Daemon::start(directory, name, move || {
        let mut command = Command::new(&program);
        command.args(&words);
        command
    })
}

fn etcd(directory: &Path) -> Result<Daemon> {
    let data = format!("--data-dir={}", directory.join("etcd").display());
    let words = [
        data.as_str(),
        "--unsafe-no-fsync",
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--log-level=warn",
    ];
    // Named by its module's path.
    let program = tools::component("etcd")?.join("server");
    let words = words.map(str::to_owned);
    Daemon::start(directory, "etcd", move || {
        let mut command = Command::new(&program);
        command.args(&words);
        command
    })
}

fn path(version: Version) -> String {
    let parts = [version.folder(), "runc", "crictl"];
    let mut text = String::new();
    for part in parts.iter().filter_map(|part| tools::component(part).ok()) {
        text.push_str(&format!("{}:", part.display()));
    }
    text + "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
}

fn containerd(version: Version, directory: &Path) -> Result<Daemon> {
    let program = tools::component(version.folder())?.join("containerd");
    let path = path(version);
    let known = directory.join(NETWORKS);
    let daemon = Daemon::start(directory, "containerd", move || {
        residue::note_networks(&known);
        let mut command = Command::new(&program);
        command
            .env_clear()
            .env("PATH", &path)
            .args(["--config", CONTAINERD_CONFIG]);
        command
    })?;
    wait_for_containerd(version).with_context(|| end_of(&daemon.log()))?;
    Ok(daemon)
}

fn wait_for_containerd(version: Version) -> Result<()> {
    wait_for("containerd does not answer", PATIENCE, || {
        if !Path::new(SOCKET).exists() {
            return Ok(None);
        }
        // Asked again and again: ctr's own limit would be ten seconds for each time.
        let ran = ctr(version, &["--connect-timeout=1s", "version"])?;
        Ok((ran.code == 0).then_some(()))
    })
}

/// A node's kubelet: what it writes is in `directory`, the keys of all are in `keys`.
fn kubelet(directory: &Path, keys: &Path, member: &Member, cgroup: &str) -> Result<Daemon> {
    let file = directory.join("kubelet.json");
    let text = config::kubelet(keys, member, &format!("/{cgroup}")).to_string();
    fs::write(&file, text)?;
    let line = config::machine_wide(&directory.join("machine"))?;
    let own = keys.with_file_name(format!("kubelet{}.conf", member.suffix));
    let words = vec![
        format!("--config={}", file.display()),
        format!("--kubeconfig={}", own.display()),
        format!("--hostname-override={}", member.name),
        format!("--node-ip={}", member.address),
        "--v=2".to_owned(),
    ];
    let program = tools::component("kubernetes")?.join("kubelet");
    Daemon::start(directory, "kubelet", move || {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "unchanged", "sh", "-c"])
            .args([&line, "sh"])
            .arg(&program)
            .args(&words);
        command
    })
}

fn ctr(version: Version, words: &[&str]) -> Result<Ran> {
    let mut command = Command::new(tools::component(version.folder())?.join("ctr"));
    command.args(["--namespace", "k8s.io"]).args(words);
    command::run(&mut command)
}

fn kubectl_command(directory: &Path, words: &[&str]) -> Result<Command> {
    let mut command = Command::new(tools::component("kubernetes")?.join("kubectl"));
    command
        .env("KUBECONFIG", directory.join("admin.conf"))
        // Where it keeps what the API server has told it.
        .env("HOME", directory)
        .args(words);
    Ok(command)
}

fn kubectl(directory: &Path, words: &[&str]) -> Result<Ran> {
    command::run(&mut kubectl_command(directory, words)?)
}

/// Whatever the handler, the sandbox's image must be there.
fn import_pause(version: Version, directory: &Path) -> Result<()> {
    let archive = directory.join("files/pause.tar");
    pause_image()?.write(&archive)?;
    ctr(
        version,
        &["image", "import", &archive.display().to_string()],
    )?
    .ok()?;
    Ok(fs::remove_file(archive)?)
}

/// The files that the containerd of the node with this root is configured by.
fn containerd_files(root: &Path) -> Result<BTreeSet<(PathBuf, String)>> {
    let mut found = BTreeSet::new();
    for folder in ["etc/containerd", "etc/containerd/conf.d"] {
        for entry in fs::read_dir(root.join(folder))? {
            let path = entry?.path();
            if path.is_file() {
                found.insert((path.clone(), fs::read_to_string(&path)?));
            }
        }
    }
    Ok(found)
}
