//! One guest in a container of its own: a root directory, namespaces and pipes, without a shim.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use skiff_engine::exit::{EARLY_RECORD_BYTES, EarlyRecord};
use skiff_engine::options::{CodeOptions, GuestOptions, OptLevel};
use skiff_engine::order::{CodeKind, CompileOrder, Compiled, Guest, HostOrder};
use skiff_sandbox::control::Report;
use skiff_sandbox::launch::{Launch, Launched, launch};
use skiff_sandbox::plan::{
    Attach, Namespace, NewNamespaces, Plan, Propagation, Rlimit, Root, Slot,
};
use skiff_sandbox::sys::mount::{self, attribute};
use skiff_sandbox::sys::process::{self, ExitStatus};

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// `SKIFF_BIN_DIR` names another directory with host and worker, for measuring release builds.
fn elsewhere(name: &str) -> Option<PathBuf> {
    Some(Path::new(&std::env::var_os("SKIFF_BIN_DIR")?).join(name))
}

pub(crate) fn host() -> &'static Path {
    static HOST: OnceLock<PathBuf> = OnceLock::new();
    HOST.get_or_init(|| {
        elsewhere("skiff-host-wasmtime")
            .unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_skiff-host-wasmtime")))
    })
}

/// The worker, built by a call of its own: built together with the host, both would have both their features.
fn worker() -> &'static Path {
    static WORKER: OnceLock<PathBuf> = OnceLock::new();
    WORKER.get_or_init(|| {
        if let Some(worker) = elsewhere("skiff-compile-wasmtime") {
            return worker;
        }
        // <target directory>/<triple>/<profile>/skiff-host-wasmtime
        let target = host().ancestors().nth(3).unwrap();
        let release = host().parent().unwrap().ends_with("release");
        let status = Command::new(env!("CARGO"))
            .args([
                "build",
                "--quiet",
                "-p",
                "skiff-compile-wasmtime",
                "--target-dir",
            ])
            .arg(target)
            .args(release.then_some("--release"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .unwrap();
        assert!(status.success(), "the compile worker could not be built");
        host().with_file_name("skiff-compile-wasmtime")
    })
}

fn open(path: &Path) -> OwnedFd {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

fn memory_file(bytes: &[u8]) -> OwnedFd {
    let file = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    std::io::Write::write_all(&mut File::from(file.try_clone().unwrap()), bytes).unwrap();
    file
}

fn read_only(file: &OwnedFd) -> OwnedFd {
    use std::os::fd::AsRawFd;
    open(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd())))
}

/// What the worker makes of a module.
pub(crate) fn compile(module: &[u8], options: CodeOptions) -> Result<(OwnedFd, CodeKind), String> {
    let (input, output) = (memory_file(module), memory_file(b""));
    let order = CompileOrder {
        plan: Plan {
            working_directory: "/".to_owned(),
            no_new_privileges: true,
            ..Plan::default()
        },
        input: Slot(0),
        output: Slot(1),
        threads: 1,
        code: options,
        opt_level: OptLevel::default(),
    };
    let null = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .unwrap();
    // Nobody reads what it says besides its report, as long as it lives.
    let (_unread, words) = rustix::pipe::pipe().unwrap();
    let program = open(worker());
    let launched = launch(&Launch {
        program: program.as_fd(),
        libraries: None,
        argv: &[c"skiff-compile-wasmtime"],
        environment: &[],
        new: NewNamespaces::NONE.with(Namespace::Pid),
        pid_namespace: None,
        unified_cgroup: None,
        stdio: [null.as_fd(), null.as_fd(), words.as_fd()],
        order: &postcard::to_stdvec(&order).unwrap(),
        slots: &[input.as_fd(), output.as_fd()],
    })
    .unwrap();
    let report = launched.control.receive(PATIENCE).unwrap();
    process::wait(launched.pidfd.as_fd()).unwrap();
    match report {
        Report::Done(bytes) => {
            let compiled: Compiled = postcard::from_bytes(&bytes).unwrap();
            Ok((read_only(&output), compiled.kind))
        }
        Report::Failed(sentence) => Err(sentence),
        Report::Ready => panic!("a compile worker is never ready"),
    }
}

/// How a guest ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) record: Option<EarlyRecord>,
}

