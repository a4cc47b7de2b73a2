//! The pod's pause process.

use std::os::fd::AsFd;

use skiff_sandbox::plan::NewNamespaces;
use skiff_sandbox::sys::process::{self, ExitStatus};

use crate::harness::{Alone, Case, Image, PATIENCE, Running, programs};

fn start(image: &Image) -> Running {
    let mut case = Case::new(image, &[]);
    case.program = programs().join("skiff-pause");
    let running = case.start();
    running.go();
    let end = std::time::Instant::now() + PATIENCE;
    while !(running.link("exe").contains("skiff-pause") && running.status("State").starts_with('S'))
    {
        assert!(
            std::time::Instant::now() < end,
            "pause does not come to rest"
        );
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    running
}

#[test]
fn it_is_small() {
    let _alone = Alone::new();
    let length = std::fs::metadata(programs().join("skiff-pause"))
        .unwrap()
        .len();
    assert!(length < 8192, "{length} bytes");
    let image = Image::new();
    let running = start(&image);
    let resident: u64 = running
        .status("VmRSS")
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    assert!(resident <= 64, "{resident} kB");
    assert_eq!(running.status("Threads"), "1");
    // Neither what the shim ignores (this process ignores SIGPIPE) nor what skiff-init does.
    assert_eq!(running.status("SigIgn"), "0000000000000000");
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", running.launched.pid))
        .unwrap()
        .count();
    assert_eq!(descriptors, 3);
}

#[test]
fn it_ends_when_told() {
    let _alone = Alone::new();
    let image = Image::new();
    for signal in [15, 2] {
        let mut running = start(&image);
        // What it does not know does not end PID 1.
        running.signal(1);
        running.signal(10);
        running.signal(signal);
        assert_eq!(running.wait(), ExitStatus::Code(0));
    }
}

#[test]
fn it_sleeps_without_waking_up() {
    let _alone = Alone::new();
    let image = Image::new();
    let running = start(&image);
    let switches = || running.status("voluntary_ctxt_switches");
    let before = switches();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(switches(), before);
}

#[test]
fn it_reaps_what_it_inherits() {
    let _alone = Alone::new();
    let image = Image::new();
    let pause = start(&image);
    let namespace = || {
        std::fs::File::open(format!("/proc/{}/ns/pid", pause.launched.pid))
            .unwrap()
            .into()
    };
    for _ in 0..3 {
        // A shell in the pod's pid namespace whose child outlives it: pause inherits it.
        let mut case = Case::new(&image, &["-c", "(sleep 0.05; exit 3) & exit 0"]);
        case.argv0 = "sh".to_owned();
        case.program = "/bin/busybox".into();
        if !case.program.exists() {
            println!("skipped: no busybox");
            return;
        }
        case.new = NewNamespaces::NONE;
        case.pid_namespace = Some(namespace());
        let mut running = case.start();
        running.go();
        assert_eq!(running.wait(), ExitStatus::Code(0), "{}", running.errors());
    }
    let end = std::time::Instant::now() + PATIENCE;
    let children = || pause.proc(&format!("task/{}/children", pause.launched.pid));
    std::thread::sleep(std::time::Duration::from_millis(150));
    while !children().is_empty() {
        assert!(std::time::Instant::now() < end, "zombies: {}", children());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(
        process::try_wait(pause.launched.pidfd.as_fd()).unwrap(),
        None
    );
}

#[test]
fn it_ends_soon_after_it_was_started() {
    let _alone = Alone::new();
    let image = Image::new();
    for _ in 0..30 {
        let mut case = Case::new(&image, &[])
            .bind(&image.outside(), "/data")
            .guest();
        case.plan.capabilities = skiff_sandbox::plan::Capabilities::default();
        case.plan.no_new_privileges = true;
        case.program = programs().join("skiff-pause");
        let mut running = case.start();
        running.go();
        // As PID 1 it does not get a signal that comes before it asks for it: again until it does.
        while !process::wait_readable(
            running.launched.pidfd.as_fd(),
            Some(std::time::Duration::from_millis(1)),
        )
        .unwrap()
        {
            running.signal(15);
        }
        assert_eq!(running.wait(), ExitStatus::Code(0), "{}", running.errors());
    }
}
