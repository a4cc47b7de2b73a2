//! A containerd 2.4 of the bench's own, all its state on the bench's tmpfs, and what a kubelet has around it: images
//! from a registry, a pause image, a network.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountFlags, mount};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use skiff_test::image::{Entry, Image};
use skiff_test::node::{Options, PAUSE_IMAGE};
use skiff_test::{Node, Version, command, runner};

use super::cgroup::PodGroup;
use super::cri::Cri;
use crate::runtime::Runtime;
use crate::settings::Settings;

/// Pods with networks of their own get their addresses from here.
const BRIDGE: &str = r#"{ "cniVersion": "1.0.0", "name": "bench", "plugins": [{
    "type": "bridge", "bridge": "skb0", "isGateway": true,
    "ipam": { "type": "host-local", "dataDir": "/var/lib/cni/bench", "ranges": [[{ "subnet": "10.77.0.0/16" }]] }
}]}"#;

/// A node.
pub(super) struct Kubelet {
    pub(super) cri: Cri,
    pub(super) node: Node,
    /// The cgroup of containerd and its shims.
    pub(super) daemons: PodGroup,
    /// Dropped last: containerd ends in it.
    _network: Option<Network>,
}

impl Kubelet {
    /// Starts it. `bridge` gives its pods networks of their own, in a network namespace that the bench makes.
    pub(super) fn start(settings: &Settings, bridge: bool) -> Result<Self> {
        let directory = settings.place.join("n");
        let network = bridge.then(Network::enter).transpose()?;
        if bridge {
            fs::create_dir_all(directory.join("cni"))?;
            fs::write(directory.join("cni/10-bench.conflist"), BRIDGE)?;
        }
        let daemons = PodGroup::create(&format!("{}/daemons", settings.name))?;
        let node = Node::with(
            Version::V2_4,
            Options {
                directory: Some(directory.clone()),
                namespace: Some(settings.name.clone()),
                quiet: true,
                ..Options::default()
            },
        )?;
        daemons.take(node.daemon())?;
        import_pause(&node, settings)?;
        let cri = Cri::connect(&node.socket(), directory.join("pods"), &settings.name)?;
        Ok(Self {
            cri,
            node,
            daemons,
            _network: network,
        })
    }

    /// Puts an image where CRI finds it; answers its reference. CRI takes two images with the same config for one.
    pub(super) fn image(&mut self, image: &Image, name: &str) -> Result<String> {
        let reference = self.node.registry()?.push(image, name)?;
        self.cri.pull(&reference)?;
        Ok(reference)
    }

    /// Stops it. What a peer is known to leave becomes a note.
    ///
    /// # Errors
    /// Something else was left behind.
    pub(super) fn finish(self, notes: &mut Vec<String>) -> Result<()> {
        let Self {
            cri,
            node,
            daemons,
            _network: network,
        } = self;
        drop(cri);
        drop(node);
        daemons.remove();
        drop(network);
        let faults = runner::take_faults();
        let lines = faults.iter().flat_map(|fault| fault.lines());
        let sockets = lines.clone().filter(|line| is_peers_socket(line)).count();
        // One line says that lines follow.
        let others = lines.count() - sockets;
        ensure!(
            others == 0 || (others == 1 && sockets > 0),
            "{}",
            faults.join("\n")
        );
        if sockets > 0 {
            notes.push(format!(
                "shims of peers left {sockets} sockets in /run/containerd/s"
            ));
        }
        Ok(())
    }
}

/// A line of the residue probe on a socket of another shim than Skiff's: by the longer name that they give it.
fn is_peers_socket(line: &str) -> bool {
    line.strip_prefix("socket /run/containerd/s/")
        .is_some_and(|name| name.len() == 64)
}

/// CRI's name of a runtime.
pub(super) fn handler(runtime: Runtime) -> &'static str {
    match runtime {
        Runtime::Skiff | Runtime::SkiffLayer => "skiff",
        Runtime::Runwasi | Runtime::RunwasiLayer => "runwasi",
        Runtime::Runc => "runc",
        Runtime::Wasmedge | Runtime::WasmedgeInterpreter | Runtime::WasmedgeUncached => "wasmedge",
    }
}

/// The image of a runtime's container: the module where the runtime has it, or the program.
pub(super) fn image_of(runtime: Runtime, name: &str, module: &[u8], program: &[u8]) -> Image {
    match runtime {
        Runtime::Skiff
        | Runtime::Runwasi
        | Runtime::Wasmedge
        | Runtime::WasmedgeInterpreter
        | Runtime::WasmedgeUncached => Image::root_file(name, module),
        Runtime::SkiffLayer | Runtime::RunwasiLayer => {
            Image::layer(&format!("{name}-layer"), module)
        }
        Runtime::Runc => {
            let image = Image::linux(
                &format!("{name}-native"),
                &[Entry::file("app", 0o755, program)],
            );
            image.entrypoint(&["/app"])
        }
    }
}

/// Skiff runs its own pause program whatever the image has. The others are given the same program: it is the
/// smallest there is.
fn import_pause(node: &Node, settings: &Settings) -> Result<()> {
    let program = fs::read(settings.skiff.join("skiff-pause"))
        .context("skiff-pause was not built; `make build` does it")?;
    let image =
        Image::linux("pause", &[Entry::file("pause", 0o755, &program)]).entrypoint(&["/pause"]);
    ensure!(
        image.name() == PAUSE_IMAGE,
        "containerd expects another pause image"
    );
    let archive = node.directory().join("tmp/pause.tar");
    image.write(&archive)?;
    let mut import = node.ctr_command(&["--namespace", "k8s.io", "image", "import"]);
    command::run(import.arg(&archive))?.ok()?;
    fs::remove_file(&archive)?;
    Ok(())
}

/// A network namespace that this thread is in until the value is dropped.
struct Network {
    before: OwnedFd,
}

impl Network {
    fn enter() -> Result<Self> {
        let before = OwnedFd::from(fs::File::open("/proc/thread-self/ns/net")?);
        // What the plugins keep is not the machine's: the mount namespace is the bench's.
        for directory in ["/run/netns", "/var/lib/cni"] {
            fs::create_dir_all(directory)?;
            if !is_mounted(Path::new(directory))? {
                mount("tmpfs", directory, "tmpfs", MountFlags::empty(), None)
                    .with_context(|| format!("could not mount a tmpfs on {directory}"))?;
            }
        }
        unshare(CloneFlags::CLONE_NEWNET).context("could not make a network namespace")?;
        let network = Self { before };
        let mut up = Command::new("ip");
        command::run(up.args(["link", "set", "lo", "up"]))?.ok()?;
        Ok(network)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        use std::os::fd::AsFd as _;
        if let Err(error) =
            move_into_link_name_space(self.before.as_fd(), Some(LinkNameSpaceType::Network))
        {
            runner::fault(format!("could not return to the network: {error}"));
        }
    }
}

fn is_mounted(directory: &Path) -> Result<bool> {
    let place = directory.display().to_string();
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(mounts
        .lines()
        .any(|line| line.split(' ').nth(4) == Some(&place)))
}
