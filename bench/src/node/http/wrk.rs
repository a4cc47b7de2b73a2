//! `wrk`, one thread on a processor of its own, which asks as fast as it is answered.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use skiff_test::{command, tools};

use super::LOADING;
use super::workload::Workload;

/// What a run tells, on one line: numbers that wrk's own report rounds or leaves out.
const DONE: &str = r#"
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("figures %d %d %d %d %d %d\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"#;

/// A run to be.
pub(super) struct Load<'a> {
    pub(super) workload: Workload,
    pub(super) connections: usize,
    pub(super) time: Duration,
    pub(super) place: &'a Path,
}

/// What a run has found. Times of latency are milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figures {
    pub(super) requests: f64,
    /// A second.
    pub(super) rate: f64,
    pub(super) median: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    /// Microseconds of the server's processor time, each request.
    pub(super) processor: f64,
}

impl Load<'_> {
    /// Asks a server.
    pub(super) fn run(&self, server: SocketAddr, other: SocketAddr) -> Result<Figures> {
        let script = self.place.join("wrk.lua");
        let mut text = String::new();
        if let Some(body) = self.workload.body() {
            text.push_str(&format!(
                "wrk.method = \"POST\"\nwrk.body = '{body}'\nwrk.headers[\"content-type\"] = \"application/json\"\n"
            ));
        }
        text.push_str(DONE);
        fs::write(&script, text)?;
        let url = format!("http://{server}{}", self.workload.target(other));
        let mut wrk = Command::new("taskset");
        // Unpacked, not installed: its library lies beside it.
        let library = tools::package("libluajit-5.1-2")?.join("usr/lib");
        let library = library.join(format!("{}-linux-gnu", std::env::consts::ARCH));
        wrk.env("LD_LIBRARY_PATH", library)
            .args(["-c", LOADING])
            .arg(tools::package("wrk")?.join("usr/bin/wrk"))
            .args(["--threads", "1", "--timeout", "5s", "--latency"])
            .args(["--connections", &self.connections.to_string()])
            // It knows whole seconds only, and ends what is asked of it when it is interrupted.
            .args(["--duration", "60s", "--script"])
            .arg(&script)
            .arg(url);
        let output = interrupted(&mut wrk, self.time)?;
        let line = output
            .lines()
            .find_map(|line| line.strip_prefix("figures "));
        let numbers: Vec<f64> = line
            .with_context(|| format!("wrk has not told its figures: {output}"))?
            .split(' ')
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        let [requests, duration, median, p99, p999, errors] = numbers[..] else {
            anyhow::bail!("wrk has told other figures: {output}");
        };
        ensure!(errors < 0.5, "{errors} requests have failed: {output}");
        Ok(Figures {
            requests,
            rate: requests * 1e6 / duration,
            median: median / 1e3,
            p99: p99 / 1e3,
            p999: p999 / 1e3,
            processor: f64::NAN,
        })
    }
}

/// Runs a program for so long, then interrupts it as Ctrl-C does.
fn interrupted(program: &mut Command, time: Duration) -> Result<String> {
    use rustix::process::{Pid, Signal, kill_process};
    use std::process::Stdio;
    let line = command::describe(program);
    let child = program
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("could not start `{line}`"))?;
    std::thread::sleep(time);
    if let Some(process) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        kill_process(process, Signal::INT).ok();
    }
    let ended = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&ended.stdout).into_owned();
    ensure!(
        ended.status.success(),
        "`{line}` ended with {}: {text}{}",
        ended.status,
        String::from_utf8_lossy(&ended.stderr)
    );
    Ok(text)
}
