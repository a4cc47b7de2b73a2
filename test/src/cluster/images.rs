//! Images of a cluster's pods: made by `skiff build` where they are Wasm, served by a registry of the cluster's own.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::image::{Entry, Image, Parts};
use crate::registry::Registry;
use crate::{command, guest, tools};

/// Who may pull from the private part of the registry.
pub const USER: (&str, &str) = ("reader", "opensesame");

/// References to pull by.
#[derive(Debug)]
pub struct Images {
    /// The guest as a core module, in an image for Linux and for Wasm.
    pub guest: String,
    /// The guest as a component.
    pub component: String,
    /// A component that handles requests: examples/http.
    pub http: String,
    /// The guest as a layer and nothing else.
    pub layer: String,
    /// busybox.
    pub native: String,
    /// One tag: busybox for Linux, the guest for Wasm.
    pub both: String,
    /// What only [`USER`] may pull.
    pub private: String,
    registry: Registry,
}

impl Images {
    /// Starts the registry and pushes all of them.
    pub(super) fn push(directory: &Path) -> Result<Self> {
        let files = directory.join("files");
        fs::write(files.join("guest.wasm"), guest::module()?)?;
        fs::write(files.join("component.wasm"), guest::component()?)?;
        fs::write(files.join("http.wasm"), guest::service()?)?;
        fs::write(files.join("greeting"), "good morning\n")?;
        let registry = Registry::start_with_private(USER)?;
        let push = |name: &str, module: &str, layout: &str| -> Result<String> {
            let parts = build(&files, name, module, layout)?;
            registry.push_parts(&parts, name)
        };
        let native = Image::busybox("native")?
            .with_root(&[
                Entry::directory("www"),
                Entry::file("www/index.html", 0o644, b"it works\n"),
                Entry::directory("tmp").mode(0o1777),
            ])
            .environment(&["PATH=/bin"])
            .command(&["/bin/sleep", "1000"]);
        Ok(Self {
            guest: push("guest", "guest.wasm", "combined")?,
            component: push("component", "component.wasm", "combined")?,
            http: push("http", "http.wasm", "combined")?,
            layer: push("layer", "guest.wasm", "layer")?,
            native: registry.push(&native, "native")?,
            both: {
                let both = Image::layer("both", &guest::module()?).with_entries_of(&native);
                registry.push(&both, "both")?
            },
            private: {
                push("private", "guest.wasm", "combined")?;
                let port = registry.private_port().context("nothing is private")?;
                format!("localhost:{port}/private:1")
            },
            registry,
        })
    }

    /// The registry.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }
}

/// What `skiff build` makes of a module, taken apart.
fn build(files: &Path, name: &str, module: &str, layout: &str) -> Result<Parts> {
    let archive = files.join(format!("{name}.tar"));
    let mut build = Command::new(tools::skiff("skiff")?);
    build
        .args(["build", "--layout", layout, "--tag"])
        .arg(format!("localhost/{name}:1"))
        .arg("--output")
        .args([&archive, &files.join(module)])
        .args(["--env", &format!("FROM={name}")]);
    // Files beside a layer are not unpacked for pods by every containerd.
    if layout != "layer" {
        let greeting = files.join("greeting");
        build.args(["--file", &format!("{}:/greeting", greeting.display())]);
    }
    command::run(&mut build)?.ok()?;
    let parts = Parts::read(&archive)?;
    fs::remove_file(archive)?;
    Ok(parts)
}
