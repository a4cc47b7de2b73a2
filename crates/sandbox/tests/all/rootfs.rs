//! Roots from containerd's mounts.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use skiff_sandbox::rootfs::{ContainerdMount, RootfsError, mount_root, open_in_root};

use crate::harness::{Alone, Case, Image};

fn mount(fstype: &str, source: &str, options: &[&str]) -> ContainerdMount {
    ContainerdMount {
        fstype: fstype.to_owned(),
        source: source.to_owned(),
        target: String::new(),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
    }
}

fn read(root: &OwnedFd, path: &str) -> String {
    let mut text = String::new();
    File::from(open_in_root(root.as_fd(), path).unwrap())
        .read_to_string(&mut text)
        .unwrap();
    text
}

/// `count` layers, each with a file of its own and one that all have.
fn layers(image: &Image, count: usize) -> Vec<PathBuf> {
    (0..count)
        .map(|number| {
            let layer = image.path(&format!("snapshots-of-a-node-with-long-paths/{number}/fs"));
            std::fs::create_dir_all(&layer).unwrap();
            std::fs::write(layer.join(format!("own-{number}")), number.to_string()).unwrap();
            std::fs::write(layer.join("shared"), number.to_string()).unwrap();
            layer
        })
        .collect()
}

fn lowerdir(layers: &[PathBuf]) -> String {
    let layers: Vec<&str> = layers.iter().map(|layer| layer.to_str().unwrap()).collect();
    format!("lowerdir={}", layers.join(":"))
}

#[test]
fn binds_with_their_flags() {
    let _alone = Alone::new();
    let image = Image::new();
    let source = image.root().display().to_string();
    for (options, flags) in [
        (vec!["rbind", "ro"], "ro,"),
        (vec!["bind", "rw"], "rw,"),
        (
            vec!["rbind", "ro", "nosuid", "nodev", "noexec"],
            "ro,nosuid,nodev,noexec,",
        ),
        (vec!["rbind", "rro"], "ro,"),
    ] {
        let root = mount_root(
            &[mount("bind", &source, &options)],
            &image.path("bundle"),
            Path::new("/"),
        )
        .unwrap();
        assert_eq!(read(&root, "/etc/name"), "image");
        let running = Case::with_tree(root, &["wait"]).start();
        assert!(
            running.flags_at("/").starts_with(flags),
            "{options:?}: {}",
            running.flags_at("/")
        );
    }
}

#[test]
fn overlay_with_an_upper_directory() {
    let _alone = Alone::new();
    let image = Image::new();
    let layers = layers(&image, 3);
    for directory in ["upper", "work"] {
        std::fs::create_dir(image.path(directory)).unwrap();
    }
    let upper = format!("upperdir={}", image.path("upper").display());
    let work = format!("workdir={}", image.path("work").display());
    let options = ["index=off", &work, &upper, &lowerdir(&layers)];
    let root = mount_root(
        &[mount("overlay", "overlay", &options)],
        &image.path("bundle"),
        Path::new("/"),
    )
    .unwrap();
    assert_eq!(read(&root, "/shared"), "0");
    let output = Case::with_tree(root, &["each", "write:/new", "read:/own-2"]).run();
    assert_eq!(output, "write:/new ok\nread:/own-2 ok 2\n");
    assert!(image.path("upper/new").exists());
}

#[test]
fn overlay_with_more_layers_than_a_page() {
    let _alone = Alone::new();
    let image = Image::new();
    let layers = layers(&image, 150);
    let option = lowerdir(&layers);
    assert!(option.len() > 2 * 4096);
    let root = mount_root(
        &[mount("overlay", "overlay", &[&option])],
        &image.path("bundle"),
        Path::new("/"),
    )
    .unwrap();
    assert_eq!(read(&root, "/shared"), "0");
    assert_eq!(read(&root, "/own-149"), "149");
}

