//! The node's CRI as a kubelet uses it, and the time of each of its steps.

mod messages;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use skiff_test::command::wait_for;

use super::cgroup::PodGroup;
use super::first_line::FirstLine;
use super::grpc::Connection;
use messages::{
    ContainerConfig, ContainerId, ContainerMetadata, CreateContainerRequest, ImageSpec, KeyValue,
    LinuxContainerConfig, LinuxContainerResources, LinuxContainerSecurityContext,
    LinuxPodSandboxConfig, LinuxSandboxSecurityContext, Mount, NamespaceOption, Nothing, PodId,
    PodSandboxConfig, PodSandboxMetadata, PullImageRequest, RunPodSandboxRequest, SecurityProfile,
    StopContainerRequest,
};

/// A namespace of the node's own, in CRI's words.
const NODE: i32 = 2;
/// A namespace of the container's own.
const CONTAINER: i32 = 1;

/// What a kubelet hides of `/proc` and `/sys`, and what it makes read-only.
const MASKED: [&str; 9] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/scsi",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// The CRI of a node.
pub(super) struct Cri {
    connection: Connection,
    /// Directories of pods.
    pods: PathBuf,
    /// Parent of the pods' cgroups, as a kubelet has `kubepods`.
    parent: String,
}

/// A pod sandbox that runs. It must be removed by [`Pod::remove`].
pub(super) struct Pod<'a> {
    cri: &'a Cri,
    pub(super) id: String,
    config: PodSandboxConfig,
    directory: PathBuf,
    /// The pod's cgroups, above those of its containers.
    pub(super) group: PodGroup,
    /// When `RunPodSandbox` was called.
    pub(super) begun: Instant,
    /// Its time.
    pub(super) time: Duration,
}

/// A container that was started.
pub(super) struct Started {
    pub(super) id: String,
    /// Time of `CreateContainer`.
    pub(super) create: Duration,
    /// Time of `StartContainer`.
    pub(super) start: Duration,
    /// From the begin of `StartContainer` to the first line in the log.
    pub(super) to_line: Duration,
    /// When the line was there.
    pub(super) line: Instant,
}

impl Cri {
    /// Connects to containerd. `pods` is a directory for what a kubelet keeps of pods.
    pub(super) fn connect(socket: &Path, pods: PathBuf, parent: &str) -> Result<Self> {
        Ok(Self {
            connection: Connection::open(socket)?,
            pods,
            parent: parent.to_owned(),
        })
    }

    /// Pulls an image.
    pub(super) fn pull(&self, reference: &str) -> Result<()> {
        let request = PullImageRequest {
            image: Some(image(reference)),
        };
        let Nothing {} = self
            .connection
            .call("runtime.v1.ImageService/PullImage", &request)?;
        Ok(())
    }

    /// Starts a pod; `bridge` gives it a network of its own.
    pub(super) fn pod(&self, handler: &str, name: &str, bridge: bool) -> Result<Pod<'_>> {
        let directory = self.pods.join(name);
        fs::create_dir_all(directory.join("logs"))?;
        fs::create_dir_all(directory.join("token"))?;
        fs::write(directory.join("hosts"), "127.0.0.1 localhost\n")?;
        fs::write(directory.join("termination-log"), "")?;
        fs::write(directory.join("token/token"), "a token")?;
        let path = format!("{}/{name}", self.parent);
        let group = PodGroup::create(&path)?;
        let config = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: name.to_owned(),
                uid: name.to_owned(),
                namespace: "default".to_owned(),
            }),
            // A pod in the node's network has the node's name.
            hostname: if bridge { name } else { "" }.to_owned(),
            log_directory: directory.join("logs").display().to_string(),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: format!("/{path}"),
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(namespaces(bridge)),
                    seccomp: Some(SecurityProfile::default()),
                }),
            }),
        };
        let request = RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: handler.to_owned(),
        };
        let begun = Instant::now();
        let answer: Result<PodId> = self.call("RunPodSandbox", &request);
        let time = begun.elapsed();
        match answer {
            Ok(PodId { id }) => Ok(Pod {
                cri: self,
                id,
                config,
                directory,
                group,
                begun,
                time,
            }),
            Err(error) => {
                group.remove();
                Err(error.context(format!("no pod with handler {handler}")))
            }
        }
    }

    fn call<A: prost::Message + Default>(
        &self,
        method: &str,
        request: &impl prost::Message,
    ) -> Result<A> {
        self.connection
            .call(&format!("runtime.v1.RuntimeService/{method}"), request)
    }
}

