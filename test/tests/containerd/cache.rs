//! Compiled code: made once, shared, checked at every start, and made again when it is not what it was.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use skiff_test::command::wait_for;
use skiff_test::guest;
use skiff_test::image::Image;
use skiff_test::node::{Node, Task, Version, engine};

skiff_test::cases!(
    compiled_once,
    compiled_once_for_layer_and_file,
    two_at_once_compile_once,
    code_is_shared_and_clean,
    every_page_flipped,
    truncated_anywhere,
    entries_swapped,
    entry_of_another_owner,
    entry_removed_while_it_runs,
    worker_killed,
    large_module_leaves_others_alone,
    pod_is_not_charged,
    not_writable_from_the_container,
);

/// Files of compiled code in the cache, largest last. Nothing else in it begins like an ELF file.
pub(crate) fn entries(node: &Node) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    walk(&node.cache(), &mut found)?;
    found.retain(|path| !path.to_string_lossy().contains("quarantine") && begins_like_elf(path));
    found.sort_by_key(|path| fs::metadata(path).map_or(0, |facts| facts.len()));
    Ok(found)
}

fn walk(directory: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), found)?;
        } else if entry.file_type()?.is_file() {
            found.push(entry.path());
        }
    }
    Ok(())
}

fn begins_like_elf(path: &Path) -> bool {
    let mut head = [0; 4];
    fs::File::open(path)
        .and_then(|file| file.read_exact_at(&mut head, 0))
        .is_ok()
        && head == *b"\x7fELF"
}

/// Which files there are: an entry that was made again has another inode.
fn identities(node: &Node) -> Result<BTreeMap<PathBuf, u64>> {
    entries(node)?
        .into_iter()
        .map(|path| Ok((path.clone(), fs::metadata(path)?.ino())))
        .collect()
}

/// A module of so many functions as take wasmtime a while to compile. LLVM takes the same for a tenth of them.
fn slow(functions: usize) -> Result<Vec<u8>> {
    guest::functions(match engine() {
        "wasmedge" => functions / 10,
        _ => functions,
    })
}

fn layer(node: &Node) -> Result<Image> {
    let image = Image::layer("layer", &guest::module()?);
    node.import(&image)?;
    Ok(image)
}

fn runs(node: &Node, image: &Image) -> Result<()> {
    assert_eq!(node.run(image).output()?.ok()?, "hello from a guest\n");
    Ok(())
}

fn compiled_once() -> Result<()> {
    for version in Version::ALL {
        let node = Node::cold(version)?;
        let image = Image::layer("large", &slow(20_000)?);
        node.import(&image)?;
        let first = node.run(&image).output()?;
        first.clone().ok()?;
        let made = identities(&node)?;
        assert_eq!(made.len(), 1, "one module, but {made:?}");
        let second = node.run(&image).output()?;
        second.clone().ok()?;
        assert_eq!(identities(&node)?, made);
        ensure!(
            second.time < first.time,
            "the second start took {:?}, the first {:?}",
            second.time,
            first.time
        );
    }
    Ok(())
}

/// The key is made of the module's bytes, wherever they lie.
fn compiled_once_for_layer_and_file() -> Result<()> {
    let node = Node::cold(Version::V2_4)?;
    runs(&node, &layer(&node)?)?;
    let made = identities(&node)?;
    let image = Image::root_file("file", &guest::module()?);
    node.import(&image)?;
    runs(&node, &image)?;
    assert_eq!(identities(&node)?, made);
    Ok(())
}

