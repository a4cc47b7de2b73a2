//! Images for tests, written byte by byte: independent of the builder under test, and able to be wrong.

mod archive;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use crate::command;

pub use archive::{Entry, tar};

/// Media type of a Wasm layer.
pub const WASM_LAYER: &str = "application/wasm";
/// Media type of a component's layer, in images of older tools.
pub const COMPONENT_LAYER: &str = "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm";

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const ROOT_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// An image to be imported or pushed.
#[derive(Clone, Debug)]
pub struct Image {
    name: String,
    manifests: Vec<Manifest>,
    index: bool,
}

/// One platform's entry of an image.
#[derive(Clone, Debug)]
struct Manifest {
    os: &'static str,
    architecture: String,
    root: Vec<Entry>,
    /// Layers over the root's.
    over: Vec<Vec<Entry>>,
    layers: Vec<Layer>,
    config: Map<String, Value>,
    annotations: Map<String, Value>,
    artifact: bool,
}

#[derive(Clone, Debug)]
struct Layer {
    media_type: String,
    bytes: Vec<u8>,
    title: Option<String>,
    /// What the archive holds instead, under the digest of `bytes`.
    stored: Option<Vec<u8>>,
}

/// The parts of an image, as a registry wants them.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Every blob, by digest, manifests included.
    pub blobs: BTreeMap<String, Vec<u8>>,
    /// The descriptor of the manifest or index that is the image.
    pub top: Value,
}

impl Parts {
    /// Takes an OCI archive apart.
    ///
    /// # Errors
    /// If it cannot be unpacked by `tar`, or names no image.
    pub fn read(archive: &Path) -> Result<Self> {
        let directory = archive.with_extension("d");
        std::fs::create_dir(&directory)?;
        let mut tar = Command::new("tar");
        tar.arg("-xf").arg(archive).arg("-C").arg(&directory);
        command::run(&mut tar)?.ok()?;
        let mut blobs = BTreeMap::new();
        for entry in std::fs::read_dir(directory.join("blobs/sha256"))? {
            let entry = entry?;
            let digest = format!("sha256:{}", entry.file_name().display());
            blobs.insert(digest, std::fs::read(entry.path())?);
        }
        let index: Value = serde_json::from_slice(&std::fs::read(directory.join("index.json"))?)?;
        let top = index["manifests"]
            .get(0)
            .context("the archive names no image")?;
        std::fs::remove_dir_all(directory)?;
        Ok(Self {
            blobs,
            top: top.clone(),
        })
    }
}

impl Image {
    /// The module or component is a layer of its own type; the root is empty.
    pub fn layer(name: &str, module: &[u8]) -> Self {
        Self::with_layer(name, WASM_LAYER, module)
    }

    /// The same with a media type of the caller's.
    pub fn with_layer(name: &str, media_type: &str, module: &[u8]) -> Self {
        let mut manifest = Manifest::new("wasip1", "wasm");
        manifest.layers.push(Layer {
            media_type: media_type.to_owned(),
            bytes: module.to_vec(),
            title: None,
            stored: None,
        });
        manifest
            .config
            .insert("Entrypoint".to_owned(), json!(["/app.wasm"]));
        Self {
            name: reference(name),
            manifests: vec![manifest],
            index: false,
        }
    }

    /// The module is the file `/app.wasm` of an ordinary Linux image.
    pub fn root_file(name: &str, module: &[u8]) -> Self {
        Self::linux(name, &[Entry::file("app.wasm", 0o755, module)]).entrypoint(&["/app.wasm"])
    }

    /// Both in one index: a Wasm entry with a layer, and an entry for this machine with a file in the root.
    pub fn combined(name: &str, module: &[u8]) -> Self {
        let mut image = Self::layer(name, module);
        image
            .manifests
            .extend(Self::root_file(name, module).manifests);
        image.index = true;
        image
    }

    /// An OCI Wasm artifact: no image config, so no entrypoint.
    pub fn artifact(name: &str, module: &[u8]) -> Self {
        let mut image = Self::layer(name, module);
        image.manifests[0].artifact = true;
        image
    }

