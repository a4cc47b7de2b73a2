//! Indexes, manifests and configs: the JSON documents of an image, and which manifest of an index a
//! container was made from. Pure.

use serde::Deserialize;

use crate::view::Digest;

/// An index or a manifest: the media types are not always there to tell, the fields are.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Document {
    /// Of an index.
    pub(super) manifests: Option<Vec<Descriptor>>,
    /// Of a manifest.
    pub(super) config: Option<Descriptor>,
    /// Of a manifest.
    pub(super) layers: Option<Vec<Descriptor>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub(super) media_type: String,
    pub(super) digest: String,
    pub(super) size: u64,
    pub(super) platform: Option<Platform>,
    pub(super) annotations: Option<std::collections::HashMap<String, String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Platform {
    pub(super) architecture: String,
    pub(super) os: String,
}

/// A config, of an image or of a Wasm artifact.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Config {
    pub(super) architecture: String,
    pub(super) os: String,
    pub(super) rootfs: Rootfs,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Rootfs {
    pub(super) diff_ids: Option<Vec<String>>,
}

/// The manifests of an index that this node can have made a container from, the likeliest first: Linux
/// entries of the node's architecture, then Wasm ones, then entries that name no platform. The order of
/// the index breaks ties, as it does in containerd.
pub(super) fn candidates<'a>(
    manifests: &'a [Descriptor],
    architecture: &str,
) -> Vec<&'a Descriptor> {
    let rank = |descriptor: &Descriptor| match &descriptor.platform {
        Some(platform) if platform.os == "linux" && platform.architecture == architecture => {
            Some(0)
        }
        Some(platform) if platform.architecture == "wasm" => Some(1),
        None => Some(2),
        Some(_) => None,
    };
    let mut ranked: Vec<(i32, &Descriptor)> = manifests
        .iter()
        .filter_map(|descriptor| Some((rank(descriptor)?, descriptor)))
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked
        .into_iter()
        .map(|(_, descriptor)| descriptor)
        .collect()
}

/// The name of the snapshot that an image's layers make together (image-spec, "Layer ChainID"); empty
/// without layers.
pub(super) fn chain_id(diff_ids: &[String]) -> String {
    let mut layers = diff_ids.iter();
    let Some(first) = layers.next() else {
        return String::new();
    };
    layers.fold(first.clone(), |chain, diff_id| {
        Digest::of(format!("{chain} {diff_id}").as_bytes()).to_string()
    })
}

/// Whether a container's snapshot was made on top of the layers `chain`. containerd names the copy of a
/// chain for a user namespace `<chain>-<uid>-<gid>`.
pub(super) fn snapshot_is_of(parent: &str, chain: &str) -> bool {
    match parent.strip_prefix(chain) {
        Some("") => true,
        Some(rest) => !chain.is_empty() && rest.starts_with('-'),
        None => false,
    }
}

/// The node's architecture as images name it.
pub(super) fn node_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(digest: &str, platform: Option<(&str, &str)>) -> Descriptor {
        let platform = platform.map(|(os, architecture)| Platform {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
        });
        Descriptor {
            digest: digest.to_owned(),
            platform,
            ..Descriptor::default()
        }
    }

    #[test]
    fn the_nodes_own_platform_comes_first_then_wasm() {
        let index = [
            entry("attestation", Some(("unknown", "unknown"))),
            entry("any", None),
            entry("p1", Some(("wasip1", "wasm"))),
            entry("arm", Some(("linux", "arm64"))),
            entry("p2", Some(("wasip2", "wasm"))),
            entry("amd", Some(("linux", "amd64"))),
        ];
        let order = |architecture| {
            candidates(&index, architecture)
                .iter()
                .map(|entry| entry.digest.as_str())
                .collect::<Vec<_>>()
        };
        assert_eq!(order("amd64"), ["amd", "p1", "p2", "any"]);
        assert_eq!(order("arm64"), ["arm", "p1", "p2", "any"]);
    }

    #[test]
    fn chain_ids_are_those_of_the_image_spec() {
        let layer = |fill: &str| format!("sha256:{}", fill.repeat(64));
        assert_eq!(chain_id(&[]), "");
        assert_eq!(chain_id(&[layer("1")]), layer("1"));
        // printf 'sha256:11…1 sha256:22…2' | sha256sum
        assert_eq!(
            chain_id(&[layer("1"), layer("2")]),
            "sha256:9932074217c35353d2e03a3f5a86549f7c67bfeb0ba53e23d69f4d4c8f7958f5"
        );
    }

    #[test]
    fn a_snapshot_of_a_user_namespace_is_of_its_chain() {
        assert!(snapshot_is_of("sha256:aa", "sha256:aa"));
        assert!(snapshot_is_of("sha256:aa-1000-1000", "sha256:aa"));
        assert!(snapshot_is_of("", ""));
        assert!(!snapshot_is_of("sha256:aa", ""));
        assert!(!snapshot_is_of("-1", ""));
        assert!(!snapshot_is_of("sha256:aab", "sha256:aa"));
    }
}
