//! Which module a container runs, and its compiled code.
//!
//! `skiff_image` decides, purely; here is what it asks for: a look into the root and the volumes, and
//! only when that does not settle it, containerd's image.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use oci_spec::runtime::{Mount, Spec};
use rustix::fs::{FileType, Mode, OFlags};
use skiff_engine::compile::{Code, CompileOptions, ModuleBytes, Origin, Source as CodeSource};
use skiff_engine::order::CodeKind;
use skiff_image::choose::{
    self, Choice, Content, HEAD_BYTES, Module, Probe, Request, Source, Step,
};
use skiff_image::containerd::{LookupError, lookup_image, read_layer};
use skiff_image::view::{ImageView, Layer};
use skiff_sandbox::rootfs::open_in_root;

use crate::create::CreateError;
use crate::engine::Engine;
use crate::pod::Pod;

/// Why there is no module.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// What the container names cannot be run.
    #[error(transparent)]
    Refused(choose::Refusal),
    /// containerd's image.
    #[error(transparent)]
    Image(LookupError),
    /// A file that is there and cannot be read.
    #[error("could not read {path} of the container's root")]
    File {
        /// Its path in the container.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A module's code, and what the host is told of it.
#[derive(Debug)]
pub struct Found {
    /// Its code.
    pub code: Code,
    /// What the user calls it.
    pub name: String,
    /// The function of `path#function`.
    pub function: Option<String>,
}

impl Found {
    /// Whether it is served: it handles HTTP requests, and no function of it is named.
    pub fn is_service(&self) -> bool {
        self.code.kind == CodeKind::Service && self.function.is_none()
    }
}

/// What a container is to run.
#[derive(Debug)]
pub enum Program {
    /// A module, and its file where it is one.
    Module(Box<Module>, Option<OwnedFd>),
    /// A Linux program, by its path in the container's root.
    Linux(String),
}

/// Finds out what container `id` is to run.
///
/// # Errors
/// It names nothing that can be run.
pub async fn choose(
    pod: &Pod,
    engine: &Engine,
    id: &str,
    spec: &Spec,
    root: BorrowedFd<'_>,
) -> Result<Program, CreateError> {
    let process = spec.process().as_ref();
    let args = process
        .and_then(|process| process.args().clone())
        .unwrap_or_default();
    let env = process
        .and_then(|process| process.env().clone())
        .unwrap_or_default();
    let here = process.map_or_else(
        || "/".to_owned(),
        |process| process.cwd().display().to_string(),
    );
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    let candidates = choose::candidates(&args, &here, &env);
    let (probe, file) = probe(&candidates, root, mounts).map_err(CreateError::Module)?;

    let request = Request {
        args: &args,
        annotations: spec.annotations().as_ref(),
        engine: &engine.name,
    };
    let choice = match choose::choose_in_root(&request, &probe) {
        Step::Decided(choice) => choice,
        Step::AskImage => {
            let image = match lookup_image(&pod.address, &pod.namespace, id).await {
                // A Linux program runs without an image, too.
                Err(error) if is_program(&probe) && error.is_gone() => ImageView::of_nothing(),
                other => other.map_err(|error| CreateError::Module(ModuleError::Image(error)))?,
            };
            choose::choose(&request, &probe, &image)
        }
    };
    match choice {
        Choice::Module(module) => Ok(Program::Module(Box::new(module), file)),
        Choice::LinuxProgram { path } => Ok(Program::Linux(path)),
        Choice::Refused(refusal) => Err(refused(refusal)),
    }
}

/// Gets a module's code. `file` is its file, where it is one.
///
/// # Errors
/// It has no code.
pub async fn code(
    pod: &Pod,
    engine: &Engine,
    module: Module,
    file: Option<OwnedFd>,
    options: CompileOptions,
) -> Result<Found, CreateError> {
    let source = match &module.source {
        Source::File { path } => {
            let gone = || ModuleError::File {
                path: path.clone(),
                source: io::ErrorKind::NotFound.into(),
            };
            CodeSource::File(file.ok_or_else(|| CreateError::Module(gone()))?)
        }
        Source::Layer(layer) => CodeSource::Blob {
            sha256: layer.digest.bytes(),
            bytes: Box::pin(layer_bytes(pod, layer)),
        },
    };
    compiled(pod, engine, source, module.name, module.function, options).await
}

/// The code of a module whose bytes are found.
pub(crate) async fn compiled(
    pod: &Pod,
    engine: &Engine,
    source: CodeSource<'_>,
    name: String,
    function: Option<String>,
    options: CompileOptions,
) -> Result<Found, CreateError> {
    let compiler = pod.compiler(engine)?;
    let code = compiler
        .code_for(source, &name, options)
        .await
        .map_err(|error| CreateError::Compile(Box::new(error)))?;
    match &code.origin {
        Origin::Cached => log::debug!("{name} is in the cache"),
        Origin::Compiled { milliseconds } => {
            log::info!("{name} was compiled in {milliseconds} ms");
        }
        Origin::Uncached {
            milliseconds,
            reason,
        } => {
            log::warn!(
                "{name} was compiled in {milliseconds} ms, for this container only: {reason}"
            );
        }
    }
    Ok(Found {
        code,
        name,
        function,
    })
}

/// The sentence for a Linux program that the handler's options forbid.
pub fn forbidden(path: &str) -> CreateError {
    refused(choose::linux_refusal(path))
}

fn refused(refusal: choose::Refusal) -> CreateError {
    CreateError::Module(ModuleError::Refused(refusal))
}

fn is_program(probe: &Probe) -> bool {
    matches!(
        probe,
        Probe::Found {
            content: Content::Elf | Content::Script,
            ..
        }
    )
}

/// A layer's bytes, read from containerd when the cache does not have its code.
pub(crate) async fn layer_bytes(
    pod: &Pod,
    layer: &Layer,
) -> Result<ModuleBytes, skiff_engine::compile::BoxError> {
    let file = rustix::fs::memfd_create(c"layer", rustix::fs::MemfdFlags::CLOEXEC)?;
    read_layer(
        &pod.address,
        &pod.namespace,
        layer,
        skiff_engine::module::LARGEST,
        file.as_fd(),
    )
    .await?;
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0))?;
    Ok(ModuleBytes::copy_of(std::fs::File::from(file))?)
}

