//! Serving HTTP, beside peers that serve the same: every server on one processor, the load on another, in turns.
//!
//! `wrk` asks as fast as it can, over 1, 32 and 256 connections, in [`workload`]s; [`steady`] asks at a fixed rate. All
//! servers are there for the whole scenario, in one network that is the bench's own; those without work sleep.

pub(crate) mod native;
mod server;
mod steady;
mod table;
mod usage;
mod workload;
mod wrk;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::kubelet::Kubelet;
use crate::measurement::{Bound, Measurement, Outcome, Promise, Unit, median, precise};
use crate::settings::Settings;
use server::{Running, Server};
use workload::Workload;
use wrk::Figures;

/// The processor of all servers.
const SERVING: &str = "0";
/// The processor of the load, and of the service that others call.
const LOADING: &str = "1";
/// Connections at a time.
const CONNECTIONS: [usize; 3] = [1, 32, 256];
/// Connections of what is promised.
const USUAL: usize = 32;
/// Share of the slowest peer's most at which latency is compared.
const SHARE: f64 = 0.7;

/// A round at that rate.
const ROUND: Duration = Duration::from_millis(250);

/// What was found: each run of a server with a workload over so many connections.
type Found = BTreeMap<(Workload, usize, Server), Vec<Figures>>;

/// The scenario.
pub(crate) fn measure(settings: &Settings) -> Result<Outcome> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    if processors < 2 {
        return Ok(Outcome {
            skipped: Some("a server and its load need two processors".to_owned()),
            ..Outcome::default()
        });
    }
    let mut outcome = Outcome::default();
    // In the network that this makes, all that is started from here on lives.
    let kubelet = Kubelet::start(settings, true)?;
    let other = server::other(settings)?;
    let mut servers = Vec::new();
    for server in Server::ALL {
        if !server.wanted(settings) {
            continue;
        }
        match server::start(server, &kubelet.node, settings, other.address) {
            Ok(running) => servers.push(running),
            // A peer that this machine has not says so; of our own none may be missing.
            Err(error) if !server.is_ours() => {
                outcome
                    .notes
                    .push(format!("{} is missing: {error:#}", server.name()));
            }
            Err(error) => return Err(error.context(server.name())),
        }
    }
    let measured = all(settings, &servers, other.address, &mut outcome);
    for server in servers {
        server.stop()?;
    }
    other.stop()?;
    kubelet.finish(&mut outcome.notes)?;
    measured?;
    Ok(outcome)
}

