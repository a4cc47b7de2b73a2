//! What a guest reaches: nothing of the kernel, by any path, and no device.

use std::fs;

use anyhow::{Result, ensure};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use skiff_test::guest;
use skiff_test::image::{Entry, Image};
use skiff_test::node::{Node, Version};

skiff_test::cases!(
    kernel_files_direct,
    kernel_files_by_dots,
    kernel_files_by_symlink,
    kernel_files_by_symlink_in_a_volume,
    kernel_files_as_a_component,
    volume_that_is_proc,
    volume_that_is_sys,
    volume_that_is_cgroup,
    volume_with_proc_below,
    volume_that_is_a_device,
    devices_of_the_image,
    devices_of_a_volume,
    volumes_are_seen_and_read_only_holds,
    tmpfs_mounts_are_kept,
    read_only_root,
    nothing_executable,
);

const FILES: [&str; 30] = [
    "/proc/self/mem",
    "/proc/1/mem",
    "/proc/self/exe",
    "/proc/self/fd",
    "/proc/self/environ",
    "/proc/self/maps",
    "/proc/self/root",
    "/proc/self/ns/mnt",
    "/proc/self/oom_score_adj",
    "/proc/self/mountinfo",
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/hostname",
    "/proc/sysrq-trigger",
    "/proc/kcore",
    "/proc/kmsg",
    "/proc/kallsyms",
    "/proc/version",
    "/proc/meminfo",
    "/sys/kernel/uevent_helper",
    "/sys/kernel/debug",
    "/sys/kernel/security",
    "/sys/fs/cgroup",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    "/sys/fs/bpf",
    "/sys/class/net",
    "/dev/mem",
    "/dev/kmsg",
    "/dev/null",
    "/dev/pts/ptmx",
    "/dev/mqueue",
];

/// Runs the guest on these paths; every one of them has to be closed.
fn all_closed(node: &Node, image: &Image, options: &[&str], paths: &[String]) -> Result<()> {
    node.import(image)?;
    let words = paths
        .iter()
        .flat_map(|path| ["open".to_owned(), path.clone()]);
    let ran = node
        .run(image)
        .with(options)
        .args(["/app.wasm", "list", "/"])
        .args(words)
        .output()?;
    ensure!(
        ran.code == 0,
        "the guest ended with {}: {}",
        ran.code,
        ran.stderr
    );
    // That it opens nothing means something only if it can open files at all.
    ensure!(
        ran.stdout.contains("list /:"),
        "the guest cannot see its own root: {}",
        ran.stdout
    );
    let open: Vec<&str> = ran
        .stdout
        .lines()
        .filter(|line| line.starts_with("OPEN"))
        .collect();
    ensure!(open.is_empty(), "a guest can open: {open:#?}");
    let closed = ran
        .stdout
        .lines()
        .filter(|line| line.starts_with("closed"))
        .count();
    ensure!(
        closed == paths.len(),
        "{closed} of {} were tried: {}",
        paths.len(),
        ran.stdout
    );
    Ok(())
}

fn kernel_files_direct() -> Result<()> {
    for version in Version::ALL {
        let node = Node::start(version)?;
        let paths: Vec<String> = FILES.iter().map(|path| (*path).to_owned()).collect();
        all_closed(
            &node,
            &Image::layer("layer", &guest::module()?),
            &[],
            &paths,
        )?;
        all_closed(
            &node,
            &Image::root_file("file", &guest::module()?).with_root(&places()),
            &[],
            &paths,
        )?;
    }
    Ok(())
}

fn kernel_files_by_dots() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let paths: Vec<String> = FILES
        .iter()
        .flat_map(|path| {
            [
                format!("/data/..{path}"),
                format!("/../../../..{path}"),
                format!("..{path}"),
            ]
        })
        .collect();
    let image = Image::root_file("dots", &guest::module()?).with_root(&[Entry::directory("data")]);
    all_closed(&node, &image, &[], &paths)
}

fn kernel_files_by_symlink() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let (entries, paths) = symlinks("links");
    all_closed(
        &node,
        &Image::root_file("links", &guest::module()?).with_root(&entries),
        &[],
        &paths,
    )
}

