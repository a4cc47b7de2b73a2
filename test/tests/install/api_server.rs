//! A stand-in for the API server, as far as an agent talks to it: one node, its events, TLS by an authority of its own,
//! and a token.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use skiff_test::command;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

/// The node's name.
pub(crate) const NODE: &str = "worker-1";
const TOKEN: &str = "a-token";

/// A server; its threads end with the process.
pub(crate) struct ApiServer {
    port: u16,
    account: PathBuf,
    state: Arc<Mutex<State>>,
}

struct State {
    node: Value,
    events: Vec<Value>,
    patches: Vec<Value>,
    lease: Option<Value>,
    versions: u64,
}

/// The lease that nodes take turns by.
pub(crate) const LEASE: &str = "skiff/turn";

impl ApiServer {
    /// Starts one; what a pod would have of it is put into `folder`.
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        let account = folder.join("account");
        fs::create_dir_all(&account)?;
        let key = certificates(&account)?;
        fs::write(account.join("token"), TOKEN)?;
        let certificates = CertificateDer::pem_file_iter(account.join("leaf.crt"))?
            .collect::<Result<Vec<_>, _>>()?;
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(certificates, PrivateKeyDer::from_pem_file(key)?)?;
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let state = Arc::new(Mutex::new(State {
            node: json!({
                "kind": "Node",
                "metadata": {
                    "name": NODE,
                    "uid": "11-22",
                    "labels": { "kubernetes.io/os": "linux", "handler.skiff.dev/gone": "true" },
                },
            }),
            events: Vec::new(),
            patches: Vec::new(),
            lease: Some(json!({ "metadata": { "name": "turn", "resourceVersion": "0" } })),
            versions: 0,
        }));
        let served = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, state) = (Arc::clone(&config), Arc::clone(&served));
                // A client that goes away has its own test to fail.
                std::thread::spawn(move || serve(stream, config, &state).ok());
            }
        });
        Ok(Self {
            port,
            account,
            state,
        })
    }

    /// What makes a process one of a pod of this cluster, on its node.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("KUBERNETES_SERVICE_HOST", "127.0.0.1".to_owned()),
            ("KUBERNETES_SERVICE_PORT", self.port.to_string()),
            ("SKIFF_SERVICE_ACCOUNT", self.account.display().to_string()),
            ("NODE_NAME", NODE.to_owned()),
        ]
    }

    /// A label or annotation of the node.
    pub(crate) fn node(&self, kind: &str, key: &str) -> Option<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let value = &state.node["metadata"][kind][key];
        value.as_str().map(str::to_owned)
    }

    /// Keys of ours that the node has.
    pub(crate) fn ours(&self) -> Vec<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |kind: &str| state.node["metadata"][kind].as_object().cloned();
        let all = [of("labels"), of("annotations")].into_iter().flatten();
        let keys = all.flat_map(|all| all.into_iter().map(|(key, _)| key));
        keys.filter(|key| key.contains("skiff.dev/")).collect()
    }

    /// Reasons of the events so far.
    pub(crate) fn events(&self) -> Vec<(String, String)> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let word = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
        let events = state.events.iter();
        events
            .map(|event| (word(event, "reason"), word(event, "message")))
            .collect()
    }

    /// Whose turn it is; given, it is made that node's.
    pub(crate) fn turn(&self, of: Option<&str>) -> Option<String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(node) = of {
            state.versions += 1;
            let version = state.versions.to_string();
            state.lease = Some(json!({
                "metadata": { "name": "turn", "resourceVersion": version },
                "spec": { "holderIdentity": node, "renewTime": "2026-01-01T00:00:00.000000Z" },
            }));
        }
        let holder = &state.lease.as_ref()?["spec"]["holderIdentity"];
        holder.as_str().map(str::to_owned)
    }

    /// How often the node was changed.
    pub(crate) fn changes(&self) -> usize {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.patches.len()
    }
}

fn certificates(folder: &Path) -> Result<PathBuf> {
    let openssl = |words: &str| {
        let mut command = Command::new("openssl");
        let words = words.split_whitespace();
        command::run(command.current_dir(folder).args(words))?.ok()
    };
    let new = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!(
        "req -x509 {new} -days 2 -subj /CN=authority -keyout ca.key -out ca.crt"
    ))?;
    openssl(&format!(
        "req {new} -subj /CN=server -keyout leaf.key -out leaf.csr"
    ))?;
    fs::write(folder.join("leaf.cnf"), "subjectAltName=IP:127.0.0.1\n")?;
    openssl(
        "x509 -req -in leaf.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile leaf.cnf -out leaf.crt",
    )?;
    Ok(folder.join("leaf.key"))
}

fn serve(stream: TcpStream, config: Arc<ServerConfig>, state: &Mutex<State>) -> Result<()> {
    let mut stream = BufReader::new(StreamOwned::new(ServerConnection::new(config)?, stream));
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let method = words.next().context("no method")?.to_owned();
    let path = words.next().context("no path")?.to_owned();
    let (mut length, mut token, mut kind) = (0, String::new(), String::new());
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(':') else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse()?,
            "authorization" => value.trim().clone_into(&mut token),
            "content-type" => value.trim().clone_into(&mut kind),
            _ => {}
        }
    }
    ensure!(length < 1 << 20, "a body of {length} bytes");
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let (status, answer) = if token == format!("Bearer {TOKEN}") {
        answer(&method, &path, &kind, &body, state)?
    } else {
        (401, json!({ "kind": "Status", "message": "Unauthorized" }))
    };
    let text = answer.to_string();
    write!(
        stream.get_mut(),
        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{text}",
        text.len()
    )?;
    Ok(stream.get_mut().flush()?)
}

fn answer(
    method: &str,
    path: &str,
    kind: &str,
    body: &[u8],
    state: &Mutex<State>,
) -> Result<(u16, Value)> {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let own = format!("/api/v1/nodes/{NODE}");
    Ok(match (method, path) {
        ("GET", path) if path == own => (200, state.node.clone()),
        ("PATCH", path) if path == own && kind == "application/merge-patch+json" => {
            let patch: Value = serde_json::from_slice(body)?;
            merge(&mut state.node, &patch);
            state.patches.push(patch);
            (200, state.node.clone())
        }
        ("POST", "/api/v1/namespaces/default/events") => {
            let event: Value = serde_json::from_slice(body)?;
            state.events.push(event.clone());
            (201, event)
        }
        ("GET", "/apis/coordination.k8s.io/v1/namespaces/skiff/leases/turn") => {
            match &state.lease {
                Some(lease) => (200, lease.clone()),
                None => (404, json!({ "kind": "Status", "message": "not found" })),
            }
        }
        ("PUT", "/apis/coordination.k8s.io/v1/namespaces/skiff/leases/turn") => {
            let mut lease: Value = serde_json::from_slice(body)?;
            let version = &lease["metadata"]["resourceVersion"];
            if state
                .lease
                .as_ref()
                .map(|lease| &lease["metadata"]["resourceVersion"])
                != Some(version)
            {
                return Ok((409, json!({ "kind": "Status", "message": "conflict" })));
            }
            state.versions += 1;
            lease["metadata"]["resourceVersion"] = state.versions.to_string().into();
            state.lease = Some(lease.clone());
            (200, lease)
        }
        _ => (
            403,
            json!({ "kind": "Status", "message": format!("{method} {path} is forbidden") }),
        ),
    })
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, change) in changes {
        if change.is_null() {
            target.as_object_mut().map(|target| target.remove(key));
        } else {
            merge(&mut target[key], change);
        }
    }
}
