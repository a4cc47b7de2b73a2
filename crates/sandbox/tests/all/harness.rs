//! A container in three lines: [`Case`] describes it, [`Running`] is it, [`Alone`] checks what it leaves.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use skiff_engine::order::{self, ProgramOrder};
use skiff_sandbox::control::Report;
use skiff_sandbox::launch::{Inside, Launch, LaunchError, Launched, launch, launch_inside};
use skiff_sandbox::plan::{
    Attach, Capabilities, Namespace, NewNamespaces, Plan, Propagation, Root, Slot,
};
use skiff_sandbox::rootfs::mount_root;
use skiff_sandbox::spec::OpenUser;
use skiff_sandbox::sys::mount::{self, Change};
use skiff_sandbox::sys::process::{self, ExitStatus};
use tempfile::TempDir;

/// Longer than anything here takes, shorter than a stuck test is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Where the programs of this workspace that the tests start are built.
pub(crate) fn programs() -> &'static Path {
    static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        // …/debug/deps/all-0123: the profile's directory is two up.
        let own = std::env::current_exe().unwrap();
        let profile = own.ancestors().nth(2).unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args([
            "build",
            "--quiet",
            "-p",
            "skiff-init",
            "-p",
            "skiff-pause",
            "-p",
            "skiff-sandbox",
        ]);
        cargo.args([
            "--features",
            "skiff-sandbox/planner",
            "--bins",
            "--example",
            "probe",
        ]);
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        let target = profile.ancestors().nth(2).unwrap();
        let status = cargo
            .arg("--target-dir")
            .arg(target)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .unwrap();
        assert!(
            status.success(),
            "the programs that the tests start do not build"
        );
        profile.to_owned()
    })
}

/// The probe program, see `tests/probe.rs`.
pub(crate) fn probe() -> PathBuf {
    programs().join("examples/probe")
}

/// Opens a program as the shim does: through a read-only clone of its directory.
pub(crate) fn open_program(path: &Path) -> OwnedFd {
    let directory = mount::read_only_directory(path.parent().unwrap()).unwrap();
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    rustix::fs::openat(
        &directory,
        path.file_name().unwrap(),
        flags,
        rustix::fs::Mode::empty(),
    )
    .unwrap()
}

/// No other test runs at the same time; when it is dropped, nothing may be left behind.
pub(crate) struct Alone {
    descriptors: BTreeSet<String>,
    mounts: String,
    _lock: MutexGuard<'static, ()>,
}

impl Alone {
    pub(crate) fn new() -> Self {
        static LOCK: Mutex<()> = Mutex::new(());
        assert!(rustix::process::getuid().is_root(), "these tests need root");
        let lock = LOCK
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        programs();
        // What an earlier test left is its failure, not this one's.
        let reap = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOHANG;
        while let Ok(Some(_)) = rustix::process::waitid(rustix::process::WaitId::All, reap) {}
        Self {
            descriptors: descriptors(),
            mounts: mounts(),
            _lock: lock,
        }
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        assert_eq!(
            descriptors(),
            self.descriptors,
            "descriptors were left open"
        );
        assert_eq!(mounts(), self.mounts, "mounts were left");
        let child = rustix::process::waitid(
            rustix::process::WaitId::All,
            rustix::process::WaitIdOptions::EXITED
                | rustix::process::WaitIdOptions::NOHANG
                | rustix::process::WaitIdOptions::NOWAIT,
        );
        assert_eq!(
            child.err(),
            Some(rustix::io::Errno::CHILD),
            "a process or zombie was left"
        );
    }
}

/// Numbers and targets of this process's open files.
fn descriptors() -> BTreeSet<String> {
    let entries = std::fs::read_dir("/proc/self/fd").unwrap();
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let target = std::fs::read_link(entry.path()).ok()?;
            // The directory that is being read.
            if target.starts_with("/proc") {
                None
            } else {
                Some(format!("{:?} {}", entry.file_name(), target.display()))
            }
        })
        .collect()
}

/// Mounts of the node at or of anything that these tests made.
fn mounts() -> String {
    let all = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    all.lines().filter(|line| line.contains(PREFIX)).collect()
}

const PREFIX: &str = "skiff-sandbox-test-";

/// A root with a few directories and files, and a place beside it that nothing may reach.
pub(crate) struct Image {
    directory: TempDir,
}