fn two_at_once_compile_once() -> Result<()> {
    let node = Node::cold(Version::V2_4)?;
    let image = Image::layer("large", &slow(30_000)?);
    node.import(&image)?;
    let mut children = (0..4)
        .map(|_| node.run(&image).spawn())
        .collect::<Result<Vec<_>>>()?;
    let mut workers = std::collections::BTreeSet::new();
    let started = Instant::now();
    while children
        .iter_mut()
        .any(|child| child.try_wait().is_ok_and(|status| status.is_none()))
    {
        workers.extend(node.processes_named("skiff-compile"));
        ensure!(
            started.elapsed() < Duration::from_secs(60),
            "the containers do not end"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    for child in &mut children {
        ensure!(child.wait()?.success(), "a container failed");
    }
    assert_eq!(workers.len(), 1, "compile workers seen: {workers:?}");
    assert_eq!(entries(&node)?.len(), 1);
    Ok(())
}

/// The figures of each mapping of code by a process. The first pages of the guest's memory may come out of the
/// same file, writable and its own once it writes: those are its data.
fn code_mappings(process: u32, entry: &Path) -> Result<Vec<BTreeMap<String, u64>>> {
    let inode = fs::metadata(entry)?.ino().to_string();
    let text = fs::read_to_string(format!("/proc/{process}/smaps"))?;
    let mut found = Vec::new();
    let mut current: Option<BTreeMap<String, u64>> = None;
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words
            .first()
            .is_some_and(|word| word.contains('-') && !word.ends_with(':'))
        {
            found.extend(current.take());
            let writable = words.get(1).is_some_and(|rights| rights.contains('w'));
            if words.get(4) == Some(&inode.as_str()) && !writable {
                current = Some(BTreeMap::new());
            }
        } else if let (Some(mapping), [name, value, "kB"]) = (&mut current, words.as_slice()) {
            mapping.insert(name.trim_end_matches(':').to_owned(), value.parse()?);
        }
    }
    found.extend(current);
    ensure!(
        !found.is_empty(),
        "process {process} maps no page of {}",
        entry.display()
    );
    Ok(found)
}

fn sleeper<'a>(node: &'a Node, image: &Image) -> Result<Task<'a>> {
    let task = node
        .run(image)
        .guest(&["say", "up", "sleep", "1000"])
        .start()?;
    task.wait_for_output("up")?;
    Ok(task)
}

fn code_is_shared_and_clean() -> Result<()> {
    let node = Node::cold(Version::V2_4)?;
    let image = layer(&node)?;
    let tasks = [sleeper(&node, &image)?, sleeper(&node, &image)?];
    let entry = entries(&node)?.pop().context("nothing was compiled")?;
    for task in &tasks {
        let (_, process) = task.state()?;
        let sum = |mappings: &[BTreeMap<String, u64>], name: &str| {
            mappings
                .iter()
                .filter_map(|mapping| mapping.get(name))
                .sum::<u64>()
        };
        let mappings = code_mappings(process, &entry)?;
        // WasmEdge's is a shared library: its loader writes addresses into a page of it.
        let written = if engine() == "wasmedge" { 4 } else { 0 };
        ensure!(
            sum(&mappings, "Private_Dirty") <= written,
            "private dirty pages of code: {mappings:?}"
        );
        ensure!(
            sum(&mappings, "Shared_Clean") > 0,
            "no page of the code is shared: {mappings:?}"
        );
    }
    for task in tasks {
        task.remove()?;
    }
    Ok(())
}

/// Every page of an entry is changed once. Each time the change is noticed before a byte is executed: the guest's
/// output is right, and the entry is another file than the one that was changed.
fn every_page_flipped() -> Result<()> {
    let node = Node::cold(Version::V2_4)?;
    let image = small(&node)?;
    runs_small(&node, &image)?;
    let pages = fs::metadata(entries(&node)?.pop().context("nothing was compiled")?)?
        .len()
        .div_ceil(4096);
    for page in 0..pages {
        let entry = entries(&node)?.pop().context("the entry is gone")?;
        let before = fs::metadata(&entry)?;
        // The last page is short; the trailer is at its end.
        let place = (page * 4096 + 1234).min(before.len() - 7);
        change(&entry, place)?;
        runs_small(&node, &image)?;
        let after = entries(&node)?
            .pop()
            .context("nothing was compiled again")?;
        ensure!(
            fs::metadata(&after)?.ino() != before.ino(),
            "page {page} of {pages} was changed and nobody noticed"
        );
    }
    Ok(())
}

const SMALL: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "small\n")
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 6))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))))"#;

/// Changes one byte, as a disk would: the owner and mode of the file are no hindrance.
fn change(path: &Path, place: u64) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    let file = fs::File::options().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, place)?;
    file.write_all_at(&[byte[0] ^ 0x40], place)?;
    Ok(())
}

