//! What specs share: a node, its handler, images, and short ways to run containers.

use std::cell::Cell;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use skiff_test::command::{Ran, wait_for};
use skiff_test::guest;
use skiff_test::image::{Entry, Image};
use skiff_test::node::{Cri, CriContainer, Node, Pod};

/// References of the images in the node.
#[derive(Clone, Debug)]
pub(crate) struct References {
    /// The guest as `/app.wasm`, with a native busybox and a few files beside it.
    pub(crate) guest: String,
    /// A native image, for what must be beside a guest in a pod.
    pub(crate) native: String,
}

/// A node under test.
#[derive(Debug)]
pub(crate) struct World<'a> {
    pub(crate) cri: &'a Cri<'a>,
    pub(crate) handler: String,
    pub(crate) images: References,
    directory: PathBuf,
    numbers: Cell<u32>,
}

/// A container that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i64,
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) log: String,
    pub(crate) status: Value,
}

/// Pushes the images to the node's registry.
pub(crate) fn push(node: &mut Node) -> Result<References> {
    let files = [
        Entry::file("app.wasm", 0o755, &guest::module()?),
        Entry::file("greeting", 0o644, b"good morning\n"),
        Entry::file("unended", 0o644, b"no newline"),
        Entry::directory("work"),
        Entry::directory("tmp").mode(0o1777),
    ];
    let guest = Image::busybox("guest")?
        .with_root(&files)
        .entrypoint(&["/app.wasm"])
        .environment(&["FROM=image", "PATH=/bin", "OVER=image"]);
    let native = Image::busybox("native")?
        .with_root(&[
            Entry::directory("www"),
            Entry::file("www/index.html", 0o644, b"it works\n"),
        ])
        .environment(&["PATH=/bin"]);
    let registry = node.registry()?;
    Ok(References {
        guest: registry.push(&guest, "guest")?,
        native: registry.push(&native, "native")?,
    })
}

impl<'a> World<'a> {
    pub(crate) fn new(
        node: &Node,
        cri: &'a Cri<'a>,
        handler: &str,
        images: References,
    ) -> Result<Self> {
        cri.pull(&images.guest)?;
        cri.pull(&images.native)?;
        crate::network::configure(node.directory())?;
        Ok(Self {
            cri,
            handler: handler.to_owned(),
            images,
            directory: node.directory().join("volumes"),
            numbers: Cell::new(0),
        })
    }

    /// A directory of the node that no spec has had.
    pub(crate) fn directory(&self) -> Result<PathBuf> {
        let number = self.numbers.get();
        self.numbers.set(number + 1);
        let path = self.directory.join(format!("d{number}"));
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// A pod for `inspect`, in the node's network. It is removed, whatever comes of it.
    pub(crate) fn pod<T>(&self, inspect: impl FnOnce(&Pod<'_>) -> Result<T>) -> Result<T> {
        self.pod_with(&json!({}), inspect)
    }

    /// The same with another configuration laid over.
    pub(crate) fn pod_with<T>(
        &self,
        config: &Value,
        inspect: impl FnOnce(&Pod<'_>) -> Result<T>,
    ) -> Result<T> {
        let pod = self
            .cri
            .pod_over(&self.handler, "pod", &json!({ "network": 2 }), config)?;
        let result = inspect(&pod);
        let removed = pod.remove();
        let result = result?;
        removed.context("the pod could not be removed")?;
        Ok(result)
    }

    /// Runs a guest to its end in a pod of its own: words of the guest.
    pub(crate) fn run(&self, words: &[&str]) -> Result<Ended> {
        self.run_with(&json!({ "args": words }))
    }

    /// The same with any container configuration.
    pub(crate) fn run_with(&self, config: &Value) -> Result<Ended> {
        self.pod(|pod| self.end(pod, config))
    }

    /// Runs a guest to its end in a pod.
    pub(crate) fn end(&self, pod: &Pod<'_>, config: &Value) -> Result<Ended> {
        let container = pod.start(&self.images.guest, config)?;
        let code = container.wait()?;
        let (out, err) = container.logs()?;
        Ok(Ended {
            code,
            out,
            err,
            log: container.raw_log()?,
            status: container.status()?,
        })
    }

    /// A guest that sleeps, for `inspect`.
    pub(crate) fn sleeping<T>(
        &self,
        config: &Value,
        inspect: impl FnOnce(&CriContainer<'_>) -> Result<T>,
    ) -> Result<T> {
        self.pod(|pod| inspect(&self.sleeper(pod, config)?))
    }

    /// A guest that sleeps, in a pod.
    pub(crate) fn sleeper<'p>(&self, pod: &'p Pod<'p>, config: &Value) -> Result<CriContainer<'p>> {
        let mut full = json!({ "args": ["say", "up", "sleep", "1000"] });
        if let (Some(full), Some(config)) = (full.as_object_mut(), config.as_object()) {
            full.extend(config.clone());
        }
        let container = pod.start(&self.images.guest, &full)?;
        says(&container, "up")?;
        Ok(container)
    }

    /// `crictl exec --sync`: the answer, whatever the code.
    pub(crate) fn exec(&self, container: &CriContainer<'_>, words: &[&str]) -> Result<Ran> {
        let mut arguments = vec!["exec", "--sync", container.id.as_str()];
        arguments.extend(words);
        self.cri.crictl(&arguments)
    }

    /// Removes the pods that a failed spec has left.
    pub(crate) fn clear(&self) -> Result<()> {
        let pods = self.cri.crictl(&["pods", "--quiet"])?.ok()?;
        for id in pods.lines() {
            self.cri.crictl(&["stopp", id])?.ok()?;
            self.cri.crictl(&["rmp", "--force", id])?.ok()?;
        }
        Ok(())
    }
}

/// Waits until it has written this line.
pub(crate) fn says(container: &CriContainer<'_>, line: &str) -> Result<()> {
    wait_for(
        &format!("the guest does not say \"{line}\""),
        Duration::from_secs(20),
        || {
            let (out, _) = container.logs()?;
            Ok(out
                .lines()
                .any(|seen| seen.trim_end() == line)
                .then_some(()))
        },
    )
}

/// A field of `/proc/<pid>/status` of its first process.
pub(crate) fn status_of(container: &CriContainer<'_>, field: &str) -> Result<String> {
    let status = fs::read_to_string(format!("/proc/{}/status", container.pid()?))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let value = line.with_context(|| format!("no {field} in {status}"))?;
    Ok(value.trim_start_matches(':').trim().to_owned())
}

/// A namespace of its first process.
pub(crate) fn namespace(container: &CriContainer<'_>, kind: &str) -> Result<String> {
    let link = fs::read_link(format!("/proc/{}/ns/{kind}", container.pid()?))?;
    Ok(link.display().to_string())
}

/// A namespace of this process.
pub(crate) fn own_namespace(kind: &str) -> Result<String> {
    Ok(fs::read_link(format!("/proc/self/ns/{kind}"))?
        .display()
        .to_string())
}

/// That a text holds a line.
pub(crate) fn has_line(text: &str, line: &str) -> Result<()> {
    ensure!(
        text.lines().any(|seen| seen == line),
        "\"{line}\" is not a line of: {text}"
    );
    Ok(())
}
