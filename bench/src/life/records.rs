//! The containerd that stands behind the shims: it holds the image and the container record of what is run, which
//! shims for Wasm ask for. It starts none of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use prost::Message;
use skiff_test::image::Image;
use skiff_test::node::Options;
use skiff_test::{Node, Version, runner};

use crate::node::grpc::Connection;
use crate::runtime::Runtime;
use crate::settings::Settings;

/// The name under which containerd's clients store a spec.
const SPEC: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";

/// A started containerd with images, and a connection to it.
pub(crate) struct Records {
    node: Mutex<Option<Node>>,
    connection: Mutex<Option<Connection>>,
    directory: PathBuf,
    root_image: String,
    layer_image: String,
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

impl Records {
    /// Starts it and imports the module as both kinds of image.
    pub(crate) fn start(settings: &Settings, module: &[u8]) -> Result<Self> {
        let directory = settings.place.join("c");
        let node = Node::with(
            Version::V2_4,
            Options {
                directory: Some(directory.clone()),
                namespace: Some(settings.name.clone()),
                quiet: true,
                ..Options::default()
            },
        )?;
        let root_image = node.import(&Image::root_file("bench", module))?;
        let layer_image = node.import(&Image::layer("bench-layer", module))?;
        let connection = Connection::open(&directory.join("c.sock"))?.in_namespace(&settings.name);
        Ok(Self {
            node: Mutex::new(Some(node)),
            connection: Mutex::new(Some(connection)),
            directory,
            root_image,
            layer_image,
        })
    }

    /// containerd's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join("c.sock")
    }

    /// Records a container, as CRI does before it creates the task.
    pub(crate) fn create(&self, id: &str, runtime: Runtime, spec: &str) -> Result<()> {
        let image = if runtime.in_layer() {
            &self.layer_image
        } else {
            &self.root_image
        };
        let container = Container {
            id: id.to_owned(),
            image: image.clone(),
            runtime: Some(Name {
                name: runtime.kind().to_owned(),
            }),
            spec: Some(Any {
                type_url: SPEC.to_owned(),
                value: spec.as_bytes().to_vec(),
            }),
        };
        let _: CreateContainer = self.call(
            "Create",
            &CreateContainer {
                container: Some(container),
            },
        )?;
        Ok(())
    }

    /// Forgets a container.
    pub(crate) fn delete(&self, id: &str) -> Result<()> {
        let _: Nothing = self.call("Delete", &DeleteContainer { id: id.to_owned() })?;
        Ok(())
    }

    /// That the shim has stored compiled code here, which its next starts find.
    pub(crate) fn expect_precompiled(&self) -> Result<()> {
        let node = self.node.lock().unwrap_or_else(PoisonError::into_inner);
        let node = node.as_ref().context("containerd was stopped")?;
        let listed = node.ctr(&["content", "ls"])?.ok()?;
        ensure!(
            listed.contains("runwasi.io/precompiled"),
            "the runwasi shim has stored no compiled code: {listed}"
        );
        Ok(())
    }

    /// Stops it, if it runs.
    ///
    /// # Errors
    /// If something was left behind.
    pub(crate) fn finish(&self) -> Result<()> {
        drop(lock(&self.connection).take());
        drop(lock(&self.node).take());
        let faults = runner::take_faults();
        ensure!(faults.is_empty(), "{}", faults.join("\n"));
        remove(&self.directory)
    }

    fn call<A: Message + Default>(&self, method: &str, request: &impl Message) -> Result<A> {
        let connection = lock(&self.connection);
        let method = format!("containerd.services.containers.v1.Containers/{method}");
        connection
            .as_ref()
            .context("containerd was stopped")?
            .call(&method, request)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn remove(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory)?;
    }
    Ok(())
}

/// The request and the answer of `Containers.Create`.
#[derive(Clone, PartialEq, Message)]
struct CreateContainer {
    #[prost(message, optional, tag = "1")]
    container: Option<Container>,
}

#[derive(Clone, PartialEq, Message)]
struct DeleteContainer {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Message)]
struct Nothing {}

/// What is written of containerd's container record.
#[derive(Clone, PartialEq, Message)]
struct Container {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "3")]
    image: String,
    #[prost(message, optional, tag = "4")]
    runtime: Option<Name>,
    #[prost(message, optional, tag = "5")]
    spec: Option<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct Name {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}
