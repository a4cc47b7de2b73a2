//! The trait that names an engine, and that of its compiler.

use std::future::Future;
use std::hash::Hash;

use anyhow::Result;

use crate::sandbox::Sandbox;
use crate::sandbox::context::WasmLayer;

/// An engine.
pub trait Shim: Sync + 'static {
    /// What runs its guests.
    type Sandbox: Sandbox;

    /// Its name.
    fn name() -> &'static str;

    /// Its version, which nobody asks for under Skiff.
    fn version() -> Version {
        Version::default()
    }

    /// What compiles modules, if anything does.
    fn compiler() -> impl Future<Output = Option<impl Compiler>> + Send {
        async { NO_COMPILER }
    }

    /// The media types of layers that it runs.
    fn supported_layers_types() -> &'static [&'static str] {
        &[
            "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
            "application/wasm",
        ]
    }
}

/// An engine's compiler.
pub trait Compiler: Sync {
    /// What decides, beside a module's bytes, what is made of it.
    fn cache_key(&self) -> impl Hash;

    /// Compiles layers; an answer for each, `None` for those that it leaves as they are.
    fn compile(
        &self,
        layers: &[WasmLayer],
    ) -> impl Future<Output = Result<Vec<Option<Vec<u8>>>>> + Send;
}

/// The compiler of an engine that has none.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub enum NoCompiler {}

/// None.
#[doc(hidden)]
pub const NO_COMPILER: Option<NoCompiler> = None;

impl Compiler for NoCompiler {
    fn cache_key(&self) -> impl Hash {}

    async fn compile(&self, _layers: &[WasmLayer]) -> Result<Vec<Option<Vec<u8>>>> {
        match *self {}
    }
}

/// A version.
#[derive(Debug, Default)]
pub struct Version {
    /// `1.2.3`.
    pub version: &'static str,
    /// Of its repository.
    pub revision: &'static str,
}

/// The [`Version`] of the crate that it is used in.
#[macro_export]
#[doc(hidden)]
macro_rules! shim_version {
    () => {
        $crate::shim::Version {
            version: env!("CARGO_PKG_VERSION"),
            revision: "",
        }
    };
}

#[doc(inline)]
pub use crate::shim_version as version;
