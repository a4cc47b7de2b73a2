//! The proof that an installation works: containerd answers, its CRI plugin has the handlers, and a container of each
//! has run and printed its line. Asked over containerd's socket; nothing of the node's own is needed for it.
//!
//! The probe's image and containers are in a namespace of their own, which is removed afterwards.

mod messages;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use prost::Message as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use skiff_image::containerd::grpc::{CallError, Connection};

use crate::config::Handler;
use crate::doctor;
use crate::files::{self, FileError};
use crate::host::Host;
use messages as m;

/// containerd's namespace for probes.
pub const NAMESPACE: &str = "skiff-probe";
/// What a probe prints.
const LINE: &str = "skiff probe\n";
/// The module; `hello.wat` is its text.
const MODULE: &[u8] = include_bytes!("proof/hello.wasm");
const IMAGE: &str = "skiff.dev/probe:1";
/// The probe's root and its output, on the node.
const FOLDER: &str = "/run/skiff-node/probe";

/// What was not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// There is no runtime to ask with.
    #[error("could not prepare to ask containerd")]
    Prepare(#[source] io::Error),
    /// containerd does not answer, or refuses.
    #[error(transparent)]
    Call(#[from] CallError),
    /// CRI does not know a handler.
    #[error("containerd's CRI plugin has no handler {0}")]
    NoHandler(String),
    /// CRI says nothing of its handlers.
    #[error("containerd's CRI plugin tells nothing of its handlers")]
    NoConfig,
    /// A probe did not do its work.
    #[error("the probe container of handler {handler} {failure}")]
    Probe {
        /// The handler.
        handler: String,
        /// What became of it.
        failure: String,
    },
    /// The node's files.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Proof<'a> {
    /// The node.
    pub host: &'a Host,
    /// containerd's socket on it.
    pub address: &'a Path,
    /// The handlers to prove.
    pub handlers: &'a [Handler],
    /// All of it may take so long.
    pub patience: Duration,
}

impl Proof<'_> {
    /// Asks CRI for its version, and whether it has the handlers.
    ///
    /// # Errors
    /// See [`ProofError`].
    pub fn handlers(&self) -> Result<(), ProofError> {
        self.block(async {
            let cri = self.connect().await?.for_services("runtime.v1.");
            let request = m::VersionRequest {
                version: "v1".to_owned(),
            };
            // That there is an answer is what is asked.
            cri.unary::<m::Nothing>("RuntimeService/Version", &request)
                .await?;
            let request = m::StatusRequest { verbose: true };
            let status: m::StatusResponse = cri.unary("RuntimeService/Status", &request).await?;
            let config: Option<Value> = status
                .info
                .get("config")
                .and_then(|text| serde_json::from_str(text).ok());
            let runtimes = config
                .as_ref()
                .and_then(|config| config.get("containerd")?.get("runtimes"));
            let runtimes = runtimes.ok_or(ProofError::NoConfig)?;
            for handler in self.handlers {
                let found = runtimes.get(&handler.name);
                let kind = found.and_then(|found| found.get("runtimeType")?.as_str());
                if kind != Some(&handler.engine.runtime_type()) {
                    return Err(ProofError::NoHandler(handler.name.clone()));
                }
            }
            Ok(())
        })
    }

    /// Runs a probe container of each handler, with the shim in `folder`: that of the handler, or one that is not in
    /// use yet.
    ///
    /// # Errors
    /// See [`ProofError`].
    pub fn probes(&self, folder: &Path) -> Result<(), ProofError> {
        let begun = Instant::now();
        let run = self.block(async {
            let connection = self.connect().await?;
            let probes = Probes {
                proof: *self,
                connection: &connection,
                begun,
            };
            probes.clear().await?;
            let ran = probes.run(folder).await;
            let cleared = probes.clear().await;
            ran.and(cleared)
        });
        files::remove_all(self.host, Path::new(FOLDER))?;
        run
    }

    async fn connect(&self) -> Result<Connection, ProofError> {
        let place = self.host.place(self.address).map_err(ProofError::Prepare)?;
        Ok(Connection::open(&place, NAMESPACE, self.patience).await?)
    }

    fn block<T>(&self, work: impl Future<Output = Result<T, ProofError>>) -> Result<T, ProofError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(ProofError::Prepare)?;
        runtime.block_on(work)
    }
}

struct Probes<'a> {
    proof: Proof<'a>,
    connection: &'a Connection,
    begun: Instant,
}