impl Cri {
    /// Calls until it goes through: of a container that ended by itself a moment ago, CRI may not have been told yet.
    fn call_soon(&self, method: &str, request: &impl prost::Message) -> Result<()> {
        let mut last = None;
        wait_for(
            &format!("{method} is refused"),
            Duration::from_secs(10),
            || match self.call(method, request) {
                Ok(Nothing {}) => Ok(Some(())),
                Err(error) => {
                    last = Some(error);
                    Ok(None)
                }
            },
        )
        .map_err(|error| last.unwrap_or(error))
    }
}

impl Pod<'_> {
    /// Creates and starts a container, and waits for the first line in its log.
    pub(super) fn start(&self, reference: &str, name: &str) -> Result<Started> {
        let (id, create) = self.create(reference, name)?;
        let waiting = FirstLine::of(&self.directory.join("logs"))?;
        let begin = Instant::now();
        let start = self.run(&id)?;
        let line = waiting.wait().with_context(|| {
            format!(
                "container {name} of pod {} logs nothing",
                self.directory.display()
            )
        })?;
        Ok(Started {
            id,
            create,
            start,
            to_line: line.duration_since(begin),
            line,
        })
    }

    /// Starts a container that was created; answers the time of `StartContainer`.
    pub(super) fn run(&self, id: &str) -> Result<Duration> {
        let begin = Instant::now();
        let Nothing {} = self
            .cri
            .call("StartContainer", &ContainerId { id: id.to_owned() })?;
        Ok(begin.elapsed())
    }

    /// Creates a container; answers its id and the time of `CreateContainer`.
    pub(super) fn create(&self, reference: &str, name: &str) -> Result<(String, Duration)> {
        let bridge = !self.config.hostname.is_empty();
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata {
                name: name.to_owned(),
            }),
            image: Some(image(reference)),
            envs: [("KUBERNETES_SERVICE_HOST", "10.0.0.1"), ("PORT", "80")]
                .map(|(key, value)| KeyValue {
                    key: key.to_owned(),
                    value: value.to_owned(),
                })
                .to_vec(),
            mounts: [
                ("/etc/hosts", "hosts", false),
                ("/dev/termination-log", "termination-log", false),
                (
                    "/var/run/secrets/kubernetes.io/serviceaccount",
                    "token",
                    true,
                ),
            ]
            .map(|(place, file, readonly)| Mount {
                container_path: place.to_owned(),
                host_path: self.directory.join(file).display().to_string(),
                readonly,
            })
            .to_vec(),
            log_path: format!("{name}.log"),
            linux: Some(LinuxContainerConfig {
                resources: Some(LinuxContainerResources {
                    cpu_shares: 512,
                    memory_limit_in_bytes: 256 << 20,
                    oom_score_adj: 900,
                }),
                security_context: Some(LinuxContainerSecurityContext {
                    namespace_options: Some(namespaces(bridge)),
                    no_new_privs: true,
                    masked_paths: MASKED.map(str::to_owned).to_vec(),
                    readonly_paths: READ_ONLY.map(str::to_owned).to_vec(),
                    seccomp: Some(SecurityProfile::default()),
                }),
            }),
        };
        let request = CreateContainerRequest {
            pod_sandbox_id: self.id.clone(),
            config: Some(config),
            sandbox_config: Some(self.config.clone()),
        };
        let begin = Instant::now();
        let ContainerId { id } = self.cri.call("CreateContainer", &request)?;
        Ok((id, begin.elapsed()))
    }

    /// Ends a container at once and removes it.
    pub(super) fn remove_container(&self, id: &str) -> Result<()> {
        let request = StopContainerRequest {
            id: id.to_owned(),
            timeout: 0,
        };
        let Nothing {} = self.cri.call("StopContainer", &request)?;
        let request = ContainerId { id: id.to_owned() };
        self.cri.call_soon("RemoveContainer", &request)
    }

    /// Ends the pod with its containers and removes all there is of it.
    pub(super) fn remove(self) -> Result<()> {
        let request = PodId {
            id: self.id.clone(),
        };
        let Nothing {} = self.cri.call("StopPodSandbox", &request)?;
        self.cri.call_soon("RemovePodSandbox", &request)?;
        self.group.remove();
        fs::remove_dir_all(&self.directory)
            .with_context(|| format!("could not remove {}", self.directory.display()))
    }
}

fn namespaces(bridge: bool) -> NamespaceOption {
    NamespaceOption {
        network: if bridge { 0 } else { NODE },
        pid: CONTAINER,
        ipc: 0,
    }
}

fn image(reference: &str) -> ImageSpec {
    ImageSpec {
        image: reference.to_owned(),
    }
}
