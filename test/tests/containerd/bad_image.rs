//! Images that are hostile or wrong in other ways than by their module.

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use serde_json::json;
use skiff_test::command::Ran;
use skiff_test::guest;
use skiff_test::image::{Entry, Image};
use skiff_test::node::{Node, Version};

skiff_test::cases!(
    user_that_does_not_exist,
    user_that_overflows,
    user_by_number,
    working_directory_in_proc,
    working_directory_by_dots,
    symlinked_proc,
    symlinked_sys,
    symlinked_dev,
    mount_over_a_symlink,
    mount_through_dots,
    hostile_nsswitch,
    mebibyte_of_arguments,
    mebibyte_of_environment,
    image_without_anything,
    label_that_names_a_program,
);

/// A directory of the machine that a hostile image aims at, and a check that nothing happened to it.
struct Victim {
    directory: PathBuf,
}

impl Victim {
    fn new(node: &Node) -> Result<Self> {
        let directory = node.directory().join("victim");
        fs::create_dir(&directory)?;
        fs::write(directory.join("canary"), "alive")?;
        Ok(Self { directory })
    }

    fn path(&self) -> String {
        self.directory.display().to_string()
    }

    fn is_untouched(&self) -> Result<()> {
        let names: Vec<_> = fs::read_dir(&self.directory)?
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        ensure!(
            names == ["canary"],
            "the directory outside of the container holds {names:?}"
        );
        ensure!(
            fs::read_to_string(self.directory.join("canary"))? == "alive",
            "a file outside of the container was changed"
        );
        Ok(())
    }
}

/// It ran as if nothing was odd, or it was refused with a sentence: both are right, silence is not.
fn ran_or_refused(ran: &Ran) -> Result<()> {
    if ran.code == 0 {
        return Ok(());
    }
    ensure!(
        ran.stderr.trim().len() > 20,
        "`{}` ended with {} and says little: {}",
        ran.line,
        ran.code,
        ran.stderr
    );
    ensure!(!ran.stderr.contains("panicked"), "a panic: {}", ran.stderr);
    Ok(())
}

/// These are decided by `ctr`, which reads `USER`; CRI hands what it makes of it to the shim in the same way.
fn user_that_does_not_exist() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let root = [
        Entry::directory("etc"),
        Entry::file("etc/passwd", 0o644, b"root:x:0:0:root:/:/bin/sh\n"),
    ];
    let image = Image::root_file("user", &guest::module()?)
        .with_root(&root)
        .config("User", &json!("nobody-has-this-name"));
    node.import(&image)?;
    node.run(&image).output()?.fails_with(&["user"])?;
    Ok(())
}

fn user_that_overflows() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    for user in ["4294967296", "99999999999999999999", "-1"] {
        let image = Image::root_file("user", &guest::module()?).config("User", &json!(user));
        node.import(&image)?;
        let ran = node.run(&image).guest(&["say", "it ran"]).output()?;
        ensure!(
            !ran.stdout.contains("it ran"),
            "the guest ran as USER {user}"
        );
        ran.fails_with(&[])?;
    }
    Ok(())
}

fn user_by_number() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::root_file("user", &guest::module()?).config("User", &json!("1234:2345"));
    node.import(&image)?;
    let task = node
        .run(&image)
        .guest(&["say", "up", "sleep", "100"])
        .start()?;
    task.wait_for_output("up")?;
    let (_, process) = task.state()?;
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    for line in [
        "Uid:\t1234\t1234\t1234\t1234",
        "Gid:\t2345\t2345\t2345\t2345",
        "CapEff:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        ensure!(status.contains(line), "\"{line}\" is not in: {status}");
    }
    task.remove()?;
    Ok(())
}

fn working_directory_in_proc() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    for place in ["/proc/self/fd/7", "/proc/self/fd/4/../../..", "/proc/1/cwd"] {
        let image =
            Image::root_file("place", &guest::component()?).config("WorkingDir", &json!(place));
        node.import(&image)?;
        let ran = node
            .run(&image)
            .guest(&["list", ".", "list", "..", "read", "etc/shadow"])
            .output()?;
        ensure!(
            !ran.stdout.contains("root:"),
            "a guest that starts in {place} reads the machine's files: {}",
            ran.stdout
        );
        ran_or_refused(&ran)?;
    }
    Ok(())
}

fn working_directory_by_dots() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::root_file("place", &guest::component()?)
        .config("WorkingDir", &json!("/../../../../etc"));
    node.import(&image)?;
    let ran = node.run(&image).guest(&["read", "shadow"]).output()?;
    ensure!(
        !ran.stdout.contains("root:"),
        "the guest read the machine's /etc: {}",
        ran.stdout
    );
    ran_or_refused(&ran)
}

fn symlinked(name: &str) -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let victim = Victim::new(&node)?;
    for target in [
        victim.path(),
        format!("../../../../../../..{}", victim.path()),
        "/".to_owned(),
        name.to_owned(),
    ] {
        let image = Image::root_file("links", &guest::module()?)
            .with_root(&[Entry::symlink(name, &target)]);
        node.import(&image)?;
        let words = [
            "open",
            "/proc/self/mem",
            "open",
            "/dev/null",
            "open",
            "/sys/kernel",
        ];
        let ran = node.run(&image).guest(&words).output()?;
        ran_or_refused(&ran)?;
        ensure!(
            !ran.stdout.contains("OPEN"),
            "with /{name} -> {target}: {}",
            ran.stdout
        );
        victim.is_untouched()?;
    }
    Ok(())
}

