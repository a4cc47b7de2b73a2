//! Asks this node's cache whether it has the code of a module.

use skiff_cache::{Cache, Settings as CacheSettings};
use skiff_engine::compile::{CompileOptions, Compiler, Settings};
use skiff_engine::options::CodeOptions;

/// The engine whose code is asked for.
pub(crate) const ENGINE: &str = "wasmtime";

/// This machine's compiled code, as far as it can be asked.
pub(crate) enum Node {
    Asked(Box<Compiler>),
    /// There is no cache: nothing was ever compiled here.
    Empty,
    /// It cannot be asked, and why.
    Closed(String),
}

impl Node {
    /// Opens the cache, unless there is none: looking must not make one.
    pub(crate) fn of_this_machine() -> Self {
        let cache = CacheSettings::from_environment();
        match std::fs::metadata(cache.directory.join("entries")) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Self::Empty,
            Err(error) if error.kind() != std::io::ErrorKind::PermissionDenied => {
                return Self::Closed(format!("{}: {error}", cache.directory.display()));
            }
            _ => {}
        }
        if !skiff_node::doctor::privileges::may_mount() {
            return Self::Closed("the cache is root's alone".into());
        }
        // Asked first, since a compiler without a cache would answer that it has nothing.
        if let Err(error) = Cache::open(&cache) {
            return Self::Closed(format!("{:#}", anyhow::Error::from(error)));
        }
        let compiler = Settings::beside_own_executable(ENGINE).map_err(anyhow::Error::from);
        match compiler.and_then(|settings| Ok(Compiler::new(settings)?)) {
            Ok(compiler) => Self::Asked(Box::new(compiler)),
            Err(error) => Self::Closed(format!("{error:#}")),
        }
    }

    /// Whether the code of the module with `digest` (`sha256:…`) is here; `None` when that is not known.
    pub(crate) fn has(&self, digest: &str) -> Option<bool> {
        match self {
            Self::Asked(compiler) => {
                let digest = skiff_image::view::Digest::parse(digest)?;
                // Each handler's options make code of their own.
                let has = |wasi_p3| {
                    let code = CodeOptions {
                        wasi_p3,
                        ..CodeOptions::default()
                    };
                    let options = CompileOptions {
                        code,
                        ..CompileOptions::default()
                    };
                    compiler.has(&digest.bytes(), options)
                };
                Some(has(false) || has(true))
            }
            Self::Empty => Some(false),
            Self::Closed(_) => None,
        }
    }

    /// Why nothing is known.
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::Closed(reason) => reason,
            Self::Asked(_) | Self::Empty => "the module has no SHA-256 digest",
        }
    }
}