    /// An ordinary image for this machine.
    pub fn linux(name: &str, root: &[Entry]) -> Self {
        let mut manifest = Manifest::new("linux", go_architecture());
        manifest.root = root.to_vec();
        Self {
            name: reference(name),
            manifests: vec![manifest],
            index: false,
        }
    }

    /// A Linux image with nothing but the machine's static busybox, at `/bin/busybox`.
    ///
    /// # Errors
    /// If there is none; the package is busybox-static.
    pub fn busybox(name: &str) -> Result<Self> {
        let program = std::fs::read("/bin/busybox")?;
        let mut root = vec![
            Entry::directory("bin"),
            Entry::file("bin/busybox", 0o755, &program),
        ];
        root.extend(
            ["sh", "sleep", "echo", "cat", "env", "top"]
                .map(|applet| Entry::symlink(&format!("bin/{applet}"), "busybox")),
        );
        Ok(Self::linux(name, &root))
    }

    /// Adds files to the root of every entry that has one.
    pub fn with_root(mut self, entries: &[Entry]) -> Self {
        for manifest in self
            .manifests
            .iter_mut()
            .filter(|manifest| manifest.layers.is_empty())
        {
            manifest.root.extend(entries.iter().cloned());
        }
        self
    }

    /// Adds a layer over the root of every entry that has one.
    pub fn with_layer_over(mut self, entries: &[Entry]) -> Self {
        for manifest in self
            .manifests
            .iter_mut()
            .filter(|manifest| manifest.layers.is_empty())
        {
            manifest.over.push(entries.to_vec());
        }
        self
    }

    /// Adds entries for other architectures with the content of the first, in an index. They pull and cannot run.
    pub fn also_for(mut self, architectures: &[&str]) -> Self {
        for architecture in architectures {
            let mut manifest = self.manifests[0].clone();
            (*architecture).clone_into(&mut manifest.architecture);
            // The layers of another architecture are other layers.
            let mark = Entry::file("architecture", 0o644, architecture.as_bytes());
            manifest.root.push(mark);
            self.manifests.push(manifest);
        }
        self.index = true;
        self
    }

    /// Adds the entries of another image, in an index.
    pub fn with_entries_of(mut self, other: &Self) -> Self {
        self.manifests.extend(other.manifests.iter().cloned());
        self.index = true;
        self
    }

    /// The image's entrypoint.
    pub fn entrypoint(self, words: &[&str]) -> Self {
        self.config("Entrypoint", &json!(words))
    }

    /// The image's arguments.
    pub fn command(self, words: &[&str]) -> Self {
        self.config("Cmd", &json!(words))
    }

    /// The image's environment.
    pub fn environment(self, words: &[&str]) -> Self {
        self.config("Env", &json!(words))
    }

    /// Any field of the image's `config`.
    pub fn config(mut self, field: &str, value: &Value) -> Self {
        for manifest in &mut self.manifests {
            manifest.config.insert(field.to_owned(), value.clone());
        }
        self
    }

    /// An annotation of every manifest.
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        for manifest in &mut self.manifests {
            manifest.annotations.insert(key.to_owned(), json!(value));
        }
        self
    }

    /// Titles the Wasm layers.
    pub fn title(mut self, title: &str) -> Self {
        for layer in self
            .manifests
            .iter_mut()
            .flat_map(|manifest| &mut manifest.layers)
        {
            layer.title = Some(title.to_owned());
        }
        self
    }

    /// The blobs of the Wasm layers hold other bytes than their digests say.
    pub fn stored_as(mut self, bytes: &[u8]) -> Self {
        for layer in self
            .manifests
            .iter_mut()
            .flat_map(|manifest| &mut manifest.layers)
        {
            layer.stored = Some(bytes.to_vec());
        }
        self
    }

    /// Wraps the entries into an index even if there is only one.
    pub fn as_index(mut self) -> Self {
        self.index = true;
        self
    }

    /// What `ctr` calls it: `skiff.test/<name>:1`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What to give to `--platform`, when the machine's own does not do.
    pub fn platform(&self) -> Option<String> {
        let own = self.manifests.iter().any(|manifest| manifest.os == "linux");
        (!own).then(|| {
            format!(
                "{}/{}",
                self.manifests[0].os, self.manifests[0].architecture
            )
        })
    }

    /// All blobs, and the descriptor of the image.
    pub fn parts(&self) -> Parts {
        let mut blobs = BTreeMap::new();
        let mut descriptors: Vec<Value> = self
            .manifests
            .iter()
            .map(|manifest| manifest.write(&mut blobs))
            .collect();
        let top = if self.index {
            let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": descriptors });
            store(&mut blobs, INDEX, &index.to_string().into_bytes())
        } else {
            descriptors.remove(0)
        };
        Parts { blobs, top }
    }

    /// Writes an OCI archive.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let Parts { blobs, mut top } = self.parts();
        top["annotations"] = json!({ "io.containerd.image.name": self.name, "org.opencontainers.image.ref.name": "1" });
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [top] });
        let mut entries = vec![
            Entry::file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#),
            Entry::file("index.json", 0o644, index.to_string().as_bytes()),
        ];
        for (digest, bytes) in &blobs {
            entries.push(Entry::file(
                &format!("blobs/{}", digest.replace(':', "/")),
                0o644,
                bytes,
            ));
        }
        std::fs::write(path, tar(&entries))?;
        Ok(())
    }
}

