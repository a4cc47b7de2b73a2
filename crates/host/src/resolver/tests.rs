//! The resolver against a name server on loopback that answers as a test tells it to.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use super::{LookupError, Resolver};

/// What the server says to a question.
#[derive(Clone, Debug)]
enum Reply {
    Records(Vec<RData>),
    Code(ResponseCode),
    /// Over UDP: "ask over TCP", with nothing that can be parsed after the header. Over TCP: the records.
    Truncated(Vec<RData>),
    /// First an answer to something else, then the right one.
    Forged(Vec<RData>),
    Silence,
}

type Rules = Arc<dyn Fn(&str, RecordType) -> Reply + Send + Sync>;

struct Server {
    address: SocketAddr,
    /// `name type transport`
    questions: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(rules: impl Fn(&str, RecordType) -> Reply + Send + Sync + 'static) -> Self {
        // The same port for both.
        let (udp, tcp) = loop {
            let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let questions = Arc::new(Mutex::new(Vec::new()));
        let rules: Rules = Arc::new(rules);
        tokio::spawn(serve_udp(udp, Arc::clone(&rules), Arc::clone(&questions)));
        tokio::spawn(serve_tcp(tcp, rules, Arc::clone(&questions)));
        Self { address, questions }
    }

    fn asked(&self) -> Vec<String> {
        self.questions.lock().unwrap().clone()
    }
}

fn respond(query: &Message, reply: &Reply, tcp: bool) -> Vec<Vec<u8>> {
    let mut response = query.clone();
    response.metadata.message_type = MessageType::Response;
    let mut add = |records: &[RData]| {
        let mut owner = query.queries[0].name.clone();
        for data in records {
            response
                .answers
                .push(Record::from_rdata(owner.clone(), 60, data.clone()));
            if let RData::CNAME(target) = data {
                owner = target.0.clone();
            }
        }
    };
    match reply {
        Reply::Silence => return Vec::new(),
        Reply::Code(code) => response.metadata.response_code = *code,
        Reply::Truncated(records) if tcp => add(records),
        Reply::Truncated(_) => {
            response.metadata.truncation = true;
            let mut bytes = response.to_vec().unwrap();
            // Claims an answer that is not there any more.
            bytes[7] = 1;
            return vec![bytes];
        }
        Reply::Records(records) => add(records),
        Reply::Forged(records) => {
            add(records);
            let right = response.to_vec().unwrap();
            let mut other = response.clone();
            other.metadata.id = other.metadata.id.wrapping_add(1);
            let mut elsewhere = response;
            elsewhere.queries[0].name = Name::from_ascii("other.example.").unwrap();
            return vec![
                b"junk".to_vec(),
                other.to_vec().unwrap(),
                elsewhere.to_vec().unwrap(),
                right,
            ];
        }
    }
    vec![response.to_vec().unwrap()]
}

fn note(query: &Message, transport: &str, questions: &Mutex<Vec<String>>) -> (String, RecordType) {
    let question = &query.queries[0];
    let name = question.name.to_string();
    questions
        .lock()
        .unwrap()
        .push(format!("{name} {} {transport}", question.query_type));
    (name, question.query_type)
}

async fn serve_udp(socket: UdpSocket, rules: Rules, questions: Arc<Mutex<Vec<String>>>) {
    let mut buffer = [0; 512];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        let query = Message::from_vec(&buffer[..length]).unwrap();
        let (name, kind) = note(&query, "udp", &questions);
        for packet in respond(&query, &rules(&name, kind), false) {
            socket.send_to(&packet, from).await.unwrap();
        }
    }
}

async fn serve_tcp(listener: TcpListener, rules: Rules, questions: Arc<Mutex<Vec<String>>>) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut packet = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut packet).await.unwrap();
        let query = Message::from_vec(&packet).unwrap();
        let (name, kind) = note(&query, "tcp", &questions);
        for packet in respond(&query, &rules(&name, kind), true) {
            stream
                .write_u16(u16::try_from(packet.len()).unwrap())
                .await
                .unwrap();
            stream.write_all(&packet).await.unwrap();
        }
    }
}

