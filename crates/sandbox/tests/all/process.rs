//! The launched process as the shim sees it: exit, signals, descriptors, the end of its shim.

use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use skiff_engine::order::{self, ProgramOrder};
use skiff_sandbox::control::ControlError;
use skiff_sandbox::launch::{Launch, LaunchError, launch};
use skiff_sandbox::plan::{Namespace, NewNamespaces, Plan, Rlimit, Slot};
use skiff_sandbox::sys::process::{self, ExitStatus};

use crate::harness::{
    Alone, Case, Image, PATIENCE, open_program, own_capabilities, probe, programs,
};

#[test]
fn exit_codes_come_back() {
    let _alone = Alone::new();
    let image = Image::new();
    for code in [0, 1, 42, 255] {
        let mut running = Case::new(&image, &["exit", &code.to_string()]).start();
        running.go();
        assert_eq!(running.wait(), ExitStatus::Code(code));
        assert!(matches!(
            running.launched.control.try_receive(),
            Err(ControlError::Closed)
        ));
    }
}

#[test]
fn signals_come_back() {
    let _alone = Alone::new();
    let image = Image::new();
    let mut running = Case::new(&image, &["wait"]).start();
    running.go();
    assert_eq!(
        process::try_wait(running.launched.pidfd.as_fd()).unwrap(),
        None
    );
    running.signal(9);
    assert_eq!(running.wait(), ExitStatus::Signal(9));
    assert!(
        process::send_signal(running.launched.pidfd.as_fd(), 9).is_err(),
        "it is reaped"
    );
}

#[test]
fn the_program_has_the_standard_streams_and_nothing_else() {
    let _alone = Alone::new();
    let image = Image::new();
    // Descriptors of this process without close-on-exec must not arrive either.
    // A high number, that no descriptor of the container takes the place of.
    let leaked = std::fs::File::open("/dev/null").unwrap();
    let leaked = rustix::io::fcntl_dupfd_cloexec(&leaked, 100).unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    let case = Case::new(&image, &["fds"]).bind(&image.outside(), "/data");
    assert_eq!(case.run(), "0\n1\n2\n");
}

#[test]
fn a_waiting_process_holds_only_what_it_was_given() {
    let _alone = Alone::new();
    let image = Image::new();
    let running = Case::new(&image, &["wait"]).start();
    let mut numbers: Vec<i32> = std::fs::read_dir(format!("/proc/{}/fd", running.launched.pid))
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .file_name()
                .to_str()
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    numbers.sort_unstable();
    // Streams, control socket, the program: slot 1, after the root's tree.
    assert_eq!(numbers, [0, 1, 2, 3, 7]);
}

#[test]
fn the_environment_is_the_given_one() {
    let _alone = Alone::new();
    let image = Image::new();
    let mut case = Case::new(&image, &["env"]);
    case.env = vec!["A=b".to_owned(), "EMPTY=".to_owned()];
    assert_eq!(case.run(), "A=b\nEMPTY=\n");
}

#[test]
fn a_process_whose_shim_hangs_up_gives_up() {
    let _alone = Alone::new();
    let image = Image::new();
    let running = Case::new(&image, &["wait"]).start();
    let pidfd = running.launched.pidfd.as_fd().try_clone_to_owned().unwrap();
    let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    // Closing the shim's end: what its death does.
    rustix::io::dup3(
        &ours,
        &mut hang_up(&running.launched.control),
        rustix::io::DupFlags::CLOEXEC,
    )
    .unwrap();
    assert!(process::wait_readable(pidfd.as_fd(), Some(PATIENCE)).unwrap());
}

/// The control socket's own number, to be overwritten.
fn hang_up(control: &impl AsFd) -> std::mem::ManuallyDrop<std::os::fd::OwnedFd> {
    use std::os::fd::{AsRawFd, FromRawFd};
    let number = control.as_fd().as_raw_fd();
    #[expect(
        unsafe_code,
        reason = "stands for the same descriptor, is never dropped"
    )]
    // SAFETY: the number is open and stays so: dup3 exchanges what it refers to.
    std::mem::ManuallyDrop::new(unsafe { std::os::fd::OwnedFd::from_raw_fd(number) })
}

