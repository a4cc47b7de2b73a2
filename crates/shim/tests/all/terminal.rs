//! Containers with a terminal: what is typed and shown, its size, its end.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use containerd_shim_protos::api::{CloseIORequest, CreateTaskRequest, ResizePtyRequest};
use containerd_shim_protos::ttrpc::{Code, context};
use rustix::fs::{Mode, OFlags};

use crate::harness::{Containerd, PATIENCE, Shim, Spec, code, eventually, refusal};

/// A client at a container's terminal.
struct Client {
    stdin: Option<File>,
    shown: Arc<Mutex<Vec<u8>>>,
}

fn open(path: &Path, flags: OFlags) -> File {
    let file: OwnedFd = rustix::fs::open(path, flags | OFlags::NONBLOCK, Mode::empty()).unwrap();
    rustix::fs::fcntl_setfl(&file, OFlags::empty()).unwrap();
    File::from(file)
}

impl Client {
    /// To be called when the container is created: the shim has the other ends then.
    fn attach(containerd: &Containerd, id: &str) -> Self {
        let bundle = containerd.bundle(id);
        let mut stdout = open(&bundle.join("out"), OFlags::RDONLY);
        let shown = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&shown);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = stdout.read(&mut buffer) {
                all.lock().unwrap().extend_from_slice(&buffer[..length]);
            }
        });
        Self {
            stdin: Some(open(&bundle.join("in"), OFlags::WRONLY)),
            shown,
        }
    }

    fn types(&mut self, keys: &str) {
        self.stdin
            .as_mut()
            .unwrap()
            .write_all(keys.as_bytes())
            .unwrap();
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    fn sees(&self, text: &str) {
        eventually(
            || self.shown().contains(text),
            || format!("{text:?} is not in {:?}", self.shown()),
        );
    }
}

fn create(containerd: &Containerd, words: &str, more: &str) -> Shim {
    containerd.make(&Spec {
        more: more.to_owned(),
        ..Spec::guest("c", words)
    });
    let shim = containerd.shim("c");
    shim.create(&request(containerd)).unwrap();
    shim
}

fn request(containerd: &Containerd) -> CreateTaskRequest {
    CreateTaskRequest {
        terminal: true,
        stderr: String::new(),
        ..containerd.request("c")
    }
}

fn resize(shim: &Shim, width: u32, height: u32) {
    let request = ResizePtyRequest {
        id: "c".to_owned(),
        width,
        height,
        ..ResizePtyRequest::default()
    };
    shim.tasks
        .resize_pty(context::with_duration(PATIENCE), &request)
        .unwrap();
}

fn close_io(shim: &Shim) {
    let request = CloseIORequest {
        id: "c".to_owned(),
        stdin: true,
        ..CloseIORequest::default()
    };
    shim.tasks
        .close_io(context::with_duration(PATIENCE), &request)
        .unwrap();
}

fn end(shim: &Shim) {
    shim.delete("c").unwrap();
    shim.shutdown();
}

#[test]
fn what_is_typed_is_shown_and_read() {
    let containerd = Containerd::new();
    let shim = create(&containerd, "terminal", "");
    let mut client = Client::attach(&containerd, "c");
    let pid = shim.start("c").unwrap();
    // Of a devpts of its own, whose first terminal this is.
    let own = std::fs::read_link(format!("/proc/{pid}/fd/0")).unwrap();
    assert_eq!(own, Path::new("/0"));
    client.sees("terminals: true true true, size 0 0, controlled: true\r\n");
    client.types("size\n");
    client.sees("size 0 0\r\n");
    resize(&shim, 132, 43);
    client.types("size\n");
    client.sees("size 43 132\r\n");
    client.types("exit\n");
    assert_eq!(shim.wait("c").unwrap().exit_status, 9);
    client.sees("bye\r\n");
    end(&shim);
}

