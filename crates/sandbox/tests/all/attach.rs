//! Mounts, roots and working directories of hostile images.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use skiff_sandbox::control::Report;
use skiff_sandbox::plan::Propagation;
use skiff_sandbox::rootfs::{ContainerdMount, mount_root};
use skiff_sandbox::sys::mount::{self, Change, Context, attribute};
use skiff_sandbox::sys::process;

use crate::harness::{Alone, Case, Image};

#[test]
fn the_root_is_the_image_and_nothing_else() {
    let _alone = Alone::new();
    let image = Image::new();
    let running = Case::new(&image, &["wait"]).start();
    let mounts = running.mounts();
    assert_eq!(mounts.len(), 1, "{mounts:?}");
    assert_eq!(mounts[0].0, "/");
    drop(running);
    let output = Case::new(
        &image,
        &["each", "list:/", "list:/..", "read:/etc/name", "write:/new"],
    )
    .run();
    assert!(output.contains("read:/etc/name ok image\n"), "{output}");
    assert!(output.contains("write:/new ok\n"), "{output}");
    assert!(!output.contains("outside"), "{output}");
    assert!(image.root().join("new").exists());
}

#[test]
fn a_read_only_root_keeps_its_volumes_writable() {
    let _alone = Alone::new();
    let image = Image::new();
    let mut case = Case::new(
        &image,
        &["each", "write:/etc/x", "write:/data/x", "write:/made/y"],
    )
    .bind(&image.outside(), "/data")
    .bind(&image.outside(), "/made");
    case.root().read_only = true;
    let output = case.run();
    assert_eq!(
        output,
        "write:/etc/x errno 30\nwrite:/data/x ok\nwrite:/made/y ok\n"
    );
    assert!(image.outside().join("x").exists());
}

#[test]
fn missing_places_are_made() {
    let _alone = Alone::new();
    let image = Image::new();
    let file = image.path("outside/secret");
    let output = Case::new(
        &image,
        &["each", "list:/a/b/c", "read:/f/g/h", "read:/etc/name"],
    )
    .bind(&image.outside(), "/a/b/c")
    .bind(&file, "/f/g/h")
    .bind(&file, "/etc/name")
    .run();
    assert_eq!(
        output,
        "list:/a/b/c ok secret\nread:/f/g/h ok secret\nread:/etc/name ok secret\n"
    );
    let mode = |path: &str| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(image.root().join(path))
            .unwrap()
            .permissions()
            .mode()
            & 0o7777
    };
    assert_eq!((mode("a/b"), mode("f/g/h")), (0o755, 0o644));
}

#[test]
fn mounts_over_symlinks_stay_inside() {
    let _alone = Alone::new();
    let image = Image::new();
    let outside = image.outside();
    image.symlink(outside.to_str().unwrap(), "absolute");
    image.symlink("../../../../../../../../../../../..", "up");
    image.symlink("/etc", "config");
    image.symlink("/run/not/there/yet", "dangling");
    image.symlink("loop", "loop");
    let source = tempfile::tempdir().unwrap();
    std::fs::write(source.path().join("mark"), "mark").unwrap();
    let cases = [
        ("/absolute", "read:/absolute/mark ok mark"),
        ("/up/in", "read:/in/mark ok mark"),
        ("/config/new", "read:/etc/new/mark ok mark"),
        ("/dangling", "read:/run/not/there/yet/mark ok mark"),
        ("/../../../x", "read:/x/mark ok mark"),
        ("/etc/../../../../y", "read:/y/mark ok mark"),
        ("/missing/../z", "read:/z/mark ok mark"),
    ];
    for (at, expected) in cases {
        let command = expected.split(' ').next().unwrap();
        let output = Case::new(&image, &["each", command])
            .bind(source.path(), at)
            .run();
        assert_eq!(output.trim(), expected, "{at}");
        image.assert_outside_untouched();
    }
    let sentence = Case::new(&image, &["wait"])
        .bind(source.path(), "/loop")
        .refusal();
    assert!(
        sentence.contains("could not find or make /loop in the container's root"),
        "{sentence}"
    );
    for at in ["/", "/up", "/etc/.."] {
        let sentence = Case::new(&image, &["wait"])
            .bind(source.path(), at)
            .refusal();
        assert!(
            sentence.contains("the container's root itself"),
            "{sentence}"
        );
    }
    image.assert_outside_untouched();
}

