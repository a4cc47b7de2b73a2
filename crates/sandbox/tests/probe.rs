//! A small static program for the integration tests: what a container's process can see and do.
//!
//! Run inside a container by skiff-init, or outside as `launcher`, a stand-in for a shim that dies.

#![expect(clippy::print_stdout, reason = "the tests read what it prints")]

use std::ffi::CString;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use skiff_sandbox::launch::{Launch, launch};
use skiff_sandbox::sys::mount::read_only_directory;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["exit", code] => return ExitCode::from(code.parse::<u8>().unwrap_or(255)),
        ["wait"] => loop {
            std::thread::park();
        },
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
        ["launcher", init, order, ..] => return launcher(Path::new(init), Path::new(order)),
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

/// Launches skiff-init with the order in a file, lets it go, prints its pid, and waits to be killed.
fn launcher(init: &Path, order: &Path) -> ExitCode {
    let run = || -> Result<(), Box<dyn std::error::Error>> {
        let directory = read_only_directory(init.parent().ok_or("no directory")?)?;
        let open = |path: &Path| {
            rustix::fs::openat(
                directory.as_fd(),
                path.file_name().unwrap_or_default(),
                rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC,
                rustix::fs::Mode::empty(),
            )
        };
        let program = open(init)?;
        let probe = std::fs::File::open("/proc/self/exe")?;
        let null = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")?;
        let order = std::fs::read(order)?;
        let name = CString::new("skiff-init")?;
        let launched = launch(&Launch {
            program: program.as_fd(),
            argv: &[&name],
            environment: &[],
            new: skiff_sandbox::plan::NewNamespaces::NONE,
            pid_namespace: None,
            unified_cgroup: None,
            stdio: [null.as_fd(), null.as_fd(), null.as_fd()],
            order: &order,
            slots: &[probe.as_fd()],
        })?;
        let report = launched
            .control
            .receive(std::time::Duration::from_secs(10))?;
        launched.control.go()?;
        println!("{} {report:?}", launched.pid);
        std::io::stdout().flush()?;
        loop {
            std::thread::park();
        }
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("failed: {error}");
            ExitCode::FAILURE
        }
    }
}
