//! Many containers in a row, and many execs at a time, then a look at what they left.
//!
//! Not part of the usual run: `test/run.sh cycles`. `SKIFF_TEST_CYCLES` says how many (1,000).

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use skiff_test::guest;
use skiff_test::image::Image;
use skiff_test::node::{Node, Version};
use skiff_test::raw::{Execs, Shim, Stdio, fifo};
use skiff_test::tools;

skiff_test::cases!(containers_by_ctr, containers_in_one_pod, execs_at_a_time);

fn count() -> u32 {
    std::env::var("SKIFF_TEST_CYCLES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1000)
}

/// A shim each. The probe at the end of the node sees every process, mount, cgroup, socket and file.
fn containers_by_ctr() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::layer("layer", &guest::module()?);
    node.import(&image)?;
    let descriptors =
        || -> Result<usize> { Ok(fs::read_dir(format!("/proc/{}/fd", node.daemon()))?.count()) };
    node.run(&image).output()?.ok()?;
    let before = descriptors()?;
    for number in 0..count() {
        let code = i32::try_from(number % 256)?;
        let ran = node
            .run(&image)
            .guest(&["exit", &code.to_string()])
            .output()?;
        ensure!(
            ran.code == code,
            "container {number} ended with {} instead of {code}: {}",
            ran.code,
            ran.stderr
        );
    }
    let after = descriptors()?;
    ensure!(
        after <= before + 4,
        "containerd had {before} descriptors open and now has {after}"
    );
    Ok(())
}

/// One shim, which must not grow.
fn containers_in_one_pod() -> Result<()> {
    let mut node = Node::start(Version::V2_4)?;
    let reference = node
        .registry()?
        .push(&Image::layer("layer", &guest::module()?), "layer")?;
    let cri = node.cri()?;
    cri.pull(&reference)?;
    let pod = cri.pod("wasmtime", "pod")?;
    let facts = || -> Result<(usize, u64)> {
        let shim = node.shims().pop().context("no shim")?;
        let status = fs::read_to_string(format!("/proc/{shim}/status"))?;
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.split_whitespace().next())
            .context("no VmRSS")?;
        Ok((
            fs::read_dir(format!("/proc/{shim}/fd"))?.count(),
            resident.parse()?,
        ))
    };
    let once = || -> Result<()> {
        let container = pod.start(&reference, &json!({ "args": ["exit", "3"] }))?;
        ensure!(container.wait()? == 3, "the code is another");
        cri.crictl(&["rm", &container.id])?.ok()?;
        Ok(())
    };
    for _ in 0..50 {
        once()?;
    }
    let (descriptors, resident) = facts()?;
    // crictl needs four calls for each container: a fifth of the cycles keeps this under the time of the other.
    for _ in 0..count() / 5 {
        once()?;
    }
    let (descriptors_after, resident_after) = facts()?;
    ensure!(
        descriptors_after == descriptors,
        "the shim had {descriptors} descriptors and now has {descriptors_after}"
    );
    ensure!(
        resident_after <= resident + 256,
        "the shim had {resident} KiB resident and now has {resident_after}"
    );
    pod.remove()
}

/// A hundred at a time: each has its own code and its own two streams, and nothing is left of any.
fn execs_at_a_time() -> Result<()> {
    const AT_A_TIME: usize = 100;
    let node = Node::start(Version::V2_4)?;
    let program = tools::skiff_dir().join("containerd-shim-wasmtime-v1");
    let shim = Shim::start(
        &node,
        &program,
        &[("app.wasm", &guest::module()?)],
        &["/app.wasm", "sleep", "100000"],
    )?;
    shim.create(&Stdio::default())?;
    shim.run()?;
    let shim_process = shim.connect()?;
    let descriptors =
        || -> Result<usize> { Ok(fs::read_dir(format!("/proc/{shim_process}/fd"))?.count()) };
    one_exec(&shim.execs(), shim.bundle(), 0)?;
    let before = descriptors()?;
    let (next, all) = (AtomicU32::new(0), count());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_A_TIME)
            .map(|_| {
                let (execs, bundle, next) = (shim.execs(), shim.bundle(), &next);
                scope.spawn(move || -> Result<()> {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= all {
                            return Ok(());
                        }
                        one_exec(&execs, bundle, number)
                            .with_context(|| format!("exec {number}"))?;
                    }
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| {
            worker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })?;
    ensure!(shim.pids()? == 1, "{} processes are left", shim.pids()?);
    // The connection by which it tells of events comes and goes.
    ensure!(
        descriptors()? <= before + 1,
        "the shim had {before} descriptors and now has {}",
        descriptors()?
    );
    shim.kill(9)?;
    ensure!(shim.wait()? == 137, "the container ended otherwise");
    shim.delete()?;
    shim.shutdown()?;
    shim.clean()
}

fn one_exec(execs: &Execs, bundle: &Path, number: u32) -> Result<()> {
    let (name, code) = (format!("e{number}"), number % 256);
    let stdio = Stdio {
        stdin: String::new(),
        stdout: fifo(&bundle.join(format!("{name}.out")))?,
        stderr: fifo(&bundle.join(format!("{name}.err")))?,
    };
    let reader = |path: &str| {
        let path = path.to_owned();
        std::thread::spawn(move || {
            let mut text = String::new();
            fs::File::open(path)?.read_to_string(&mut text)?;
            anyhow::Ok(text)
        })
    };
    let readers = [reader(&stdio.stdout), reader(&stdio.stderr)];
    let (out, err) = (
        format!("output of {name} ").repeat(300),
        format!("errors of {name}"),
    );
    let words = [
        "/app.wasm",
        "say",
        &out,
        "warn",
        &err,
        "exit",
        &code.to_string(),
    ];
    execs.exec(&name, &words, &stdio)?;
    execs.start(&name)?;
    let waited = execs.wait(&name)?;
    let deleted = execs.delete(&name)?;
    ensure!(
        waited == code && deleted == code,
        "it ended with {waited} and {deleted} instead of {code}"
    );
    for (reader, wanted) in readers.into_iter().zip([&out, &err]) {
        let text = reader
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        ensure!(text.trim_end_matches('\n') == wanted, "it wrote {text:?}");
    }
    fs::remove_file(&stdio.stdout)?;
    fs::remove_file(&stdio.stderr)?;
    Ok(())
}