impl Image {
    pub(crate) fn new() -> Self {
        let image = Self {
            directory: tempfile::Builder::new().prefix(PREFIX).tempdir().unwrap(),
        };
        for directory in ["root/etc", "root/tmp", "root/data", "outside", "bundle"] {
            std::fs::create_dir_all(image.directory.path().join(directory)).unwrap();
        }
        std::fs::write(image.root().join("etc/name"), "image").unwrap();
        std::fs::write(image.outside().join("secret"), "secret").unwrap();
        image
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    pub(crate) fn outside(&self) -> PathBuf {
        self.directory.path().join("outside")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn symlink(&self, target: &str, name: &str) {
        std::os::unix::fs::symlink(target, self.root().join(name)).unwrap();
    }

    /// Nothing was made or changed beside the root.
    pub(crate) fn assert_outside_untouched(&self) {
        let names: Vec<_> = std::fs::read_dir(self.outside())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["secret"]);
        assert_eq!(
            std::fs::read_to_string(self.outside().join("secret")).unwrap(),
            "secret"
        );
    }
}

/// What this process can give: a machine may lack some capabilities, and then a container does.
pub(crate) fn own_capabilities() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap()
}

/// A container to be: by default root with all capabilities in new namespaces, running the probe.
pub(crate) struct Case {
    pub(crate) plan: Plan,
    pub(crate) new: NewNamespaces,
    pub(crate) slots: Vec<OwnedFd>,
    pub(crate) argv0: String,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) pid_namespace: Option<OwnedFd>,
    pub(crate) user: Option<OpenUser>,
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) unified_cgroup: Option<OwnedFd>,
    pub(crate) program: PathBuf,
}

impl Case {
    pub(crate) fn new(image: &Image, args: &[&str]) -> Self {
        let tree = mount_root(&[], &image.path("bundle"), &image.root()).unwrap();
        Self::with_tree(tree, args)
    }

    pub(crate) fn with_tree(tree: OwnedFd, args: &[&str]) -> Self {
        let all = own_capabilities();
        let kinds = [
            Namespace::Pid,
            Namespace::Ipc,
            Namespace::Uts,
            Namespace::Network,
            Namespace::Cgroup,
            Namespace::Mount,
        ];
        let new = NewNamespaces::from_iter(kinds);
        let plan = Plan {
            new: new.by_process(false),
            root: Some(Root {
                tree: Slot(0),
                mounts: Vec::new(),
                read_only: false,
                guest: false,
                propagation: Propagation::Private,
            }),
            capabilities: Capabilities {
                bounding: all,
                effective: all,
                permitted: all,
                inheritable: 0,
                ambient: 0,
            },
            working_directory: "/".to_owned(),
            ..Plan::default()
        };
        Self {
            plan,
            new: new.by_launch(false),
            slots: vec![tree],
            argv0: "program".to_owned(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            env: Vec::new(),
            pid_namespace: None,
            user: None,
            oom_score_adj: None,
            unified_cgroup: None,
            program: probe(),
        }
    }

    pub(crate) fn root(&mut self) -> &mut Root {
        self.plan.root.as_mut().unwrap()
    }

    pub(crate) fn slot(&mut self, file: OwnedFd) -> Slot {
        self.slots.push(file);
        Slot(u16::try_from(self.slots.len() - 1).unwrap())
    }

    /// A private bind of `path` at `at`.
    pub(crate) fn bind(mut self, path: &Path, at: &str) -> Self {
        let tree = mount::clone_path(path, true).unwrap();
        let private = Change {
            propagation: Some(Propagation::Private),
            ..Change::default()
        };
        mount::change(tree.as_fd(), private, true).unwrap();
        self.attach(tree, at, path.is_dir());
        self
    }

    pub(crate) fn attach(&mut self, tree: OwnedFd, at: &str, directory: bool) {
        let tree = self.slot(tree);
        self.root().mounts.push(Attach {
            tree,
            at: at.to_owned(),
            directory,
        });
    }

    pub(crate) fn guest(mut self) -> Self {
        self.root().guest = true;
        self
    }

    /// Launches without waiting for anything.
    pub(crate) fn launch(mut self) -> Result<Running, LaunchError> {
        let program = open_program(&self.program);
        let program = self.slot(program);
        self.args.insert(0, self.argv0);
        let rlimits = self.plan.rlimits.clone();
        let order = ProgramOrder {
            plan: self.plan,
            program: order::Command::Slot(program),
            args: self.args,
            env: self.env,
        };
        let order = postcard::to_stdvec(&order).unwrap();
        let init = open_program(&programs().join("skiff-init"));
        let input = File::open("/dev/null").unwrap();
        let output = memory_file();
        let errors = memory_file();
        let slots: Vec<BorrowedFd<'_>> = self.slots.iter().map(AsFd::as_fd).collect();
        let name = c"skiff-init";
        let what = Launch {
            program: init.as_fd(),
            libraries: None,
            argv: &[name],
            environment: &[],
            new: self.new,
            pid_namespace: self.pid_namespace.as_ref().map(AsFd::as_fd),
            unified_cgroup: self.unified_cgroup.as_ref().map(AsFd::as_fd),
            stdio: [input.as_fd(), output.as_fd(), errors.as_fd()],
            order: &order,
            slots: &slots,
        };
        let launched = match &self.user {
            None => launch(&what)?,
            Some(user) => {
                let join: Vec<_> = user
                    .join
                    .iter()
                    .map(|(kind, file)| (*kind, file.as_fd()))
                    .collect();
                let inside = Inside {
                    user: user.namespace.as_fd(),
                    join: &join,
                    rlimits: &rlimits,
                    oom_score_adj: self.oom_score_adj,
                };
                launch_inside(&what, false, &inside)?
            }
        };
        Ok(Running {
            launched,
            output,
            errors,
            reaped: false,
        })
    }

    /// Launches and waits until the plan is executed.
    pub(crate) fn start(self) -> Running {
        let running = self.launch().unwrap();
        match running.launched.control.receive(PATIENCE) {
            Ok(Report::Ready) => running,
            other => panic!(
                "the container is not ready: {other:?}; {}",
                running.errors()
            ),
        }
    }

    /// Runs to the end; answers what it printed.
    pub(crate) fn run(self) -> String {
        let mut running = self.start();
        running.go();
        let status = running.wait();
        let output = running.output();
        assert_eq!(status, ExitStatus::Code(0), "{output} {}", running.errors());
        output
    }

    /// The sentence with which the plan fails.
    pub(crate) fn refusal(self) -> String {
        let mut running = self.launch().unwrap();
        let report = running.launched.control.receive(PATIENCE).unwrap();
        let Report::Failed(sentence) = report else {
            panic!("it did not fail: {report:?}")
        };
        assert_ne!(running.wait(), ExitStatus::Code(0));
        assert_eq!(running.errors(), "", "it is the shim that tells the log");
        println!("{sentence}");
        sentence
    }
}

fn memory_file() -> File {
    File::from(rustix::fs::memfd_create("output", rustix::fs::MemfdFlags::CLOEXEC).unwrap())
}

/// A launched container; killed and reaped when dropped.
pub(crate) struct Running {
    pub(crate) launched: Launched,
    output: File,
    errors: File,
    reaped: bool,
}

impl Running {
    pub(crate) fn go(&self) {
        self.launched.control.go().unwrap();
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        assert!(
            process::wait_readable(self.launched.pidfd.as_fd(), Some(PATIENCE)).unwrap(),
            "it does not end"
        );
        self.reaped = true;
        process::wait(self.launched.pidfd.as_fd()).unwrap()
    }

