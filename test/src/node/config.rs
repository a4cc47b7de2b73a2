//! The configuration of a node's containerd.

use std::path::Path;

use anyhow::Result;

use super::{RUNC, RUNWASI, SKIFF, Version, WASMEDGE, WASMTIME};
use crate::tools;

/// The image that CRI makes a pod's sandbox of; imported by the test, never pulled.
pub const PAUSE_IMAGE: &str = "skiff.test/pause:1";

/// Handlers of CRI, by the name that a RuntimeClass gives, their runtime types and options.
const HANDLERS: [(&str, &str, &str); 12] = [
    ("skiff", SKIFF, ""),
    (
        "skiff-either",
        SKIFF,
        "Engines = [\"wasmtime\", \"wasmedge\"]",
    ),
    ("wasmtime", WASMTIME, ""),
    ("wasmtime-uncapped", WASMTIME, "MemoryCap = \"off\""),
    ("wasmtime-half", WASMTIME, "MemoryCap = \"50%\""),
    ("wasmedge", WASMEDGE, ""),
    ("wasmedge-uncapped", WASMEDGE, "MemoryCap = \"off\""),
    ("wasmedge-half", WASMEDGE, "MemoryCap = \"50%\""),
    ("runwasi", RUNWASI, ""),
    // Engines of compat/runwasi.
    ("wasmi", "io.containerd.wasmi.v1", ""),
    ("wasmtime36", "io.containerd.wasmtime36.v1", ""),
    ("runc", RUNC, ""),
];

/// Writes it in the form that this version reads.
pub(super) fn containerd(version: Version, directory: &Path, quiet: bool) -> Result<String> {
    let place = directory.display();
    let level = if quiet { "info" } else { "debug" };
    let networks = tools::component("cni")
        .map(|path| path.display().to_string())
        .unwrap_or_default();
    let (form, runtime, images) = match version {
        Version::V1_7 => (2, "io.containerd.grpc.v1.cri", "io.containerd.grpc.v1.cri"),
        Version::V2_1 | Version::V2_4 => (
            3,
            "io.containerd.cri.v1.runtime",
            "io.containerd.cri.v1.images",
        ),
    };
    let mut text = format!(
        r#"version = {form}
root = "{place}/root"
state = "{place}/state"
disabled_plugins = ["io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.erofs"]

[grpc]
address = "{place}/c.sock"

[ttrpc]
address = "{place}/t.sock"

[debug]
level = "{level}"

[plugins.'io.containerd.internal.v1.opt']
path = "{place}/opt"

[plugins.'io.containerd.nri.v1.nri']
disable = true

[plugins.'{runtime}']
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
"#
    );
    let bin = match version {
        Version::V1_7 | Version::V2_1 => format!("bin_dir = \"{networks}\""),
        Version::V2_4 => format!("bin_dirs = [\"{networks}\"]"),
    };
    let network = format!("\n[plugins.'{runtime}'.cni]\n{bin}\nconf_dir = \"{place}/cni\"\n");
    let registry =
        format!("\n[plugins.'{images}'.registry]\nconfig_path = \"{place}/registries\"\n");
    match version {
        Version::V1_7 => {
            text.push_str(&format!(
                "sandbox_image = \"{PAUSE_IMAGE}\"\n{network}{registry}"
            ));
        }
        Version::V2_1 | Version::V2_4 => {
            text.push_str(&network);
            text.push_str(&format!(
                "\n[plugins.'{images}'.pinned_images]\nsandbox = \"{PAUSE_IMAGE}\"\n{registry}"
            ));
        }
    }
    for (handler, kind, options) in HANDLERS {
        text.push_str(&format!(
            "\n[plugins.'{runtime}'.containerd.runtimes.{handler}]\nruntime_type = \"{kind}\"\n"
        ));
        // What both image layouts and both shims' options need beyond that is documented in runtimeclass/.
        // A star of containerd's patterns stands for no slash.
        text.push_str("pod_annotations = [\"*\", \"*/*\"]\n");
        if !options.is_empty() {
            text.push_str(&format!(
                "[plugins.'{runtime}'.containerd.runtimes.{handler}.options]\n{options}\n"
            ));
        }
    }
    Ok(text)
}
