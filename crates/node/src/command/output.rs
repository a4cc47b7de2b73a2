//! What `skiff-node` prints: lines for people, or a JSON document per line.
#![expect(clippy::print_stderr, reason = "complaints of a command go to stderr")]

use std::io::{self, Write};

use serde_json::json;
use skiff_node::doctor::{Finding, Status};
use skiff_node::installer::{Progress, Report, StatusReport};

/// Where and how the command answers.
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Prints a line. A reader that has gone away is no failure.
    fn line(text: &str) -> io::Result<()> {
        match writeln!(io::stdout(), "{text}") {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }

    fn try_line(text: &str) {
        // A full disk behind stdout is no reason to leave a node half-way.
        if let Err(error) = Self::line(text) {
            eprintln!("skiff-node: could not print: {error}");
        }
    }

    /// Text for people only.
    pub(crate) fn text(&self, text: &str) -> io::Result<()> {
        if self.json || text.is_empty() {
            return Ok(());
        }
        Self::line(text.trim_end())
    }

    /// What a run did.
    pub(crate) fn result(&self, operation: &str, report: &Report) -> io::Result<()> {
        if self.json {
            return Self::line(&json!({ "result": operation, "report": report }).to_string());
        }
        if !report.kept.is_empty() {
            Self::line(&format!(
                "kept for running pods: {}; a later run removes them",
                report.kept.join(", ")
            ))?;
        }
        Ok(())
    }

    /// What is installed.
    pub(crate) fn status(&self, status: &StatusReport) -> io::Result<()> {
        if self.json {
            let document = serde_json::to_string(status).map_err(io::Error::other)?;
            return Self::line(&document);
        }
        match &status.version {
            Some(version) => Self::line(&format!(
                "version {version}, handlers {}, {}",
                status.handlers.join(", "),
                if status.proven {
                    "proven"
                } else {
                    "not proven"
                }
            ))?,
            None => Self::line("not installed")?,
        }
        if let Some(pending) = &status.pending {
            Self::line(&format!(
                "an {pending} was interrupted: `skiff-node repair` finishes it"
            ))?;
        }
        if let Some(last) = &status.last {
            Self::line(&format!("last run: {last}"))?;
        }
        for (label, pods) in &status.in_use {
            Self::line(&format!("{label} is used by {} processes", pods.len()))?;
        }
        Ok(())
    }

    /// The doctor's page.
    pub(crate) fn findings(&self, findings: &[Finding]) -> io::Result<()> {
        if self.json {
            return Self::line(&json!({ "checks": findings }).to_string());
        }
        for finding in findings {
            let status = match finding.status {
                Status::Ok => "OK  ",
                Status::Warn => "WARN",
                Status::Fail => "FAIL",
            };
            Self::line(&format!("{status}  {}", finding.finding))?;
            if let Some(step) = &finding.next_step {
                Self::line(&format!("      → {step}"))?;
            }
        }
        Ok(())
    }

    /// One sentence on stderr: what, and its causes. With `--json`, stdout gets it too.
    pub(crate) fn failure(&self, error: &anyhow::Error) {
        eprintln!("skiff-node: {error:#}");
        if self.json {
            Self::try_line(&json!({ "error": format!("{error:#}") }).to_string());
        }
    }
}

impl Progress for Output {
    fn step(&self, name: &str, sentence: &str) {
        if self.json {
            Self::try_line(&json!({ "step": name, "text": sentence }).to_string());
        } else {
            Self::try_line(sentence);
        }
    }

    fn warning(&self, sentence: &str) {
        if self.json {
            Self::try_line(&json!({ "warning": sentence }).to_string());
        } else {
            eprintln!("warning: {sentence}");
        }
    }
}
