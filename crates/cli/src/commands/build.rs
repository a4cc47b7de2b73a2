//! `skiff build`: a module and files become an image, in an archive or in containerd.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufWriter, IsTerminal, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Serialize;
use skiff_image::build::{self, Built, HostFile, Recipe};

use crate::Outcome;
use crate::arguments::{Build, Layout};
use crate::ctr;
use crate::output::{self, Output};
use crate::progress::Progress;
use crate::quantity;

/// The JSON document.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    built: &'a Built,
    layout: String,
    /// The archive, unless the image went to containerd or stdout.
    archive: Option<&'a Path>,
    /// containerd's namespace that has the image now.
    namespace: Option<&'a str>,
}

pub(crate) fn run(arguments: &Build, output: &Output) -> anyhow::Result<Outcome> {
    let recipe = recipe(arguments);
    let mut progress = Progress::begin();
    progress.step(&format!("building {}", recipe.name));
    if arguments.containerd {
        let mut archive =
            tempfile::tempfile().context("could not make a temporary file for the image")?;
        let built = write(&recipe, &mut archive)?;
        archive.rewind().context("could not read the image back")?;
        progress.step(&format!("putting {} into containerd", built.name));
        ctr::import(&arguments.place, archive)?;
        drop(progress);
        return report(arguments, output, &built, None);
    }
    let path = arguments
        .output
        .clone()
        .unwrap_or_else(|| PathBuf::from(stem(&arguments.modules)).with_added_extension("tar"));
    if path.as_os_str() == "-" || path.as_os_str() == "/dev/stdout" {
        return to_stdout(&recipe, output);
    }
    let built = to_file(&recipe, &path)?;
    drop(progress);
    report(arguments, output, &built, Some(&path))
}

fn recipe(arguments: &Build) -> Recipe {
    Recipe {
        modules: arguments.modules.clone(),
        files: arguments
            .files
            .iter()
            .map(|(from, to)| HostFile {
                from: from.clone(),
                to: to.clone(),
            })
            .collect(),
        args: arguments.args.clone(),
        env: arguments
            .env
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect(),
        labels: arguments.label.iter().cloned().collect::<BTreeMap<_, _>>(),
        entrypoint: arguments.entrypoint.clone(),
        user: arguments.user.clone(),
        working_directory: arguments.workdir.clone(),
        name: arguments.tag.clone().unwrap_or_else(|| {
            format!(
                "localhost/{}:latest",
                stem(&arguments.modules).to_ascii_lowercase()
            )
        }),
        layout: match arguments.layout {
            Layout::Combined => build::Layout::Combined,
            Layout::Layer => build::Layout::Layer,
            Layout::Root => build::Layout::Root,
            Layout::Artifact => build::Layout::Artifact,
        },
    }
}

/// The first module's file name without its ending.
fn stem(modules: &[PathBuf]) -> String {
    let stem = modules
        .first()
        .and_then(|path| path.file_stem())
        .unwrap_or_else(|| OsStr::new("image"));
    stem.to_string_lossy().into_owned()
}

fn write(recipe: &Recipe, archive: &mut dyn Write) -> anyhow::Result<Built> {
    let mut archive = BufWriter::new(archive);
    let built = build::build(recipe, &mut archive)?;
    archive.flush().context("could not write the image")?;
    for warning in &built.warnings {
        output::warning(warning);
    }
    Ok(built)
}

/// The archive appears under its name when it is whole; a failed build leaves what was there before.
fn to_file(recipe: &Recipe, path: &Path) -> anyhow::Result<Built> {
    if let Ok(there) = std::fs::metadata(path) {
        let inputs = recipe.modules.iter();
        for input in inputs.chain(recipe.files.iter().map(|file| &file.from)) {
            if std::fs::metadata(input)
                .is_ok_and(|input| (input.dev(), input.ino()) == (there.dev(), there.ino()))
            {
                bail!(
                    "{} is what the image is made of, and would be overwritten: name another file with -o",
                    path.display()
                );
            }
        }
        // `/dev/null` is not to become a file.
        if !there.is_file() && !there.is_dir() {
            let mut device = File::options()
                .write(true)
                .open(path)
                .with_context(|| format!("could not write {}", path.display()))?;
            return write(recipe, &mut device);
        }
    }
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."));
    let mut archive = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .tempfile_in(folder)
        // Without the name of the temporary file, which the library's own words have.
        .map_err(|error| {
            error
                .raw_os_error()
                .map_or(error, std::io::Error::from_raw_os_error)
        })
        .with_context(|| format!("could not write into {}", folder.display()))?;
    let built = write(recipe, archive.as_file_mut())?;
    archive
        .persist(path)
        .map_err(|error| error.error)
        .with_context(|| format!("could not write {}", path.display()))?;
    Ok(built)
}

fn to_stdout(recipe: &Recipe, output: &Output) -> anyhow::Result<Outcome> {
    if std::io::stdout().is_terminal() {
        bail!("an archive is not written to a terminal: redirect stdout, or name a file with -o");
    }
    if output.json() {
        bail!("stdout cannot take both the archive and a JSON document: name a file with -o");
    }
    write(
        recipe,
        &mut File::from(std::os::fd::AsFd::as_fd(&std::io::stdout()).try_clone_to_owned()?),
    )?;
    Ok(Outcome::Well)
}

fn report(
    arguments: &Build,
    output: &Output,
    built: &Built,
    archive: Option<&Path>,
) -> anyhow::Result<Outcome> {
    let namespace = arguments
        .containerd
        .then_some(arguments.place.namespace.as_str());
    if output.json() {
        let layout = format!("{:?}", arguments.layout).to_ascii_lowercase();
        output.document(&Document {
            built,
            layout,
            archive,
            namespace,
        })?;
        return Ok(Outcome::Well);
    }
    match (archive, namespace) {
        (Some(path), _) => output.text(&format!(
            "{} in {} ({})\nnext: ctr images import {}",
            built.name,
            path.display(),
            quantity::bytes(built.archive_bytes),
            path.display()
        ))?,
        (None, namespace) => {
            let namespace = namespace.unwrap_or_default();
            output.text(&format!(
                "{} is in containerd, namespace {namespace}\nnext: {}",
                built.name,
                first_run(arguments.layout, namespace, &built.name)
            ))?;
        }
    }
    Ok(Outcome::Well)
}

/// How an image that is in containerd now is run.
fn first_run(layout: Layout, namespace: &str, name: &str) -> String {
    if layout == Layout::Artifact {
        return "a pod with this image and a command, by your RuntimeClass (ctr run takes no artifacts)".into();
    }
    if namespace == "k8s.io" {
        return "a pod with this image, imagePullPolicy: Never and your RuntimeClass".into();
    }
    format!("ctr -n {namespace} run --rm --runtime io.containerd.wasmtime.v1 {name} my-first")
}