fn truncated_anywhere() -> Result<()> {
    let node = Node::cold(Version::V2_4)?;
    let image = small(&node)?;
    runs_small(&node, &image)?;
    let length = fs::metadata(entries(&node)?.pop().context("nothing was compiled")?)?.len();
    for part in 0..10 {
        let entry = entries(&node)?.pop().context("the entry is gone")?;
        fs::set_permissions(&entry, fs::Permissions::from_mode(0o600))?;
        // From a length that still looks like an entry down to nothing at all.
        let file = fs::File::options().write(true).open(&entry)?;
        file.set_len((length - 1) * (9 - part) / 9)?;
        runs_small(&node, &image)?;
    }
    Ok(())
}

/// A module that compiles in no time; what is done to its entry does not depend on what it does.
fn small(node: &Node) -> Result<Image> {
    let image = Image::layer("small", &guest::text(SMALL)?);
    node.import(&image)?;
    Ok(image)
}

fn runs_small(node: &Node, image: &Image) -> Result<()> {
    assert_eq!(node.run(image).output()?.ok()?, "small\n");
    Ok(())
}

/// Two good entries under each other's names: right by themselves, wrong for the key.
fn entries_swapped() -> Result<()> {
    let node = Node::cold(Version::V2_4)?;
    let one = layer(&node)?;
    runs(&node, &one)?;
    let other = small(&node)?;
    runs_small(&node, &other)?;
    let names = entries(&node)?;
    let [a, b] = names.as_slice() else {
        bail!("two modules, but {names:?}")
    };
    let third = node.directory().join("tmp/third");
    fs::rename(a, &third)?;
    fs::rename(b, a)?;
    fs::rename(&third, b)?;
    runs(&node, &one)?;
    runs_small(&node, &other)
}

/// A file that somebody else could have written, and can still change, is no entry.
fn entry_of_another_owner() -> Result<()> {
    let node = Node::cold(Version::V2_4)?;
    let image = layer(&node)?;
    runs(&node, &image)?;
    let entry = entries(&node)?.pop().context("nothing was compiled")?;
    let before = fs::metadata(&entry)?.ino();
    std::os::unix::fs::chown(&entry, Some(65534), Some(65534))?;
    runs(&node, &image)?;
    let after = entries(&node)?
        .pop()
        .context("nothing was compiled again")?;
    ensure!(
        fs::metadata(after)?.ino() != before,
        "an entry that another user owns was used"
    );
    Ok(())
}

fn entry_removed_while_it_runs() -> Result<()> {
    let node = Node::cold(Version::V2_4)?;
    let image = layer(&node)?;
    let task = node
        .run(&image)
        .guest(&["say", "up", "sleep", "1", "show", "exit", "5"])
        .start()?;
    task.wait_for_output("up")?;
    for entry in entries(&node)? {
        fs::remove_file(entry)?;
    }
    task.wait_until_stopped(Duration::from_secs(10))?;
    ensure!(
        task.output().contains("arg 0"),
        "the guest went wrong: {}",
        task.output()
    );
    assert_eq!(task.remove()?, 5);
    runs(&node, &image)
}

fn worker_killed() -> Result<()> {
    let node = Node::cold(Version::V2_4)?;
    let image = Image::layer("large", &slow(30_000)?);
    node.import(&image)?;
    let mut child = node.run(&image).spawn()?;
    let worker = wait_for(
        "no compile worker was seen",
        Duration::from_secs(20),
        || Ok(node.processes_named("skiff-compile").pop()),
    )?;
    std::thread::sleep(Duration::from_millis(50));
    let id = i32::try_from(worker)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .context("no process id")?;
    rustix::process::kill_process(id, rustix::process::Signal::KILL)?;
    let status = wait_for(
        "the container does not fail",
        Duration::from_secs(30),
        || Ok(child.try_wait()?),
    )?;
    ensure!(!status.success(), "the container ran without a compiler");
    let containers = node.ctr(&["container", "ls", "--quiet"])?.ok()?;
    for id in containers.lines() {
        node.ctr(&["container", "rm", id])?.ok()?;
    }
    ensure!(
        entries(&node)?.is_empty(),
        "a killed worker's output is in the cache"
    );
    // It was the worker's end, not the module's fault: the next start compiles.
    node.run(&image).output()?.ok()?;
    Ok(())
}