#[test]
fn a_file_and_a_directory_do_not_fit() {
    let _alone = Alone::new();
    let image = Image::new();
    let sentence = Case::new(&image, &["wait"])
        .bind(&image.outside(), "/etc/name")
        .refusal();
    assert!(
        sentence.contains(
            "a directory cannot be mounted at /etc/name: the image has no directory at this path"
        ),
        "{sentence}"
    );
    let sentence = Case::new(&image, &["wait"])
        .bind(&image.path("outside/secret"), "/etc")
        .refusal();
    assert!(
        sentence.contains("a file cannot be mounted at /etc"),
        "{sentence}"
    );
    let sentence = Case::new(&image, &["wait"])
        .bind(&image.outside(), "/etc/name/below")
        .refusal();
    assert!(sentence.contains("/etc/name/below"), "{sentence}");
}

#[test]
fn symlinked_proc_sys_and_dev_change_nothing() {
    let _alone = Alone::new();
    let image = Image::new();
    for name in ["proc", "sys", "dev"] {
        image.symlink(image.outside().to_str().unwrap(), name);
    }
    let mut case = Case::new(&image, &["each", "list:/"]).bind(&image.outside(), "/data");
    case.plan.oom_score_adj = Some(100);
    case.plan.sysctls = vec![(
        "net/ipv4/ip_unprivileged_port_start".to_owned(),
        "1".to_owned(),
    )];
    case.plan.hostname = Some("x".to_owned());
    case.run();
    image.assert_outside_untouched();
}

#[test]
fn flags_of_volumes_are_kept() {
    let _alone = Alone::new();
    let image = Image::new();
    let tree = mount::clone_path(&image.outside(), false).unwrap();
    let change = Change {
        set: attribute::READ_ONLY | attribute::NO_EXEC | attribute::NO_ATIME,
        clear: attribute::ATIME,
        propagation: Some(Propagation::Private),
    };
    mount::change(tree.as_fd(), change, false).unwrap();
    let mut case = Case::new(&image, &["wait"]);
    case.attach(tree, "/data", true);
    let context = Context::open("tmpfs").unwrap();
    context.set("size", "64k").unwrap();
    context.set("mode", "1777").unwrap();
    case.attach(context.mount(attribute::NO_DEV).unwrap(), "/tmp", true);
    let running = case.start();
    assert_eq!(running.flags_at("/data"), "ro,noexec,noatime");
    assert_eq!(running.flags_at("/tmp"), "rw,nodev,relatime");
    assert!(running.proc("mountinfo").contains("size=64k"));
}

#[test]
fn what_a_container_mounts_is_not_seen_by_the_node() {
    let _alone = Alone::new();
    let image = Image::new();
    // A node whose mounts are shared, as systemd makes them: in a namespace of this thread's own.
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            process::unshare_mounts_of_thread().unwrap();
            mount::change_all_propagation(Propagation::Private).unwrap();
            let shared = image.path("bundle");
            let tree = Context::open("tmpfs").unwrap().mount(0).unwrap();
            mount::attach_path(tree.as_fd(), &shared).unwrap();
            let change = Change {
                propagation: Some(Propagation::Shared),
                ..Change::default()
            };
            mount::change(tree.as_fd(), change, false).unwrap();
            std::fs::create_dir(shared.join("root")).unwrap();
            let own = || std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
            let before = own();
            assert!(before.contains(" shared:"), "{before}");
            for mounts in [
                vec![],
                vec![ContainerdMount {
                    fstype: "bind".to_owned(),
                    source: shared.join("root").display().to_string(),
                    options: vec!["rbind".to_owned()],
                    ..ContainerdMount::default()
                }],
            ] {
                let root = mount_root(&mounts, &shared, &shared.join("root")).unwrap();
                let running = Case::with_tree(root, &["wait"])
                    .bind(&image.outside(), "/data")
                    .start();
                let text = running.proc("mountinfo");
                assert!(
                    !text.contains("shared:") && !text.contains("master:"),
                    "{text}"
                );
                assert_eq!(own(), before);
            }
        });
        thread.join().unwrap();
    });
}

