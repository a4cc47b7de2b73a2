//! The client against an HTTP/2 server of the test's own that answers as containerd does. The same calls
//! against real containerds are made by every test of `test/node`.

use std::collections::HashMap;
use std::io::{Read as _, Seek as _};
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use bytes::Bytes;
use prost::Message;
use serde_json::{Value, json};
use tokio::net::UnixListener;

use super::messages as m;
use super::*;
use crate::view::{CONFIG_ARTIFACT, CONFIG_IMAGE};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

/// What the server holds.
#[derive(Clone, Default)]
struct Fake {
    /// Id to image, for namespace `test`.
    containers: HashMap<String, String>,
    images: HashMap<String, m::Descriptor>,
    blobs: HashMap<String, Vec<u8>>,
    parent: Option<String>,
    /// Methods that are never answered.
    silent: Option<&'static str>,
    /// Bytes of a DATA frame and of a piece of content.
    piece: usize,
}

impl Fake {
    fn new() -> Self {
        Self {
            piece: 1 << 20,
            ..Self::default()
        }
    }

    fn blob(&mut self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes).to_string();
        self.blobs.insert(digest.clone(), bytes.to_vec());
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    fn json(&mut self, media_type: &str, value: &Value) -> Value {
        self.blob(media_type, value.to_string().as_bytes())
    }

    fn manifest(&mut self, config_type: &str, config: &Value, layers: &[Value]) -> Value {
        let config = self.json(config_type, config);
        self.json(
            MANIFEST,
            &json!({"schemaVersion": 2, "config": config, "layers": layers}),
        )
    }

    /// Container `c` of image `i` with this target.
    fn container(&mut self, target: &Value) {
        self.containers.insert("c".to_owned(), "i".to_owned());
        let target = m::Descriptor {
            media_type: target["mediaType"].as_str().unwrap().to_owned(),
            digest: target["digest"].as_str().unwrap().to_owned(),
            size: target["size"].as_i64().unwrap(),
        };
        self.images.insert("i".to_owned(), target);
    }

    /// Messages and status of one call.
    fn answer(&self, method: &str, namespace: &str, request: &[u8]) -> (Vec<Vec<u8>>, u8, String) {
        let not_found = |what: &str| (Vec::new(), 5, format!("{what}: not%20found"));
        match method {
            "containers.v1.Containers/Get" => {
                let id = m::GetContainerRequest::decode(request).unwrap().id;
                let Some(image) = self.containers.get(&id).filter(|_| namespace == "test") else {
                    return not_found("container");
                };
                let container = m::Container {
                    image: image.clone(),
                    snapshotter: "overlayfs".to_owned(),
                    snapshot_key: id.clone(),
                };
                (
                    vec![
                        m::GetContainerResponse {
                            container: Some(container),
                        }
                        .encode_to_vec(),
                    ],
                    0,
                    String::new(),
                )
            }
            "images.v1.Images/Get" => {
                let name = m::GetImageRequest::decode(request).unwrap().name;
                let Some(target) = self.images.get(&name).cloned() else {
                    return not_found("image");
                };
                let image = m::Image {
                    name,
                    labels: HashMap::new(),
                    target: Some(target),
                };
                (
                    vec![m::ImageEnvelope { image: Some(image) }.encode_to_vec()],
                    0,
                    String::new(),
                )
            }
            "snapshots.v1.Snapshots/Stat" => {
                let request = m::StatSnapshotRequest::decode(request).unwrap();
                assert_eq!(
                    (request.snapshotter.as_str(), request.key.as_str()),
                    ("overlayfs", "c")
                );
                let Some(parent) = self.parent.clone() else {
                    return not_found("snapshot");
                };
                let info = Some(m::SnapshotInfo { parent });
                (
                    vec![m::StatSnapshotResponse { info }.encode_to_vec()],
                    0,
                    String::new(),
                )
            }
            "content.v1.Content/Info" => {
                let digest = m::ContentInfoRequest::decode(request).unwrap().digest;
                let Some(blob) = self.blobs.get(&digest) else {
                    return not_found("content");
                };
                let info = Some(m::ContentInfo {
                    size: i64::try_from(blob.len()).unwrap(),
                });
                (
                    vec![m::ContentInfoResponse { info }.encode_to_vec()],
                    0,
                    String::new(),
                )
            }
            "content.v1.Content/Read" => {
                let digest = m::ReadContentRequest::decode(request).unwrap().digest;
                let Some(blob) = self.blobs.get(&digest) else {
                    return not_found("content");
                };
                let piece = |data: &[u8]| {
                    m::ReadContentResponse {
                        data: Bytes::copy_from_slice(data),
                    }
                    .encode_to_vec()
                };
                (
                    blob.chunks(self.piece).map(piece).collect(),
                    0,
                    String::new(),
                )
            }
            other => (Vec::new(), 12, format!("unknown method {other}")),
        }
    }
}