/// What takes long to compile is bounded, holds nobody else up, and ends with whoever asked for it.
fn large_module_leaves_others_alone() -> Result<()> {
    let node = Node::cold(Version::V2_4)?;
    let quick = small(&node)?;
    runs_small(&node, &quick)?;
    let large = Image::layer("large", &slow(60_000)?);
    node.import(&large)?;
    let run = node.run(&large);
    let id = run.id().to_owned();
    let mut child = run.spawn()?;
    let worker = wait_for(
        "no compile worker was seen",
        Duration::from_secs(20),
        || Ok(node.processes_named("skiff-compile").pop()),
    )?;

    // It takes its privileges away itself, and most of its system calls last of all.
    let filters = |status: &str| -> Option<u32> {
        let (_, rest) = status.split_once("Seccomp_filters:")?;
        rest.lines().next()?.trim().parse().ok()
    };
    let own = filters(&fs::read_to_string("/proc/self/status")?).context("no seccomp here")?;
    let status = wait_for(
        "the compiler has no filter of its own",
        Duration::from_secs(5),
        || {
            let status = fs::read_to_string(format!("/proc/{worker}/status"))?;
            Ok((filters(&status) == Some(own + 1)).then_some(status))
        },
    )?;
    for line in [
        "Seccomp:\t2",
        "NoNewPrivs:\t1",
        "Uid:\t65534\t65534\t65534\t65534",
        "CapEff:\t0000000000000000",
    ] {
        ensure!(
            status.contains(line),
            "\"{line}\" is not true of the compiler: {status}"
        );
    }
    let groups = fs::read_to_string(format!("/proc/{worker}/cgroup"))?;
    let memory = groups.lines().find_map(|line| line.split_once(":memory:"));
    if let Some((_, path)) = memory {
        let limit =
            fs::read_to_string(format!("/sys/fs/cgroup/memory{path}/memory.limit_in_bytes"))?;
        ensure!(
            limit.trim().parse::<u64>()? <= 2 << 30,
            "the compiler may take {} bytes of memory",
            limit.trim()
        );
    }
    let ran = node.run(&quick).output()?;
    ensure!(
        ran.stdout == "small\n" && ran.time < Duration::from_secs(5),
        "another container took {:?}: {}",
        ran.time,
        ran.stderr
    );
    ensure!(
        child.try_wait()?.is_none(),
        "the large module was compiled in no time: this test shows nothing"
    );

    child.kill()?;
    child.wait()?;
    wait_for(
        "the compiler goes on for nobody",
        Duration::from_secs(20),
        || {
            Ok(node
                .processes_named("skiff-compile")
                .is_empty()
                .then_some(()))
        },
    )?;
    // Its client is gone, so nobody has removed it.
    wait_for(
        "the container cannot be removed",
        Duration::from_secs(20),
        || {
            node.ctr(&["task", "delete", "--force", &id])?;
            Ok((node.ctr(&["container", "rm", &id])?.code == 0).then_some(()))
        },
    )
}

/// A pod with less memory than compiling takes runs all the same.
fn pod_is_not_charged() -> Result<()> {
    let node = Node::cold(Version::V2_4)?;
    let image = Image::layer("large", &slow(25_000)?);
    node.import(&image)?;
    let ran = node
        .run(&image)
        .with(&["--memory-limit", "25165824"])
        .output()?;
    assert_eq!(ran.code, 0, "with a limit of 24 MiB: {}", ran.stderr);
    Ok(())
}

/// The engine host runs as uid 0 of the machine here: not even so can it open its code or its program for writing.
fn not_writable_from_the_container() -> Result<()> {
    let node = Node::cold(Version::V2_4)?;
    let image = layer(&node)?;
    let task = sleeper(&node, &image)?;
    let (_, process) = task.state()?;
    let entry = entries(&node)?.pop().context("nothing was compiled")?;
    for fd in fs::read_dir(format!("/proc/{process}/fd"))?.flatten() {
        let number = fd.file_name().to_string_lossy().into_owned();
        let Ok(target) = fs::metadata(fd.path()) else {
            continue;
        };
        let flags = fs::read_to_string(format!("/proc/{process}/fdinfo/{number}"))?;
        let flags = flags
            .lines()
            .find_map(|line| line.strip_prefix("flags:"))
            .context("no flags")?
            .trim()
            .to_owned();
        let writable = u32::from_str_radix(&flags, 8)? & 3 != 0;
        ensure!(
            target.ino() != fs::metadata(&entry)?.ino() || !writable,
            "descriptor {number} of the host can write the cache entry"
        );
    }
    task.remove()?;
    Ok(())
}
