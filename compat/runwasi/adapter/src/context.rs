//! What an engine is told of its container: runwasi's [`RuntimeContext`], filled in from Skiff's order.

use std::fmt;
use std::path::Path;

use containerd_shim_wasm::sandbox::context::{Entrypoint, RuntimeContext, Source, WasmLayer};
use oci_spec::image::{Descriptor, Digest, MediaType};
use skiff_engine::order::Guest;

use crate::entry::Entry;

/// The media type of a module among an image's layers.
const MODULE: &str = "application/wasm";
/// What is called unless the entrypoint names another function.
const START: &str = "_start";

/// One guest, as its engine sees it.
pub(crate) struct Context {
    args: Vec<String>,
    env: Vec<String>,
    function: String,
    /// Always one.
    layers: [WasmLayer; 1],
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("args", &self.args)
            .field("function", &self.function)
            .finish_non_exhaustive()
    }
}

impl Context {
    /// Of a guest whose code is `entry`.
    pub(crate) fn new(guest: &Guest, entry: Entry) -> anyhow::Result<Self> {
        Ok(Self {
            args: guest.args.clone(),
            env: guest.env.clone(),
            function: guest.function.clone().unwrap_or_else(|| START.to_owned()),
            layers: [layer(entry)?],
        })
    }
}

/// A module as a layer, which it is to the engine even if it was a file of the image. The descriptor is always that of
/// the module, whatever was compiled from it.
pub(crate) fn layer(entry: Entry) -> anyhow::Result<WasmLayer> {
    let hex: String = entry
        .sha256
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let digest = Digest::try_from(format!("sha256:{hex}"))?;
    Ok(WasmLayer {
        config: Descriptor::new(MediaType::Other(MODULE.to_owned()), entry.size, digest),
        precompiled: entry.is_compiled,
        layer: entry.code,
    })
}

impl RuntimeContext for Context {
    fn args(&self) -> &[String] {
        &self.args
    }

    fn envs(&self) -> &[String] {
        &self.env
    }

    fn entrypoint(&self) -> Entrypoint<'_> {
        let arg0 = self.args.first();
        let path = arg0
            .and_then(|arg0| arg0.split('#').next())
            .unwrap_or_default();
        Entrypoint {
            func: self.function.clone(),
            name: Path::new(path)
                .file_stem()
                .map(|stem| stem.to_string_lossy().into_owned()),
            arg0: arg0.map(Path::new),
            source: Source::Oci(&self.layers),
        }
    }
}

#[cfg(test)]
mod tests {
    use skiff_engine::options::GuestOptions;
    use skiff_engine::order::CodeKind;
    use skiff_sandbox::plan::Slot;

    use super::*;

    fn context(args: &[&str], function: Option<&str>) -> Context {
        let guest = Guest {
            kind: CodeKind::Module,
            code: Slot(0),
            name: "/a.wasm".to_owned(),
            function: function.map(str::to_owned),
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            env: vec!["A=1".to_owned()],
            working_directory: "/".to_owned(),
            exit_record: Slot(0),
            options: GuestOptions::default(),
        };
        let entry = Entry {
            sha256: [0xab; 32],
            size: 7,
            is_compiled: true,
            code: b"code".to_vec(),
        };
        Context::new(&guest, entry).unwrap()
    }

    #[test]
    fn an_engine_is_told_what_runwasi_tells() {
        let context = context(&["/bin/app.wasm#other", "x"], Some("other"));
        assert_eq!(context.args(), ["/bin/app.wasm#other", "x"]);
        assert_eq!(context.envs(), ["A=1"]);
        let entrypoint = context.entrypoint();
        assert_eq!(entrypoint.func, "other");
        assert_eq!(entrypoint.name.as_deref(), Some("app"));
        assert_eq!(entrypoint.arg0, Some(Path::new("/bin/app.wasm#other")));
        assert_eq!(entrypoint.source.as_bytes().unwrap().as_ref(), b"code");
        assert!(entrypoint.source.is_precompiled().unwrap());
        let Source::Oci([layer]) = entrypoint.source else {
            panic!("a module is one layer")
        };
        assert_eq!(layer.config.size(), 7);
        assert!(layer.config.digest().to_string().starts_with("sha256:abab"));
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        let context = context(&[], None);
        let entrypoint = context.entrypoint();
        assert_eq!(entrypoint.func, "_start");
        assert!(entrypoint.name.is_none() && entrypoint.arg0.is_none());
    }
}