impl Outcome {
    /// The code, of which the record tells the same.
    #[track_caller]
    pub(crate) fn code(&self) -> u8 {
        let ExitStatus::Code(code) = self.status else {
            panic!("ended by a signal: {self:?}")
        };
        assert_eq!(
            self.record.map(|record| record.code),
            Some(code),
            "{self:?}"
        );
        code
    }
}

/// A guest to be.
pub(crate) struct Container {
    module: Vec<u8>,
    guest: Guest,
    /// The guest's `/`.
    pub(crate) root: Arc<tempfile::TempDir>,
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    new: NewNamespaces,
    mounts: Vec<(String, OwnedFd)>,
    rlimits: Vec<Rlimit>,
    /// A program to put before the host: `strace`.
    wrapper: Option<Vec<CString>>,
    compiled: Option<(OwnedFd, CodeKind)>,
}

impl Container {
    pub(crate) fn new(module: impl AsRef<[u8]>) -> Self {
        Self {
            module: module.as_ref().to_vec(),
            guest: Guest {
                kind: CodeKind::Module,
                code: Slot(0),
                name: "/app.wasm".to_owned(),
                function: None,
                args: vec!["app".to_owned()],
                env: Vec::new(),
                working_directory: "/".to_owned(),
                exit_record: Slot(1),
                options: GuestOptions::default(),
            },
            root: Arc::new(tempfile::tempdir().unwrap()),
            stdin: None,
            stdout: None,
            new: NewNamespaces::NONE
                .with(Namespace::Pid)
                .with(Namespace::Ipc)
                .with(Namespace::Uts)
                .with(Namespace::Mount),
            mounts: Vec::new(),
            rlimits: Vec::new(),
            wrapper: None,
            compiled: None,
        }
    }

    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.guest.args = args.iter().map(ToString::to_string).collect();
        self
    }

    pub(crate) fn env(mut self, env: &[&str]) -> Self {
        self.guest.env = env.iter().map(ToString::to_string).collect();
        self
    }

    pub(crate) fn working_directory(mut self, path: &str) -> Self {
        self.guest.working_directory = path.to_owned();
        self
    }

    pub(crate) fn function(mut self, name: &str) -> Self {
        self.guest.function = Some(name.to_owned());
        self
    }

    /// Takes this for the compiled code.
    pub(crate) fn compiled(mut self, code: OwnedFd, kind: CodeKind) -> Self {
        self.compiled = Some((code, kind));
        self
    }

    pub(crate) fn wasi_p3(mut self) -> Self {
        self.guest.options.code.wasi_p3 = true;
        self
    }

    pub(crate) fn file(self, path: &str, text: &str) -> Self {
        let path = self.root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    pub(crate) fn stdin(mut self, file: OwnedFd) -> Self {
        self.stdin = Some(file);
        self
    }

    pub(crate) fn stdout(mut self, file: OwnedFd) -> Self {
        self.stdout = Some(file);
        self
    }

    /// A resource limit, soft and hard.
    pub(crate) fn limited(mut self, resource: u32, value: u64) -> Self {
        self.rlimits.push(Rlimit {
            resource,
            soft: value,
            hard: value,
        });
        self
    }

    /// Writes what the host does into `log`, by `strace`.
    pub(crate) fn traced(mut self, log: &Path) -> Self {
        let words = ["strace", "-f", "-qq", "-o", log.to_str().unwrap()];
        self.wrapper = Some(
            words
                .iter()
                .map(|word| CString::new(*word).unwrap())
                .collect(),
        );
        self
    }

    /// Created, not started; or the sentence that says why not.
    pub(crate) fn create(mut self) -> Result<Created, String> {
        let (code, kind) = match self.compiled.take() {
            Some(compiled) => compiled,
            None => compile(&self.module, self.guest.options.code)?,
        };
        self.guest.kind = kind;
        let record = tempfile::tempfile().unwrap();
        let tree = mount::clone_path(self.root.path(), false).unwrap();
        mount::change(
            tree.as_fd(),
            mount::Change::set(attribute::NO_SUID | attribute::NO_DEV),
            false,
        )
        .unwrap();
        let mut slots = vec![code.as_fd(), record.as_fd(), tree.as_fd()];
        let mut mounts = Vec::new();
        for (at, tree) in &self.mounts {
            let slot = Slot(u16::try_from(slots.len()).unwrap());
            mounts.push(Attach {
                tree: slot,
                at: at.clone(),
                directory: true,
            });
            slots.push(tree.as_fd());
        }
        let root = Root {
            tree: Slot(2),
            mounts,
            read_only: false,
            guest: true,
            propagation: Propagation::Private,
        };
        let order = HostOrder {
            plan: Plan {
                new: self.new.by_process(false),
                root: Some(root),
                rlimits: self.rlimits,
                working_directory: "/".to_owned(),
                ..Plan::default()
            },
            guest: self.guest,
        };
        let null = File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
            .unwrap();
        let (stdout, stdout_writer) = rustix::pipe::pipe().unwrap();
        let (stderr, stderr_writer) = rustix::pipe::pipe().unwrap();
        let stdin = self.stdin.unwrap_or_else(|| null.into());
        let stdout_writer = self.stdout.unwrap_or(stdout_writer);
        let (program, argv) = match &self.wrapper {
            None => (
                open(host()),
                vec![CString::new("skiff-host-wasmtime").unwrap()],
            ),
            Some(words) => {
                let mut argv = words.clone();
                argv.push(CString::new(host().to_str().unwrap()).unwrap());
                (open(Path::new("/usr/bin/strace")), argv)
            }
        };
        let argv: Vec<&CStr> = argv.iter().map(CString::as_c_str).collect();
        // The host is PID 1 in a pid namespace; under strace it is its child.
        let new = if self.wrapper.is_some() {
            self.new.without(Namespace::Pid)
        } else {
            self.new
        };
        let started = Instant::now();
        let launched = launch(&Launch {
            program: program.as_fd(),
            libraries: None,
            argv: &argv,
            environment: &[],
            new: new.by_launch(false),
            pid_namespace: None,
            unified_cgroup: None,
            stdio: [stdin.as_fd(), stdout_writer.as_fd(), stderr_writer.as_fd()],
            order: &postcard::to_stdvec(&order).unwrap(),
            slots: &slots,
        })
        .unwrap();
        drop((stdin, stdout_writer, stderr_writer));
        let report = launched.control.receive(PATIENCE);
        let created = Created {
            launched,
            record,
            stdout: collect(stdout),
            stderr: collect(stderr),
            _root: self.root,
            latency: started.elapsed(),
        };
        match report {
            Ok(Report::Ready) => Ok(created),
            Ok(Report::Failed(sentence)) => {
                let outcome = created.wait();
                assert_eq!(outcome.status, ExitStatus::Code(1));
                assert_eq!(outcome.stderr, "", "it is the shim that tells the log");
                Err(sentence)
            }
            other => panic!("{other:?}: {:?}", created.wait()),
        }
    }

    /// Created, started, ended.
    #[track_caller]
    pub(crate) fn run(self) -> Outcome {
        self.start().wait()
    }

    #[track_caller]
    pub(crate) fn start(self) -> Created {
        let created = self.create().unwrap();
        created.launched.control.go().unwrap();
        created
    }
}

