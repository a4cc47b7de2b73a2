//! What every guest does, and what it is given for it. `test/languages/README.md` has the list.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use skiff_test::command::Ran;
use skiff_test::node::Node;

/// Its arguments.
pub(crate) const WORDS: [&str; 3] = ["one", "two words", "gr\u{fc}n"];
/// Its standard input.
pub(crate) const INPUT: &str = "what it reads, to the end\n";
/// The file that it finds.
const FILE: &str = "from a volume\n";
/// The file that it writes.
const WRITTEN: &str = "written by a guest\n";
/// What it writes to its standard error.
const ERROR: &str = "a line of standard error\n";
/// What it says of 100,000 rounds.
const CHECKSUM: &str = "a799a3fd";

/// What was seen of a run.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) ran: Ran,
    /// The file that it wrote.
    pub(crate) written: Option<String>,
}

/// One thing that a guest does.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) done: fn(&Seen) -> bool,
}

pub(crate) const STEPS: [Step; 7] = [
    Step {
        name: "arguments",
        done: |seen| seen.says("arguments: one|two words|gr\u{fc}n"),
    },
    Step {
        name: "environment",
        done: |seen| seen.says("COLOUR: dark blue"),
    },
    Step {
        name: "reading a file",
        done: |seen| seen.says("read: from a volume"),
    },
    Step {
        name: "writing a file",
        done: |seen| seen.says("written: /data/out") && seen.written.as_deref() == Some(WRITTEN),
    },
    Step {
        name: "arithmetic",
        done: |seen| seen.says(&format!("checksum: {CHECKSUM}")),
    },
    Step {
        name: "standard input",
        done: |seen| seen.says(&format!("input: {} bytes", INPUT.len())),
    },
    Step {
        name: "standard error",
        done: |seen| seen.ran.stderr == ERROR,
    },
];

impl Seen {
    fn says(&self, line: &str) -> bool {
        self.ran.stdout.lines().any(|said| said == line)
    }
}

/// All that it writes to its standard output.
pub(crate) fn output() -> String {
    format!(
        "arguments: {}\nCOLOUR: dark blue\nread: {FILE}written: /data/out\nchecksum: {CHECKSUM}\ninput: {} bytes\n",
        WORDS.join("|"),
        INPUT.len()
    )
}

/// The folder that is mounted at `/data`.
#[derive(Debug)]
pub(crate) struct Place(PathBuf);

impl Place {
    pub(crate) fn new(node: &Node) -> Result<Self> {
        let folder = node.directory().join("tmp").join(node.new_id("data"));
        fs::create_dir(&folder)?;
        fs::write(folder.join("in"), FILE)?;
        Ok(Self(folder))
    }

    pub(crate) fn path(&self) -> String {
        self.0.display().to_string()
    }

    /// Removes it; answers what the guest has written.
    pub(crate) fn remove(self) -> Result<Option<String>> {
        let written = fs::read_to_string(self.0.join("out")).ok();
        fs::remove_dir_all(&self.0)?;
        Ok(written)
    }
}
