//! What a command means in a container, in this order:
//!
//! 1. a file of its root or of a volume in it, found as `execvp` would: a Wasm module, or a Linux program;
//! 2. a Wasm layer of its image, by its title;
//! 3. a built-in tool.
//!
//! Files are looked for in the very tree that the container's guest has.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use oci_spec::runtime::Process as ProcessSpec;
use skiff_engine::compile::Source;
use skiff_image::choose::{
    self, Content, Named, candidates, is_a_modules_name, layer_named, native_refusal,
};
use skiff_image::containerd::lookup_image;
use skiff_sandbox::rootfs::open_in_root;

use super::{ExecError, Host, toolbox};
use crate::create::CreateError;
use crate::engine::{Engine, OF_COMPONENTS};
use crate::module::{self, ModuleError, compiled, layer_bytes};
use crate::pod::Pod;
use crate::status::chain;
use crate::task::Task;

/// Who may execute a file: one of its user, its group, the others.
const EXECUTABLE: u32 = 0o111;

/// What a command means.
pub(super) enum Found {
    /// A module, with its code.
    Module {
        module: module::Found,
        /// What runs it.
        engine: Engine,
        /// It is the built-in tools.
        is_tool: bool,
    },
    /// A Linux program at this path.
    Program(String),
}

/// What a look into the root has found.
enum Seen {
    Module(String, OwnedFd),
    Program(String),
    /// Nothing. What stood in the way, and where it was looked.
    Nothing(Vec<String>, Vec<String>),
}

/// Finds what `process` is to run.
pub(super) async fn find(
    pod: &Pod,
    task: &Task,
    host: &Host,
    process: &ProcessSpec,
    root: BorrowedFd<'_>,
) -> Result<Found, ExecError> {
    let args = process.args().as_deref().unwrap_or_default();
    let command = args
        .first()
        .filter(|command| !command.is_empty())
        .ok_or(ExecError::NoCommand)?;
    let (name, function) = match command.split_once('#') {
        Some((name, function)) => (name, Some(function)),
        None => (command.as_str(), None),
    };
    if function == Some("") {
        let sentence = format!(
            "{command:?} names no function after its '#'; write path#function, or leave the '#' out"
        );
        return Err(ExecError::Refused(choose::Refusal(sentence)));
    }
    let module = async |source: Source<'_>, name: String| {
        // `_start` is the name of what is called anyway.
        let function = function.filter(|function| *function != "_start");
        let function = function.map(str::to_owned);
        let (engine, options) = (&host.engine, host.options.compile());
        compiled(pod, engine, source, name, function, options)
            .await
            .map(|module| Found::Module {
                module,
                engine: engine.clone(),
                is_tool: false,
            })
            .map_err(ExecError::Made)
    };
    let env = process.env().as_deref().unwrap_or_default();
    let here = process.cwd().display().to_string();
    let paths = candidates(args, &here, env);
    let (objections, places) = match look(
        &paths,
        name,
        root,
        host.options.linux_programs,
        function.is_some(),
    )? {
        Seen::Module(path, file) => return module(Source::File(file), path).await,
        Seen::Program(path) => return Ok(Found::Program(path)),
        Seen::Nothing(objections, places) => (objections, places),
    };

    // A container's image stays the same.
    let image = host
        .image
        .get_or_try_init(|| lookup_image(&pod.address, &pod.namespace, &task.id))
        .await;
    let layers = match image {
        Ok(image) => match layer_named(name, image) {
            Named::Layer(layer) => {
                let name = layer.title.clone();
                let name = name.unwrap_or_else(|| layer.digest.as_str().to_owned());
                let source = Source::Blob {
                    sha256: layer.digest.bytes(),
                    bytes: Box::pin(layer_bytes(pod, &layer)),
                };
                return module(source, name).await;
            }
            Named::Several(refusal) => return Err(ExecError::Refused(refusal)),
            Named::None(names) if names.is_empty() => {
                "no Wasm layer of its image (it has none)".to_owned()
            }
            Named::None(names) => format!("no Wasm layer of its image ({names})"),
        },
        Err(error) => format!(
            "no Wasm layer of its image as far as is known ({})",
            chain(&error)
        ),
    };
    if let Some(objection) = objections.into_iter().next() {
        return Err(ExecError::NotExecutable(objection));
    }
    let mut tools = format!("none of the built-in tools ({})", toolbox::TOOLS.join(" "));
    if !host.options.toolbox {
        "no built-in tool, since the options of this RuntimeClass turn them off (Toolbox = false)"
            .clone_into(&mut tools);
    } else if toolbox::has(command) {
        match toolbox::open(pod) {
            Ok(file) => {
                let options = host.options.compile_tools();
                let name = toolbox::FILE.to_owned();
                let engine = host.options.version_of(OF_COMPONENTS);
                let source = Source::File(file);
                let code = compiled(pod, &engine, source, name, None, options).await?;
                return Ok(Found::Module {
                    module: code,
                    engine,
                    is_tool: true,
                });
            }
            Err(error) => {
                tools = format!(
                    "no built-in tool, since {} cannot be opened beside the shim ({error})",
                    toolbox::FILE
                );
            }
        }
    }
    Err(ExecError::NotFound {
        name: command.clone(),
        looked: format!(
            "no file of the container's root ({}), {layers}, and {tools}",
            places.join(", ")
        ),
    })
}

