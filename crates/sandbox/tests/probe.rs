//! A small static program for the integration tests: what a container's process can see and do.
//!
//! Run inside a container by skiff-init, or outside as `launcher`, a stand-in for a shim that dies.

#![expect(clippy::print_stdout, reason = "the tests read what it prints")]

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use skiff_sandbox::control::Report;
use skiff_sandbox::launch::{Launch, launch};
use skiff_sandbox::plan::{NewNamespaces, Propagation};
use skiff_sandbox::sys::mount::{Change, change, clone_path, read_only_directory};
use skiff_sandbox::sys::process::wait;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["exit", code] => return ExitCode::from(code.parse::<u8>().unwrap_or(255)),
        ["wait"] => loop {
            std::thread::park();
        },
        ["clock"] => {
            let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
            println!("{}.{:09}", now.tv_sec, now.tv_nsec);
        }
        ["cwd"] => println!(
            "{}",
            std::env::current_dir()
                .map_or_else(|error| error.to_string(), |path| path.display().to_string())
        ),
        ["env"] => std::env::vars().for_each(|(key, value)| println!("{key}={value}")),
        ["fds"] => (0..256)
            .filter(|fd| is_open(*fd))
            .for_each(|fd| println!("{fd}")),
        ["each", commands @ ..] => commands
            .iter()
            .for_each(|command| println!("{command} {}", attempt(command))),
        ["launcher", init, order, root] => {
            return launcher(Path::new(init), Path::new(order), Path::new(root));
        }
        other => {
            println!("unknown command {other:?}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn is_open(fd: i32) -> bool {
    skiff_sandbox::sys::process::inherited(fd).is_ok()
}

/// `write:/path`, `read:/path`, `mkdir:/path`, `list:/path`: `ok …` or the error's number.
fn attempt(command: &str) -> String {
    let (what, path) = command.split_once(':').unwrap_or((command, ""));
    let result = match what {
        "write" => std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .and_then(|mut file| file.write_all(b"written"))
            .map(|()| String::new()),
        "read" => std::fs::File::open(path).and_then(|file| {
            let mut text = String::new();
            file.take(200)
                .read_to_string(&mut text)
                .map(|_| text.trim().to_owned())
        }),
        "mkdir" => std::fs::create_dir(path).map(|()| String::new()),
        "list" => std::fs::read_dir(path).map(|entries| {
            let mut names: Vec<_> = entries
                .filter_map(Result::ok)
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect();
            names.sort_unstable();
            names.join(" ")
        }),
        _ => return "unknown".to_owned(),
    };
    match result {
        Ok(text) => format!("ok {text}").trim().to_owned(),
        Err(error) => error
            .raw_os_error()
            .map_or_else(|| error.to_string(), |number| format!("errno {number}")),
    }
}

/// Launches skiff-init with the order in a file and an image's root; prints pid and report. If the container is
/// ready it lets it go and waits to be killed.
fn launcher(init: &Path, order: &Path, root: &Path) -> ExitCode {
    let run = || -> Result<(), Box<dyn std::error::Error>> {
        let directory = read_only_directory(init.parent().ok_or("no directory")?)?;
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
        let name = init.file_name().unwrap_or_default();
        let program =
            rustix::fs::openat(directory.as_fd(), name, flags, rustix::fs::Mode::empty())?;
        let probe = std::fs::File::open("/proc/self/exe")?;
        let tree = clone_path(root, false)?;
        let private = Change {
            propagation: Some(Propagation::Private),
            ..Change::default()
        };
        change(tree.as_fd(), private, true)?;
        let null = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")?;
        let order = std::fs::read(order)?;
        let launched = launch(&Launch {
            program: program.as_fd(),
            libraries: None,
            argv: &[c"skiff-init"],
            environment: &[],
            new: NewNamespaces::NONE,
            pid_namespace: None,
            unified_cgroup: None,
            stdio: [null.as_fd(), null.as_fd(), null.as_fd()],
            order: &order,
            slots: &[probe.as_fd(), tree.as_fd()],
        })?;
        let report = launched
            .control
            .receive(std::time::Duration::from_secs(10))?;
        println!("{} {report:?}", launched.pid);
        std::io::stdout().flush()?;
        if report == Report::Ready {
            launched.control.go()?;
            loop {
                std::thread::park();
            }
        }
        wait(launched.pidfd.as_fd())?;
        Ok(())
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("failed: {error}");
            ExitCode::FAILURE
        }
    }
}
