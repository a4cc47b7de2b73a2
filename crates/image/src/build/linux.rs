//! An ordinary Linux image, of folders that are its root: what carries Skiff's own executables to a node.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::archive::Archive;
use super::document::{Config, Process, Rootfs, TYPE_LAYER_GZIP};
use super::{BuildError, Built, HostFile, index, manifest, reference, tree};

/// What to build.
#[derive(Clone, Debug, Default)]
pub struct LinuxRecipe {
    /// The image's name: `skiff.dev/skiff:1`.
    pub name: String,
    /// The program, and arguments that it always gets.
    pub entrypoint: Vec<String>,
    /// Architectures, as images name them (`amd64`), and the folder that is the root for each.
    pub roots: Vec<(String, PathBuf)>,
}

/// Bytes 18 and 19 of an executable say what it runs on.
const MACHINES: [(&str, [u8; 2]); 2] = [("amd64", [62, 0]), ("arm64", [183, 0])];

/// Builds `recipe` as an OCI archive into `output`: one index with an entry for each architecture.
///
/// # Errors
/// A folder cannot be read, an executable in it is another architecture's, the recipe contradicts itself, or the
/// output cannot be written.
pub fn build_linux(recipe: &LinuxRecipe, output: &mut dyn Write) -> Result<Built, BuildError> {
    let name = reference::normalised(&recipe.name)?;
    check(recipe)?;
    let mut layers = Vec::new();
    for (architecture, root) in &recipe.roots {
        check_machines(root, architecture)?;
        let whole = HostFile {
            from: root.clone(),
            to: "/".to_owned(),
        };
        let layer = tree::pack(&[], &[whole])?;
        // Every node that gets Skiff pulls it.
        let compressed = layer.compressed()?;
        layers.push((architecture, layer.digest, compressed));
    }
    let mut archive = Archive::default();
    let mut entries = Vec::new();
    for (architecture, unpacked, layer) in &layers {
        let config = Config {
            architecture: (*architecture).clone(),
            os: "linux".to_owned(),
            config: Process {
                entrypoint: recipe.entrypoint.clone(),
                ..Process::default()
            },
            rootfs: Rootfs {
                kind: "layers".to_owned(),
                diff_ids: vec![unpacked.to_string()],
            },
            history: Vec::new(),
        };
        let layers = vec![archive.layer(TYPE_LAYER_GZIP, layer)];
        entries.push(manifest(&mut archive, &config, layers).on("linux", architecture));
    }
    let root = index(&mut archive, entries);
    let digest = root.digest.clone();
    let archive_bytes = archive.write_named(root, &name, output)?;
    Ok(Built {
        name,
        digest,
        archive_bytes,
        modules: Vec::new(),
        warnings: Vec::new(),
    })
}

fn check(recipe: &LinuxRecipe) -> Result<(), BuildError> {
    let refused = |why: String| Err(BuildError::Recipe(why));
    if recipe.roots.is_empty() {
        return refused("an image needs a root: give ARCHITECTURE=FOLDER".to_owned());
    }
    let Some(program) = recipe.entrypoint.first() else {
        return refused("an image needs a program to run".to_owned());
    };
    for (index, (architecture, root)) in recipe.roots.iter().enumerate() {
        if !MACHINES.iter().any(|(known, _)| known == architecture) {
            return refused(format!(
                "{architecture} is no architecture that Skiff runs on: they are amd64 and arm64"
            ));
        }
        if recipe.roots[..index]
            .iter()
            .any(|(other, _)| other == architecture)
        {
            return refused(format!("{architecture} is given twice"));
        }
        if !root.join(program.trim_start_matches('/')).is_file() {
            return refused(format!(
                "{} has no {program}, which the image is to run",
                root.display()
            ));
        }
    }
    Ok(())
}

/// An executable of another architecture would be found out by a node only, and as "exec format error".
fn check_machines(folder: &Path, architecture: &str) -> Result<(), BuildError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| BuildError::Read { path, source }
    };
    for entry in fs::read_dir(folder).map_err(failed(folder))? {
        let path = entry.map_err(failed(folder))?.path();
        let metadata = fs::symlink_metadata(&path).map_err(failed(&path))?;
        if metadata.is_dir() {
            check_machines(&path, architecture)?;
        } else if metadata.is_file() {
            let found = machine(&path).map_err(failed(&path))?;
            let known = MACHINES.iter().find(|(_, number)| Some(*number) == found);
            if found.is_some() && known.map(|(name, _)| *name) != Some(architecture) {
                return Err(BuildError::Source {
                    path,
                    why: format!("it is not an executable for {architecture}"),
                });
            }
        }
    }
    Ok(())
}

/// What an executable runs on; `None` for any other file.
fn machine(path: &Path) -> std::io::Result<Option<[u8; 2]>> {
    use std::io::Read as _;
    let mut head = Vec::new();
    File::open(path)?.take(20).read_to_end(&mut head)?;
    Ok(match head.as_slice() {
        [0x7f, b'E', b'L', b'F', .., low, high] if head.len() == 20 => Some([*low, *high]),
        _ => None,
    })
}
