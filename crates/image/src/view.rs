//! What Skiff needs to know of an image, and the media types that say so.

use std::fmt;

/// Layer of a core module or component, as runwasi and the OCI Wasm artifact write it.
pub const LAYER_WASM: &str = "application/wasm";
/// Layer of a component, as older tools of the Bytecode Alliance write it.
pub const LAYER_COMPONENT: &str = "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm";
/// Config of an OCI Wasm artifact.
pub const CONFIG_ARTIFACT: &str = "application/vnd.wasm.config.v0+json";
/// Config of an OCI image.
pub const CONFIG_IMAGE: &str = "application/vnd.oci.image.config.v1+json";
/// Config of a Docker image.
pub const CONFIG_DOCKER: &str = "application/vnd.docker.container.image.v1+json";
/// Title of a layer: by convention the name of the file it was made from.
pub const ANNOTATION_TITLE: &str = "org.opencontainers.image.title";

/// A SHA-256 digest, `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(String);

impl Digest {
    /// Checks the form. Other algorithms are `None`: compiled code is kept by SHA-256.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix("sha256:")?;
        let well_formed =
            hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        well_formed.then(|| Self(text.to_owned()))
    }

    /// The digest of a finished hash.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        use fmt::Write as _;
        let mut text = String::with_capacity(71);
        text.push_str("sha256:");
        for byte in bytes {
            write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        }
        Self(text)
    }

    /// The digest of bytes at hand.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self::from_bytes(sha2::Sha256::digest(bytes).into())
    }

    /// `sha256:…`
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 64 hexadecimal digits.
    pub fn hex(&self) -> &str {
        &self.0["sha256:".len()..]
    }

    /// The 32 bytes, for a cache key.
    pub fn bytes(&self) -> [u8; 32] {
        let digit = |b: u8| if b <= b'9' { b - b'0' } else { b - b'a' + 10 };
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(self.hex().as_bytes().chunks_exact(2)) {
            *byte = digit(pair[0]) << 4 | digit(pair[1]);
        }
        bytes
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One layer of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Media type.
    pub media_type: String,
    /// Digest of the blob, which for a Wasm layer is the module itself.
    pub digest: Digest,
    /// Size of the blob.
    pub size: u64,
    /// Annotation `org.opencontainers.image.title`.
    pub title: Option<String>,
}

impl Layer {
    /// Whether the blob is a module or component by its media type.
    pub fn is_wasm(&self) -> bool {
        matches!(self.media_type.as_str(), LAYER_WASM | LAYER_COMPONENT)
    }
}

/// The manifest and config that a container was made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageView {
    /// The image's name as containerd has it, for messages.
    pub name: String,
    /// Media type of the config.
    pub config_type: String,
    /// `architecture` of the config; empty when it has none.
    pub architecture: String,
    /// `os` of the config; empty when it has none.
    pub os: String,
    /// All layers, in the manifest's order.
    pub layers: Vec<Layer>,
}

impl ImageView {
    /// What a container without an image is taken for: an ordinary image, of which nothing is known.
    pub fn of_nothing() -> Self {
        Self {
            config_type: CONFIG_IMAGE.to_owned(),
            ..Self::default()
        }
    }

    /// Whether the config is that of an ordinary image (with a root file system), not of an artifact.
    pub fn has_image_config(&self) -> bool {
        matches!(self.config_type.as_str(), CONFIG_IMAGE | CONFIG_DOCKER)
    }

    /// The Wasm layers.
    pub fn wasm_layers(&self) -> impl Iterator<Item = &Layer> {
        self.layers.iter().filter(|layer| layer.is_wasm())
    }
}
