//! Which engine runs a container's guest: by the runtime type, by an option of the handler, or by an annotation of the
//! pod among those that the handler lists.
//!
//! The runtime type `io.containerd.<engine>.v1` is a promise: its containers run under that engine and no other. Under
//! `io.containerd.skiff.v1` the handler's options choose.

use skiff_image::choose::{ANNOTATION_HANDLER, Annotations};

use crate::command_line::engine_of;
use crate::options::Options;

/// The engine of handlers that name none.
pub const DEFAULT: &str = "wasmtime";
/// The one engine that runs components, and so the built-in tools.
pub const OF_COMPONENTS: &str = "wasmtime";
/// All that options can name.
pub const KNOWN: [&str; 2] = ["wasmtime", "wasmedge"];

/// What the runtime type says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// Its engine, unless something else is chosen.
    pub engine: String,
    /// Whether nothing else can be.
    pub fixed: bool,
}

impl Runtime {
    /// By the name that the shim was called by.
    pub fn of(program: &str) -> Self {
        let name = program.rsplit('/').next().unwrap_or(program);
        Self {
            engine: engine_of(program).to_owned(),
            fixed: name.starts_with("containerd-shim-")
                && !name.starts_with("containerd-shim-skiff-"),
        }
    }
}

/// What runs a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engine {
    /// As in the names of executables: `skiff-host-<name>`.
    pub name: String,
    /// One of several versions on the node; `None` is the newest.
    pub version: Option<String>,
}

/// Why there is no engine for a container.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The option contradicts the runtime type.
    #[error(
        "{option} of the handler's options does not fit its runtime type io.containerd.{runtime}.v1, which is {runtime}'s alone: give the handler the type io.containerd.skiff.v1"
    )]
    Fixed {
        /// `Engine = "wasmedge"`.
        option: String,
        /// The engine of the type.
        runtime: String,
    },
    /// The pod asks for one that the handler does not offer.
    #[error(
        "annotation {ANNOTATION_HANDLER} asks for {wanted:?}, but the RuntimeClass of this container runs {offered}; leave the annotation out, use a RuntimeClass of that engine, or list it in Engines of the handler's options"
    )]
    NotOffered {
        /// What the annotation says.
        wanted: String,
        /// What there is, joined.
        offered: String,
    },
}

/// The engine of a container with these options and annotations.
///
/// # Errors
/// See [`EngineError`].
pub fn choose(
    runtime: &Runtime,
    options: &Options,
    annotations: Option<&Annotations>,
) -> Result<Engine, EngineError> {
    let fixed = |option: String| EngineError::Fixed {
        option,
        runtime: runtime.engine.clone(),
    };
    let own = match &options.engine {
        Some(engine) if runtime.fixed && *engine != runtime.engine => {
            return Err(fixed(format!("Engine = {engine:?}")));
        }
        Some(engine) => engine,
        None => &runtime.engine,
    };
    if runtime.fixed
        && let Some(other) = options.engines.iter().find(|engine| *engine != own)
    {
        return Err(fixed(format!("{other:?} in Engines")));
    }
    let wanted = annotations.and_then(|all| all.get(ANNOTATION_HANDLER));
    let name = match wanted.map_or("", String::as_str) {
        // `wasm` says no more than that it is no Linux program.
        "" | "wasm" => own,
        wanted if wanted == own => own,
        wanted => options
            .engines
            .iter()
            .find(|engine| *engine == wanted)
            .ok_or_else(|| EngineError::NotOffered {
                wanted: wanted.to_owned(),
                offered: offered(own, &options.engines),
            })?,
    };
    Ok(options.version_of(name))
}

fn offered(own: &str, others: &[String]) -> String {
    let others = others.iter().map(String::as_str).filter(|one| *one != own);
    std::iter::once(own)
        .chain(others)
        .collect::<Vec<_>>()
        .join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(program: &str, toml: &str, annotation: &str) -> Result<String, String> {
        let options = Options::from_toml(toml, "test").unwrap();
        let annotations =
            Annotations::from([(ANNOTATION_HANDLER.to_owned(), annotation.to_owned())]);
        choose(&Runtime::of(program), &options, Some(&annotations))
            .map(|engine| format!("{} {}", engine.name, engine.version.unwrap_or_default()))
            .map_err(|error| error.to_string())
    }

    const SKIFF: &str = "/usr/bin/containerd-shim-skiff-v1";
    const WASMEDGE: &str = "containerd-shim-wasmedge-v1";
    const BOTH: &str = "Engines = [\"wasmtime\", \"wasmedge\"]";

    #[test]
    fn the_type_the_option_the_annotation() {
        for (program, toml, annotation, engine) in [
            (SKIFF, "", "", "wasmtime "),
            ("shim", "", "wasm", "wasmtime "),
            (WASMEDGE, "", "", "wasmedge "),
            (WASMEDGE, "", "wasmedge", "wasmedge "),
            (WASMEDGE, "Engine = \"wasmedge\"", "wasm", "wasmedge "),
            (SKIFF, "Engine = \"wasmedge\"", "", "wasmedge "),
            (SKIFF, BOTH, "", "wasmtime "),
            (SKIFF, BOTH, "wasmedge", "wasmedge "),
            (
                SKIFF,
                "Engine = \"wasmedge\"\nEngines = [\"wasmtime\"]",
                "wasmtime",
                "wasmtime ",
            ),
            (
                SKIFF,
                "Engines = [\"wasmedge\"]\n[EngineVersions]\nwasmedge = \"0.17.1\"",
                "wasmedge",
                "wasmedge 0.17.1",
            ),
        ] {
            assert_eq!(
                chosen(program, toml, annotation).as_deref(),
                Ok(engine),
                "{toml}"
            );
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (program, toml, annotation, words) in [
            (SKIFF, "", "wasmedge", "runs wasmtime;"),
            (WASMEDGE, "", "wasmtime", "runs wasmedge;"),
            (SKIFF, BOTH, "wasmer", "runs wasmtime or wasmedge;"),
            (SKIFF, BOTH, "../wasmtime", "asks for \"../wasmtime\""),
            (
                WASMEDGE,
                "Engine = \"wasmtime\"",
                "",
                "Engine = \"wasmtime\" of the handler's options does not fit",
            ),
            (WASMEDGE, BOTH, "", "\"wasmtime\" in Engines"),
        ] {
            let told = chosen(program, toml, annotation).unwrap_err();
            assert!(told.contains(words), "{told}");
        }
    }
}
