//! The figures of `Stats` against the cgroup's own files, read just before and just after.

use std::fs;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use containerd_shim_protos::cgroups::metrics::Metrics;
use containerd_shim_protos::protobuf::Message as _;
use skiff_test::guest;
use skiff_test::node::{Node, Version};
use skiff_test::raw::{Shim, Stdio};
use skiff_test::tools;

skiff_test::cases!(figures_are_the_cgroups, processor_time_of_a_spin);

/// A figure: its name, the cgroup's file, the line of it (none: the file is the number), and what `Stats` says.
type Figure = (
    &'static str,
    &'static str,
    &'static str,
    fn(&Metrics) -> u64,
);

/// What only grows while the container lives.
const GROWING: &[Figure] = &[
    ("cpu total", "cpuacct/cpuacct.usage", "", |m| {
        m.cpu.usage.total
    }),
    ("cpu user", "cpuacct/cpuacct.usage_user", "", |m| {
        m.cpu.usage.user
    }),
    ("cpu kernel", "cpuacct/cpuacct.usage_sys", "", |m| {
        m.cpu.usage.kernel
    }),
    ("cpu periods", "cpu/cpu.stat", "nr_periods", |m| {
        m.cpu.throttling.periods
    }),
    ("cpu throttled", "cpu/cpu.stat", "throttled_time", |m| {
        m.cpu.throttling.throttled_time
    }),
    ("page faults", "memory/memory.stat", "total_pgfault", |m| {
        m.memory.total_pg_fault
    }),
    ("pages charged", "memory/memory.stat", "total_pgpgin", |m| {
        m.memory.total_pg_pg_in
    }),
    ("memory peak", "memory/memory.max_usage_in_bytes", "", |m| {
        m.memory.usage.max
    }),
    ("memory failures", "memory/memory.failcnt", "", |m| {
        m.memory.usage.failcnt
    }),
];

/// What can go up and down; looked at while the container stands still.
const OTHERS: &[Figure] = &[
    ("memory", "memory/memory.usage_in_bytes", "", |m| {
        m.memory.usage.usage
    }),
    ("memory limit", "memory/memory.limit_in_bytes", "", |m| {
        m.memory.usage.limit
    }),
    ("anonymous memory", "memory/memory.stat", "total_rss", |m| {
        m.memory.total_rss
    }),
    ("cached files", "memory/memory.stat", "total_cache", |m| {
        m.memory.total_cache
    }),
    (
        "mapped files",
        "memory/memory.stat",
        "total_mapped_file",
        |m| m.memory.total_mapped_file,
    ),
    ("processes", "pids/pids.current", "", |m| m.pids.current),
];

struct Container<'a> {
    shim: Shim<'a>,
    namespace: String,
}

impl<'a> Container<'a> {
    fn start(node: &'a Node, words: &[&str]) -> Result<Self> {
        let program = tools::skiff("containerd-shim-skiff-v1")?;
        let mut arguments = vec!["/app.wasm"];
        arguments.extend(words);
        let module = guest::module()?;
        let shim = Shim::start(node, &program, &[("app.wasm", &module)], &arguments)?;
        let namespace = node.namespace().to_owned();
        Ok(Self { shim, namespace })
    }

    fn file(&self, file: &str) -> PathBuf {
        let (controller, name) = file.split_once('/').unwrap_or(("", file));
        let (namespace, id) = (&self.namespace, self.shim.id());
        PathBuf::from(format!(
            "/sys/fs/cgroup/{controller}/{namespace}/{id}/{name}"
        ))
    }

    fn read(&self, (_, file, line, _): &Figure) -> Result<u64> {
        let path = self.file(file);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let number = if line.is_empty() {
            Some(text.trim())
        } else {
            text.lines()
                .find_map(|whole| whole.strip_prefix(line)?.strip_prefix(' '))
        };
        number
            .with_context(|| format!("{file} has no {line}"))?
            .parse()
            .with_context(|| format!("{file}: {text}"))
    }