fn collect(pipe: OwnedFd) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        File::from(pipe).read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// A container that is created, and perhaps started.
pub(crate) struct Created {
    pub(crate) launched: Launched,
    record: File,
    stdout: JoinHandle<String>,
    stderr: JoinHandle<String>,
    _root: Arc<tempfile::TempDir>,
    /// From the launch to the report.
    pub(crate) latency: Duration,
}

impl Created {
    pub(crate) fn signal(&self, number: i32) {
        process::send_signal(self.launched.pidfd.as_fd(), number).unwrap();
    }

    #[track_caller]
    pub(crate) fn wait(self) -> Outcome {
        let ended = process::wait_readable(self.launched.pidfd.as_fd(), Some(PATIENCE)).unwrap();
        if !ended {
            self.signal(9);
        }
        let status = process::wait(self.launched.pidfd.as_fd()).unwrap();
        let mut record = [0; 64];
        let length = std::os::unix::fs::FileExt::read_at(&self.record, &mut record, 0).unwrap();
        let outcome = Outcome {
            status,
            stdout: self.stdout.join().unwrap(),
            stderr: self.stderr.join().unwrap(),
            record: EarlyRecord::decode(&record[..length.min(EARLY_RECORD_BYTES)]),
        };
        assert!(ended, "the guest did not end: {outcome:?}");
        outcome
    }
}
