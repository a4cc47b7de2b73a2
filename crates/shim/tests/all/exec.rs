//! Processes that join a container: their life, and containerd's own codes for what cannot be done to them.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use containerd_shim_protos::api::{PauseRequest, ResumeRequest, Status};
use containerd_shim_protos::ttrpc::{Code, context};

use crate::harness::{
    Containerd, PATIENCE, Shim, Spec, code, eventually, is_alive, reader, refusal,
};

/// A container whose guest does nothing.
fn running(containerd: &Containerd) -> Shim {
    containerd.make(&Spec::guest("c", "run"));
    let shim = containerd.shim("c");
    shim.create(&containerd.request("c")).unwrap();
    shim.start("c").unwrap();
    shim
}

fn end(shim: &Shim) {
    shim.kill("c", 9, false).unwrap();
    shim.wait("c").unwrap();
    shim.delete("c").unwrap();
    shim.shutdown();
}

fn exec(shim: &Shim, exec: &str, words: &str) {
    shim.exec(&Containerd::exec_request("c", exec, words, ""))
        .unwrap();
}

#[test]
fn an_exec_has_a_life_of_its_own() {
    let containerd = Containerd::new();
    let shim = running(&containerd);
    exec(&shim, "e", "/app.wat exit 7");
    let state = shim.state_of("c", "e").unwrap();
    assert_eq!(state.status.enum_value(), Ok(Status::CREATED));
    assert_eq!(
        (state.id.as_str(), state.exec_id.as_str(), state.pid),
        ("e", "e", 0)
    );
    let pid = shim.start_exec("c", "e").unwrap();
    assert_eq!(shim.wait_exec("c", "e").unwrap(), 7);
    let state = shim.state_of("c", "e").unwrap();
    assert_eq!(state.status.enum_value(), Ok(Status::STOPPED));
    assert_eq!((state.pid, state.exit_status), (pid, 7));
    assert_eq!(
        shim.state("c").unwrap().status.enum_value(),
        Ok(Status::RUNNING)
    );
    let deleted = shim.delete_exec("c", "e").unwrap();
    assert_eq!((deleted.pid, deleted.exit_status), (pid, 7));
    assert_eq!(code(shim.delete_exec("c", "e")), Code::NOT_FOUND);
    containerd.wait_for_topics(&[
        "/tasks/create",
        "/tasks/start",
        "/tasks/exec-added",
        "/tasks/exec-started",
        "/tasks/exit",
    ]);
    assert_eq!(containerd.ends(), [("e".to_owned(), 7)]);
    // The container's own record is of its own process.
    assert!(!containerd.bundle("c").join("exit.json").exists());
    end(&shim);
}

#[test]
fn containerds_codes() {
    let containerd = Containerd::new();
    containerd.make(&Spec::guest("c", "run"));
    let shim = containerd.shim("c");
    shim.create(&containerd.request("c")).unwrap();
    let request = |exec: &str| Containerd::exec_request("c", exec, "/app.wat run", "");
    let early = refusal(shim.exec(&request("early")));
    assert_eq!(early.0, Code::FAILED_PRECONDITION, "{}", early.1);
    shim.start("c").unwrap();

    shim.exec(&request("e")).unwrap();
    assert_eq!(code(shim.exec(&request("e"))), Code::ALREADY_EXISTS);
    assert_eq!(code(shim.kill_exec("c", "e", 9)), Code::FAILED_PRECONDITION);
    shim.start_exec("c", "e").unwrap();
    assert_eq!(code(shim.start_exec("c", "e")), Code::FAILED_PRECONDITION);
    assert_eq!(code(shim.delete_exec("c", "e")), Code::FAILED_PRECONDITION);
    assert_eq!(code(shim.kill_exec("c", "e", 99)), Code::INVALID_ARGUMENT);
    assert_eq!(code(shim.resize_exec("c", "e")), Code::FAILED_PRECONDITION);
    shim.kill_exec("c", "e", 9).unwrap();
    assert_eq!(shim.wait_exec("c", "e").unwrap(), 137);
    let (finished, sentence) = refusal(shim.kill_exec("c", "e", 9));
    assert_eq!(finished, Code::NOT_FOUND);
    assert!(
        sentence.contains("process already finished"),
        "clients look for this: {sentence}"
    );
    assert_eq!(code(shim.start_exec("c", "e")), Code::FAILED_PRECONDITION);

    // One that nobody starts.
    shim.exec(&request("never")).unwrap();
    assert_eq!(shim.delete_exec("c", "never").unwrap().exit_status, 0);

    for nobody in [
        code(shim.state_of("c", "x")),
        code(shim.start_exec("c", "x")),
        code(shim.wait_exec("c", "x")),
        code(shim.kill_exec("c", "x", 9)),
        code(shim.delete_exec("c", "x")),
        code(shim.resize_exec("c", "x")),
        code(shim.close_input("c", "x")),
    ] {
        assert_eq!(nobody, Code::NOT_FOUND);
    }
    let mut nothing = request("nothing");
    nothing.spec.mut_or_insert_default().value = b"{}".to_vec();
    assert_eq!(code(shim.exec(&nothing)), Code::INVALID_ARGUMENT);
    nothing.spec.mut_or_insert_default().type_url = "x/Spec".to_owned();
    assert_eq!(code(shim.exec(&nothing)), Code::INVALID_ARGUMENT);

    shim.exec(&request("late")).unwrap();
    shim.kill("c", 9, false).unwrap();
    shim.wait("c").unwrap();
    assert_eq!(
        code(shim.exec(&request("later"))),
        Code::FAILED_PRECONDITION
    );
    assert_eq!(
        code(shim.start_exec("c", "late")),
        Code::FAILED_PRECONDITION
    );
    shim.delete("c").unwrap();
    shim.shutdown();
}

