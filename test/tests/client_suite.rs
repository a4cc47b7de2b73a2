//! containerd's own client suite under runc's shim and under ours: every test that passes under runc's passes under
//! ours. `make test-client-suite`, or `test/run.sh client-suite [OPTION…]`:
//!
//! * `--runtime TYPE`  only this runtime, and no comparison
//! * `--run REGEX`     only tests whose name matches
//! * `--verbose`       what the suite itself writes
//!
//! The suite starts containerds of its own with directories that are fixed, and pulls images by fixed names: it runs
//! where those directories are private and those names lead to a registry on loopback.
#![expect(
    clippy::print_stdout,
    reason = "a test runner speaks on standard output"
)]

#[path = "suites/lists.rs"]
mod lists;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::inotify;
use rustix::process::{Pid, WaitOptions};
use serde_json::Value;
use skiff_test::node::{RUNC, WASMTIME};
use skiff_test::registry::Registry;
use skiff_test::residue::Probe;
use skiff_test::{inside, tools, upstream};

use lists::{Outcome, Results};

/// The reference, and what is compared with it.
const RUNTIMES: [&str; 2] = [RUNC, WASMTIME];

/// A whole run takes five minutes on two cores.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// Fewer would mean that the suite no longer asks much of a shim.
const LEAST_TASKS: usize = 60;

/// Where the suite's containerd keeps a task's bundle, by the container's id.
const BUNDLES: &str = "/run/containerd-test/io.containerd.runtime.v2.task/testing";

#[derive(Debug, Default)]
struct Wish {
    runtimes: Vec<String>,
    run: Option<String>,
    verbose: bool,
}

fn main() -> ExitCode {
    match wish().and_then(|wish| {
        inside::enter()?;
        run(&wish)
    }) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("client-suite: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn wish() -> Result<Wish> {
    let mut wish = Wish::default();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || {
            arguments
                .next()
                .with_context(|| format!("{argument} needs a value"))
        };
        match argument.as_str() {
            "--runtime" => wish.runtimes.push(value()?),
            "--run" => wish.run = Some(value()?),
            "--verbose" => wish.verbose = true,
            _ => bail!("there is no option {argument}"),
        }
    }
    if wish.runtimes.is_empty() {
        wish.runtimes = RUNTIMES.map(str::to_owned).to_vec();
    }
    Ok(wish)
}

fn run(wish: &Wish) -> Result<bool> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let place = Place::new()?;
    let registry = Registry::start_under_names(
        &upstream::CLIENT_SUITE_REGISTRIES,
        &place.directory.join("authority.pem"),
    )?;
    upstream::push_for_client_suite(&registry)?;
    let mut all = Vec::new();
    for runtime in &wish.runtimes {
        let (results, with_tasks) = place.suite(runtime, wish, &registry)?;
        results.print(runtime);
        println!("=== {runtime}: {with_tasks} of the tests that passed create a task");
        all.push((results, with_tasks));
    }
    let [(theirs, _), (ours, with_tasks)] = all.as_slice() else {
        return Ok(all.iter().all(|(results, _)| results.failed() == 0));
    };
    let enough = wish.run.is_some() || *with_tasks >= LEAST_TASKS;
    if !enough {
        println!("{with_tasks} tests with a task passed, and {LEAST_TASKS} are needed");
    }
    Ok(lists::compare("client-suite", theirs, ours) && enough)
}

/// What the suite finds at its fixed places.
#[derive(Debug)]
struct Place {
    directory: PathBuf,
}

impl Place {
    fn new() -> Result<Self> {
        let directory = PathBuf::from(format!("/tmp/skt{}x0", std::process::id()));
        for place in ["lib", "tmp", "cache", "run"] {
            fs::create_dir_all(directory.join(place))?;
        }
        let names = upstream::CLIENT_SUITE_REGISTRIES.join(" ");
        let hosts = directory.join("hosts");
        fs::write(&hosts, format!("127.0.0.1 localhost {names}\n"))?;
        inside::replace("/etc/hosts", &hosts)?;
        inside::hide("/run")?;
        inside::hide("/opt")?;
        inside::replace("/var/lib", &directory.join("lib"))?;
        Ok(Self { directory })
    }

