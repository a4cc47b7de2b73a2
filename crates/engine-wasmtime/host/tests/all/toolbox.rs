//! The toolbox as a guest: the same command lines that it is compared by natively, and what only a guest does.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use skiff_engine::options::CodeOptions;
use skiff_engine::order::CodeKind;

use crate::harness::{Container, Outcome, compile};

#[path = "../../../../toolbox/tests/all/table.rs"]
mod table;
#[path = "../../../../toolbox/tests/all/tree.rs"]
mod tree;

const BUSYBOX: &str = "/bin/busybox";

/// The component: of `SKIFF_BIN_DIR`, or built by a call of its own.
fn module() -> PathBuf {
    if let Some(directory) = std::env::var_os("SKIFF_BIN_DIR") {
        return Path::new(&directory).join("skiff-toolbox.wasm");
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../toolbox");
    let target = source.join("target");
    let status = Command::new(env!("CARGO"))
        .args([
            "build",
            "--release",
            "--quiet",
            "--target",
            "wasm32-wasip2",
            "--target-dir",
        ])
        .arg(&target)
        .current_dir(&source)
        .status()
        .unwrap();
    assert!(status.success(), "the toolbox could not be built");
    target.join("wasm32-wasip2/release/skiff-toolbox.wasm")
}

/// Compiled once.
fn code() -> (OwnedFd, CodeKind) {
    static CODE: OnceLock<(OwnedFd, CodeKind)> = OnceLock::new();
    let (code, kind) = CODE.get_or_init(|| {
        compile(&std::fs::read(module()).unwrap(), CodeOptions::default()).unwrap()
    });
    (code.try_clone().unwrap(), *kind)
}

fn tool(args: &[&str]) -> Container {
    let (code, kind) = code();
    Container::new("").compiled(code, kind).args(args)
}

/// A tool in the tree of the table.
#[track_caller]
fn said(args: &[&str]) -> Outcome {
    let container = tool(args);
    table::make_tree(container.root.path());
    container.run()
}

#[test]
fn the_same_as_busybox() {
    if !Path::new(BUSYBOX).exists() {
        println!("SKIPPED the_same_as_busybox: {BUSYBOX} is not installed");
        return;
    }
    let names = tempfile::tempdir().unwrap();
    let installed = Command::new(BUSYBOX)
        .args(["--install", "-s"])
        .arg(names.path())
        .status()
        .unwrap();
    assert!(installed.success());
    let mut differences = Vec::new();
    for line in table::LINES {
        let there = tempfile::tempdir().unwrap();
        table::make_tree(there.path());
        let theirs = Command::new(BUSYBOX)
            .args(["sh", "-c", line])
            .current_dir(there.path())
            .env_clear()
            .env("PATH", names.path())
            .env("TZ", "UTC")
            .output()
            .unwrap();
        let container = tool(&["sh", "-c", line]);
        let here = Arc::clone(&container.root);
        table::make_tree(here.path());
        let ours = container.run();
        let theirs = (
            theirs.status.code(),
            String::from_utf8_lossy(&theirs.stdout).into_owned(),
            theirs.stderr.is_empty(),
            tree::contents(there.path()),
        );
        let told = ours.stderr.clone();
        let ours = (
            Some(i32::from(ours.code())),
            ours.stdout,
            ours.stderr.is_empty(),
            tree::contents(here.path()),
        );
        if theirs != ours {
            differences.push(format!(
                "{line}\n  theirs: {theirs:?}\n  ours:   {ours:?} {told}"
            ));
        }
    }
    println!("{} lines compared", table::LINES.len());
    assert!(
        differences.is_empty(),
        "{} differ:\n{}",
        differences.len(),
        differences.join("\n")
    );
}

#[test]
fn it_begins_in_the_working_directory() {
    let container = tool(&["sh", "-c", "pwd; ls"]).working_directory("/d/e");
    table::make_tree(container.root.path());
    let outcome = container.run();
    assert_eq!(outcome.stdout, "/d/e\nthree.txt\ntwo\n", "{outcome:?}");
}

#[test]
fn any_path_of_a_tool_is_its_name() {
    let outcome = said(&["/usr/bin/cat", "/a.txt"]);
    assert_eq!(
        (outcome.code(), outcome.stdout.as_str()),
        (0, "one\ntwo\nthree\n")
    );
    let outcome = said(&["vi"]);
    assert_eq!(outcome.code(), 127);
    assert!(
        outcome
            .stderr
            .starts_with("vi: not found: the toolbox has [ basename"),
        "{outcome:?}"
    );
}

#[test]
fn what_wasi_refuses_is_told() {
    let outcome = said(&["ln", "-s", "/a.txt", "absolute"]);
    assert_eq!(outcome.code(), 1);
    assert!(
        outcome
            .stderr
            .contains("WASI allows no symbolic link with an absolute target"),
        "{outcome:?}"
    );
    let outcome = said(&["cat", "../../../../../../etc/passwd"]);
    assert_eq!(outcome.code(), 1, "{outcome:?}");
}

#[test]
fn hostile_archives_stay_inside() {
    let outside = tempfile::tempdir().unwrap();
    let mut bytes = tar_of(&[
        ("../above", None, "x"),
        ("/absolute", None, "y"),
        ("link", Some("/tmp"), ""),
        ("link/through", None, "z"),
        ("up", Some("../.."), ""),
        ("up/through", None, "z"),
        ("fine/file", None, "fine"),
    ]);
    bytes.extend([0; 1024]);
    let container = tool(&["tar", "-xmf", "-", "-C", "/d"]);
    let root = Arc::clone(&container.root);
    table::make_tree(root.path());
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    std::fs::File::from(writer).write_all(&bytes).unwrap();
    let outcome = container.stdin(reader).run();
    assert_eq!(outcome.code(), 2, "{outcome:?}");
    assert!(
        outcome
            .stderr
            .contains("../above: Member name contains '..'"),
        "{outcome:?}"
    );
    let tree = tree::contents(root.path());
    assert_eq!(tree["d/fine/file"], "fine");
    assert_eq!(tree["d/absolute"], "y");
    assert_eq!(tree["d/link/through"], "z");
    assert!(
        !tree.contains_key("above") && !tree.contains_key("through"),
        "{tree:?}"
    );
    drop(outside);
}

/// Files, or links where there is a target.
fn tar_of(members: &[(&str, Option<&str>, &str)]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, target, content) in members {
        let mut header = [0_u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..107].copy_from_slice(b"0000644");
        header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        header[136..147].copy_from_slice(b"00000000000");
        header[148..156].fill(b' ');
        header[156] = if target.is_some() { b'2' } else { b'0' };
        let target = target.unwrap_or_default().as_bytes();
        header[157..157 + target.len()].copy_from_slice(target);
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        archive.extend(header);
        archive.extend(content.as_bytes());
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive
}

#[test]
fn pages_are_fetched() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        for answer in [
            "HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone",
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
            "",
        ] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            assert!(stream.read(&mut request).unwrap() > 0);
            stream.write_all(answer.as_bytes()).unwrap();
            if answer.is_empty() {
                // Longer than its patience.
                std::thread::sleep(std::time::Duration::from_secs(3));
            }
        }
    });
    let fetch = |extra: &[&str]| {
        let url = format!("http://{address}/here");
        let mut args = vec!["wget"];
        args.extend_from_slice(extra);
        args.push(&url);
        tool(&args).run()
    };
    let outcome = fetch(&["-q", "-O", "-"]);
    assert_eq!(
        (
            outcome.code(),
            outcome.stdout.as_str(),
            outcome.stderr.as_str()
        ),
        (0, "hello", "")
    );
    let outcome = fetch(&["-q", "--spider"]);
    assert_eq!(outcome.code(), 1);
    assert_eq!(
        outcome.stderr,
        "wget: server returned error: HTTP/1.1 404 Not Found\n"
    );
    let outcome = fetch(&["-S", "-O", "-"]);
    assert_eq!(outcome.code(), 1);
    assert!(
        outcome.stderr.contains("Content-Length: 10") && outcome.stderr.contains("breaks off"),
        "{outcome:?}"
    );
    let outcome = fetch(&["-q", "-T", "1", "-O", "-"]);
    assert_eq!(outcome.code(), 1);
    assert!(outcome.stderr.contains("timed out"), "{outcome:?}");
    server.join().unwrap();
    let outcome = fetch(&["-q"]);
    assert_eq!(outcome.code(), 1);
    assert!(outcome.stderr.contains("Connection refused"), "{outcome:?}");
    let outcome = tool(&["wget", "https://localhost/"]).run();
    assert!(outcome.stderr.contains("only http is"), "{outcome:?}");
}

#[test]
fn the_shell_reads_lines() {
    let container = tool(&["sh"]);
    table::make_tree(container.root.path());
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    std::fs::File::from(writer)
        .write_all(b"cd d\ncat one\nif true\nexit 3\n")
        .unwrap();
    let outcome = container.stdin(reader).run();
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (2, "1\n"));
    assert!(
        outcome.stderr.contains("'if' is not understood"),
        "{outcome:?}"
    );
}

#[test]
fn processes_are_those_that_were_handed_over() {
    let outcome = tool(&["sh", "-c", "ps; env"])
        .env(&[
            "SKIFF_PROCESSES=1\t0\troot\t61.5\t/app.wasm\n7\t0\troot\t0\tps",
            "A=1",
        ])
        .run();
    assert_eq!(outcome.code(), 0);
    assert_eq!(
        outcome.stdout,
        "    PID    PPID USER         TIME COMMAND\n      1       0 root     00:01:01 /app.wasm\n      7       0 root     00:00:00 ps\nA=1\n"
    );
    let outcome = tool(&["ps"]).run();
    assert_eq!(outcome.code(), 1, "{outcome:?}");
}