#[test]
fn working_directories_stay_inside() {
    let _alone = Alone::new();
    let image = Image::new();
    image.symlink(image.outside().to_str().unwrap(), "out");
    image.symlink("/etc", "conf");
    let outside = image.outside().display().to_string();
    for (directory, expected) in [
        ("/", "/"),
        ("", "/"),
        ("/etc", "/etc"),
        ("/conf", "/etc"),
        ("/not/there", "/not/there"),
        ("/../../..", "/"),
        ("relative", "/relative"),
        ("/out", outside.as_str()),
        ("/proc/self/fd/8", "/proc/self/fd/8"),
        ("/proc/self/fd/6/../..", "/proc/self"),
    ] {
        let mut case = Case::new(&image, &["cwd"]);
        case.plan.working_directory = directory.to_owned();
        assert_eq!(case.run().trim(), expected, "{directory}");
    }
    image.assert_outside_untouched();
    // With the node's own /proc in the container, magic links are there, and not followed.
    for directory in ["/proc/self/fd/8", "/proc/1/root", "/proc/self/cwd"] {
        let mut case = Case::new(&image, &["cwd"]).bind(Path::new("/proc"), "/proc");
        case.plan.working_directory = directory.to_owned();
        let sentence = case.refusal();
        assert!(sentence.contains("working directory"), "{sentence}");
    }
}

#[test]
fn a_magic_link_that_appears_during_the_walk_is_only_a_text() {
    let _alone = Alone::new();
    let image = Image::new();
    // Descriptor 4 is free when the path is first looked up, and the walk's own when it comes to it.
    let mut case = Case::new(&image, &["cwd"]).bind(Path::new("/proc"), "/proc");
    case.plan.working_directory = "/proc/self/fd/4/..".to_owned();
    let mut running = case.launch().unwrap();
    if running
        .launched
        .control
        .receive(crate::harness::PATIENCE)
        .unwrap()
        == Report::Ready
    {
        running.go();
        running.wait();
        assert_eq!(running.output(), "/\n");
    }
}

#[test]
fn a_working_directory_that_is_a_file_is_told() {
    let _alone = Alone::new();
    let image = Image::new();
    let mut case = Case::new(&image, &["cwd"]);
    case.plan.working_directory = "/etc/name".to_owned();
    assert!(
        case.refusal()
            .contains("could not find or make the working directory /etc/name")
    );
    let mut case = Case::new(&image, &["cwd"]);
    case.plan.working_directory = "/etc/name/x".to_owned();
    assert!(case.refusal().contains("/etc/name/x"));
}

#[test]
fn an_image_that_changes_while_it_is_walked_leads_nowhere() {
    let _alone = Alone::new();
    let image = Image::new();
    // A volume shared with a hostile container that exchanges a directory and a symlink all the time.
    image.symlink(image.outside().to_str().unwrap(), "swap");
    std::fs::create_dir_all(image.root().join("race/deep")).unwrap();
    let stop = AtomicBool::new(false);
    let started = std::time::Instant::now();
    let source = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let root = std::fs::File::open(image.root()).unwrap();
            while !stop.load(Ordering::Relaxed) && started.elapsed() < 2 * crate::harness::PATIENCE
            {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(&root, "swap", &root, "race", flags).unwrap();
            }
        });
        for round in 0..40 {
            let at = format!("/race/deep/new-{round}");
            let running = Case::new(&image, &["wait"])
                .bind(source.path(), &at)
                .launch()
                .unwrap();
            // Ready or a refusal: both are fine, an escape is not.
            let report = running
                .launched
                .control
                .receive(crate::harness::PATIENCE)
                .unwrap();
            drop(report);
        }
        stop.store(true, Ordering::Relaxed);
    });
    image.assert_outside_untouched();
}
