//! Compiles the modules of images when containerd gets them, so that the first pod does not wait for it.
//!
//! An image that is Wasm is copied out of containerd as an archive, which `skiff cache warm` on the node compiles: by
//! the same workers, into the same cache and under the same keys as a pod's start. What is no Wasm is not looked into.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Value, json};
use skiff_image::view::{CONFIG_ARTIFACT, LAYER_COMPONENT, LAYER_WASM};
use skiff_node::daemon;
use skiff_node::host::Host;
use skiff_node::installer::WARM;
use tar::{EntryType, Header};

use crate::arguments::Common;
use crate::containerd::{Arrivals, Containerd, Image};
use crate::log;
use crate::programs;
use crate::serve::Shared;

/// Until containerd is asked again after it went away.
const PAUSE: Duration = Duration::from_secs(5);
/// Larger images are left to the first pod: they would be copied whole.
const LARGEST: u64 = 256 << 20;
/// Images that were looked at are remembered; a node has some hundreds.
const REMEMBERED: usize = 10_000;

pub(crate) async fn run(common: &Common, shared: &Shared) -> anyhow::Result<()> {
    let mut known = HashSet::new();
    loop {
        // What ends a round is containerd's end, mostly: it is restarted now and then.
        if let Err(error) = round(common, shared, &mut known).await {
            log::warning(&format!(
                "images are not compiled ahead for a moment: {error:#}"
            ));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn round(
    common: &Common,
    shared: &Shared,
    known: &mut HashSet<String>,
) -> anyhow::Result<()> {
    let host = Host::new(&common.root);
    let socket = daemon::socket(&host, &common.asked()).context("containerd does not answer")?;
    let containerd = Containerd::open(&socket).await?;
    let there = async {
        for image in containerd.images().await? {
            warm(common, shared, &containerd, &image, known).await?;
        }
        anyhow::Ok(())
    };
    // Asked for first, so that nothing comes between; answered when the first image comes, which may be in a week.
    let arrivals = async { anyhow::Ok(Arrivals::open(&socket).await?) };
    let (mut arrivals, ()) = tokio::try_join!(arrivals, there)?;
    while let Some(name) = arrivals.next().await? {
        if let Some(image) = containerd.image(&name).await? {
            warm(common, shared, &containerd, &image, known).await?;
        }
    }
    Ok(())
}

/// Compiles an image's modules, if it has any and is not known.
async fn warm(
    common: &Common,
    shared: &Shared,
    containerd: &Containerd,
    image: &Image,
    known: &mut HashSet<String>,
) -> anyhow::Result<()> {
    if known.len() >= REMEMBERED {
        known.clear();
    }
    if !known.insert(image.digest.clone()) {
        return Ok(());
    }
    let parts = Parts::of(containerd, image).await?;
    if parts.manifests.is_empty() {
        return Ok(());
    }
    let host = Host::new(&common.root);
    let archive = Archive::make(&host, image)?;
    let copied = parts.copy(containerd, &archive.place).await?;
    if !copied {
        // Pulled without its layers, or gone meanwhile.
        return Ok(());
    }
    let words = ["cache", "warm"].map(str::to_owned).to_vec();
    let words = [words, vec![archive.path.display().to_string()]].concat();
    match programs::skiff(common, words).await {
        Ok(document) => {
            let (compiled, cached, milliseconds) = counted(&document);
            if compiled > 0 {
                log::info(&format!(
                    "compiled {compiled} modules of {} in {milliseconds} ms",
                    image.name
                ));
            }
            shared.update(|metrics| {
                metrics.compiled += compiled;
                metrics.cached += cached;
            });
        }
        Err(error) => {
            // A pod of the image will be told the same, with its own words.
            log::warning(&format!(
                "could not compile {} ahead: {error:#}",
                image.name
            ));
            shared.update(|metrics| metrics.not_compiled += 1);
        }
    }
    Ok(())
}

fn counted(document: &Value) -> (u64, u64, u64) {
    let modules = document["modules"].as_array();
    let modules = modules.into_iter().flatten();
    modules.fold((0, 0, 0), |(compiled, cached, time), module| {
        let milliseconds = module["milliseconds"].as_u64().unwrap_or(0);
        match module["state"].as_str() {
            Some("cached") => (compiled, cached + 1, time),
            _ => (compiled + 1, cached, time + milliseconds),
        }
    })
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
    platform: Option<Platform>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Platform {
    architecture: String,
    os: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Document {
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    architecture: String,
    config: Option<Process>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Process {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
}

/// The parts of an image that hold modules.
#[derive(Debug, Default)]
struct Parts {
    /// Manifests, and with each the blobs that it names.
    manifests: Vec<(Descriptor, Vec<u8>, Vec<Descriptor>)>,
}

impl Parts {
    async fn of(containerd: &Containerd, image: &Image) -> anyhow::Result<Self> {
        let target = Descriptor {
            media_type: image.media_type.clone(),
            digest: image.digest.clone(),
            size: image.size,
            platform: None,
        };
        let mut parts = Self::default();
        let Some((bytes, document)) = read::<Document>(containerd, &target).await? else {
            return Ok(parts);
        };
        match document.manifests {
            None => parts.add(containerd, target, bytes, document).await?,
            Some(entries) => {
                for entry in entries.into_iter().filter(runs_here) {
                    // A pull for one platform leaves the others out.
                    if let Some((bytes, document)) = read::<Document>(containerd, &entry).await? {
                        parts.add(containerd, entry, bytes, document).await?;
                    }
                }
            }
        }
        Ok(parts)
    }

    async fn add(
        &mut self,
        containerd: &Containerd,
        manifest: Descriptor,
        bytes: Vec<u8>,
        document: Document,
    ) -> anyhow::Result<()> {
        let Some(described) = document.config else {
            return Ok(());
        };
        let layers = document.layers.unwrap_or_default();
        let config = match read::<Config>(containerd, &described).await? {
            Some((_, config)) => config,
            None => return Ok(()),
        };
        let size: u64 = layers.iter().map(|layer| layer.size).sum();
        if is_wasm(&described, &config, &layers) && size <= LARGEST {
            let blobs = std::iter::once(described).chain(layers).collect();
            self.manifests.push((manifest, bytes, blobs));
        }
        Ok(())
    }

    /// Writes them as an OCI archive. Answers whether all of it was there.
    async fn copy(&self, containerd: &Containerd, to: &Path) -> anyhow::Result<bool> {
        let failed = || format!("could not write {}", to.display());
        let mut file = File::create(to).with_context(failed)?;
        let entries: Vec<Value> = self
            .manifests
            .iter()
            .map(|(manifest, ..)| {
                json!({
                    "mediaType": manifest.media_type,
                    "digest": manifest.digest,
                    "size": manifest.size,
                })
            })
            .collect();
        let index = json!({ "schemaVersion": 2, "manifests": entries }).to_string();
        let layout = r#"{"imageLayoutVersion":"1.0.0"}"#;
        member(&mut file, "oci-layout", layout.as_bytes()).with_context(failed)?;
        member(&mut file, "index.json", index.as_bytes()).with_context(failed)?;
        let mut written = HashSet::new();
        for (manifest, bytes, blobs) in &self.manifests {
            if written.insert(&manifest.digest) {
                member(&mut file, &name(&manifest.digest), bytes).with_context(failed)?;
            }
            for blob in blobs.iter().filter(|blob| !blob.digest.is_empty()) {
                if !written.insert(&blob.digest) {
                    continue;
                }
                file.write_all(header(&name(&blob.digest), blob.size)?.as_bytes())
                    .with_context(failed)?;
                if containerd.copy(&blob.digest, &mut file).await? != Some(blob.size) {
                    return Ok(false);
                }
                pad(&mut file, blob.size).with_context(failed)?;
            }
        }
        file.write_all(&[0; 1024]).with_context(failed)?;
        Ok(true)
    }
}

async fn read<T: serde::de::DeserializeOwned>(
    containerd: &Containerd,
    descriptor: &Descriptor,
) -> anyhow::Result<Option<(Vec<u8>, T)>> {
    Ok(containerd
        .document(&descriptor.digest, descriptor.size)
        .await?)
}

/// An entry of an index that a pod of this node may be made from.
fn runs_here(entry: &Descriptor) -> bool {
    let own = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    entry.platform.as_ref().is_none_or(|platform| {
        platform.architecture == "wasm" || (platform.os == "linux" && platform.architecture == own)
    })
}

/// What says that an image is Wasm: its layers, its config, or the program that it runs.
fn is_wasm(described: &Descriptor, config: &Config, layers: &[Descriptor]) -> bool {
    let by_layer = layers
        .iter()
        .any(|layer| matches!(layer.media_type.as_str(), LAYER_WASM | LAYER_COMPONENT));
    let process = config.config.clone().unwrap_or_default();
    let words = process.entrypoint.unwrap_or_default();
    let words = words.into_iter().chain(process.cmd.unwrap_or_default());
    let by_program = words.take(1).any(|program| {
        let file = program.split('#').next().unwrap_or_default();
        file.ends_with(".wasm") || file.ends_with(".wat")
    });
    by_layer
        || by_program
        || described.media_type == CONFIG_ARTIFACT
        || config.architecture == "wasm"
}

fn name(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

fn header(name: &str, size: u64) -> io::Result<Header> {
    let mut header = Header::new_ustar();
    header.set_path(name)?;
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o600);
    header.set_size(size);
    header.set_cksum();
    Ok(header)
}

fn member(file: &mut File, name: &str, bytes: &[u8]) -> io::Result<()> {
    let size = bytes.len() as u64;
    file.write_all(header(name, size)?.as_bytes())?;
    file.write_all(bytes)?;
    pad(file, size)
}

/// Members begin at multiples of 512.
fn pad(file: &mut File, size: u64) -> io::Result<()> {
    let over = usize::try_from(size % 512).unwrap_or(0);
    file.write_all(&[0; 512][..(512 - over) % 512])
}

/// An archive on the node; removed when it is not needed any more.
struct Archive {
    /// For the node's programs.
    path: PathBuf,
    /// For this process.
    place: PathBuf,
}

impl Archive {
    fn make(host: &Host, image: &Image) -> anyhow::Result<Self> {
        let folder = host.place(Path::new(WARM))?;
        fs::create_dir_all(&folder)
            .with_context(|| format!("could not make the folder {}", folder.display()))?;
        let hex = image.digest.rsplit(':').next().unwrap_or_default();
        let file = format!("{hex}.tar");
        Ok(Self {
            path: Path::new(WARM).join(&file),
            place: folder.join(file),
        })
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        // The folder too: nothing of it is left on a node that is at rest.
        let removed = fs::remove_file(&self.place).and_then(|()| match self.place.parent() {
            Some(folder) => fs::remove_dir(folder),
            None => Ok(()),
        });
        if let Err(error) = removed {
            log::warning(&format!(
                "could not remove {}: {error}",
                self.place.display()
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wasm_is_told_by_layers_config_or_program() {
        let layer = |media_type: &str| Descriptor {
            media_type: media_type.to_owned(),
            ..Descriptor::default()
        };
        let config = |text: &str| serde_json::from_str::<Config>(text).unwrap();
        let image = layer("application/vnd.oci.image.config.v1+json");
        let tar = [layer("application/vnd.oci.image.layer.v1.tar+gzip")];
        for wasm in [
            r#"{"architecture":"wasm"}"#,
            r#"{"architecture":"amd64","config":{"Entrypoint":["/app.wasm"],"Cmd":["a"]}}"#,
            r#"{"architecture":"amd64","config":{"Entrypoint":null,"Cmd":["/app.wat#run"]}}"#,
        ] {
            assert!(is_wasm(&image, &config(wasm), &tar), "{wasm}");
        }
        for linux in [
            r#"{"architecture":"amd64"}"#,
            r#"{"architecture":"amd64","config":null}"#,
            r#"{"config":{"Entrypoint":["/bin/run"],"Cmd":["/app.wasm"]}}"#,
        ] {
            assert!(!is_wasm(&image, &config(linux), &tar), "{linux}");
            assert!(is_wasm(&image, &config(linux), &[layer(LAYER_WASM)]));
            assert!(is_wasm(&layer(CONFIG_ARTIFACT), &config(linux), &tar));
        }
    }

    #[test]
    fn archives_are_read_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar");
        let mut file = File::create(&path).unwrap();
        for (name, size) in [
            ("oci-layout", 0),
            ("index.json", 512),
            ("blobs/sha256/00", 513),
        ] {
            member(&mut file, name, &vec![b'x'; size]).unwrap();
        }
        file.write_all(&[0; 1024]).unwrap();
        let mut archive = tar::Archive::new(File::open(&path).unwrap());
        let members: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                (entry.path().unwrap().display().to_string(), entry.size())
            })
            .collect();
        let expected = [
            ("oci-layout", 0),
            ("index.json", 512),
            ("blobs/sha256/00", 513),
        ];
        assert_eq!(
            members,
            expected.map(|(name, size)| (name.to_owned(), size))
        );
    }

    #[test]
    fn what_was_compiled_is_counted() {
        let document = json!({ "modules": [
            { "state": "compiled", "milliseconds": 20 },
            { "state": "cached", "milliseconds": 0 },
            { "state": "compiled", "milliseconds": 3 },
        ]});
        assert_eq!(counted(&document), (2, 1, 23));
    }
}