#[test]
fn a_container_dies_with_its_shim() {
    let _alone = Alone::new();
    let directory = tempfile::tempdir().unwrap();
    let order = directory.path().join("order");
    let all = own_capabilities();
    let mut plan = Plan {
        working_directory: "/".to_owned(),
        ..Plan::default()
    };
    plan.capabilities.bounding = all;
    plan.capabilities.permitted = all;
    plan.capabilities.effective = all;
    // The change of user undoes the tie, which must be made again.
    plan.identity.uid = 12345;
    plan.capabilities.permitted = 0;
    plan.capabilities.effective = 0;
    let program = ProgramOrder {
        plan,
        program: order::Command::Slot(Slot(0)),
        args: vec!["program".to_owned(), "wait".to_owned()],
        env: Vec::new(),
    };
    std::fs::write(&order, postcard::to_stdvec(&program).unwrap()).unwrap();
    let mut shim = Command::new(probe())
        .arg("launcher")
        .arg(programs().join("skiff-init"))
        .arg(&order)
        .arg("/")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(shim.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let (pid, report) = line.trim().split_once(' ').unwrap();
    assert_eq!(report, "Ready");
    let pidfd = process::open_pidfd(pid.parse().unwrap()).unwrap();
    assert!(
        !process::wait_readable(pidfd.as_fd(), Some(std::time::Duration::from_millis(100)))
            .unwrap()
    );
    shim.kill().unwrap();
    shim.wait().unwrap();
    let ended = process::wait_readable(pidfd.as_fd(), Some(PATIENCE)).unwrap();
    if !ended {
        process::send_signal(pidfd.as_fd(), 9).unwrap();
    }
    assert!(ended, "the container outlives its shim");
}

#[test]
fn what_cannot_be_executed_is_told_and_leaves_nothing() {
    let _alone = Alone::new();
    let file = std::fs::File::open("/etc/passwd").unwrap();
    let null = std::fs::File::open("/dev/null").unwrap();
    let mut what = Launch {
        program: file.as_fd(),
        libraries: None,
        argv: &[c"a-program"],
        environment: &[],
        new: NewNamespaces::NONE,
        pid_namespace: None,
        unified_cgroup: None,
        stdio: [null.as_fd(), null.as_fd(), null.as_fd()],
        order: b"",
        slots: &[],
    };
    let error = launch(&what).unwrap_err();
    assert!(matches!(error, LaunchError::Exec { .. }), "{error}");
    assert_eq!(error.to_string(), "could not execute a-program");
    what.new = NewNamespaces::NONE.with(Namespace::Mount);
    assert!(matches!(
        launch(&what),
        Err(LaunchError::Namespace(Namespace::Mount))
    ));
    what.new = NewNamespaces::NONE;
    what.unified_cgroup = Some(null.as_fd());
    assert!(matches!(launch(&what), Err(LaunchError::Clone(_))));
}

#[test]
fn a_program_started_by_hand_says_so() {
    let _alone = Alone::new();
    let output = Command::new(programs().join("skiff-init"))
        .output()
        .unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.starts_with("skiff-init is started by a Skiff shim only"),
        "{text}"
    );
}

/// As a bit of the masks in a status.
const SIGPIPE: u64 = 1 << 12;

#[test]
fn ignored_signals_and_masks_of_the_shim_are_not_inherited() {
    let _alone = Alone::new();
    let image = Image::new();
    // Rust's own start ignores SIGPIPE in this process.
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let ignored = own
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:	"))
        .unwrap();
    assert_eq!(u64::from_str_radix(ignored, 16).unwrap() & SIGPIPE, SIGPIPE);
    let running = Case::new(&image, &["wait"]).start();
    assert_eq!(running.status("SigBlk"), "0000000000000000");
    running.go();
    // skiff-init ignores SIGPIPE itself while it runs, as every Rust program.
    wait_for_program(&running);
    assert_eq!(running.status("SigBlk"), "0000000000000000");
}

fn wait_for_program(running: &crate::harness::Running) {
    let end = std::time::Instant::now() + PATIENCE;
    while !running.link("exe").contains("probe") {
        assert!(std::time::Instant::now() < end);
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

#[test]
fn limits_are_set_by_number() {
    let _alone = Alone::new();
    let image = Image::new();
    let mut case = Case::new(&image, &["wait"]);
    case.plan.rlimits = vec![
        Rlimit {
            resource: 7,
            soft: 100,
            hard: 200,
        },
        Rlimit {
            resource: 4,
            soft: 0,
            hard: 0,
        },
    ];
    let running = case.start();
    let limits = running.proc("limits");
    let line = |name: &str| {
        limits
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        line("Max open files")
            .split_whitespace()
            .collect::<Vec<_>>()[3..5],
        ["100", "200"]
    );
    assert_eq!(
        line("Max core file size")
            .split_whitespace()
            .collect::<Vec<_>>()[4..6],
        ["0", "0"]
    );
    drop(running);
    let mut case = Case::new(&image, &["wait"]);
    case.plan.rlimits = vec![Rlimit {
        resource: 99,
        soft: 1,
        hard: 1,
    }];
    assert!(
        case.refusal()
            .contains("could not set resource limit 99 to 1, at most 1")
    );
}

#[test]
fn the_executable_cannot_be_written_through_its_descriptor() {
    let _alone = Alone::new();
    let program = open_program(&probe());
    let flags = rustix::fs::OFlags::WRONLY;
    let result = skiff_sandbox::sys::path::reopen(program.as_fd(), flags);
    assert_eq!(
        result.unwrap_err().raw_os_error(),
        Some(rustix::io::Errno::ROFS.raw_os_error())
    );
}