/// A running server; its socket goes with the folder.
struct Server {
    _folder: tempfile::TempDir,
    socket: PathBuf,
}

impl Server {
    fn start(fake: Fake) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("containerd.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let fake = fake.clone();
                tokio::spawn(async move {
                    let mut connection = h2::server::handshake(stream).await.unwrap();
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        tokio::spawn(serve(fake.clone(), request, respond));
                    }
                });
            }
        });
        Self {
            _folder: folder,
            socket,
        }
    }

    async fn lookup(&self) -> Result<ImageView, LookupError> {
        lookup_image(&self.socket, "test", "c").await
    }

    async fn read(&self, layer: &Layer, cap: u64) -> Result<Vec<u8>, LookupError> {
        let mut file = tempfile::tempfile().unwrap();
        read_layer(&self.socket, "test", layer, cap, file.as_fd()).await?;
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        Ok(bytes)
    }
}

async fn serve(
    fake: Fake,
    mut request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
) {
    let method = request
        .uri()
        .path()
        .strip_prefix("/containerd.services.")
        .unwrap()
        .to_owned();
    let namespace = request.headers()["containerd-namespace"]
        .to_str()
        .unwrap()
        .to_owned();
    assert_eq!(request.headers()["content-type"], "application/grpc");
    let mut body = Vec::new();
    while let Some(piece) = request.body_mut().data().await {
        body.extend_from_slice(&piece.unwrap());
    }
    if fake.silent == Some(method.as_str()) {
        return std::future::pending().await;
    }
    let (messages, code, message) = fake.answer(&method, &namespace, &body[5..]);
    let head = http::Response::builder().header("content-type", "application/grpc");
    if messages.is_empty() {
        // As grpc-go does: an answer without a message is one block of headers.
        let head = head
            .header("grpc-status", u16::from(code))
            .header("grpc-message", message)
            .body(())
            .unwrap();
        respond.send_response(head, true).unwrap();
        return;
    }
    let mut stream = respond
        .send_response(head.body(()).unwrap(), false)
        .unwrap();
    for message in messages {
        let mut frame = vec![0];
        frame.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
        frame.extend_from_slice(&message);
        for piece in frame.chunks(fake.piece) {
            stream.reserve_capacity(piece.len());
            // Waits for the client's window, as a real server must.
            let mut sent = 0;
            while sent < piece.len() {
                let room = match stream.capacity() {
                    0 => {
                        match std::future::poll_fn(|context| stream.poll_capacity(context)).await {
                            Some(Ok(room)) => room,
                            _ => return,
                        }
                    }
                    room => room,
                };
                let end = (sent + room).min(piece.len());
                if stream
                    .send_data(Bytes::copy_from_slice(&piece[sent..end]), false)
                    .is_err()
                {
                    return;
                }
                sent = end;
                stream.reserve_capacity(piece.len() - sent);
            }
        }
    }
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", code.to_string().parse().unwrap());
    // The client may have gone already.
    stream.send_trailers(trailers).unwrap_or_default();
}

/// The whole chain, as the edge prints it.
fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn wasm_config() -> Value {
    json!({"architecture": "wasm", "os": "wasip1", "rootfs": {"type": "layers", "diff_ids": []}})
}

#[tokio::test]
async fn one_manifest_is_read() {
    let mut fake = Fake::new();
    let mut module = fake.blob(LAYER_WASM, b"\0asm\x01\0\0\0");
    module["annotations"] = json!({(ANNOTATION_TITLE): "app.wasm"});
    let odd = json!({"mediaType": TAR, "digest": format!("sha512:{}", "0".repeat(128)), "size": 3});
    let target = fake.manifest(CONFIG_IMAGE, &wasm_config(), &[module.clone(), odd]);
    fake.container(&target);
    let view = Server::start(fake).lookup().await.unwrap();
    let layer = Layer {
        media_type: LAYER_WASM.to_owned(),
        digest: Digest::of(b"\0asm\x01\0\0\0"),
        size: 8,
        title: Some("app.wasm".to_owned()),
    };
    let expected = ImageView {
        name: "i".to_owned(),
        config_type: CONFIG_IMAGE.to_owned(),
        architecture: "wasm".to_owned(),
        os: "wasip1".to_owned(),
        layers: vec![layer],
    };
    assert_eq!(view, expected);
}