/// Looks names up with these two files.
struct Lookup {
    directory: tempfile::TempDir,
    port: u16,
}

impl Lookup {
    fn new(port: u16, resolv_conf: &str, hosts: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("resolv.conf"), resolv_conf).unwrap();
        std::fs::write(directory.path().join("hosts"), hosts).unwrap();
        Self { directory, port }
    }

    async fn of(&self, name: &str) -> Result<Vec<String>, LookupError> {
        let mut resolver = Resolver::new(self.directory.path());
        resolver.port = self.port;
        Ok(resolver
            .lookup(name)
            .await?
            .iter()
            .map(ToString::to_string)
            .collect())
    }
}

fn a(address: &str) -> RData {
    match address.parse().unwrap() {
        IpAddr::V4(address) => RData::A(address.into()),
        IpAddr::V6(address) => RData::AAAA(address.into()),
    }
}

fn alias(name: &str) -> RData {
    RData::CNAME(hickory_proto::rr::rdata::CNAME(
        Name::from_ascii(name).unwrap(),
    ))
}

const POD: &str = "search ns.svc.cluster.local svc.cluster.local\nnameserver 127.0.0.1\noptions ndots:5 timeout:1 attempts:1\n";

/// `web.svc.cluster.local` has an address of each kind; `big.` one that only TCP tells; nothing else exists.
fn cluster(name: &str, kind: RecordType) -> Reply {
    match (name, kind) {
        ("web.svc.cluster.local.", RecordType::A) => Reply::Records(vec![a("127.0.0.7")]),
        ("web.svc.cluster.local.", RecordType::AAAA) => Reply::Records(vec![a("::1")]),
        ("big.example.", RecordType::A) => Reply::Truncated(vec![a("127.0.0.8"), a("127.0.0.9")]),
        ("forged.example.", RecordType::A) => Reply::Forged(vec![a("127.0.0.10")]),
        ("alias.example.", RecordType::A) => {
            Reply::Records(vec![alias("target.example."), a("127.0.0.11")])
        }
        // An address of a name that was not asked for, as a poisoned cache would add it.
        ("poisoned.example.", RecordType::A) => Reply::Records(vec![alias("poisoned.example.")]),
        ("v4only.example.", RecordType::A) => Reply::Records(vec![a("127.0.0.12")]),
        ("broken.example.", _) => Reply::Code(ResponseCode::ServFail),
        ("half.example.", RecordType::A) => Reply::Records(vec![a("127.0.0.13")]),
        ("half.example.", _) => Reply::Code(ResponseCode::ServFail),
        ("refused.example.", _) => Reply::Code(ResponseCode::Refused),
        ("silent.example.", _) => Reply::Silence,
        ("big.example." | "forged.example." | "alias.example." | "v4only.example.", _) => {
            Reply::Records(Vec::new())
        }
        _ => Reply::Code(ResponseCode::NXDomain),
    }
}

#[tokio::test]
async fn the_search_list_is_followed_in_order() {
    let server = Server::start(cluster).await;
    let lookup = Lookup::new(server.address.port(), POD, "");
    let found = lookup.of("web").await.unwrap();
    assert_eq!(found, ["127.0.0.7", "::1"]);
    let asked: Vec<String> = server
        .asked()
        .iter()
        .filter(|question| question.contains(" A "))
        .cloned()
        .collect();
    assert_eq!(
        asked,
        [
            "web.ns.svc.cluster.local. A udp",
            "web.svc.cluster.local. A udp"
        ]
    );
}

#[tokio::test]
async fn a_dot_at_the_end_leaves_the_search_list_out() {
    let server = Server::start(cluster).await;
    let lookup = Lookup::new(server.address.port(), POD, "");
    assert!(matches!(
        lookup.of("web.").await,
        Err(LookupError::NotFound(_))
    ));
    assert_eq!(server.asked().len(), 2, "{:?}", server.asked());
}

#[tokio::test]
async fn truncated_answers_are_asked_for_again_over_tcp() {
    let server = Server::start(cluster).await;
    let lookup = Lookup::new(server.address.port(), POD, "");
    assert_eq!(
        lookup.of("big.example.").await.unwrap(),
        ["127.0.0.8", "127.0.0.9"]
    );
    assert!(server.asked().contains(&"big.example. A tcp".to_owned()));
}

