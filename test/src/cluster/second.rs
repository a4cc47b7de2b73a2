//! A second node: containerd, kubelet and kube-proxy in network, mount and process namespaces of its own, joined to the
//! first one's bridge. This program is started there again, and keeps them until its standard input ends.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::config::{self, SECOND, SECOND_NODE};
use super::{
    Cluster, condition, containerd, containerd_files, import_pause, kubelet, place, plain,
    restart_script,
};
use crate::command::wait_for;
use crate::node::Version;
use crate::{inside, tools};

const PATIENCE: Duration = Duration::from_secs(120);

/// The node, while it runs. It ends with this value.
#[derive(Debug)]
pub struct Second {
    process: Child,
    input: Option<ChildStdin>,
    clean: BTreeSet<(PathBuf, String)>,
}

impl Cluster {
    /// Starts the second node and waits until it is Ready.
    ///
    /// # Errors
    /// If it does not become so.
    pub fn add_node(&mut self) -> Result<()> {
        let directory = self.directory.join("second");
        place::make(&directory)?;
        place::make_cgroups(&format!("{}/second", self.name))?;
        let mut command = Command::new("unshare");
        command
            .args(["--net", "--mount", "--pid", "--fork", "--kill-child"])
            .args([
                "--propagation",
                "private",
                "sh",
                "-c",
                "\"$@\"; exit $?",
                "sh",
            ])
            .arg(std::env::current_exe()?)
            .arg(format!("--containerd={}", self.version.number()))
            .arg(format!("--second={}", self.name))
            .arg(format!("--keep={}", self.directory.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = command.spawn().context("could not start unshare")?;
        let mut input = process.stdin.take();
        let output = process.stdout.take().context("it has no output")?;
        let mut second = Second {
            process,
            input: None,
            clean: BTreeSet::new(),
        };
        let mut output = BufReader::new(output);
        second.told(&mut output, "namespaces")?;
        place::connect(second.process.id())?;
        second.lend(self.images.registry().port())?;
        let pipe = input.as_mut().context("it has no input")?;
        pipe.write_all(b"connected\n")?;
        second.input = input;
        second.told(&mut output, "started")?;
        second.clean = containerd_files(&second.root())?;
        self.second = Some(second);
        wait_for("the second node is not Ready", PATIENCE, || {
            let ran = self.kubectl(&["get", "node", SECOND_NODE, "--output", "json"])?;
            if ran.code != 0 {
                return Ok(None);
            }
            let node = serde_json::from_str(&ran.stdout)?;
            Ok((condition(&node, "Ready").as_deref() == Some("True")).then_some(()))
        })
        .with_context(|| {
            let log = fs::read_to_string(directory.join("logs/kubelet")).unwrap_or_default();
            super::end_of(&log)
        })
    }

    /// The second node, if there is one.
    pub fn second(&self) -> Option<&Second> {
        self.second.as_ref()
    }
}

impl Second {
    /// Its root, as the first node sees it.
    pub fn root(&self) -> PathBuf {
        format!("/proc/{}/root", self.process.id()).into()
    }

    /// What is mounted there.
    pub(super) fn mounts(&self) -> Result<String> {
        let path = format!("/proc/{}/mountinfo", self.process.id());
        fs::read_to_string(&path).with_context(|| path.clone())
    }

    /// Whether its containerd's configuration is what it was before Skiff came, to the byte.
    ///
    /// # Errors
    /// If a file of it cannot be read.
    pub fn is_clean(&self) -> Result<bool> {
        Ok(containerd_files(&self.root())? == self.clean)
    }

    /// Reads the next line, which must be this one.
    fn told(&self, output: &mut impl std::io::BufRead, word: &str) -> Result<()> {
        let mut line = String::new();
        output.read_line(&mut line)?;
        ensure!(line.trim() == word, "the second node says: {line}");
        Ok(())
    }

    /// A port of the first node's loopback is there on this one's too: images are named by it.
    fn lend(&self, port: u16) -> Result<()> {
        let here = File::open("/proc/self/ns/net")?;
        let there = File::open(format!("/proc/{}/ns/net", self.process.id()))?;
        let bound = std::thread::spawn(move || -> Result<TcpListener> {
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(there.as_fd(), network)?;
            let listener = TcpListener::bind(("127.0.0.1", port));
            move_into_link_name_space(here.as_fd(), network)?;
            Ok(listener?)
        });
        let listener = bound.join().ok().context("a thread died")??;
        // From here on in the first one's network, until this process ends.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || pass_on(stream, port));
            }
        });
        Ok(())
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        drop(self.input.take());
        let ended = wait_for("the second node does not end", PATIENCE, || {
            Ok(self.process.try_wait()?)
        });
        if ended.is_err() {
            crate::runner::fault("the second node did not end, and was killed".to_owned());
            // What is in its process namespace ends with it.
            self.process.kill().ok();
            self.process.wait().ok();
        }
    }
}

/// Whatever goes wrong, who asked sees a connection that ends.
fn pass_on(mut stream: TcpStream, port: u16) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)) else {
        return;
    };
    let (Ok(mut from), Ok(mut to)) = (stream.try_clone(), server.try_clone()) else {
        return;
    };
    let up = std::thread::spawn(move || {
        std::io::copy(&mut from, &mut to).ok();
        to.shutdown(Shutdown::Write).ok();
    });
    std::io::copy(&mut server, &mut stream).ok();
    stream.shutdown(Shutdown::Write).ok();
    up.join().ok();
}

/// What the program does that is started for the second node: `directory` and `name` are the cluster's.
///
/// # Errors
/// If something of the node cannot be started.
pub fn be_second(version: Version, directory: &Path, name: &str) -> Result<()> {
    // In the namespaces that it was started in: mounts, loopback.
    inside::enter()?;
    // The first node's: this one has the machine's below.
    rustix::mount::unmount("/etc", rustix::mount::UnmountFlags::DETACH)
        .context("could not take away the first node's /etc")?;
    let own = directory.join("second");
    place::mount_all(&own, &SECOND)?;
    say("namespaces")?;
    let mut line = String::new();
    let mut input = BufReader::new(std::io::stdin());
    input.read_line(&mut line)?;
    place::connected()?;
    fs::write(super::CONTAINERD_CONFIG, config::containerd(version))?;
    restart_script(&own)?;
    let containerd = containerd(version, &own)?;
    import_pause(version, &own)?;
    let words = config::proxy(&directory.join("proxy.conf"), &SECOND);
    let kubernetes = tools::component("kubernetes")?;
    let proxy = plain(&own, "kube-proxy", &kubernetes, words)?;
    let cgroup = format!("{name}/second");
    let kubelet = kubelet(&own, &directory.join("keys"), &SECOND, &cgroup)?;
    say("started")?;
    // Until the other end is closed.
    input.read_to_end(&mut Vec::new())?;
    drop(kubelet);
    super::residue::kill_all(&cgroup);
    drop(containerd);
    drop(proxy);
    Ok(())
}

fn say(word: &str) -> Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{word}")?;
    Ok(output.flush()?)
}