fn symlinked_proc() -> Result<()> {
    symlinked("proc")
}

fn symlinked_sys() -> Result<()> {
    symlinked("sys")
}

fn symlinked_dev() -> Result<()> {
    symlinked("dev")
}

fn mount_over_a_symlink() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let victim = Victim::new(&node)?;
    let volume = node.directory().join("volume");
    fs::create_dir(&volume)?;
    let links = [
        Entry::symlink("a", &victim.path()),
        Entry::symlink("r", &format!("../../../../..{}", victim.path())),
        Entry::symlink("loop", "loop"),
    ];
    let image = Image::root_file("links", &guest::module()?).with_root(&links);
    node.import(&image)?;
    for place in ["/a", "/r", "/loop", "/a/new", "/r/new/deep"] {
        let ran = node
            .run(&image)
            .bind(&volume.display().to_string(), place, "rw")
            .guest(&["write", &format!("{place}/file"), "x"])
            .output()?;
        ran_or_refused(&ran)?;
        victim.is_untouched()?;
    }
    Ok(())
}

fn mount_through_dots() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let victim = Victim::new(&node)?;
    let volume = node.directory().join("volume");
    fs::create_dir(&volume)?;
    let image = Image::root_file("file", &guest::module()?);
    node.import(&image)?;
    for place in [
        format!("/..{}", victim.path()),
        format!("/x/../../..{}", victim.path()),
        "/..".to_owned(),
    ] {
        let ran = node
            .run(&image)
            .bind(&volume.display().to_string(), &place, "rw")
            .guest(&["say", "ran"])
            .output()?;
        ran_or_refused(&ran)?;
        victim.is_untouched()?;
    }
    Ok(())
}

/// The C library would load the library that this file names; names are resolved without it.
fn hostile_nsswitch() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let library = fs::read("/bin/busybox")?;
    let root = [
        Entry::directory("etc"),
        Entry::file("etc/nsswitch.conf", 0o644, b"hosts: evil\npasswd: evil\n"),
        Entry::directory("lib"),
        Entry::file("lib/libnss_evil.so.2", 0o755, &library),
    ];
    let image = Image::root_file("names", &guest::component()?).with_root(&root);
    node.import(&image)?;
    let hosts = node.directory().join("hosts");
    fs::write(&hosts, "127.0.0.9 known.test\n")?;
    let run = node
        .run(&image)
        .bind(&hosts.display().to_string(), "/etc/hosts", "ro");
    let ran = run
        .guest(&[
            "read",
            "/etc/hosts",
            "lookup",
            "known.test",
            "lookup",
            "unknown.test",
        ])
        .output()?;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    ensure!(
        ran.stdout.contains("lookup known.test: [127.0.0.9]"),
        "the hosts file was not asked: {}",
        ran.stdout
    );
    ensure!(
        ran.stdout.contains("lookup unknown.test failed"),
        "an unknown name was found: {}",
        ran.stdout
    );
    Ok(())
}

fn mebibyte_of_arguments() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::layer("layer", &guest::module()?);
    node.import(&image)?;
    let long = "a".repeat(116_509);
    let mut words = Vec::new();
    for _ in 0..9 {
        words.extend(["say".to_owned(), long.clone()]);
    }
    let ran = node
        .run(&image)
        .args(["/app.wasm".to_owned()])
        .args(words)
        .output()?;
    assert_eq!(
        (ran.code, ran.stdout.len()),
        (0, 9 * (long.len() + 1)),
        "{}",
        ran.stderr
    );
    Ok(())
}

fn mebibyte_of_environment() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let long: Vec<String> = (0..9)
        .map(|number| format!("V{number}={}", "b".repeat(116_509)))
        .collect();
    let image = Image::layer("layer", &guest::module()?)
        .environment(&long.iter().map(String::as_str).collect::<Vec<_>>());
    node.import(&image)?;
    let ran = node.run(&image).guest(&["show"]).output()?;
    ensure!(
        ran.code == 0 && ran.stdout.len() > 9 * 116_509,
        "it ended with {}, {} bytes of output: {}",
        ran.code,
        ran.stdout.len(),
        ran.stderr
    );
    Ok(())
}

fn image_without_anything() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::linux("nothing", &[Entry::directory("empty")]);
    node.import(&image)?;
    node.run(&image)
        .args(["/app.wasm"])
        .output()?
        .fails_with(&["/app.wasm"])?;
    Ok(())
}

/// Labels and annotations of an image come from whoever built it: they start nothing on the machine.
fn label_that_names_a_program() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let victim = Victim::new(&node)?;
    let program = format!("binary:///bin/sh?-c=touch {}/harm", victim.path());
    let image = Image::layer("label", &guest::module()?)
        .config("Labels", &json!({ "io.containerd.log": program, "run.oci.hooks.prestart": "/bin/sh", "containerd.io/restart.loguri": program }))
        .annotation("run.oci.hooks.stdout", &program);
    node.import(&image)?;
    assert_eq!(node.run(&image).output()?.ok()?, "hello from a guest\n");
    victim.is_untouched()
}