    pub(crate) fn signal(&self, number: i32) {
        process::send_signal(self.launched.pidfd.as_fd(), number).unwrap();
    }

    pub(crate) fn output(&self) -> String {
        text(&self.output)
    }

    pub(crate) fn errors(&self) -> String {
        text(&self.errors)
    }

    /// A file of the process's directory in the node's `/proc`.
    pub(crate) fn proc(&self, name: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{name}", self.launched.pid)).unwrap()
    }

    pub(crate) fn link(&self, name: &str) -> String {
        std::fs::read_link(format!("/proc/{}/{name}", self.launched.pid))
            .unwrap()
            .display()
            .to_string()
    }

    /// The value of a line of the process's status.
    pub(crate) fn status(&self, key: &str) -> String {
        let status = self.proc("status");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
            .unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Mount point → flags and type, as the process sees them.
    pub(crate) fn mounts(&self) -> Vec<(String, String, String)> {
        let text = self.proc("mountinfo");
        let field = |line: &str, number: usize| line.split(' ').nth(number).unwrap().to_owned();
        let fstype = |line: &str| {
            line.split_once(" - ")
                .unwrap()
                .1
                .split(' ')
                .next()
                .unwrap()
                .to_owned()
        };
        text.lines()
            .map(|line| (field(line, 4), field(line, 5), fstype(line)))
            .collect()
    }

    /// The flags of the mount at `at`.
    pub(crate) fn flags_at(&self, at: &str) -> String {
        let mounts = self.mounts();
        let found = mounts.iter().rev().find(|(point, ..)| point == at);
        found
            .unwrap_or_else(|| panic!("nothing is mounted at {at}: {mounts:?}"))
            .1
            .clone()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.reaped {
            process::send_signal(self.launched.pidfd.as_fd(), 9).unwrap();
            process::wait(self.launched.pidfd.as_fd()).unwrap();
        }
    }
}

fn text(file: &File) -> String {
    // A descriptor of its own offset: the container's is at the end.
    let mut file = File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    text
}