/// A thing of the probe's that is not there is removed already.
fn gone(answer: Result<m::Nothing, CallError>) -> Result<(), ProofError> {
    match answer {
        Err(error) if !error.is_not_found() => Err(error.into()),
        _ => Ok(()),
    }
}

impl Probes<'_> {
    async fn run(&self, folder: &Path) -> Result<(), ProofError> {
        let manifest = self.import().await?;
        self.connection
            .unary::<m::Nothing>(
                "images.v1.Images/Create",
                &m::CreateImage {
                    image: Some(m::Image {
                        name: IMAGE.to_owned(),
                        target: Some(manifest),
                    }),
                },
            )
            .await?;
        for handler in self.proof.handlers {
            let ran = self.run_one(handler, folder).await;
            if let Err(error) = ran {
                return Err(self.explained(handler, &error));
            }
        }
        Ok(())
    }

    /// Puts the image into containerd's content store.
    async fn import(&self) -> Result<m::Descriptor, ProofError> {
        let layer = self.write("application/wasm", MODULE.to_vec()).await?;
        let config = json!({
            "architecture": "wasm",
            "os": "wasip1",
            "config": { "Entrypoint": ["/hello.wasm"] },
            "rootfs": { "type": "layers", "diff_ids": [] },
        });
        let config = self
            .write(
                "application/vnd.oci.image.config.v1+json",
                config.to_string().into_bytes(),
            )
            .await?;
        let reference = |descriptor: &m::Descriptor| json!({ "mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size });
        let mut layer = reference(&layer);
        layer["annotations"] = json!({ "org.opencontainers.image.title": "hello.wasm" });
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": reference(&config),
            "layers": [layer],
        });
        self.write(
            "application/vnd.oci.image.manifest.v1+json",
            manifest.to_string().into_bytes(),
        )
        .await
    }

    async fn write(&self, media_type: &str, data: Vec<u8>) -> Result<m::Descriptor, ProofError> {
        let digest = digest(&data);
        let size = i64::try_from(data.len()).unwrap_or(i64::MAX);
        // Nothing collects it while the probes run: their image is known to containerd only afterwards.
        let root = ("containerd.io/gc.root".to_owned(), "skiff-probe".to_owned());
        let request = m::WriteContent {
            action: 2,
            reference: format!("{NAMESPACE}-{digest}"),
            total: size,
            expected: digest.clone(),
            data,
            labels: HashMap::from([root]),
        };
        // One answer tells of the data, another of the commit.
        let written = async {
            let mut answers = self
                .connection
                .stream::<m::Nothing>("content.v1.Content/Write", &request)
                .await?;
            while answers.next().await?.is_some() {}
            Ok(())
        };
        match written.await {
            Err(CallError::Status { code, .. })
                if code == skiff_image::containerd::Code::ALREADY_EXISTS => {}
            other => other?,
        }
        Ok(m::Descriptor {
            media_type: media_type.to_owned(),
            digest,
            size,
        })
    }

    async fn run_one(&self, handler: &Handler, folder: &Path) -> Result<(), ProofError> {
        let failed = |failure: String| ProofError::Probe {
            handler: handler.name.clone(),
            failure,
        };
        let id = id(handler);
        let options = handler.systemd_cgroup.then(|| m::Any {
            type_url: "runtimeoptions.v1.Options".to_owned(),
            value: m::RuntimeOptions {
                config_body: b"SystemdCgroup = true\n".to_vec(),
            }
            .encode_to_vec(),
        });
        let container = m::Container {
            id: id.clone(),
            image: IMAGE.to_owned(),
            runtime: Some(m::Runtime {
                name: handler.engine.runtime_type(),
                // The task gets them too; options of the task's own may only be runc's.
                options,
            }),
            spec: Some(m::Any {
                type_url: "types.containerd.io/opencontainers/runtime-spec/1/Spec".to_owned(),
                value: spec(handler).to_string().into_bytes(),
            }),
        };
        let request = m::CreateContainer {
            container: Some(container),
        };
        self.connection
            .unary::<m::Nothing>("containers.v1.Containers/Create", &request)
            .await?;
        let root = Path::new(FOLDER).join("root");
        files::folder(self.proof.host, &root)?;
        let task = m::CreateTask {
            container_id: id.clone(),
            rootfs: vec![m::Mount {
                kind: "bind".to_owned(),
                source: root.display().to_string(),
                options: vec!["rbind".to_owned(), "ro".to_owned()],
            }],
            stdout: format!("file://{}", output(handler, "out").display()),
            stderr: format!("file://{}", output(handler, "err").display()),
            runtime_path: folder.join(handler.engine.shim()).display().to_string(),
        };
        self.connection
            .unary::<m::Nothing>("tasks.v1.Tasks/Create", &task)
            .await?;
        let name = m::Named { name: id };
        self.connection
            .unary::<m::Nothing>("tasks.v1.Tasks/Start", &name)
            .await?;
        let left = self.proof.patience.saturating_sub(self.begun.elapsed());
        let waited = self
            .connection
            .unary::<m::Waited>("tasks.v1.Tasks/Wait", &name);
        let waited = tokio::time::timeout(left, waited).await;
        let waited = waited.map_err(|_| {
            failed(format!(
                "did not end within {} s",
                self.proof.patience.as_secs()
            ))
        })??;
        let printed = self.printed(handler, "out");
        if waited.exit_status != 0 {
            return Err(failed(format!("ended with {}", waited.exit_status)));
        }
        if printed != LINE {
            return Err(failed(format!("printed {printed:?} instead of {LINE:?}")));
        }
        Ok(())
    }

    fn printed(&self, handler: &Handler, stream: &str) -> String {
        let place = self.proof.host.place(&output(handler, stream));
        place.and_then(fs::read_to_string).unwrap_or_default()
    }

    /// An error with what the container itself said of it.
    fn explained(&self, handler: &Handler, error: &ProofError) -> ProofError {
        let said = self.printed(handler, "err");
        let said = said.trim();
        let failure = match error {
            ProofError::Probe { failure, .. } => failure.clone(),
            other => format!("could not be run: {}", doctor::sentence(other)),
        };
        ProofError::Probe {
            handler: handler.name.clone(),
            failure: if said.is_empty() {
                failure
            } else {
                format!("{failure}: {said}")
            },
        }
    }

    /// Removes everything of the probes', also what a killed run has left.
    async fn clear(&self) -> Result<(), ProofError> {
        let ask = |method, name: String| async move {
            let request = m::Named { name };
            self.connection.unary::<m::Nothing>(method, &request).await
        };
        for handler in self.proof.handlers {
            let id = id(handler);
            let kill = m::Kill {
                container_id: id.clone(),
                signal: 9,
            };
            // A task that has ended, or was never started, is deleted as well.
            if self
                .connection
                .unary::<m::Nothing>("tasks.v1.Tasks/Kill", &kill)
                .await
                .is_ok()
            {
                let request = m::Named { name: id.clone() };
                let wait = self
                    .connection
                    .unary::<m::Waited>("tasks.v1.Tasks/Wait", &request);
                tokio::time::timeout(Duration::from_secs(2), wait)
                    .await
                    .ok();
            }
            gone(ask("tasks.v1.Tasks/Delete", id.clone()).await)?;
            gone(ask("containers.v1.Containers/Delete", id).await)?;
        }
        gone(ask("images.v1.Images/Delete", IMAGE.to_owned()).await)?;
        for digest in self.contents().await? {
            gone(ask("content.v1.Content/Delete", digest).await)?;
        }
        // A task or a blob of another handler's may keep it; the next run tries again.
        ask("namespaces.v1.Namespaces/Delete", NAMESPACE.to_owned())
            .await
            .ok();
        Ok(())
    }

    /// Digests of all content in the namespace.
    async fn contents(&self) -> Result<Vec<String>, ProofError> {
        let mut found = Vec::new();
        let mut pages = self
            .connection
            .stream::<m::ContentPage>("content.v1.Content/List", &m::Nothing {})
            .await?;
        while let Some(page) = pages.next().await? {
            found.extend(page.info.into_iter().map(|info| info.digest));
        }
        Ok(found)
    }
}

fn id(handler: &Handler) -> String {
    format!("{NAMESPACE}-{}", handler.name)
}

fn output(handler: &Handler, stream: &str) -> PathBuf {
    Path::new(FOLDER).join(format!("{}.{stream}", handler.name))
}

fn spec(handler: &Handler) -> Value {
    let id = id(handler);
    let cgroup = if handler.systemd_cgroup {
        format!("system.slice:{NAMESPACE}:{}", handler.name)
    } else {
        format!("/{id}")
    };
    json!({
        "ociVersion": "1.1.0",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["/hello.wasm"],
            "env": [],
            "cwd": "/",
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs", "readonly": true },
        "linux": {
            "cgroupsPath": cgroup,
            "namespaces": [
                { "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }, { "type": "network" },
            ],
        },
    })
}

fn digest(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}").expect("a string takes all that is written");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_is_made_from_its_text() {
        let text = include_str!("proof/hello.wat");
        assert_eq!(wat::parse_str(text).unwrap(), MODULE);
    }
}
