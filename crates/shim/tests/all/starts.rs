//! `start`: both protocols, races, and shims that nobody needs.

use std::os::unix::fs::PermissionsExt;
use std::thread;

use containerd_shim_protos::bootstrap_api::{BootstrapParams, BootstrapResult};
use containerd_shim_protos::protobuf::Message;

use crate::harness::{Containerd, Spec, eventually, is_alive};

#[test]
fn a_message_is_answered_with_a_message() {
    let containerd = Containerd::new();
    containerd.make(&Spec::guest("c", "run"));
    let mut params = BootstrapParams::new();
    params.instance_id = "c".to_owned();
    params.namespace = "test".to_owned();
    params.containerd_grpc_address = containerd.path("c.sock").display().to_string();
    params.containerd_ttrpc_address = containerd.path("t.sock").display().to_string();
    params.socket_dir = Some(containerd.path("s").display().to_string());
    let output = containerd.call_start("c", &params.write_to_bytes().unwrap());
    assert!(output.status.success() && output.stderr.is_empty());
    let result = BootstrapResult::parse_from_bytes(&output.stdout).unwrap();
    assert_eq!((result.version, result.protocol.as_str()), (3, "ttrpc"));
    assert_eq!(
        std::fs::read_to_string(containerd.bundle("c").join("address")).unwrap(),
        result.address
    );
    let socket = result.address.strip_prefix("unix://").unwrap();
    assert_eq!(
        std::fs::metadata(socket).unwrap().permissions().mode() & 0o777,
        0o600
    );
    containerd.connect(&result.address).shutdown();
}

#[test]
fn many_starts_of_a_pod_make_one_shim() {
    let containerd = Containerd::new();
    let ids: Vec<String> = (0..8).map(|number| format!("c{number}")).collect();
    for id in &ids {
        containerd.make(&Spec::guest(id, "run").in_pod("pod"));
    }
    let addresses: Vec<_> = thread::scope(|scope| {
        let calls: Vec<_> = ids
            .iter()
            .map(|id| scope.spawn(|| containerd.call_start(id, b"")))
            .collect();
        calls
            .into_iter()
            .map(|call| call.join().unwrap().stdout)
            .collect()
    });
    assert!(
        addresses
            .iter()
            .all(|address| *address == addresses[0] && !address.is_empty())
    );
    containerd
        .connect(&String::from_utf8(addresses[0].clone()).unwrap())
        .shutdown();
}

#[test]
fn a_dead_shims_socket_is_replaced() {
    let containerd = Containerd::new();
    containerd.make(&Spec::guest("c", "run"));
    let first = containerd.shim("c");
    let address = first.address.clone();
    first.crash();
    let second = containerd.shim("c");
    assert_eq!(second.address, address);
    second.shutdown();
}

#[test]
fn terminating_signals_do_not_end_it() {
    let containerd = Containerd::new();
    containerd.make(&Spec::guest("c", "run"));
    let shim = containerd.shim("c");
    let pid = shim.pid();
    for signal in [15, 2] {
        crate::harness::kill(pid, signal);
        assert_eq!(shim.pid(), pid);
    }
    shim.shutdown();
    drop(shim);
    eventually(
        || !is_alive(pid),
        || "it does not end after Shutdown".to_owned(),
    );
}

#[test]
fn a_start_that_cannot_be_says_why() {
    let containerd = Containerd::new();
    containerd.make(&Spec::guest("c", "run"));
    std::fs::write(containerd.bundle("c").join("config.json"), "{").unwrap();
    let output = containerd.call_start("c", b"");
    assert!(!output.status.success() && output.stdout.is_empty());
    let sentence = String::from_utf8(output.stderr).unwrap();
    assert!(
        sentence.contains("config.json") && sentence.trim_end().lines().count() == 1,
        "{sentence}"
    );
}