#[test]
fn a_container_takes_its_execs_along() {
    let containerd = Containerd::new();
    let shim = running(&containerd);
    let mut pids = Vec::new();
    for number in 0..5 {
        let name = format!("e{number}");
        exec(&shim, &name, "/app.wat run");
        pids.push(shim.start_exec("c", &name).unwrap());
    }
    shim.kill("c", 9, false).unwrap();
    shim.wait("c").unwrap();
    for number in 0..5 {
        assert_eq!(shim.wait_exec("c", &format!("e{number}")).unwrap(), 137);
    }
    assert!(pids.iter().all(|pid| !is_alive(*pid)));
    eventually(|| containerd.ends().len() == 6, || "an exit is lost".into());
    assert_eq!(containerd.ends()[5].0, "c", "{:?}", containerd.ends());
    shim.delete("c").unwrap();
    shim.shutdown();
}

#[test]
fn a_paused_container_takes_no_exec_and_lets_a_killed_one_go() {
    let containerd = Containerd::new();
    let shim = running(&containerd);
    for name in ["a", "b", "c"] {
        exec(&shim, name, "/app.wat run");
    }
    shim.start_exec("c", "a").unwrap();
    shim.start_exec("c", "b").unwrap();
    let time = || context::with_duration(PATIENCE);
    let id = || "c".to_owned();
    let pause = PauseRequest {
        id: id(),
        ..PauseRequest::default()
    };
    shim.tasks.pause(time(), &pause).unwrap();
    let status = |exec: &str| shim.state_of("c", exec).unwrap().status.enum_value();
    assert_eq!(status("a"), Ok(Status::PAUSED));
    let request = Containerd::exec_request("c", "d", "/app.wat run", "");
    assert_eq!(code(shim.exec(&request)), Code::FAILED_PRECONDITION);
    assert_eq!(code(shim.start_exec("c", "c")), Code::FAILED_PRECONDITION);
    shim.kill_exec("c", "a", 9).unwrap();
    assert_eq!(shim.wait_exec("c", "a").unwrap(), 137);
    assert_eq!(status("b"), Ok(Status::PAUSED));
    assert_eq!(status(""), Ok(Status::PAUSED));
    let resume = ResumeRequest {
        id: id(),
        ..ResumeRequest::default()
    };
    shim.tasks.resume(time(), &resume).unwrap();
    shim.start_exec("c", "c").unwrap();
    assert_eq!(status("b"), Ok(Status::RUNNING));
    end(&shim);
}

