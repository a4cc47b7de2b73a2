//! The runtimes that are compared, and what they are made of.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use skiff_test::tools;

use crate::settings::Settings;

/// One of those compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Runtime {
    /// Skiff, the module a file of the root.
    Skiff,
    /// Skiff, the module a layer of the image.
    SkiffLayer,
    /// A shim of runwasi with wasmtime, the module a file of the root.
    Runwasi,
    /// The same, the module a layer that the shim has compiled and stored in containerd.
    RunwasiLayer,
    /// containerd's own shim with runc, and a static native program.
    Runc,
    /// Skiff's handler for WasmEdge, the module a file of the root.
    Wasmedge,
    /// The same, told to interpret.
    WasmedgeInterpreter,
    /// The same, told to compile at each start.
    WasmedgeUncached,
}

impl Runtime {
    /// All that are compared in everything, in the order of their turns.
    pub(crate) const ALL: [Self; 5] = [
        Self::Skiff,
        Self::Runwasi,
        Self::SkiffLayer,
        Self::RunwasiLayer,
        Self::Runc,
    ];

    /// What reports call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Skiff => "skiff",
            Self::SkiffLayer => "skiff (layer)",
            Self::Runwasi => "runwasi (module in the root)",
            Self::RunwasiLayer => "runwasi (precompiled layer)",
            Self::Runc => "runc",
            Self::Wasmedge => "skiff (WasmEdge)",
            Self::WasmedgeInterpreter => "skiff (WasmEdge, interpreting)",
            Self::WasmedgeUncached => "skiff (WasmEdge, compiling)",
        }
    }

    /// The shim's executable.
    ///
    /// # Errors
    /// If it was not built.
    pub(crate) fn shim(self, settings: &Settings) -> Result<PathBuf> {
        if self.is_wasmedge() {
            // By this name, which is a link: it is how the shim knows what it is for.
            let path = settings.skiff.join("containerd-shim-wasmedge-v1");
            ensure!(path.exists(), "{} was not built", path.display());
            return Ok(path);
        }
        let path = match self {
            Self::Skiff | Self::SkiffLayer => settings.skiff.join("containerd-shim-skiff-v1"),
            Self::Runwasi | Self::RunwasiLayer => {
                tools::component("runwasi")?.join("containerd-shim-runwasi-v1")
            }
            _ => tools::component("containerd-2.4")?.join("containerd-shim-runc-v2"),
        };
        path.canonicalize()
            .with_context(|| format!("{} was not built", path.display()))
    }

    /// The runtime type that containerd knows it by.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Skiff | Self::SkiffLayer => "io.containerd.skiff.v1",
            Self::Runwasi | Self::RunwasiLayer => "io.containerd.runwasi.v1",
            Self::Runc => "io.containerd.runc.v2",
            Self::Wasmedge | Self::WasmedgeInterpreter | Self::WasmedgeUncached => {
                "io.containerd.wasmedge.v1"
            }
        }
    }

    /// The options of its handler, as TOML; empty for none.
    pub(crate) fn options(self) -> &'static str {
        match self {
            Self::WasmedgeInterpreter => "[WasmEdge]\nInterpreter = true\n",
            Self::WasmedgeUncached => "CachePolicy = \"off\"\n",
            _ => "",
        }
    }

    /// The name under which it serves the task API. runwasi's adapter knows the older one only.
    pub(crate) fn service(self) -> &'static str {
        match self {
            Self::Runwasi | Self::RunwasiLayer => "containerd.task.v2.Task",
            _ => "containerd.task.v3.Task",
        }
    }

    /// Whether its module is a layer of an image that containerd holds.
    pub(crate) fn in_layer(self) -> bool {
        matches!(self, Self::SkiffLayer | Self::RunwasiLayer)
    }

    /// Whether it is WasmEdge that runs the module.
    fn is_wasmedge(self) -> bool {
        self.kind() == "io.containerd.wasmedge.v1"
    }

    /// Whether it runs Wasm.
    pub(crate) fn is_wasm(self) -> bool {
        self != Self::Runc
    }
}
