use std::os::unix::net::UnixListener;

use super::super::Status;
use super::*;

fn process(version: &str) -> Process {
    Process {
        pid: 1,
        executable: Some("/usr/bin/containerd".into()),
        version: Ok(version.into()),
        environment: None,
        config_file: "/etc/containerd/config.toml".into(),
        stale: false,
        capabilities: None,
    }
}

#[test]
fn versions_against_the_floor() {
    use Status::{Fail, Ok, Warn};
    let table = [
        (
            "containerd github.com/containerd/containerd/v2 v2.4.2 deadbeef",
            Ok,
        ),
        (
            "containerd github.com/containerd/containerd/v2 v2.3.2 deadbeef",
            Ok,
        ),
        (
            "containerd github.com/containerd/containerd/v2 v2.3.1 deadbeef",
            Warn,
        ),
        (
            "containerd github.com/containerd/containerd/v2 v2.2.5 deadbeef",
            Ok,
        ),
        (
            "containerd github.com/containerd/containerd/v2 v2.2.4-rc.1 deadbeef",
            Warn,
        ),
        (
            "containerd github.com/containerd/containerd/v2 v2.1.9 deadbeef",
            Ok,
        ),
        (
            "containerd github.com/containerd/containerd/v2 v2.1.8-k3s1 deadbeef",
            Warn,
        ),
        (
            "containerd github.com/containerd/containerd/v2 v2.0.9 deadbeef",
            Warn,
        ),
        (
            "containerd github.com/containerd/containerd v1.7.35 deadbeef",
            Ok,
        ),
        (
            "containerd github.com/containerd/containerd 1.7.24~ds1 1.7.24~ds1-6",
            Warn,
        ),
        (
            "containerd github.com/containerd/containerd v1.7.6 deadbeef",
            Fail,
        ),
        (
            "containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u1",
            Fail,
        ),
        (
            "containerd github.com/containerd/containerd/v2 2.5.0+unknown",
            Ok,
        ),
        ("containerd", Warn),
        ("containerd github.com/containerd/containerd devel", Warn),
    ];
    for (line, expected) in table {
        let finding = version(&process(line));
        assert_eq!(finding.status, expected, "{line}: {finding:?}");
    }
}

#[test]
fn the_configuration_file_is_the_one_it_was_started_with() {
    let table: [(&[&str], Option<&str>); 6] = [
        (&["containerd"], None),
        (&["containerd", "--config", "/a.toml"], Some("/a.toml")),
        (
            &["containerd", "-c", "/a.toml", "--address", "/x"],
            Some("/a.toml"),
        ),
        (
            &["containerd", "--address", "/x", "--config=/a.toml"],
            Some("/a.toml"),
        ),
        (&["containerd", "config", "dump"], None),
        (&["containerd", "--config"], None),
    ];
    for (arguments, expected) in table {
        let arguments: Vec<String> = arguments
            .iter()
            .map(|&argument| argument.to_owned())
            .collect();
        assert_eq!(
            config_argument(&arguments),
            expected.map(PathBuf::from),
            "{arguments:?}"
        );
    }
}

#[test]
fn sockets_that_do_not_answer_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("absent");
    assert!(matches!(gather(&absent).socket, Err(SocketError::Absent)));

    let dead = folder.path().join("dead");
    drop(UnixListener::bind(&dead).unwrap());
    assert!(matches!(gather(&dead).socket, Err(SocketError::Connect(_))));

    let other = folder.path().join("other");
    let server = UnixListener::bind(&other).unwrap();
    let answer = std::thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .unwrap();
    });
    assert!(matches!(gather(&other).socket, Err(SocketError::Silent(_))));
    answer.join().unwrap();
}

#[test]
fn a_socket_that_answers_leads_to_its_process() {
    let folder = tempfile::tempdir().unwrap();
    let address = folder.path().join("containerd.sock");
    let server = UnixListener::bind(&address).unwrap();
    let answer = std::thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        stream.write_all(b"\0\0\0\x04\0\0\0\0\0").unwrap();
        let mut preface = [0; 33];
        stream.read_exact(&mut preface).unwrap();
        assert!(preface.starts_with(b"PRI * HTTP/2.0"));
    });
    // Looking at the process would run this test's own executable: only its id is asked here.
    let pid = listener(&address, PATIENCE).unwrap();
    answer.join().unwrap();
    assert_eq!(u32::try_from(pid).unwrap(), std::process::id());
}

#[test]
fn a_process_began_before_now_and_after_the_boot() {
    let pid = i32::try_from(std::process::id()).unwrap();
    let begun = started(pid).unwrap();
    let age = SystemTime::now().duration_since(begun).unwrap_or_default();
    assert!(age < Duration::from_secs(3600), "{age:?}");
}

#[test]
fn a_changed_configuration_asks_for_a_restart() {
    let fresh = judge(&Facts {
        address: "/s".into(),
        socket: Ok(process("containerd x v2.4.2")),
    });
    assert!(
        fresh.iter().all(|finding| finding.status == Status::Ok),
        "{fresh:?}"
    );
    let stale = judge(&Facts {
        address: "/s".into(),
        socket: Ok(Process {
            stale: true,
            ..process("containerd x v2.4.2")
        }),
    });
    assert!(
        stale
            .iter()
            .any(|finding| finding.id == "containerd.config_age" && finding.status == Status::Warn),
        "{stale:?}"
    );
}