#[test]
fn what_is_not_there_is_told_with_where_it_was_looked_for() {
    let containerd = Containerd::new();
    let shim = running(&containerd);
    let root = containerd.bundle("c").join("rootfs");
    std::fs::create_dir_all(root.join("bin")).unwrap();
    std::fs::write(root.join("bin/note"), "no program\n").unwrap();
    std::fs::write(root.join("bin/data"), [1, 2, 3, 4]).unwrap();
    std::fs::write(root.join("bin/plain"), b"\x7fELF\x02\x01\x01").unwrap();
    std::fs::write(root.join("native.wasm"), b"\x7fELF\x02\x01\x01").unwrap();
    std::fs::write(root.join("empty"), "").unwrap();
    let mut number = 0;
    let mut fails = |words: &str| {
        number += 1;
        let name = format!("e{number}");
        exec(&shim, &name, words);
        let (code, sentence) = refusal(shim.start_exec("c", &name));
        assert_eq!(code, Code::UNKNOWN, "{sentence}");
        let exit = shim.wait_exec("c", &name).unwrap();
        shim.delete_exec("c", &name).unwrap();
        (exit, sentence)
    };
    let (exit, sentence) = fails("frob");
    assert_eq!(exit, 127, "{sentence}");
    for part in [
        "executable file not found",
        "/bin/frob, /usr/bin/frob, /frob",
        "layer of its image",
    ] {
        assert!(sentence.contains(part), "{sentence}");
    }
    for (words, part) in [
        ("/bin", "/bin is a directory"),
        ("note", "/bin/note is a text file"),
        ("data", "neither WebAssembly nor a program"),
        ("plain", "nobody may execute"),
        (
            "/native.wasm",
            "native code (ELF) under the name of a module",
        ),
        ("/empty", "an empty file"),
        ("/app.wat#", "names no function"),
    ] {
        let (exit, sentence) = fails(words);
        assert_eq!(exit, 126, "{sentence}");
        assert!(sentence.contains(part), "{sentence}");
    }
    // Nothing of it was told as if it had been there.
    assert!(containerd.ends().is_empty());
    end(&shim);
}

/// An exec with streams of its own.
fn with_streams(containerd: &Containerd, shim: &Shim, name: &str, words: &str, terminal: bool) {
    let mut request = Containerd::exec_request(
        "c",
        name,
        words,
        r#","consoleSize":{"height":24,"width":80}"#,
    );
    let fifo = |stream: &str| {
        let path = containerd.fifo("c", &format!("{name}.{stream}"));
        path.display().to_string()
    };
    request.stdin = fifo("in");
    request.stdout = fifo("out");
    if terminal {
        request.terminal = true;
    } else {
        request.stderr = fifo("err");
    }
    shim.exec(&request).unwrap();
}

fn stream(containerd: &Containerd, name: &str, stream: &str) -> std::path::PathBuf {
    containerd.bundle("c").join(format!("{name}.{stream}"))
}

fn writer(path: &Path) -> std::fs::File {
    std::fs::File::options().write(true).open(path).unwrap()
}

#[test]
fn streams() {
    let containerd = Containerd::new();
    let shim = running(&containerd);
    with_streams(&containerd, &shim, "e", "/app.wat cat 5", false);
    let out = reader(&stream(&containerd, "e", "out"));
    let err = reader(&stream(&containerd, "e", "err"));
    // Nobody writes yet: that is no end of the input.
    shim.start_exec("c", "e").unwrap();
    thread::sleep(std::time::Duration::from_millis(100));
    let mut input = writer(&stream(&containerd, "e", "in"));
    input.write_all(b"what was typed").unwrap();
    drop(input);
    thread::sleep(std::time::Duration::from_millis(100));
    let status = shim.state_of("c", "e").unwrap().status.enum_value();
    assert_eq!(status, Ok(Status::RUNNING), "the input is still open");
    shim.close_input("c", "e").unwrap();
    assert_eq!(shim.wait_exec("c", "e").unwrap(), 5);
    assert_eq!(out.join().unwrap(), "what was typed");
    assert_eq!(err.join().unwrap(), "done");
    end(&shim);
}

