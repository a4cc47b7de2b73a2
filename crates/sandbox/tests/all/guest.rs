//! The tree of a Wasm guest: no kernel file system, no device, nothing to execute.

use std::os::fd::AsFd;
use std::path::Path;

use skiff_sandbox::plan::Propagation;
use skiff_sandbox::sys::mount::{self, Change, Context};

use crate::harness::{Alone, Case, Image};

#[test]
fn every_mount_is_confined() {
    let _alone = Alone::new();
    let image = Image::new();
    let mut case = Case::new(&image, &["wait"])
        .bind(&image.outside(), "/data")
        .guest();
    case.attach(
        Context::open("tmpfs").unwrap().mount(0).unwrap(),
        "/dev/shm",
        true,
    );
    let running = case.start();
    for (point, flags, _) in running.mounts() {
        for flag in ["nosuid", "nodev", "noexec"] {
            assert!(
                flags.split(',').any(|found| found == flag),
                "{point}: {flags}"
            );
        }
    }
    assert_eq!(running.mounts().len(), 3);
}

#[test]
fn kernel_file_systems_are_refused_by_name() {
    let _alone = Alone::new();
    for (path, fstype) in [
        ("/proc", "proc"),
        ("/proc/self/status", "proc"),
        ("/sys/kernel", "sysfs"),
        ("/dev", "devtmpfs"),
        ("/proc/self/ns/net", "nsfs"),
        ("/sys/fs/cgroup/pids", "cgroup"),
    ] {
        if !Path::new(path).exists() {
            println!("skipped: no {path}");
            continue;
        }
        let image = Image::new();
        let sentence = Case::new(&image, &["wait"])
            .bind(Path::new(path), "/volume/x")
            .guest()
            .refusal();
        assert!(
            sentence.contains(&format!(
                "the volume at /volume/x is {fstype}, a kernel file system"
            )),
            "{sentence}"
        );
    }
}

#[test]
fn one_below_a_volume_is_found() {
    let _alone = Alone::new();
    let image = Image::new();
    // The node's root with all that is mounted in it.
    let sentence = Case::new(&image, &["wait"])
        .bind(Path::new("/"), "/host")
        .guest()
        .refusal();
    assert!(sentence.contains("the volume at /host/"), "{sentence}");
    // Without what is mounted below, it is an ordinary directory.
    let tree = mount::clone_path(Path::new("/"), false).unwrap();
    let private = Change {
        propagation: Some(Propagation::Private),
        ..Change::default()
    };
    mount::change(tree.as_fd(), private, true).unwrap();
    let mut case = Case::new(&image, &["wait"]).guest();
    case.attach(tree, "/host", true);
    drop(case.start());
}

#[test]
fn a_root_that_is_one_is_found() {
    let _alone = Alone::new();
    let tree = Context::open("proc").unwrap().mount(0).unwrap();
    let sentence = Case::with_tree(tree, &["wait"]).guest().refusal();
    assert!(sentence.contains("the root at / is proc"), "{sentence}");
}

#[test]
fn devices_sockets_and_pipes_are_refused() {
    let _alone = Alone::new();
    let image = Image::new();
    let socket = image.path("outside-socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let pipe = image.path("outside-pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    for (path, what) in [
        (Path::new("/dev/null"), "a device"),
        (&socket, "a socket"),
        (&pipe, "a named pipe"),
    ] {
        let sentence = Case::new(&image, &["wait"])
            .bind(path, "/volume")
            .guest()
            .refusal();
        assert!(
            sentence.contains(&format!("the volume at /volume is {what}")),
            "{sentence}"
        );
    }
}

#[test]
fn device_files_in_images_and_volumes_do_not_open() {
    let _alone = Alone::new();
    let image = Image::new();
    let make = |path: &Path| {
        let device = rustix::fs::makedev(1, 5);
        let mode = rustix::fs::Mode::from_raw_mode(0o666);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            path,
            rustix::fs::FileType::CharacterDevice,
            mode,
            device,
        )
        .unwrap();
    };
    make(&image.root().join("zero"));
    make(&image.path("outside/zero"));
    // The same path would do without the flags: the device is real.
    assert_eq!(
        Case::new(&image, &["each", "read:/zero"]).run().trim(),
        format!("read:/zero ok {}", "\0".repeat(200))
    );
    let tree_of_host = Case::new(&image, &["each", "read:/zero", "read:/data/zero"])
        .bind(&image.outside(), "/data");
    // Executing the probe from its descriptor is fine: it lies outside of the guest's tree.
    assert_eq!(
        tree_of_host.guest().run(),
        "read:/zero errno 13\nread:/data/zero errno 13\n"
    );
}
