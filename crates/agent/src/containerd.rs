//! What the agent asks containerd: which images there are and come, which containers are Wasm, and how much they use.

mod messages;

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use prost::Message as _;
use serde::de::DeserializeOwned;
use skiff_image::containerd::grpc::{Answers, CallError, Connection};

use messages as m;

/// The namespace of the kubelet's containers.
const NAMESPACE: &str = "k8s.io";
/// The runtime types of our shims.
const RUNTIMES: [&str; 3] = [
    "io.containerd.wasmtime.v1",
    "io.containerd.wasmedge.v1",
    "io.containerd.skiff.v1",
];
/// An answer on a busy node.
const PATIENCE: Duration = Duration::from_secs(15);
/// A node may get no image for a day; after so long the connection is made anew, and images are listed again.
const QUIET: Duration = Duration::from_secs(3600);
/// containerd filters by a list of expressions: not too many at once.
const AT_ONCE: usize = 100;
/// A manifest or a config.
const DOCUMENT_BYTES: u64 = 4 << 20;

/// A Wasm container of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) namespace: String,
    pub(crate) pod: String,
    pub(crate) name: String,
    pub(crate) runtime: String,
}

/// What a container uses. What its cgroups do not tell is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Figures {
    pub(crate) cpu_seconds: Option<f64>,
    pub(crate) throttled_seconds: Option<f64>,
    pub(crate) memory: Option<u64>,
    pub(crate) inactive_file: u64,
    pub(crate) memory_limit: Option<u64>,
    pub(crate) processes: Option<u64>,
    pub(crate) out_of_memory: Option<u64>,
}

/// An image: its name and what it points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) name: String,
    pub(crate) digest: String,
    pub(crate) size: u64,
    pub(crate) media_type: String,
}

/// A connection for short questions.
pub(crate) struct Containerd {
    connection: Connection,
}

impl Containerd {
    pub(crate) async fn open(socket: &Path) -> Result<Self, CallError> {
        Ok(Self {
            connection: Connection::open(socket, NAMESPACE, PATIENCE).await?,
        })
    }

    /// Containers of pods that our shims run. Pods' own (pause) containers are not among them.
    pub(crate) async fn containers(&self) -> Result<Vec<Container>, CallError> {
        let filters = RUNTIMES
            .iter()
            .map(|name| format!("runtime.name=={name:?}"))
            .collect();
        let answer: m::Containers = self
            .connection
            .unary("containers.v1.Containers/List", &m::Filters { filters })
            .await?;
        Ok(answer
            .containers
            .into_iter()
            .filter_map(container)
            .collect())
    }

    /// The pods, as namespace/name, that these sandboxes or containers are of.
    pub(crate) async fn pods(&self, ids: &[&str]) -> Result<Vec<String>, CallError> {
        let mut pods = Vec::new();
        for some in ids.chunks(AT_ONCE) {
            let filters = some.iter().map(|id| format!("id=={id:?}")).collect();
            let answer: m::Containers = self
                .connection
                .unary("containers.v1.Containers/List", &m::Filters { filters })
                .await?;
            pods.extend(answer.containers.iter().filter_map(|container| {
                let label = |name: &str| container.labels.get(name);
                let namespace = label("io.kubernetes.pod.namespace")?;
                Some(format!("{namespace}/{}", label("io.kubernetes.pod.name")?))
            }));
        }
        pods.sort();
        pods.dedup();
        Ok(pods)
    }

    /// What these containers use. Those that do not run are left out.
    pub(crate) async fn figures(&self, ids: &[&str]) -> Result<Vec<(String, Figures)>, CallError> {
        let mut found = Vec::new();
        for some in ids.chunks(AT_ONCE) {
            let filters = some.iter().map(|id| format!("id=={id:?}")).collect();
            let answer: m::Metrics = self
                .connection
                .unary("tasks.v1.Tasks/Metrics", &m::Filters { filters })
                .await?;
            found.extend(answer.metrics.into_iter().filter_map(|metric| {
                let figures = figures(&metric.data?)?;
                Some((metric.id, figures))
            }));
        }
        Ok(found)
    }

    /// All images.
    pub(crate) async fn images(&self) -> Result<Vec<Image>, CallError> {
        let answer: m::Images = self
            .connection
            .unary("images.v1.Images/List", &m::Filters::default())
            .await?;
        Ok(answer.images.into_iter().filter_map(image).collect())
    }