    /// Runs the suite for a runtime; answers how many of the tests that passed create a task.
    fn suite(&self, runtime: &str, wish: &Wish, registry: &Registry) -> Result<(Results, usize)> {
        let component = tools::component("client-suite")?;
        fs::create_dir_all(BUNDLES)?;
        let watch = inotify::init(inotify::CreateFlags::NONBLOCK)?;
        inotify::add_watch(&watch, BUNDLES, inotify::WatchFlags::CREATE)?;
        let mut command = Command::new(component.join("test2json"));
        command
            .current_dir(component.parent().context("a component has a directory")?)
            .arg("-t")
            .arg(component.join("client-suite.test"))
            .args(["-test.v=test2json", "-test.timeout=25m", "-test.parallel=4"])
            .args(["-test.root", "-no-criu"]);
        if let Some(run) = &wish.run {
            command.arg(format!("-test.run={run}"));
        }
        self.environment(&mut command, runtime)?;
        let log = self.directory.join("log");
        let begin = Instant::now();
        let stream = File::create(&log)?;
        command
            .stdin(Stdio::null())
            .stdout(stream.try_clone()?)
            .stderr(stream);
        wait(&mut command)?;
        let said = fs::read_to_string(&log)?;
        if wish.verbose {
            println!("{said}");
        }
        let tests = read(&said)?;
        ensure!(!tests.is_empty(), "the suite ran no test: {said}");
        let mut results = Results::new(begin.elapsed());
        let mut passed = BTreeSet::new();
        for (name, outcome) in tests {
            if matches!(outcome, Outcome::Passed) {
                passed.insert(name.clone());
            }
            results.add(name, Some(outcome));
        }
        let ids = created(&watch)?;
        self.sweep(registry);
        Ok((results, with_tasks(&passed, &ids)))
    }

    fn environment(&self, command: &mut Command, runtime: &str) -> Result<()> {
        let programs = [
            tools::skiff_dir(),
            tools::component("containerd-2.4")?,
            tools::component("runc")?,
            tools::component("client-suite")?,
        ];
        let path = programs.map(|path| path.display().to_string()).join(":");
        command
            .env_clear()
            .env(
                "PATH",
                format!("{path}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            )
            .env("HOME", &self.directory)
            .env("TMPDIR", self.directory.join("tmp"))
            .env("TEST_RUNTIME", runtime)
            .env("SSL_CERT_FILE", self.directory.join("authority.pem"))
            .env("SKIFF_CACHE_DIR", self.directory.join("cache"))
            .env("SKIFF_RUN_DIR", self.directory.join("run"));
        Ok(())
    }

    /// Ends what failed tests have left running, so that the next run begins as this one did.
    fn sweep(&self, registry: &Registry) {
        let probe = Probe {
            directory: self.directory.clone(),
            cache: self.directory.join("cache"),
            namespace: "testing".to_owned(),
            long_lived: vec![registry.id()],
        };
        probe.sweep();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The mounts end with the namespace; what is below them is on disk.
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            println!("could not remove {}: {error}", self.directory.display());
        }
    }
}

/// Runs a program to its end, and reaps what it and its children have orphaned: the suite waits for shims to be gone,
/// and a zombie is not gone.
fn wait(command: &mut Command) -> Result<()> {
    let begin = Instant::now();
    let child = command.spawn()?;
    let main = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    loop {
        match rustix::process::wait(WaitOptions::NOHANG)? {
            Some((ended, _)) if Some(ended) == main => return Ok(()),
            Some(_) => {}
            None => {
                ensure!(begin.elapsed() < LIMIT, "the suite does not end");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// The tests of a stream of test2json, with what they said.
fn read(stream: &str) -> Result<BTreeMap<String, Outcome>> {
    let mut said: BTreeMap<String, String> = BTreeMap::new();
    let mut tests = BTreeMap::new();
    for line in stream.lines().filter(|line| line.starts_with('{')) {
        let event: Value = serde_json::from_str(line)?;
        let Some(name) = event["Test"].as_str() else {
            continue;
        };
        let words = said.entry(name.to_owned()).or_default();
        let outcome = match event["Action"].as_str() {
            Some("pass") => Outcome::Passed,
            Some("skip") => Outcome::Skipped(std::mem::take(words)),
            Some("fail") => Outcome::Failed(std::mem::take(words)),
            Some("output") => {
                let output = event["Output"].as_str().unwrap_or_default();
                // Not the frame, and not what the client logs.
                let frame = output.starts_with("=== ") || output.trim().starts_with("--- ");
                if !frame && !output.contains("level=") {
                    words.push_str(output);
                }
                continue;
            }
            _ => continue,
        };
        tests.insert(name.to_owned(), outcome);
    }
    Ok(tests)
}

/// Ids of the containers whose tasks were created.
fn created(watch: &OwnedFd) -> Result<BTreeSet<String>> {
    let mut ids = BTreeSet::new();
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(watch, &mut buffer);
    loop {
        match reader.next() {
            Ok(event) => {
                ids.extend(
                    event
                        .file_name()
                        .map(|name| name.to_string_lossy().into_owned()),
                );
            }
            Err(rustix::io::Errno::AGAIN) => return Ok(ids),
            Err(error) => return Err(error).context("could not read which bundles were made"),
        }
    }
}

/// How many tests have made one of these: a container's id begins with the name of its test, and is its name in
/// part where that holds a slash. Tasks of a containerd that a test starts at another place are not seen.
fn with_tasks(passed: &BTreeSet<String>, ids: &BTreeSet<String>) -> usize {
    let letters = |name: &str| -> String {
        let kept = name.chars().filter(char::is_ascii_alphanumeric);
        kept.collect()
    };
    let makers: BTreeSet<&String> = ids
        .iter()
        .filter_map(|id| {
            let id = letters(id);
            let named = passed.iter().filter(|name| id.starts_with(&letters(name)));
            named.max_by_key(|name| name.len())
        })
        .collect();
    makers.len()
}
