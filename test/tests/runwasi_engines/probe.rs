//! What an engine can reach: it is a stranger's program that runs inside the container.

use std::fs;

use anyhow::{Result, ensure};
use skiff_test::command::Ran;
use skiff_test::guest;
use skiff_test::image::{Entry, Image};
use skiff_test::node::{Node, Version};

use crate::runtime;

skiff_test::cases!(
    it_is_given_what_its_compiler_made,
    its_refusals_are_told,
    its_failures_are_told,
    its_threads_run,
    nothing_of_the_kernel_is_open_to_it,
    it_starts_no_program,
    names_come_from_the_containers_files,
    its_output_is_complete,
);

fn module() -> Result<Vec<u8>> {
    guest::text("(module (func (export \"_start\")))")
}

fn probe(node: &Node, image: &Image, words: &[&str]) -> Result<Ran> {
    node.run(image)
        .runtime(&runtime("probe"))
        .guest(words)
        .output()
}

fn on_a_node(words: &[&str]) -> Result<Ran> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::layer("probe", &module()?);
    node.import(&image)?;
    probe(&node, &image, words)
}

fn it_is_given_what_its_compiler_made() -> Result<()> {
    let ran = on_a_node(&["code", "return", "300"])?;
    ensure!(
        ran.stdout == "code compiled true\n" && ran.code == 300 % 256,
        "{ran:?}"
    );
    Ok(())
}

fn its_refusals_are_told() -> Result<()> {
    on_a_node(&["refuse"])?.fails_with(&["probe cannot run sha256:", "it was told to refuse"])?;
    let node = Node::start(Version::V2_4)?;
    let image = Image::layer("empty", &guest::text("(module)")?);
    node.import(&image)?;
    probe(&node, &image, &[])?.fails_with(&[
        "probe does not compile it",
        "it does not like empty modules",
    ])?;
    Ok(())
}

fn its_failures_are_told() -> Result<()> {
    let ran = on_a_node(&["fail"])?;
    let words = " ended with an error of probe: it failed as it was told: the cause\n";
    ensure!(ran.code == 134 && ran.stderr.contains(words), "{ran:?}");
    let ran = on_a_node(&["panic"])?;
    let words = "ended with an error of probe: it panicked: as it was told\n";
    ensure!(ran.code == 134 && ran.stderr.contains(words), "{ran:?}");
    Ok(())
}

fn its_threads_run() -> Result<()> {
    let ran = on_a_node(&["threads"])?;
    ensure!(ran.code == 0 && ran.stdout == "threads 6\n", "{ran:?}");
    Ok(())
}

/// By absolute paths of its own, as runwasi's engines open them.
fn nothing_of_the_kernel_is_open_to_it() -> Result<()> {
    let paths = [
        "/proc",
        "/proc/self/mem",
        "/proc/1/mem",
        "/proc/self/exe",
        "/proc/self/fd",
        "/proc/self/environ",
        "/proc/self/maps",
        "/proc/self/root",
        "/proc/self/mountinfo",
        "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger",
        "/proc/kcore",
        "/proc/kallsyms",
        "/proc/meminfo",
        "/sys",
        "/sys/kernel/uevent_helper",
        "/sys/kernel/debug",
        "/sys/fs/cgroup",
        "/sys/fs/bpf",
        "/sys/class/net",
        "/dev/mem",
        "/dev/kmsg",
        "/dev/null",
        "/dev/pts/ptmx",
        "/dev/mqueue",
        "/../etc/shadow",
        "/run/containerd/containerd.sock",
        "/var/lib/skiff/cache",
    ];
    let words: Vec<&str> = ["list", "/"]
        .into_iter()
        .chain(paths.iter().flat_map(|path| ["open", path]))
        .collect();
    let ran = on_a_node(&words)?;
    let closed = ran
        .stdout
        .lines()
        .filter(|line| line.starts_with("closed "))
        .count();
    ensure!(
        ran.code == 0 && ran.stdout.starts_with("list ") && closed == paths.len(),
        "{ran:?}"
    );
    Ok(())
}

/// Not even one of the image: the process ends at the attempt, by SIGSYS.
fn it_starts_no_program() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let busybox = fs::read("/bin/busybox")?;
    let image = Image::root_file("program", &module()?)
        .with_root(&[Entry::file("busybox", 0o755, &busybox)]);
    node.import(&image)?;
    let ran = probe(&node, &image, &["execute", "/busybox"])?;
    ensure!(ran.code == 128 + 31 && ran.stdout.is_empty(), "{ran:?}");
    Ok(())
}

/// Also where `nsswitch.conf` of the image asks for a library of the image first. None can be loaded: nothing in a guest's
/// tree can be executed.
fn names_come_from_the_containers_files() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let root = [
        Entry::directory("etc"),
        Entry::file("etc/nsswitch.conf", 0o644, b"hosts: evil files\n"),
        Entry::file("etc/hosts", 0o644, b"127.0.0.9 known.test\n"),
        Entry::directory("lib"),
        Entry::file("lib/libnss_evil.so.2", 0o755, &fs::read("/bin/busybox")?),
    ];
    let image = Image::root_file("names", &module()?).with_root(&root);
    node.import(&image)?;
    let ran = probe(
        &node,
        &image,
        &["lookup", "known.test", "open", "/lib/libnss_evil.so.2"],
    )?;
    ensure!(
        ran.code == 0 && ran.stdout.contains("127.0.0.9:80"),
        "{ran:?}"
    );
    ensure!(
        ran.stdout.contains("OPEN /lib/libnss_evil.so.2"),
        "the library is not there: {ran:?}"
    );
    Ok(())
}

fn its_output_is_complete() -> Result<()> {
    let ran = on_a_node(&["unended"])?;
    ensure!(
        ran.stdout == "a line without its end and what is buffered",
        "{ran:?}"
    );
    Ok(())
}
