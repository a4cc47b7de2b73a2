//! A real program, built for both targets, with all that a Rust program needs of its host: under the filters.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::process::Command;
use std::sync::OnceLock;

use crate::harness::{Container, Outcome};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    Module,
    Component,
}

/// The program for a target, built once.
pub(crate) fn probe(target: Target) -> &'static [u8] {
    static PROGRAMS: [OnceLock<Vec<u8>>; 2] = [const { OnceLock::new() }; 2];
    let (index, name) = match target {
        Target::Module => (0, "wasm32-wasip1"),
        Target::Component => (1, "wasm32-wasip2"),
    };
    PROGRAMS[index].get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let output = directory.path().join("probe.wasm");
        let status = Command::new("rustc")
            .args([
                "--edition",
                "2024",
                "-C",
                "opt-level=1",
                "-C",
                "debuginfo=1",
                "--target",
                name,
                "-o",
            ])
            .arg(&output)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guest/probe.rs"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .unwrap();
        assert!(status.success(), "the guest could not be built for {name}");
        std::fs::read(output).unwrap()
    })
}

pub(crate) fn container(target: Target, args: &[&str]) -> Container {
    let mut all = vec!["probe"];
    all.extend_from_slice(args);
    Container::new(probe(target)).args(&all)
}

#[track_caller]
fn said(outcome: &Outcome) -> &str {
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    outcome.stdout.trim_end()
}

#[test]
fn files() {
    for target in [Target::Module, Target::Component] {
        assert_eq!(
            said(&container(target, &["files"]).run()),
            "files are fine",
            "{target:?}"
        );
    }
}

/// wasmtime would read ahead on a thread, which ends the host of a module.
#[test]
fn files_are_always_ready() {
    let outcome = container(Target::Module, &["poll"]).run();
    let expected = [
        "alone 0: 7:error=0,kind=1,bytes=9,flags=0",
        "beside 0: fffffffffffffffe:error=0,kind=1,bytes=4,flags=0 9:error=0,kind=2,bytes=1,flags=0 \
         9:error=0,kind=1,bytes=4,flags=0",
        "at the end 0: 7:error=0,kind=1,bytes=0,flags=1",
        "nobody 8:",
        "not for reading 0: 7:error=0,kind=1,bytes=9,flags=0",
        "a directory 8:",
        "input 0: 7:error=0,kind=1,bytes=1,flags=0",
    ];
    assert_eq!(said(&outcome).lines().collect::<Vec<_>>(), expected);
}

#[test]
fn clocks_and_chance() {
    for target in [Target::Module, Target::Component] {
        assert_eq!(
            said(&container(target, &["clocks"]).run()),
            "clocks are fine",
            "{target:?}"
        );
    }
}

#[test]
fn exit_codes() {
    assert_eq!(
        container(Target::Module, &["exit", "200"]).run().code(),
        200
    );
    assert_eq!(container(Target::Component, &["exit", "0"]).run().code(), 0);
    // WASI 0.2 knows success and failure only.
    assert_eq!(
        container(Target::Component, &["exit", "200"]).run().code(),
        1
    );
}

#[test]
fn a_panic_names_functions_and_lines() {
    for target in [Target::Module, Target::Component] {
        let outcome = container(target, &["panic"]).run();
        assert_eq!(outcome.code(), 134, "{outcome:?}");
        for part in ["on purpose", "trapped", "probe.rs:"] {
            assert!(
                outcome.stderr.contains(part),
                "{part} is not in: {}",
                outcome.stderr
            );
        }
    }
}

#[test]
fn components_reach_the_network() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut ping = [0; 4];
        stream.read_exact(&mut ping).unwrap();
        stream.write_all(b"tcp pong").unwrap();
    });
    assert_eq!(
        said(&container(Target::Component, &["tcp", &address]).run()),
        "tcp pong"
    );
    server.join().unwrap();

    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        let (_, from) = socket.recv_from(&mut [0; 16]).unwrap();
        socket.send_to(b"udp pong", from).unwrap();
    });
    assert_eq!(
        said(&container(Target::Component, &["udp", &address]).run()),
        "udp pong"
    );
    server.join().unwrap();
}

#[test]
fn names_are_looked_up_in_the_containers_own_files() {
    // The hosts file alone; nobody is asked. A hostile nsswitch.conf has nobody who would read it.
    let outcome = container(
        Target::Component,
        &["lookup", "web", "localhost", "10.1.2.3"],
    )
    .file("etc/hosts", "10.9.8.7 web\n")
    .file("etc/nsswitch.conf", "hosts: evil\n")
    .file(
        "etc/resolv.conf",
        "nameserver 127.0.0.1\noptions attempts:1 timeout:1\n",
    )
    .run();
    let lines: Vec<&str> = said(&outcome).lines().collect();
    assert_eq!(lines[0], "web: 10.9.8.7");
    assert!(lines[1].contains("127.0.0.1"), "{lines:?}");
    assert_eq!(lines[2], "10.1.2.3: 10.1.2.3");
}

/// Answers every question for an address of kind A with 127.0.0.77 and for others with nothing, for ever.
fn serve_names(socket: &UdpSocket) {
    let mut packet = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut packet) {
        // QR, RD, RA; no error.
        packet[2] = 0x81;
        packet[3] = 0x80;
        let mut response = packet[..length].to_vec();
        // The type is at the end of the question, before the class.
        if packet[length - 3] == 1 {
            response[7] = 1;
            response.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 77]);
        }
        drop(socket.send_to(&response, from));
    }
}

#[test]
fn names_are_looked_up_at_the_containers_name_server() {
    // An address of loopback's that nobody else serves names on.
    let socket = UdpSocket::bind("127.53.53.53:53").unwrap();
    std::thread::spawn(move || serve_names(&socket));
    let outcome = container(
        Target::Component,
        &["lookup", "somewhere.example", "not a name"],
    )
    .file(
        "etc/resolv.conf",
        "nameserver 127.53.53.53\noptions attempts:1 timeout:5\n",
    )
    .run();
    let lines: Vec<&str> = said(&outcome).lines().collect();
    assert_eq!(lines[0], "somewhere.example: 127.0.0.77");
    assert!(!lines[1].contains("127.0.0.77"), "{lines:?}");
}

#[test]
fn the_c_librarys_resolver_is_not_in_the_host() {
    let host = std::fs::read(crate::harness::host()).unwrap();
    let contains = |needle: &[u8]| host.windows(needle.len()).any(|window| window == needle);
    assert!(contains(b"resolv.conf"), "the search works");
    for trace in ["nsswitch.conf", "gai.conf", "libnss_"] {
        assert!(
            !contains(trace.as_bytes()),
            "{trace} is known to the host: getaddrinfo is linked"
        );
    }
}