    /// One image; `None` if it went away meanwhile.
    pub(crate) async fn image(&self, name: &str) -> Result<Option<Image>, CallError> {
        let request = m::Named {
            name: name.to_owned(),
        };
        let answer = self
            .connection
            .unary::<m::ImageAnswer>("images.v1.Images/Get", &request)
            .await;
        match answer {
            Ok(answer) => Ok(answer.image.and_then(image)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A document of an image; `None` if containerd does not have it, or it is none.
    pub(crate) async fn document<T: DeserializeOwned>(
        &self,
        digest: &str,
        size: u64,
    ) -> Result<Option<(Vec<u8>, T)>, CallError> {
        if size > DOCUMENT_BYTES {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let read = self.copy(digest, &mut bytes).await?;
        let document = serde_json::from_slice(&bytes).ok();
        Ok(document
            .filter(|_| read == Some(size))
            .map(|document| (bytes, document)))
    }

    /// Copies a blob; answers its length, or `None` if containerd does not have it.
    pub(crate) async fn copy(
        &self,
        digest: &str,
        to: &mut dyn Write,
    ) -> Result<Option<u64>, CallError> {
        const METHOD: &str = "content.v1.Content/Read";
        let request = m::Named {
            name: digest.to_owned(),
        };
        let answers = self.connection.stream::<m::Piece>(METHOD, &request).await;
        let mut pieces = match answers {
            Err(error) if error.is_not_found() => return Ok(None),
            other => other?,
        };
        let mut length = 0;
        loop {
            match pieces.next().await {
                Ok(Some(piece)) => {
                    length += piece.data.len() as u64;
                    to.write_all(&piece.data)
                        .map_err(|error| kept(METHOD, &error))?;
                }
                Ok(None) => return Ok(Some(length)),
                Err(error) if error.is_not_found() => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}

fn kept(method: &'static str, error: &io::Error) -> CallError {
    CallError::Malformed {
        method,
        detail: format!("it cannot be written: {error}"),
    }
}

/// Names of images as they come.
pub(crate) struct Arrivals {
    // Dropped, the stream would end.
    _connection: Connection,
    answers: Answers<m::Envelope>,
}

impl Arrivals {
    pub(crate) async fn open(socket: &Path) -> Result<Self, CallError> {
        let connection = Connection::open(socket, NAMESPACE, QUIET).await?;
        let topics = ["/images/create", "/images/update"];
        let filters = topics
            .iter()
            .map(|topic| format!("topic=={topic:?},namespace=={NAMESPACE:?}"))
            .collect();
        let answers = connection
            .stream("events.v1.Events/Subscribe", &m::Filters { filters })
            .await?;
        Ok(Self {
            _connection: connection,
            answers,
        })
    }

    /// The next one; `None` when containerd has ended the stream.
    pub(crate) async fn next(&mut self) -> Result<Option<String>, CallError> {
        while let Some(envelope) = self.answers.next().await? {
            let event = envelope.event.unwrap_or_default();
            if let Ok(named) = m::Named::decode(event.value.as_slice()) {
                return Ok(Some(named.name));
            }
        }
        Ok(None)
    }
}

fn container(container: m::Container) -> Option<Container> {
    let label = |name: &str| container.labels.get(name).cloned();
    if label("io.cri-containerd.kind").as_deref() != Some("container") {
        return None;
    }
    Some(Container {
        namespace: label("io.kubernetes.pod.namespace")?,
        pod: label("io.kubernetes.pod.name")?,
        name: label("io.kubernetes.container.name")?,
        runtime: container.runtime.unwrap_or_default().name,
        id: container.id,
    })
}

fn image(image: m::Image) -> Option<Image> {
    let target = image.target?;
    Some(Image {
        name: image.name,
        digest: target.digest,
        size: u64::try_from(target.size).ok()?,
        media_type: target.media_type,
    })
}

/// No limit is a number near the largest, which one depends on the kernel.
fn limit(bytes: u64) -> Option<u64> {
    (bytes > 0 && bytes < 1 << 62).then_some(bytes)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "seconds of processor time, of which nobody counts nanoseconds for years"
)]
fn seconds(count: u64, a_second: f64) -> f64 {
    count as f64 / a_second
}

fn figures(data: &m::Any) -> Option<Figures> {
    match data.type_url.rsplit('/').next()? {
        "io.containerd.cgroups.v1.Metrics" => {
            let metrics = m::v1::Metrics::decode(data.value.as_slice()).ok()?;
            let cpu = metrics.cpu.unwrap_or_default();
            let memory = metrics.memory;
            let usage = memory.as_ref().and_then(|memory| memory.usage.clone());
            Some(Figures {
                cpu_seconds: cpu.usage.map(|usage| seconds(usage.total, 1e9)),
                throttled_seconds: cpu
                    .throttling
                    .map(|throttling| seconds(throttling.time, 1e9)),
                memory: usage.as_ref().map(|usage| usage.usage),
                inactive_file: memory.map_or(0, |memory| memory.total_inactive_file),
                memory_limit: usage.and_then(|usage| limit(usage.limit)),
                processes: metrics.pids.map(|pids| pids.current),
                out_of_memory: metrics.memory_oom_control.map(|control| control.oom_kill),
            })
        }
        "io.containerd.cgroups.v2.Metrics" => {
            let metrics = m::v2::Metrics::decode(data.value.as_slice()).ok()?;
            let memory = metrics.memory;
            Some(Figures {
                cpu_seconds: metrics.cpu.as_ref().map(|cpu| seconds(cpu.usage, 1e6)),
                throttled_seconds: metrics.cpu.map(|cpu| seconds(cpu.throttled, 1e6)),
                memory: memory.as_ref().map(|memory| memory.usage),
                inactive_file: memory.as_ref().map_or(0, |memory| memory.inactive_file),
                memory_limit: memory.and_then(|memory| limit(memory.usage_limit)),
                processes: metrics.pids.map(|pids| pids.current),
                out_of_memory: metrics.memory_events.map(|events| events.oom_kill),
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_figures_are_read() {
        let v1 = m::v1::Metrics {
            cpu: Some(m::v1::Cpu {
                usage: Some(m::v1::CpuUsage {
                    total: 1_500_000_000,
                }),
                throttling: None,
            }),
            memory: Some(m::v1::Memory {
                total_inactive_file: 5,
                usage: Some(m::v1::MemoryEntry {
                    limit: u64::MAX >> 1,
                    usage: 7,
                }),
            }),
            ..m::v1::Metrics::default()
        };
        let any = |name: &str, value| m::Any {
            type_url: name.to_owned(),
            value,
        };
        let found = figures(&any("io.containerd.cgroups.v1.Metrics", v1.encode_to_vec())).unwrap();
        assert_eq!(found.cpu_seconds, Some(1.5));
        assert_eq!(
            (found.memory, found.inactive_file, found.memory_limit),
            (Some(7), 5, None)
        );
        assert_eq!(found.processes, None);
        let v2 = m::v2::Metrics {
            cpu: Some(m::v2::Cpu {
                usage: 2_500_000,
                throttled: 500_000,
            }),
            memory: Some(m::v2::Memory {
                inactive_file: 1,
                usage: 9,
                usage_limit: 64,
            }),
            memory_events: Some(m::v2::MemoryEvents { oom_kill: 2 }),
            ..m::v2::Metrics::default()
        };
        let found = figures(&any("io.containerd.cgroups.v2.Metrics", v2.encode_to_vec())).unwrap();
        assert_eq!(
            (found.cpu_seconds, found.throttled_seconds),
            (Some(2.5), Some(0.5))
        );
        assert_eq!(
            (found.memory, found.memory_limit, found.out_of_memory),
            (Some(9), Some(64), Some(2))
        );
        assert!(figures(&any("x", Vec::new())).is_none());
    }

    #[test]
    fn pause_containers_are_not_told() {
        let labelled = |kind: &str| m::Container {
            id: "c".to_owned(),
            labels: [
                ("io.cri-containerd.kind", kind),
                ("io.kubernetes.pod.namespace", "n"),
                ("io.kubernetes.pod.name", "p"),
                ("io.kubernetes.container.name", "app"),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
            runtime: None,
        };
        assert!(container(labelled("sandbox")).is_none());
        assert_eq!(container(labelled("container")).unwrap().pod, "p");
    }
}