impl Manifest {
    fn new(os: &'static str, architecture: &str) -> Self {
        Self {
            os,
            architecture: architecture.to_owned(),
            root: Vec::new(),
            over: Vec::new(),
            layers: Vec::new(),
            config: Map::new(),
            annotations: Map::new(),
            artifact: false,
        }
    }

    /// Stores the manifest and all it names, and answers its descriptor.
    fn write(&self, blobs: &mut BTreeMap<String, Vec<u8>>) -> Value {
        let mut layers = Vec::new();
        // containerd refuses Wasm layers with a diff id: it knows no way to unpack them.
        let mut diff_ids = Vec::new();
        let root = (!self.root.is_empty()).then_some(&self.root);
        for entries in root.into_iter().chain(&self.over) {
            let layer = store(blobs, ROOT_LAYER, &tar(entries));
            diff_ids.push(layer["digest"].clone());
            layers.push(layer);
        }
        for layer in &self.layers {
            let mut descriptor = store(blobs, &layer.media_type, &layer.bytes);
            if let (Some(stored), Some(digest)) = (&layer.stored, descriptor["digest"].as_str()) {
                blobs.insert(digest.to_owned(), stored.clone());
            }
            if let Some(title) = &layer.title {
                descriptor["annotations"] = json!({ "org.opencontainers.image.title": title });
            }
            layers.push(descriptor);
        }
        let config = if self.artifact {
            let body = json!({
                "created": "2026-01-01T00:00:00Z", "architecture": "wasm", "os": self.os,
                "layerDigests": layers.iter().map(|layer| layer["digest"].clone()).collect::<Vec<_>>(),
            });
            store(
                blobs,
                "application/vnd.wasm.config.v0+json",
                &body.to_string().into_bytes(),
            )
        } else {
            let body = json!({
                "created": "2026-01-01T00:00:00Z", "architecture": self.architecture, "os": self.os,
                "config": self.config, "rootfs": { "type": "layers", "diff_ids": diff_ids },
            });
            store(blobs, CONFIG, &body.to_string().into_bytes())
        };
        let mut manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
        if !self.annotations.is_empty() {
            manifest["annotations"] = Value::Object(self.annotations.clone());
        }
        let mut descriptor = store(blobs, MANIFEST, &manifest.to_string().into_bytes());
        descriptor["platform"] = json!({ "os": self.os, "architecture": self.architecture });
        descriptor
    }
}

/// `sha256:…` of bytes.
pub fn digest(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    let mut text = "sha256:".to_owned();
    for byte in sha2::Sha256::digest(bytes) {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// What container images call this machine's architecture.
pub fn go_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn reference(name: &str) -> String {
    format!("skiff.test/{name}:1")
}

fn store(blobs: &mut BTreeMap<String, Vec<u8>>, media_type: &str, bytes: &[u8]) -> Value {
    let digest = digest(bytes);
    blobs.insert(digest.clone(), bytes.to_vec());
    json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
}