    fn stats(&self) -> Result<Metrics> {
        Ok(Metrics::parse_from_bytes(&self.shim.stats()?)?)
    }

    fn freeze(&self, state: &str) -> Result<()> {
        let file = self.file("freezer/freezer.state");
        fs::write(&file, state)?;
        for _ in 0..1000 {
            if fs::read_to_string(&file)?.trim() == state {
                return Ok(());
            }
            sleep(Duration::from_millis(2));
        }
        anyhow::bail!("it does not become {state}")
    }
}

fn is_v1() -> bool {
    PathBuf::from("/sys/fs/cgroup/memory/memory.usage_in_bytes").exists()
}

fn figures_are_the_cgroups() -> Result<()> {
    if !is_v1() {
        skiff_test::skip!("the files are those of cgroup v1");
    }
    let node = Node::start(Version::V2_4)?;
    let container = Container::start(&node, &["grow", "8", "spin"])?;
    container.shim.create(&Stdio::default())?;
    container.shim.run()?;
    for _ in 0..25 {
        let before: Vec<u64> = GROWING
            .iter()
            .map(|figure| container.read(figure))
            .collect::<Result<_>>()?;
        let stats = container.stats()?;
        for (figure, before) in GROWING.iter().zip(before) {
            let (name, told, after) = (figure.0, (figure.3)(&stats), container.read(figure)?);
            ensure!(
                (before..=after).contains(&told),
                "{name}: {before} before, {told} told, {after} after"
            );
        }
        sleep(Duration::from_millis(20));
    }
    container.freeze("FROZEN")?;
    let stats = container.stats()?;
    for figure in GROWING.iter().chain(OTHERS) {
        let (name, told, is) = (figure.0, (figure.3)(&stats), container.read(figure)?);
        ensure!(
            told == is,
            "{name} of a container that stands still: {told} told, {is} it is"
        );
    }
    ensure!(
        (OTHERS[2].3)(&stats) > 8 << 20,
        "the guest has written to 8 MiB"
    );
    container.freeze("THAWED")?;
    container.shim.clean()
}

/// The scheduler's own account of the process, and where nothing else wanted its processor, the clock.
#[expect(
    clippy::print_stdout,
    reason = "a weaker comparison is said where results are read"
)]
fn processor_time_of_a_spin() -> Result<()> {
    if !is_v1() {
        skiff_test::skip!("the files are those of cgroup v1");
    }
    let seconds = std::env::var("SKIFF_TEST_SPIN").map_or(Ok(3), |text| text.parse())?;
    let node = Node::start(Version::V2_4)?;
    let container = Container::start(&node, &["spin"])?;
    let pid = container.shim.create(&Stdio::default())?;
    container.shim.run()?;
    // On the processor, and waiting for one, in nanoseconds.
    let account = || -> Result<(u64, u64)> {
        let text = fs::read_to_string(format!("/proc/{pid}/schedstat"))?;
        let mut numbers = text.split_whitespace().map(str::parse);
        let mut next = || -> Result<u64> { Ok(numbers.next().context("schedstat is short")??) };
        Ok((next()?, next()?))
    };
    let total = || -> Result<u64> { Ok(container.stats()?.cpu.usage.total) };
    sleep(Duration::from_millis(200));
    let (begin, first, (ran, waited)) = (Instant::now(), total()?, account()?);
    sleep(Duration::from_secs(seconds));
    let (told, (ran_now, waited_now)) = (total()? - first, account()?);
    let (clock, ran, waited) = (begin.elapsed(), ran_now - ran, waited_now - waited);
    let near = |is: u64| told.abs_diff(is) * 50 <= is;
    ensure!(near(ran), "told {told} ns, and it ran for {ran} ns");
    let clock = u64::try_from(clock.as_nanos())?;
    if waited * 200 < clock {
        ensure!(near(clock), "told {told} ns for a spin of {clock} ns");
    } else {
        println!(
            "the spin had to wait {waited} of {clock} ns for a processor: compared with the scheduler alone"
        );
    }
    container.shim.clean()
}