#[tokio::test]
async fn aliases_are_followed_and_strangers_are_not_believed() {
    let server = Server::start(cluster).await;
    let lookup = Lookup::new(server.address.port(), POD, "");
    assert_eq!(lookup.of("alias.example.").await.unwrap(), ["127.0.0.11"]);
    assert_eq!(lookup.of("forged.example.").await.unwrap(), ["127.0.0.10"]);
    assert!(matches!(
        lookup.of("poisoned.example.").await,
        Err(LookupError::NotFound(_))
    ));
}

#[tokio::test]
async fn the_hosts_file_comes_first_and_addresses_need_nobody() {
    let server = Server::start(cluster).await;
    let lookup = Lookup::new(server.address.port(), POD, "127.0.0.99 web\n");
    assert_eq!(lookup.of("web").await.unwrap(), ["127.0.0.99"]);
    assert_eq!(lookup.of("127.0.0.5").await.unwrap(), ["127.0.0.5"]);
    assert_eq!(lookup.of("[::1]").await.unwrap(), ["::1"]);
    assert_eq!(
        lookup.of("db.localhost").await.unwrap(),
        ["127.0.0.1", "::1"]
    );
    assert!(server.asked().is_empty(), "{:?}", server.asked());
}

#[tokio::test]
async fn failures_are_told_apart() {
    let server = Server::start(cluster).await;
    let lookup = Lookup::new(server.address.port(), POD, "");
    assert!(matches!(
        lookup.of("nowhere.example.").await,
        Err(LookupError::NotFound(_))
    ));
    assert!(matches!(
        lookup.of("broken.example.").await,
        Err(LookupError::Temporary { .. })
    ));
    assert!(matches!(
        lookup.of("refused.example.").await,
        Err(LookupError::Permanent { .. })
    ));
    assert!(matches!(
        lookup.of("silent.example.").await,
        Err(LookupError::Temporary { .. })
    ));
    assert_eq!(
        lookup.of("half.example.").await.unwrap(),
        ["127.0.0.13"],
        "one kind is enough"
    );
}

#[tokio::test]
async fn the_next_server_is_asked_when_one_fails() {
    let first = Server::start(|_, _| Reply::Code(ResponseCode::ServFail)).await;
    let port = first.address.port();
    // 127.0.0.2 on the same port answers; 127.0.0.3 does not exist.
    let second = UdpSocket::bind(("127.0.0.2", port)).await.unwrap();
    tokio::spawn(serve_udp(
        second,
        Arc::new(cluster),
        Arc::new(Mutex::new(Vec::new())),
    ));
    let config = "nameserver 127.0.0.3\nnameserver 127.0.0.1\nnameserver 127.0.0.2\noptions timeout:1 attempts:1\n";
    let lookup = Lookup::new(port, config, "");
    assert_eq!(lookup.of("v4only.example").await.unwrap(), ["127.0.0.12"]);
}

#[tokio::test]
async fn names_that_are_none_are_not_asked_for() {
    let lookup = Lookup::new(9, "", "");
    let long = "a.".repeat(127) + "a";
    for name in [
        "",
        ".",
        "a..b",
        "two words",
        "a/b",
        "a\0b",
        "x:80",
        long.as_str(),
    ] {
        assert!(
            matches!(lookup.of(name).await, Err(LookupError::InvalidName(_))),
            "{name:?}"
        );
    }
}

#[tokio::test]
async fn whatever_lies_where_the_files_should_be_ends_the_lookup() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("resolv.conf");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    std::fs::create_dir(directory.path().join("hosts")).unwrap();
    let lookup = Lookup { directory, port: 9 };
    assert_eq!(lookup.of("localhost").await.unwrap(), ["127.0.0.1", "::1"]);
    // Nobody listens on the discard port of this host: refused at once.
    assert!(matches!(
        lookup.of("example").await,
        Err(LookupError::Temporary { .. })
    ));
}