fn all(
    settings: &Settings,
    servers: &[Running<'_>],
    other: SocketAddr,
    outcome: &mut Outcome,
) -> Result<()> {
    for server in servers {
        for workload in Workload::ALL {
            if server.server.knows(workload) {
                workload
                    .check(server.address, other)
                    .with_context(|| server.server.name())?;
            }
        }
    }
    let mut found = Found::new();
    let rounds = if settings.quick { 1 } else { 3 };
    for round in 0..rounds {
        for workload in Workload::ALL {
            for connections in CONNECTIONS {
                // What is promised is measured in every round, the rest in the first.
                if round > 0 && (workload, connections) != (Workload::Hello, USUAL) {
                    continue;
                }
                turn(settings, servers, workload, connections, other, &mut found)?;
            }
        }
    }
    let memory: Vec<_> = servers
        .iter()
        .map(|server| (server.server, usage::pss(&server.processes())))
        .collect();
    let known = [Server::Runwasi, Server::ServeFresh, Server::SkiffFresh];
    let slowest = known
        .into_iter()
        .find_map(|server| Some((server, rate(&found, server)?)));
    let steady = match slowest {
        Some((_, slowest)) => at_a_rate(settings, servers, slowest * SHARE)?,
        None => Vec::new(),
    };
    report(outcome, &found, &steady, &memory);
    if let Some((server, slowest)) = slowest {
        outcome.notes.push(format!(
            "The fixed rate is {:.0} requests a second ({:.0} % of what \"{}\" answers at most over {USUAL} connections), \
             over {USUAL} connections, in rounds of {} ms, in turns; a request is late from the moment at which it was due, also when no connection was free for it.",
            slowest * SHARE,
            SHARE * 100.0,
            server.name(),
            ROUND.as_millis(),
        ));
    }
    Ok(())
}

/// One run of each server.
fn turn(
    settings: &Settings,
    servers: &[Running<'_>],
    workload: Workload,
    connections: usize,
    other: SocketAddr,
    found: &mut Found,
) -> Result<()> {
    let time = match (settings.quick, workload) {
        (true, _) => Duration::from_millis(600),
        (false, Workload::Hello) => Duration::from_millis(2000),
        (false, _) => Duration::from_millis(1500),
    };
    for server in servers {
        if !server.server.knows(workload) {
            continue;
        }
        let processes = server.processes();
        let before = usage::processor_time(&processes);
        let load = wrk::Load {
            workload,
            connections,
            time,
            place: &settings.place,
        };
        let at = || {
            let name = server.server.name();
            format!("{name}: {}, {connections} connections", workload.name())
        };
        let mut figures = load.run(server.address, other).with_context(at)?;
        // On a busy machine the load may not have had its turn in so short a time.
        if figures.requests < 1.0 {
            figures = load.run(server.address, other).with_context(at)?;
        }
        ensure!(figures.requests > 0.0, "{} has answered nothing", at());
        let spent = usage::processor_time(&processes).saturating_sub(before);
        figures.processor = spent.as_secs_f64() * 1e6 / figures.requests;
        found
            .entry((workload, connections, server.server))
            .or_default()
            .push(figures);
    }
    Ok(())
}

/// Rounds of a server at a fixed rate: in each, what its requests took, in milliseconds.
type Steady = Vec<(Server, Vec<Vec<f64>>)>;

/// Latencies of each server at the same rate, in many short rounds: what holds up the machine for some milliseconds spoils
/// one round of one server, and not its figure.
fn at_a_rate(settings: &Settings, servers: &[Running<'_>], rate: f64) -> Result<Steady> {
    let rounds = if settings.quick { 5 } else { 25 };
    let mut all: Steady = servers
        .iter()
        .map(|server| (server.server, Vec::new()))
        .collect();
    for _ in 0..rounds {
        for (server, (_, found)) in servers.iter().zip(&mut all) {
            let times = steady::run(server.address, rate, USUAL, ROUND)
                .with_context(|| format!("{} at {rate:.0}/s", server.server.name()))?;
            found.push(times);
        }
    }
    Ok(all)
}

/// What a server answers at most, over the usual connections.
fn rate(found: &Found, server: Server) -> Option<f64> {
    let figures = found.get(&(Workload::Hello, USUAL, server))?;
    let rates: Vec<f64> = figures.iter().map(|figures| figures.rate).collect();
    Some(median(&rates))
}

fn report(outcome: &mut Outcome, found: &Found, steady: &Steady, memory: &[(Server, f64)]) {
    let mut series = |what, unit, server: Server, samples: Vec<f64>| {
        outcome.measurements.push(Measurement {
            scenario: "http-serving",
            runtime: server.name(),
            what,
            unit,
            samples,
        });
    };
    for ((workload, connections, server), figures) in found {
        if *connections == USUAL {
            let rates = figures.iter().map(|figures| figures.rate).collect();
            series(workload.rate(), Unit::PerSecond, *server, rates);
        }
    }
    for ((workload, connections, server), figures) in found {
        if (*workload, *connections) == (Workload::Hello, USUAL) {
            let times = figures.iter().map(|figures| figures.processor).collect();
            let what = "processor time of a request: hello, 32 connections";
            series(what, Unit::Microseconds, *server, times);
        }
    }
    for (what, share) in [
        ("at the fixed rate: median of a round", 0.5),
        ("at the fixed rate: p99 of a round", 0.99),
    ] {
        for (server, rounds) in steady {
            series(what, Unit::Milliseconds, *server, quantiles(rounds, share));
        }
    }
    for (server, pss) in memory {
        series(
            "memory (PSS) of the server after the load",
            Unit::Megabytes,
            *server,
            vec![*pss],
        );
    }
    outcome.promises = promises(found, steady);
    outcome.notes.extend(table::of(found));
    outcome.notes.push(
        "All servers are on processor 0, the load (`wrk`, one thread) and the service that others call on processor 1: \
         a machine with two processors can serve on one and load on the other, and not serve on two. Skiff's and runwasi's \
         servers are containers of a containerd, with a cpuset and no other limit. \"0.2\" has an instance for each request, \
         \"reuse\" up to 128 requests of an instance (`Http.InstanceRequests`, `--max-instance-reuse-count`), \"0.3\" up to \
         128 and 16 at a time, which is the default. Memory is that of the serving process alone."
            .to_owned(),
    );
}

/// The quantile of each round.
fn quantiles(rounds: &[Vec<f64>], share: f64) -> Vec<f64> {
    let quantile = |times: &Vec<f64>| steady::quantile(times, share);
    rounds.iter().map(quantile).collect()
}

fn promises(found: &Found, steady: &Steady) -> Vec<Promise> {
    let mut promises = Vec::new();
    let ratios = [
        (
            Server::SkiffFresh,
            Server::Runwasi,
            2.0,
            "hello over 32 connections: how many times runwasi's server",
        ),
        (
            Server::SkiffFresh,
            Server::ServeFresh,
            1.3,
            "hello over 32 connections: how many times `wasmtime serve`, an instance for each request",
        ),
        (
            Server::SkiffReuse,
            Server::ServeReuse,
            1.3,
            "hello over 32 connections: how many times `wasmtime serve`, 128 requests of an instance",
        ),
        (
            Server::SkiffP3,
            Server::ServeP3,
            1.3,
            "hello over 32 connections: how many times `wasmtime serve`, WASI 0.3",
        ),
        (
            Server::SkiffP3,
            Server::Native,
            0.6,
            "hello over 32 connections, WASI 0.3: share of what a native hyper server answers",
        ),
    ];
    for (ours, theirs, bound, text) in ratios {
        if let (Some(ours), Some(theirs)) = (rate(found, ours), rate(found, theirs)) {
            promises.push(Promise {
                text,
                measured: ours / theirs,
                bound: Bound::AtLeast(bound),
                unit: "x",
            });
        }
    }
    let p99 = |wanted: Server| {
        let (_, rounds) = steady.iter().find(|(server, _)| *server == wanted)?;
        Some(median(&quantiles(rounds, 0.99)))
    };
    if let (Some(ours), Some(theirs)) = (p99(Server::SkiffFresh), p99(Server::Runwasi)) {
        promises.push(Promise {
            text: "p99 at 70 % of runwasi's most, median of the rounds: share of runwasi's",
            measured: ours / theirs,
            bound: Bound::AtMost(0.5),
            unit: "x",
        });
    }
    promises
}

/// How many of something, as a figure.
fn number(count: usize) -> f64 {
    precise(count)
}