#[tokio::test]
async fn artifacts_and_unknown_configs_are_read() {
    for (config_type, config, architecture) in [
        (
            CONFIG_ARTIFACT,
            json!({"architecture": "wasm", "os": "wasip2", "layerDigests": []}),
            "wasm",
        ),
        ("application/vnd.oci.empty.v1+json", json!("anything"), ""),
    ] {
        let mut fake = Fake::new();
        let module = fake.blob(LAYER_WASM, b"x");
        let target = fake.manifest(config_type, &config, &[module]);
        fake.container(&target);
        let view = Server::start(fake).lookup().await.unwrap();
        assert_eq!(
            (view.config_type.as_str(), view.architecture.as_str()),
            (config_type, architecture)
        );
        assert_eq!(view.wasm_layers().count(), 1);
    }
}

#[tokio::test]
async fn of_an_index_the_manifest_below_the_snapshot_is_taken() {
    let mut fake = Fake::new();
    let entry = |descriptor: &Value, os: &str, architecture: &str| {
        let mut entry = descriptor.clone();
        entry["platform"] = json!({"os": os, "architecture": architecture});
        entry
    };
    let diff_id = |fill: &str| format!("sha256:{}", fill.repeat(64));
    let linux_config = |fill: &str| json!({"architecture": manifest::node_architecture(), "os": "linux", "rootfs": {"diff_ids": [diff_id(fill), diff_id("2")]}});
    let module = fake.blob(LAYER_WASM, b"module");
    let tar = fake.blob(TAR, b"tar");
    let wasm = fake.manifest(CONFIG_IMAGE, &wasm_config(), &[module]);
    let linux = fake.manifest(CONFIG_IMAGE, &linux_config("1"), std::slice::from_ref(&tar));
    let absent = json!({"mediaType": MANIFEST, "digest": diff_id("9"), "size": 9});
    let inner = fake.json(
        INDEX,
        &json!({"manifests": [entry(&wasm, "wasip1", "wasm")]}),
    );
    let node = manifest::node_architecture();
    let target = fake.json(
        INDEX,
        &json!({"manifests": [inner, entry(&absent, "linux", node), entry(&linux, "linux", node)]}),
    );
    fake.container(&target);

    let chain = manifest::chain_id(&[diff_id("1"), diff_id("2")]);
    for (parent, architecture) in [
        (Some(String::new()), "wasm"),
        (Some(chain.clone()), node),
        (Some(format!("{chain}-0-0")), node),
        (Some("a snapshotter's own name".to_owned()), node),
        (None, node),
    ] {
        let server = Server::start(Fake {
            parent: parent.clone(),
            ..fake.clone()
        });
        let view = server.lookup().await.unwrap();
        assert_eq!(view.architecture, architecture, "parent {parent:?}");
    }

    let only_absent = fake.json(
        INDEX,
        &json!({"manifests": [entry(&absent, "wasip1", "wasm")]}),
    );
    fake.container(&only_absent);
    let error = Server::start(fake).lookup().await.unwrap_err();
    assert!(
        sentence(&error).starts_with("image \"i\" has no manifest on this node for linux/"),
        "{error}"
    );
}

#[tokio::test]
async fn a_container_without_an_image_has_no_layers() {
    let mut fake = Fake::new();
    fake.containers.insert("c".to_owned(), String::new());
    let view = Server::start(fake).lookup().await.unwrap();
    assert!(view.layers.is_empty() && view.has_image_config());
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let mut fake = Fake::new();
    let error = Server::start(fake.clone()).lookup().await.unwrap_err();
    assert_eq!(
        sentence(&error),
        "could not look up container \"c\" in containerd: containerd answered containers.v1.Containers/Get with NOT_FOUND: container: not found"
    );
    let target = fake.manifest(CONFIG_IMAGE, &wasm_config(), &[]);
    fake.container(&target);
    let (mut no_image, mut no_config) = (fake.clone(), fake.clone());
    no_image.images.clear();
    let error = Server::start(no_image).lookup().await.unwrap_err();
    assert_eq!(
        sentence(&error),
        "image \"i\" is not in containerd any more; pull it again"
    );
    no_config
        .blobs
        .retain(|digest, _| digest == target["digest"].as_str().unwrap());
    let error = Server::start(no_config).lookup().await.unwrap_err();
    assert!(sentence(&error).contains("config sha256:"), "{error}");
    let error = lookup_image(Path::new("/nonexistent/containerd.sock"), "test", "c")
        .await
        .unwrap_err();
    assert_eq!(
        sentence(&error),
        "could not ask containerd which image container \"c\" has: could not connect to containerd at /nonexistent/containerd.sock: No such file or directory (os error 2)"
    );
}