#[test]
fn several_mounts_are_put_together_unseen() {
    let _alone = Alone::new();
    let image = Image::new();
    let layers = layers(&image, 2);
    std::fs::create_dir(layers[0].join("sub")).unwrap();
    let mut below = mount("bind", image.outside().to_str().unwrap(), &["bind", "ro"]);
    below.target = "/sub".to_owned();
    let mounts = [
        mount("bind", layers[1].to_str().unwrap(), &["rbind"]),
        mount("overlay", "overlay", &[&lowerdir(&layers)]),
        below,
    ];
    let root = mount_root(&mounts, &image.path("bundle"), Path::new("/")).unwrap();
    assert_eq!(read(&root, "/shared"), "0");
    assert_eq!(read(&root, "/sub/secret"), "secret");
    let running = Case::with_tree(root, &["wait"]).start();
    assert!(running.flags_at("/sub").starts_with("ro,"));
    assert_eq!(
        std::fs::read_dir(image.path("bundle/rootfs"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn a_target_that_leads_out_stays_in() {
    let _alone = Alone::new();
    let image = Image::new();
    image.symlink(image.outside().to_str().unwrap(), "out");
    let mut below = mount("tmpfs", "tmpfs", &["size=1m"]);
    below.target = "/out".to_owned();
    let mounts = [
        mount("bind", image.root().to_str().unwrap(), &["bind"]),
        below,
    ];
    let error = mount_root(&mounts, &image.path("bundle"), Path::new("/")).unwrap_err();
    assert!(matches!(error, RootfsError::Target { .. }), "{error}");
    image.assert_outside_untouched();
}

#[test]
fn tmpfs_with_options() {
    let _alone = Alone::new();
    let image = Image::new();
    let root = mount_root(
        &[mount("tmpfs", "tmpfs", &["size=1m", "mode=755", "nodev"])],
        &image.path("bundle"),
        Path::new("/"),
    )
    .unwrap();
    let running = Case::with_tree(root, &["wait"]).start();
    assert!(running.flags_at("/").starts_with("rw,nodev,"));
    assert!(
        running.proc("mountinfo").contains("size=1024k"),
        "{}",
        running.proc("mountinfo")
    );
}

#[test]
fn image_files_through_a_loop_device() {
    let _alone = Alone::new();
    let image = Image::new();
    if !Path::new("/dev/loop-control").exists() {
        println!("skipped: no loop devices");
        return;
    }
    let file = image.path("disk");
    File::create(&file).unwrap().set_len(4 << 20).unwrap();
    let output = std::process::Command::new("mkfs.ext4")
        .arg("-q")
        .arg("-d")
        .arg(image.root())
        .arg(&file)
        .output();
    match output {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(error) => {
            println!("skipped: mkfs.ext4: {error}");
            return;
        }
    }
    let mounts = [mount("ext4", file.to_str().unwrap(), &["loop", "ro"])];
    let root = mount_root(&mounts, &image.path("bundle"), Path::new("/")).unwrap();
    assert_eq!(read(&root, "/etc/name"), "image");
    drop(root);
    // The device goes with its last mount.
    let end = std::time::Instant::now() + crate::harness::PATIENCE;
    let attached = || {
        std::fs::read_dir("/sys/block").unwrap().any(|entry| {
            let backing = entry.unwrap().path().join("loop/backing_file");
            std::fs::read_to_string(backing)
                .is_ok_and(|name| name.trim_end().starts_with(file.to_str().unwrap()))
        })
    };
    while attached() {
        assert!(std::time::Instant::now() < end, "the loop device stays");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn failures_name_the_mount_and_what_the_kernel_said() {
    let _alone = Alone::new();
    let image = Image::new();
    let bundle = image.path("bundle");
    let error = mount_root(
        &[mount("overlay", "overlay", &["lowerdir=/not/there"])],
        &bundle,
        Path::new("/"),
    )
    .unwrap_err();
    println!("{}", skiff_sandbox::sentence::chain(&error));
    assert!(error.to_string().contains("lowerdir=/not/there"), "{error}");
    let error = mount_root(
        &[mount("bind", "/not/there", &["bind"])],
        &bundle,
        Path::new("/"),
    )
    .unwrap_err();
    assert!(error.to_string().contains("bind of /not/there"), "{error}");
    let error = mount_root(&[mount("nofs", "x", &[])], &bundle, Path::new("/")).unwrap_err();
    assert!(error.to_string().contains("nofs of x"), "{error}");
    let error = mount_root(
        &[mount("tmpfs", "x", &["nonsense=1"])],
        &bundle,
        Path::new("/"),
    )
    .unwrap_err();
    assert!(error.to_string().contains("nonsense"), "{error}");
    let error = mount_root(&[], &bundle, &image.path("not-there")).unwrap_err();
    assert!(matches!(error, RootfsError::Open { .. }), "{error}");
    let error = mount_root(&[], &bundle, &image.path("outside/secret")).unwrap_err();
    assert!(matches!(error, RootfsError::Open { .. }), "{error}");
}

#[test]
fn files_of_an_image_are_opened_inside() {
    let _alone = Alone::new();
    let image = Image::new();
    image.symlink("/../../../etc/name", "up");
    image.symlink("/proc/self/exe", "magic");
    image.symlink("/etc/passwd", "absolute");
    let pipe = image.root().join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let root = mount_root(&[], &image.path("bundle"), &image.root()).unwrap();
    assert_eq!(read(&root, "up"), "image");
    assert_eq!(read(&root, "/etc/../../etc/name"), "image");
    let kind = |path: &str| open_in_root(root.as_fd(), path).unwrap_err().kind();
    for path in ["absolute", "magic", "/nothing"] {
        assert_eq!(kind(path), std::io::ErrorKind::NotFound, "{path}");
    }
    assert_eq!(kind("/etc"), std::io::ErrorKind::IsADirectory);
    assert_eq!(kind("/pipe"), std::io::ErrorKind::InvalidInput);
}