/// Looks for the first candidate that exists, in the root or in the volume that lies over it.
fn probe(
    candidates: &[String],
    root: BorrowedFd<'_>,
    mounts: &[Mount],
) -> Result<(Probe, Option<OwnedFd>), ModuleError> {
    for path in candidates {
        let destinations = mounts
            .iter()
            .map(|mount| mount.destination().to_str().unwrap_or_default());
        let opened = match choose::covering_mount(path, destinations) {
            Some((index, rest)) => open_in_volume(&mounts[index], &rest),
            None => open_in_root(root, path),
        };
        let content = match opened {
            Ok(file) => {
                let content = head(&file).map_err(|source| ModuleError::File {
                    path: path.clone(),
                    source,
                })?;
                return Ok((
                    Probe::Found {
                        path: path.clone(),
                        content,
                    },
                    Some(file),
                ));
            }
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => continue,
                io::ErrorKind::IsADirectory | io::ErrorKind::InvalidInput => Content::NotAFile,
                _ => {
                    return Err(ModuleError::File {
                        path: path.clone(),
                        source: error,
                    });
                }
            },
        };
        return Ok((
            Probe::Found {
                path: path.clone(),
                content,
            },
            None,
        ));
    }
    Ok((Probe::Absent, None))
}

/// A file of a volume: `rest` is its path inside, empty for a volume that is a single file.
fn open_in_volume(mount: &Mount, rest: &str) -> io::Result<OwnedFd> {
    let options = mount.options().as_deref().unwrap_or_default();
    let bind = mount.typ().as_deref() == Some("bind")
        || options
            .iter()
            .any(|option| option == "bind" || option == "rbind");
    // A tmpfs is empty at the start, and kernel file systems are not mounted in a guest.
    let source = mount
        .source()
        .as_deref()
        .filter(|_| bind)
        .ok_or(io::ErrorKind::NotFound)?;
    if rest.is_empty() {
        return open_regular(source);
    }
    let directory = rustix::fs::open(
        source,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    open_in_root(directory.as_fd(), rest)
}

/// A single file that the pod mounts. The path is the node's and can be trusted, what lies there cannot.
fn open_regular(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty())?;
    match FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(file),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

pub(crate) fn head(file: &OwnedFd) -> io::Result<Content> {
    let mut bytes = [0; HEAD_BYTES];
    let mut length = 0;
    while length < bytes.len() {
        match rustix::io::pread(file, &mut bytes[length..], length as u64)? {
            0 => break,
            count => length += count,
        }
    }
    Ok(Content::of(&bytes[..length]))
}