#[tokio::test]
async fn documents_are_checked() {
    let mut fake = Fake::new();
    let not_json = fake.blob(MANIFEST, b"{");
    fake.container(&not_json);
    assert!(matches!(
        Server::start(fake.clone()).lookup().await,
        Err(LookupError::Document { .. })
    ));
    let neither = fake.json(MANIFEST, &json!({"schemaVersion": 1}));
    fake.container(&neither);
    assert!(matches!(
        Server::start(fake.clone()).lookup().await,
        Err(LookupError::NotAnImage { .. })
    ));
    let mut large = neither.clone();
    large["size"] = json!(DOCUMENT_BYTES + 1);
    fake.container(&large);
    assert!(matches!(
        Server::start(fake.clone()).lookup().await,
        Err(LookupError::TooLarge { .. })
    ));
    fake.container(&neither);
    fake.blobs.insert(
        neither["digest"].as_str().unwrap().to_owned(),
        br#"{"schemaVersion":7}"#.to_vec(),
    );
    assert!(matches!(
        Server::start(fake).lookup().await,
        Err(LookupError::Corrupt { .. })
    ));
}

#[tokio::test]
async fn a_layer_is_copied_and_checked() {
    let bytes: Vec<u8> = (0..9_000_001_u32)
        .map(|i| (i % 251).to_le_bytes()[0])
        .collect();
    let layer = Layer {
        media_type: LAYER_WASM.to_owned(),
        digest: Digest::of(&bytes),
        size: bytes.len() as u64,
        title: None,
    };
    let mut fake = Fake::new();
    fake.blobs.insert(layer.digest.to_string(), bytes.clone());
    let server = Server::start(fake.clone());
    assert!(server.read(&layer, layer.size).await.unwrap() == bytes);
    assert!(matches!(
        server.read(&layer, layer.size - 1).await,
        Err(LookupError::TooLarge { .. })
    ));
    let gone = Layer {
        digest: Digest::of(b"gone"),
        ..layer.clone()
    };
    let error = server.read(&gone, 1 << 30).await.unwrap_err();
    assert!(
        sentence(&error).ends_with("is not in containerd's content store; pull the image again"),
        "{error}"
    );

    let empty = Layer {
        digest: Digest::of(b""),
        size: 0,
        ..layer.clone()
    };
    let mut with_empty = fake.clone();
    with_empty
        .blobs
        .insert(empty.digest.to_string(), Vec::new());
    assert!(
        Server::start(with_empty)
            .read(&empty, 1)
            .await
            .unwrap()
            .is_empty()
    );

    let blob = fake.blobs.get_mut(layer.digest.as_str()).unwrap();
    blob[4_500_000] ^= 1;
    let error = Server::start(fake.clone())
        .read(&layer, 1 << 30)
        .await
        .unwrap_err();
    assert!(
        sentence(&error).contains("is damaged in containerd's content store"),
        "{error}"
    );
    fake.blobs.get_mut(layer.digest.as_str()).unwrap().pop();
    let error = Server::start(fake).read(&layer, 1 << 30).await.unwrap_err();
    assert!(
        sentence(&error)
            .contains("has 9000000 bytes in containerd's content store instead of 9000001"),
        "{error}"
    );
}

#[tokio::test]
async fn messages_may_come_in_any_pieces() {
    for piece in [1, 4, 5, 6, 100] {
        let mut fake = Fake {
            piece,
            ..Fake::new()
        };
        let module = fake.blob(LAYER_WASM, b"module");
        let target = fake.manifest(CONFIG_IMAGE, &wasm_config(), &[module]);
        fake.container(&target);
        assert_eq!(
            Server::start(fake).lookup().await.unwrap().layers.len(),
            1,
            "pieces of {piece}"
        );
    }
}

#[tokio::test]
async fn a_silent_containerd_is_not_waited_for() {
    let mut fake = Fake {
        silent: Some("images.v1.Images/Get"),
        ..Fake::new()
    };
    let target = fake.manifest(CONFIG_IMAGE, &wasm_config(), &[]);
    fake.container(&target);
    let server = Server::start(fake);
    let error = lookup_image_within(Duration::from_millis(200), &server.socket, "test", "c")
        .await
        .unwrap_err();
    assert!(
        sentence(&error).contains("containerd did not answer images.v1.Images/Get within"),
        "{error}"
    );

    // A socket on which nobody speaks.
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("mute.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    let error = lookup_image_within(Duration::from_millis(200), &socket, "test", "c")
        .await
        .unwrap_err();
    assert!(sentence(&error).contains("did not answer"), "{error}");
}

#[tokio::test]
async fn another_namespace_has_other_containers() {
    let mut fake = Fake::new();
    let target = fake.manifest(CONFIG_IMAGE, &wasm_config(), &[]);
    fake.container(&target);
    let server = Server::start(fake);
    let found = lookup_image(&server.socket, "other", "c").await;
    assert!(
        matches!(found, Err(LookupError::Container { .. })),
        "{found:?}"
    );
}
