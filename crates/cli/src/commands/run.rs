//! `skiff run`: a container without containerd.
//!
//! The shim runs it, as it runs those of a node: this command takes the part of containerd, with a bundle in a
//! temporary folder. [`spec`] writes what is to run, [`shim`] calls the shim, [`streams`] moves input and output,
//! [`keeper`] is a process that tidies up, also when this one is killed.

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use skiff_image::build::{Unpacked, unpack};
use skiff_image::choose::{Content, HEAD_BYTES, candidates};
use tempfile::TempDir;

use crate::Outcome;
use crate::arguments::Run;
use crate::target::Target;
use keeper::Keeper;
use shim::Shim;

mod keeper;
mod passwd;
mod shim;
mod spec;
mod streams;

/// containerd's namespace of what runs without it.
const NAMESPACE: &str = "skiff-run";
/// What the names of temporary folders begin with.
const PREFIX: &str = "skiff-run-";

pub(crate) fn run(arguments: &Run) -> anyhow::Result<Outcome> {
    if !rustix::process::geteuid().is_root() {
        bail!(
            "a container takes namespaces, mounts and cgroups, which only root can make: run this with sudo"
        );
    }
    let program = shim_of(&arguments.engine)?;
    let folder = tempfile::Builder::new()
        .prefix(PREFIX)
        .tempdir()
        .context("could not make a temporary folder")?;
    let id = id_of(&folder)?;
    let bundle = folder.path().join(&id);
    let root = bundle.join("rootfs");
    fs::create_dir_all(&root).context("could not make a temporary folder")?;
    // From here on it is the keeper that removes the folder.
    let keeper = Keeper::start(&program, &arguments.place.address, folder, &bundle)?;

    let image = {
        let target = Target::find_or_folder(&arguments.target, &arguments.place)?;
        unpack(target.path(), &root, &arguments.words())?
    };
    let streams = streams::Streams::make(&bundle, arguments.tty)?;
    let config = spec::config(arguments, &image, &id, &root, streams.size())?;
    if arguments.volumes.is_empty() {
        look(&spec::args(arguments, &image), arguments, &image, &root)?;
    }
    fs::write(bundle.join("config.json"), config.to_string())
        .context("could not write config.json")?;

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("could not make an event loop")?;
    let shim = Shim {
        program: &program,
        containerd: &arguments.place.address,
        bundle: &bundle,
        id: &id,
    };
    let code = runtime.block_on(shim.run(arguments, streams));
    drop(runtime);
    keeper.finish()?;
    Ok(Outcome::Ended(code?))
}

/// Becomes the keeper of another run, if the command line says so.
pub(crate) fn keep(arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    keeper::keep(arguments)
}

/// The shim of the engine, which lies beside this command, or in PATH.
fn shim_of(engine: &str) -> anyhow::Result<PathBuf> {
    if engine.is_empty() || !engine.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        bail!("{engine:?} is no engine's name");
    }
    let name = format!("containerd-shim-{engine}-v1");
    let own = std::env::current_exe().ok();
    let beside = own.as_deref().and_then(Path::parent).map(Path::to_owned);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = beside.into_iter().chain(std::env::split_paths(&path));
    places
        .map(|place| place.join(&name))
        .find(|place| place.is_file())
        .with_context(|| {
            format!("{name} is neither beside this command nor in PATH: `make install` puts all of Skiff's programs into one folder")
        })
}

/// Says what is wrong with a root in which nothing can be run. The shim would ask containerd for the image's layers.
fn look(args: &[String], arguments: &Run, image: &Unpacked, root: &Path) -> anyhow::Result<()> {
    let Some(first) = args.first() else {
        bail!("the image does not say what to run: name it after `--`");
    };
    let directory = arguments
        .workdir
        .as_deref()
        .unwrap_or(&image.working_directory);
    let places = candidates(args, directory, &image.environment);
    for place in &places {
        let path = root.join(place.trim_start_matches('/'));
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            continue;
        };
        // Where a link leads is for the shim to find out.
        let mut head = vec![0; HEAD_BYTES];
        let length = if metadata.is_file() {
            fs::File::open(&path)
                .and_then(|mut file| file.read(&mut head))
                .with_context(|| format!("could not read {first}"))?
        } else {
            return Ok(());
        };
        match Content::of(&head[..length]) {
            Content::Text if place.ends_with(".wat") => return Ok(()),
            Content::Text | Content::Empty | Content::Other => {
                bail!("{first} is neither WebAssembly nor a Linux program")
            }
            _ => return Ok(()),
        }
    }
    // A bare name is looked for in the directories of PATH; a directory of the way may be a link.
    if places.len() == 1 && image == &Unpacked::default() {
        bail!("there is no file {first} to run");
    }
    Ok(())
}

/// The container's id: what is random in the folder's name.
fn id_of(folder: &TempDir) -> anyhow::Result<String> {
    let name = folder.path().file_name().and_then(|name| name.to_str());
    let random = name.and_then(|name| name.strip_prefix(PREFIX));
    let random = random.context("could not name the container")?;
    Ok(format!("run-{}-{random}", std::process::id()))
}

impl Run {
    /// What is to run instead of the image's own entrypoint and command; empty if nothing is.
    fn words(&self) -> Vec<String> {
        self.entrypoint.iter().chain(&self.args).cloned().collect()
    }
}