fn kernel_files_by_symlink_in_a_volume() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let volume = node.directory().join("volume");
    fs::create_dir(&volume)?;
    let mut paths = Vec::new();
    for (number, file) in FILES.iter().enumerate() {
        std::os::unix::fs::symlink(file, volume.join(format!("a{number}")))?;
        std::os::unix::fs::symlink(
            format!("../../../../../..{file}"),
            volume.join(format!("r{number}")),
        )?;
        paths.extend([
            format!("/volume/a{number}"),
            format!("/volume/r{number}"),
            format!("/volume/../..{file}"),
        ]);
    }
    let option = format!(
        "type=bind,src={},dst=/volume,options=rbind:rw",
        volume.display()
    );
    all_closed(
        &node,
        &Image::root_file("file", &guest::module()?),
        &["--mount", &option],
        &paths,
    )
}

fn kernel_files_as_a_component() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let (mut entries, mut paths) = symlinks("links");
    entries.extend(places());
    paths.extend(FILES.iter().map(|path| (*path).to_owned()));
    all_closed(
        &node,
        &Image::root_file("component", &guest::component()?).with_root(&entries),
        &[],
        &paths,
    )
}

/// Directories where a container's kernel file systems usually are.
fn places() -> [Entry; 4] {
    ["proc", "sys", "dev", "run"].map(Entry::directory)
}

/// Links to every kernel file, absolute and relative, in a directory of the image.
fn symlinks(directory: &str) -> (Vec<Entry>, Vec<String>) {
    let mut entries = vec![Entry::directory(directory)];
    let mut paths = Vec::new();
    for (number, file) in FILES.iter().enumerate() {
        entries.push(Entry::symlink(&format!("{directory}/a{number}"), file));
        entries.push(Entry::symlink(
            &format!("{directory}/r{number}"),
            &format!("../../../..{file}"),
        ));
        paths.extend([
            format!("/{directory}/a{number}"),
            format!("/{directory}/r{number}"),
        ]);
    }
    (entries, paths)
}

/// The container must not start, and the message must name the volume.
fn refused(source: &str, words: &[&str]) -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::root_file("file", &guest::module()?);
    node.import(&image)?;
    let ran = node
        .run(&image)
        .bind(source, "/volume", "rw")
        .guest(&["say", "reached"])
        .output()?;
    ensure!(
        !ran.stdout.contains("reached"),
        "the guest ran with a volume that is {source}"
    );
    let mut all = vec!["/volume"];
    all.extend(words);
    ran.fails_with(&all)?;
    Ok(())
}

fn volume_that_is_proc() -> Result<()> {
    refused("/proc", &["proc"])
}

fn volume_that_is_sys() -> Result<()> {
    refused("/sys", &["sysfs"])
}

fn volume_that_is_cgroup() -> Result<()> {
    refused("/sys/fs/cgroup/unified", &["cgroup"])
}

fn volume_that_is_a_device() -> Result<()> {
    refused("/dev/null", &["device"])
}

fn volume_with_proc_below() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::root_file("file", &guest::module()?);
    node.import(&image)?;
    let volume = node.directory().join("volume");
    fs::create_dir_all(volume.join("below"))?;
    mount(
        "proc",
        volume.join("below"),
        "proc",
        MountFlags::empty(),
        None,
    )?;
    let ran = node
        .run(&image)
        .bind(&volume.display().to_string(), "/volume", "rw")
        .guest(&["say", "reached"])
        .output();
    unmount(volume.join("below"), UnmountFlags::empty())?;
    let ran = ran?;
    ensure!(
        !ran.stdout.contains("reached"),
        "the guest ran with a volume that has proc mounted below it"
    );
    ran.fails_with(&["/volume", "proc"])?;
    Ok(())
}

fn devices_of_the_image() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let root = [
        Entry::directory("d"),
        Entry::device("d/null", 1, 3),
        Entry::device("d/mem", 1, 1),
        Entry::device("d/zero", 1, 5),
    ];
    let image = Image::root_file("devices", &guest::module()?).with_root(&root);
    all_closed(
        &node,
        &image,
        &[],
        &[
            "/d/null".to_owned(),
            "/d/mem".to_owned(),
            "/d/zero".to_owned(),
        ],
    )
}

fn devices_of_a_volume() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let volume = node.directory().join("volume");
    fs::create_dir(&volume)?;
    let mode = rustix::fs::Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        volume.join("zero"),
        rustix::fs::FileType::CharacterDevice,
        mode,
        rustix::fs::makedev(1, 5),
    )?;
    let option = format!(
        "type=bind,src={},dst=/volume,options=rbind:rw",
        volume.display()
    );
    all_closed(
        &node,
        &Image::root_file("file", &guest::module()?),
        &["--mount", &option],
        &["/volume/zero".to_owned()],
    )
}

