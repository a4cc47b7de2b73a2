//! Files of the images: this machine's programs with their libraries, and accounts.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::command;
use crate::image::{Entry, Image};
use crate::tools;

/// Says who a set-user-ID program runs as.
const EFFECTIVE_USER: &str = r#"#include <stdio.h>
#include <unistd.h>
int main(void) { return printf("Effective uid: %d\n", (int)geteuid()) < 0; }
"#;

/// busybox's nc as upstream's image has it ends by SIGTERM as the first process of a container too; Debian's does not.
const NETCAT: &str = r#"#!/bin/sh
trap 'kill $child; exit 143' TERM
/bin/busybox nc "$@" &
child=$!
wait $child
"#;

/// Directories that programs expect.
const DIRECTORIES: [&str; 17] = [
    "bin", "dev", "etc", "home", "lib", "proc", "root", "run", "sbin", "sys", "usr", "usr/bin",
    "usr/sbin", "var", "var/lib", "var/log", "var/run",
];

/// Programs that busybox lacks as Debian builds it, and that suites call.
const BESIDE: [&str; 2] = ["/usr/bin/pgrep", "/usr/bin/ipcs"];

/// The usual search path.
pub(super) fn with_environment(image: Image) -> Image {
    image.environment(&["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"])
}

/// A root with busybox and its applets.
pub(super) fn shell() -> Result<Vec<Entry>> {
    // Debian's other one, busybox-static, runs applets without looking for them: suites mask them and look.
    let busybox = tools::package("busybox")?.join("bin/busybox");
    let mut root: Vec<Entry> = DIRECTORIES
        .iter()
        .map(|path| Entry::directory(path))
        .collect();
    root.push(Entry::directory("tmp").mode(0o1777));
    let mut programs = vec![(busybox.clone(), "/bin/busybox")];
    programs.extend(BESIDE.map(|path| (PathBuf::from(path), path)));
    root.extend(with_libraries(&programs)?);
    let applets = command::run(Command::new(busybox).arg("--list"))?.ok()?;
    root.extend(
        applets
            .lines()
            .filter(|name| !matches!(*name, "busybox" | "nc"))
            // As busybox installs itself: to mask one applet is not to mask all.
            .map(|name| Entry::hard_link(&format!("bin/{name}"), "bin/busybox")),
    );
    root.push(Entry::file("bin/nc", 0o755, NETCAT.as_bytes()));
    root.extend(accounts("", ""));
    Ok(root)
}

/// `/etc/passwd` and `/etc/group` with what every root has, and more.
pub(super) fn accounts(users: &str, groups: &str) -> [Entry; 2] {
    let users = format!(
        "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1::/:/bin/false\nsys:x:3:3::/:/bin/false\nwww-data:x:33:33::/var/www:/bin/false\n\
         backup:x:34:34::/:/bin/false\nnobody:x:65534:65534::/:/bin/false\n{users}"
    );
    let groups = format!(
        "root:x:0:\ndaemon:x:1:\nsys:x:3:\nadm:x:4:\nwww-data:x:33:\nusers:x:100:\nnogroup:x:65534:\n{groups}"
    );
    [
        Entry::file("etc/passwd", 0o644, users.as_bytes()),
        Entry::file("etc/group", 0o644, groups.as_bytes()),
    ]
}

/// nginx of the distribution, which answers every request at `port` with a page.
pub(super) fn nginx(port: u16) -> Result<Vec<Entry>> {
    let program = tools::package("nginx")?.join("usr/sbin/nginx");
    let mut root = with_libraries(&[(program, "/usr/sbin/nginx")])?;
    for path in ["etc/nginx", "var/lib/nginx", "var/log/nginx", "var/www"] {
        root.push(Entry::directory(path));
    }
    let configuration = format!(
        "user www-data;\nworker_processes 1;\npid /var/run/nginx.pid;\nerror_log /dev/stderr;\n\
         events {{ worker_connections 64; }}\n\
         http {{ access_log /dev/stdout; server {{ listen {port}; root /var/www; index index.html; }} }}\n"
    );
    root.push(Entry::file(
        "etc/nginx/nginx.conf",
        0o644,
        configuration.as_bytes(),
    ));
    root.push(Entry::file("var/www/index.html", 0o644, b"it works\n"));
    Ok(root)
}

/// bash, and a program that is set-user-ID.
pub(super) fn of_this_machine() -> Result<Vec<Entry>> {
    let mut root = with_libraries(&[
        ("/bin/bash".into(), "/bin/bash"),
        ("/usr/bin/passwd".into(), "/usr/bin/passwd"),
    ])?;
    let passwd = root.pop().context("no program was added")?;
    root.push(passwd.mode(0o4755));
    Ok(root)
}

/// The set-user-ID program, static.
pub(super) fn effective_user() -> Result<Vec<u8>> {
    let directory = std::env::temp_dir().join(format!("skiff-nnp-{}", std::process::id()));
    fs::create_dir_all(&directory)?;
    let (source, program) = (directory.join("nnp.c"), directory.join("nnp"));
    fs::write(&source, EFFECTIVE_USER)?;
    let mut gcc = Command::new("gcc");
    gcc.args(["-static", "-Os", "-s", "-o"])
        .arg(&program)
        .arg(&source);
    let built = command::run(&mut gcc).and_then(command::Ran::ok);
    let bytes = built.and_then(|_| Ok(fs::read(&program)?));
    fs::remove_dir_all(&directory)?;
    bytes.context("could not build the set-user-ID program")
}

/// Programs at their places in the image, and this machine's libraries that they need.
fn with_libraries(programs: &[(PathBuf, &str)]) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut libraries = BTreeSet::new();
    for (program, place) in programs {
        let bytes =
            fs::read(program).with_context(|| format!("could not read {}", program.display()))?;
        entries.push(Entry::file(place.trim_start_matches('/'), 0o755, &bytes));
        libraries.extend(libraries_of(program)?);
    }
    let directories: BTreeSet<&Path> = libraries
        .iter()
        .flat_map(|library| Path::new(library).ancestors().skip(1))
        .filter(|directory| directory.parent().is_some())
        .collect();
    let mut all: Vec<Entry> = directories
        .iter()
        .map(|directory| Entry::directory(relative(directory)))
        .collect();
    for library in &libraries {
        let bytes = fs::read(library).with_context(|| format!("could not read {library}"))?;
        all.push(Entry::file(library.trim_start_matches('/'), 0o755, &bytes));
    }
    all.extend(entries);
    Ok(all)
}

fn relative(path: &Path) -> &str {
    path.to_str().unwrap_or_default().trim_start_matches('/')
}

fn libraries_of(program: &Path) -> Result<Vec<String>> {
    let said = command::run(Command::new("ldd").arg(program))?.ok()?;
    ensure!(
        !said.contains("not found"),
        "{} needs libraries that this machine lacks: {said}",
        program.display()
    );
    Ok(said
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(str::to_owned)
        .collect())
}