/// Looks for the first of the paths that can be run.
fn look(
    paths: &[String],
    name: &str,
    root: BorrowedFd<'_>,
    linux_programs: bool,
    has_function: bool,
) -> Result<Seen, ExecError> {
    let mut objections = Vec::new();
    let mut places = Vec::new();
    for path in paths {
        let file = match open_in_root(root, path) {
            Ok(file) => file,
            Err(error) => {
                match error.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {}
                    io::ErrorKind::IsADirectory => {
                        objections.push(format!("{path} is a directory"));
                    }
                    io::ErrorKind::InvalidInput => {
                        objections.push(format!("{path} is not a regular file"));
                    }
                    _ => objections.push(format!("{path} could not be opened: {error}")),
                }
                places.push(path.clone());
                continue;
            }
        };
        let unreadable = |source| {
            ExecError::Made(CreateError::Module(ModuleError::File {
                path: path.clone(),
                source,
            }))
        };
        let content = module::head(&file).map_err(unreadable)?;
        let mode = rustix::fs::fstat(file.as_fd())
            .map_err(|error| unreadable(error.into()))?
            .st_mode;
        let objection = match content {
            Content::Module | Content::Component => return Ok(Seen::Module(path.clone(), file)),
            Content::Text if path.ends_with(".wat") => {
                return Ok(Seen::Module(path.clone(), file));
            }
            Content::Elf | Content::Script if is_a_modules_name(path) => {
                return Err(ExecError::Refused(native_refusal("command", path, content)));
            }
            Content::Elf | Content::Script if mode & EXECUTABLE == 0 => {
                format!(
                    "{path} is a program that nobody may execute (mode {:04o})",
                    mode & 0o7777
                )
            }
            // A name without a slash is not looked for in the working directory by execvp.
            Content::Elf | Content::Script if !name.contains('/') && !is_in_path(paths, path) => {
                format!("{path} lies in no directory of PATH; write ./{name}")
            }
            Content::Elf | Content::Script if !linux_programs => format!(
                "{path} is a Linux program, which the options of this RuntimeClass forbid (LinuxPrograms = false)"
            ),
            Content::Elf | Content::Script if has_function => {
                format!("{path} is a Linux program, which has no function to name after a '#'")
            }
            Content::Elf | Content::Script => return Ok(Seen::Program(path.clone())),
            Content::Empty => format!("{path} is an empty file"),
            Content::Text => format!(
                "{path} is a text file; WebAssembly text is taken from names that end in .wat, and a script begins with #!"
            ),
            Content::NotAFile => format!("{path} is not a regular file"),
            Content::Other => format!("{path} is neither WebAssembly nor a program"),
        };
        objections.push(objection);
        places.push(path.clone());
    }
    Ok(Seen::Nothing(objections, places))
}

/// The working directory comes last, and only once if it is one of PATH's too.
fn is_in_path(paths: &[String], path: &str) -> bool {
    paths.last().is_some_and(|last| last != path)
}