fn volumes_are_seen_and_read_only_holds() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::root_file("file", &guest::module()?);
    node.import(&image)?;
    let (open, closed, single) = (
        node.directory().join("open"),
        node.directory().join("closed"),
        node.directory().join("single"),
    );
    fs::create_dir(&open)?;
    fs::create_dir(&closed)?;
    fs::write(closed.join("data"), "given\n")?;
    fs::write(&single, "one file\n")?;
    let run = node
        .run(&image)
        .bind(&open.display().to_string(), "/open", "rw")
        .bind(&closed.display().to_string(), "/closed", "ro");
    let run = run.bind(&single.display().to_string(), "/etc/hosts", "ro");
    let words = [
        "write",
        "/open/new",
        "text",
        "read",
        "/closed/data",
        "write",
        "/closed/data",
        "x",
        "read",
        "/etc/hosts",
        "write",
        "/etc/hosts",
        "x",
    ];
    let out = run.guest(&words).output()?.ok()?;
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[..2], ["written /open/new", "given"]);
    ensure!(
        lines[2].starts_with("write failed"),
        "a read-only volume was written: {out}"
    );
    assert_eq!(lines[3], "one file");
    ensure!(
        lines[4].starts_with("write failed"),
        "a read-only file was written: {out}"
    );
    assert_eq!(fs::read_to_string(open.join("new"))?, "text");
    assert_eq!(fs::read_to_string(closed.join("data"))?, "given\n");
    Ok(())
}

fn tmpfs_mounts_are_kept() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::root_file("file", &guest::module()?);
    node.import(&image)?;
    let run = node.run(&image).with(&[
        "--read-only",
        "--mount",
        "type=tmpfs,src=tmpfs,dst=/scratch,options=rw:size=64k",
    ]);
    let out = run
        .guest(&[
            "write",
            "/scratch/a",
            "b",
            "write",
            "/dev/shm/a",
            "b",
            "write",
            "/run/a",
            "b",
        ])
        .output()?
        .ok()?;
    assert_eq!(
        out,
        "written /scratch/a\nwritten /dev/shm/a\nwritten /run/a\n"
    );
    Ok(())
}

fn read_only_root() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::root_file("file", &guest::module()?);
    node.import(&image)?;
    let out = node
        .run(&image)
        .guest(&["write", "/new", "text", "read", "/new"])
        .output()?
        .ok()?;
    assert_eq!(out, "written /new\ntext");
    let out = node
        .run(&image)
        .with(&["--read-only"])
        .guest(&["write", "/new", "text"])
        .output()?
        .ok()?;
    ensure!(
        out.starts_with("write failed"),
        "a read-only root was written: {out}"
    );
    Ok(())
}

/// Seen from the machine: every mount of the engine host is nosuid, nodev and noexec, and none is the kernel's.
fn nothing_executable() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::root_file("file", &guest::module()?);
    node.import(&image)?;
    let task = node
        .run(&image)
        .guest(&["say", "up", "sleep", "100"])
        .start()?;
    task.wait_for_output("up")?;
    let (_, process) = task.state()?;
    let mounts = fs::read_to_string(format!("/proc/{process}/mountinfo"))?;
    for line in mounts.lines() {
        let options = line.split(' ').nth(5).unwrap_or_default();
        for option in ["nosuid", "nodev", "noexec"] {
            ensure!(
                options.split(',').any(|seen| seen == option),
                "a mount of the guest is not {option}: {line}"
            );
        }
        let kind = line
            .split(" - ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next())
            .unwrap_or_default();
        ensure!(
            ["overlay", "tmpfs", "ext4", "xfs", "btrfs"].contains(&kind),
            "a mount of the guest is a {kind}: {line}"
        );
    }
    let open: Vec<String> = fs::read_dir(format!("/proc/{process}/fd"))?
        .flatten()
        .filter_map(|fd| fs::read_link(fd.path()).ok())
        .map(|path| path.display().to_string())
        .collect();
    ensure!(
        !open.iter().any(|target| target.starts_with("/proc")),
        "the engine host holds a kernel file open: {open:?}"
    );
    task.remove()?;
    Ok(())
}