#[test]
fn the_last_bytes_are_not_lost() {
    for _ in 0..10 {
        let containerd = Containerd::new();
        let shim = create(&containerd, "pour 7", "");
        // Read only after the end: the FIFO and the terminal hold it until then.
        shim.start("c").unwrap();
        assert_eq!(shim.wait("c").unwrap().exit_status, 7);
        let client = Client::attach(&containerd, "c");
        client.sees("the last line\r\n");
        assert_eq!(client.shown().matches("0123456789").count(), 1000);
        end(&shim);
    }
}

/// More than the FIFO and the terminal hold, to a client that comes late.
#[test]
fn a_guest_waits_for_its_reader() {
    let containerd = Containerd::new();
    let shim = create(&containerd, "flood 3", "");
    shim.start("c").unwrap();
    thread::sleep(std::time::Duration::from_millis(100));
    let client = Client::attach(&containerd, "c");
    assert_eq!(shim.wait("c").unwrap().exit_status, 3);
    client.sees("the last line\r\n");
    assert_eq!(client.shown().matches("0123456789").count(), 100_000);
    end(&shim);
}

#[test]
fn clients_come_and_go_until_the_input_is_closed() {
    let containerd = Containerd::new();
    let shim = create(&containerd, "terminal", "");
    shim.start("c").unwrap();
    let mut client = Client::attach(&containerd, "c");
    client.sees("controlled");
    client.types("size\n");
    client.sees("size 0 0\r\n");
    client.stdin.take();
    let mut client = Client {
        stdin: Some(open(&containerd.bundle("c").join("in"), OFlags::WRONLY)),
        ..client
    };
    client.types("again\nhalf a line");
    client.sees("read again\r\n");
    close_io(&shim);
    // Still connected: the input is not over.
    client.types(", whole");
    client.stdin.take();
    client.sees("read half a line, whole\r\nend of file\r\n");
    assert_eq!(shim.wait("c").unwrap().exit_status, 0);
    end(&shim);
}

#[test]
fn the_size_of_the_spec_and_the_interrupt_key() {
    let containerd = Containerd::new();
    containerd.make(&Spec::guest("c", "terminal"));
    let config = containerd.bundle("c").join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    let text = text.replace(
        r#""cwd":"/""#,
        r#""cwd":"/","terminal":true,"consoleSize":{"height":30,"width":100}"#,
    );
    // The kernel keeps signals that are not handled from the first process of a pid namespace.
    let text = text.replace(r#"{"type":"pid"},"#, "");
    std::fs::write(&config, text).unwrap();
    let shim = containerd.shim("c");
    shim.create(&request(&containerd)).unwrap();
    shim.start("c").unwrap();
    let mut client = Client::attach(&containerd, "c");
    client.sees("size 30 100, controlled: true");
    client.types("\x03");
    assert_eq!(shim.wait("c").unwrap().exit_status, 130);
    end(&shim);
}

#[test]
fn a_terminal_that_nobody_reads_holds_up_no_end() {
    let containerd = Containerd::new();
    let shim = create(&containerd, "flood 3", "");
    shim.start("c").unwrap();
    thread::sleep(std::time::Duration::from_millis(100));
    shim.kill("c", 9, false).unwrap();
    assert_eq!(shim.wait("c").unwrap().exit_status, 137);
    end(&shim);
}

#[test]
fn resizing_needs_a_terminal() {
    let containerd = Containerd::new();
    containerd.make(&Spec::guest("c", "run"));
    let shim = containerd.shim("c");
    shim.create(&containerd.request("c")).unwrap();
    let request = ResizePtyRequest {
        id: "c".to_owned(),
        width: 1,
        height: 1,
        ..ResizePtyRequest::default()
    };
    let (refused, sentence) = refusal(
        shim.tasks
            .resize_pty(context::with_duration(PATIENCE), &request),
    );
    assert_eq!(refused, Code::FAILED_PRECONDITION);
    assert!(sentence.contains("has no terminal"), "{sentence}");
    let missing = ResizePtyRequest::default();
    let answer = shim
        .tasks
        .resize_pty(context::with_duration(PATIENCE), &missing);
    assert_eq!(code(answer), Code::NOT_FOUND);
    end(&shim);
}
