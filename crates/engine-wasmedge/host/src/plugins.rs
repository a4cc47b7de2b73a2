//! Plugins of the node: libraries that provide modules beside WASI, where the handler names a directory with some.
//!
//! They are code of the node's administrator, are loaded while the node's files are in sight, and run in the container.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use wasmedge_sdk::Module;
use wasmedge_sdk::error::WasmEdgeError;
use wasmedge_sdk::plugin::{PluginInstance, PluginManager};

use crate::failure::Failure;
use crate::link::WASI;

/// The modules that can be had of plugins, and of which.
#[derive(Debug, Default)]
pub(crate) struct Plugins(BTreeMap<String, String>);

impl Plugins {
    /// Loads all that are in the directory. What is no plugin there is passed over.
    ///
    /// # Errors
    /// There is no such directory, or others than its owner may put libraries into it.
    pub(crate) fn load(directory: &str) -> Result<Self, Failure> {
        let failed = |source| Failure::Plugins {
            directory: directory.to_owned(),
            source,
        };
        let facts = std::fs::metadata(directory).map_err(failed)?;
        if !facts.is_dir() {
            return Err(failed(io::ErrorKind::NotADirectory.into()));
        }
        if facts.mode() & 0o022 != 0 {
            let reason = "others than its owner may write to it (chmod go-w)";
            return Err(failed(io::Error::other(reason)));
        }
        PluginManager::load(Some(Path::new(directory)))
            .map_err(|error| failed(io::Error::other(error)))?;
        let mut modules = BTreeMap::new();
        for name in PluginManager::names() {
            if let Ok(plugin) = PluginManager::find(&name) {
                let provided = plugin.mod_names().into_iter();
                modules.extend(provided.map(|module| (module, name.clone())));
            }
        }
        Ok(Self(modules))
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them provides the module.
    pub(crate) fn provide(&self, module: &str) -> bool {
        self.0.contains_key(module)
    }

    /// What they provide, for a message.
    pub(crate) fn modules(&self) -> String {
        let names: Vec<&str> = self.0.keys().map(String::as_str).collect();
        match names[..] {
            [] => "none".to_owned(),
            _ => names.join(", "),
        }
    }

    /// Makes what `module` imports of them.
    ///
    /// # Errors
    /// A plugin cannot make it.
    pub(crate) fn instances(
        &self,
        module: &Module,
    ) -> Result<Vec<(String, PluginInstance)>, Box<WasmEdgeError>> {
        let mut made: Vec<(String, PluginInstance)> = Vec::new();
        for import in module.imports() {
            let name = import.module_name();
            if name == WASI || made.iter().any(|(one, _)| *one == name) {
                continue;
            }
            if let Some(plugin) = self.0.get(name.as_ref()) {
                let instance = PluginManager::create_plugin_instance(plugin, &name)?;
                made.push((name.into_owned(), instance));
            }
        }
        Ok(made)
    }
}