#[test]
fn at_a_terminal() {
    let containerd = Containerd::new();
    let shim = running(&containerd);
    with_streams(&containerd, &shim, "e", "/app.wat terminal", true);
    assert_eq!(code(shim.resize_exec("c", "e")), Code::FAILED_PRECONDITION);
    let shown = Arc::new(Mutex::new(String::new()));
    let out = {
        let (path, shown) = (stream(&containerd, "e", "out"), Arc::clone(&shown));
        thread::spawn(move || {
            let mut fifo = std::fs::File::open(path).unwrap();
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = fifo.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]);
                shown.lock().unwrap().push_str(&text);
            }
        })
    };
    let sees = |text: &str| {
        eventually(
            || shown.lock().unwrap().contains(text),
            || format!("{text}: {}", shown.lock().unwrap()),
        );
    };
    shim.start_exec("c", "e").unwrap();
    assert!(shim.state_of("c", "e").unwrap().terminal);
    let mut input = writer(&stream(&containerd, "e", "in"));
    sees("terminals: true true true, size 24 80, controlled: true");
    shim.resize_exec("c", "e").unwrap();
    input.write_all(b"size\nexit\n").unwrap();
    assert_eq!(shim.wait_exec("c", "e").unwrap(), 9);
    out.join().unwrap();
    sees("size 33 91");
    sees("bye");
    end(&shim);
}

#[test]
fn tools_where_the_root_has_none() {
    let containerd = Containerd::new();
    let shim = running(&containerd);
    exec(&shim, "a", "/bin/true exit 3");
    shim.start_exec("c", "a").unwrap();
    assert_eq!(shim.wait_exec("c", "a").unwrap(), 3);
    with_streams(&containerd, &shim, "b", "ps environment", false);
    let out = reader(&stream(&containerd, "b", "out"));
    let err = reader(&stream(&containerd, "b", "err"));
    shim.start_exec("c", "b").unwrap();
    assert_eq!(shim.wait_exec("c", "b").unwrap(), 0);
    let told = out.join().unwrap();
    assert!(
        told.contains("SKIFF_PROCESSES=1\t0\t0\t0\tskiff-host-fake"),
        "{told}"
    );
    err.join().unwrap();
    // Not from just anywhere, and not in the place of what is there.
    for command in ["/opt/ls", "bash"] {
        exec(&shim, command.trim_start_matches("/opt/"), command);
    }
    for name in ["ls", "bash"] {
        let (_, sentence) = refusal(shim.start_exec("c", name));
        assert!(
            sentence.contains("none of the built-in tools ([ basename"),
            "{sentence}"
        );
    }
    end(&shim);
}

/// 100 at a time. More than 100 in all if the environment says so.
#[test]
fn a_storm_of_execs() {
    const AT_ONCE: usize = 100;
    let all = std::env::var("SKIFF_EXEC_STORM").map_or(AT_ONCE, |all| all.parse().unwrap());
    let containerd = Containerd::new();
    let shim = running(&containerd);
    let next = std::sync::atomic::AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if number >= all {
                        return;
                    }
                    one_of_a_storm(&containerd, &shim, number);
                }
            });
        }
    });
    eventually(
        || containerd.ends().len() == all,
        || format!("{} ends of {all}", containerd.ends().len()),
    );
    for (name, code) in containerd.ends() {
        let number: usize = name[1..].parse().unwrap();
        assert_eq!(usize::try_from(code).unwrap(), number % 200, "{name}");
    }
    // Only its first process is left.
    let pids = std::fs::read_to_string(containerd.cgroups()[0].join("c/cgroup.procs")).unwrap();
    assert_eq!(pids.lines().count(), 1, "{pids}");
    end(&shim);
}

fn one_of_a_storm(containerd: &Containerd, shim: &Shim, number: usize) {
    let name = format!("e{number}");
    with_streams(
        containerd,
        shim,
        &name,
        &format!("/app.wat cat {}", number % 200),
        false,
    );
    let out = reader(&stream(containerd, &name, "out"));
    let err = reader(&stream(containerd, &name, "err"));
    shim.start_exec("c", &name).unwrap();
    let mut input = writer(&stream(containerd, &name, "in"));
    let text = format!("input of {name}\n").repeat(100);
    input.write_all(text.as_bytes()).unwrap();
    drop(input);
    shim.close_input("c", &name).unwrap();
    let code = shim.wait_exec("c", &name).unwrap();
    assert_eq!(usize::try_from(code).unwrap(), number % 200);
    shim.delete_exec("c", &name).unwrap();
    assert_eq!(out.join().unwrap(), text, "output of {name}");
    assert_eq!(err.join().unwrap(), "done");
    for stream_name in ["in", "out", "err"] {
        std::fs::remove_file(stream(containerd, &name, stream_name)).unwrap();
    }
}
