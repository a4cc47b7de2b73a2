//! What a host, a worker or the init program is told to do. One postcard value, the whole of the memfd.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use skiff_sandbox::plan::{Plan, Slot};

use crate::options::{CodeOptions, GuestOptions, OptLevel};
use crate::service::ServiceOptions;

/// The order of an engine host: become the container, then run the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostOrder {
    /// What to do to oneself first.
    pub plan: Plan,
    /// What to run then.
    pub guest: Guest,
}

/// The order of a serving host: become the container, then answer HTTP requests with the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceOrder {
    /// What to do to oneself first.
    pub plan: Plan,
    /// What answers.
    pub guest: Guest,
    /// How it is served.
    pub service: ServiceOptions,
}

/// One Wasm guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guest {
    /// Core module or component.
    pub kind: CodeKind,
    /// Compiled code, verified by the shim on this very descriptor, opened read-only.
    pub code: Slot,
    /// What the user calls the module (`/app.wasm`, a layer's title or digest), for messages.
    pub name: String,
    /// The function of the entrypoint `path#function`; `None` means the default (`_start`, `wasi:cli/run`).
    pub function: Option<String>,
    /// `argv`, `argv[0]` included.
    pub args: Vec<String>,
    /// `KEY=value`.
    pub env: Vec<String>,
    /// The spec's `process.cwd`. Components start there; WASI p1 resolves relative paths at `/`.
    pub working_directory: String,
    /// A file in the bundle, for reading and writing: the host writes an [`crate::exit::EarlyRecord`] into it just
    /// before it exits by itself, so that the code outlives a shim that dies in that moment. What else stands
    /// there: [`crate::notes`].
    pub exit_record: Slot,
    /// Options of the engine, as the handler's configuration gave them.
    pub options: GuestOptions,
}

/// What compiled code was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CodeKind {
    /// A core module (WASI p1).
    Module,
    /// A component (wasi:cli).
    Component,
    /// A component that handles HTTP requests (wasi:http), compiled so that a request can be interrupted.
    Service,
}

/// The order of a compile worker. Its plan takes everything from it but the two descriptors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompileOrder {
    /// What to do to oneself first: no file system, no network, no privileges.
    pub plan: Plan,
    /// The module's bytes: Wasm, a component, or their text format. Read from offset 0 to the end.
    pub input: Slot,
    /// Where the compiled code goes. Write-only, empty.
    pub output: Slot,
    /// Threads to compile with.
    pub threads: u16,
    /// What the code may use and must hold.
    pub code: CodeOptions,
    /// How much work to put into it.
    pub opt_level: OptLevel,
}

/// What a compile worker answers in [`skiff_sandbox::control::Report::Done`], postcard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compiled {
    /// What the bytes were.
    pub kind: CodeKind,
    /// Wall time of the work on the module: reading, compiling, writing.
    pub milliseconds: u64,
}

/// The order of the init program: become part of a container, then exec a Linux program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramOrder {
    /// What to do to oneself first.
    pub plan: Plan,
    /// The executable.
    pub program: Command,
    /// `argv`.
    pub args: Vec<String>,
    /// `KEY=value`.
    pub env: Vec<String>,
}

/// What to execute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// One of ours, in this slot.
    Slot(Slot),
    /// One of the container's, at this path of its root. Without `HOME` in its environment it gets its user's.
    Path(String),
    /// None: that the plan is executed is all that is wanted.
    Nothing,
}

/// The environment that a spec asks for. CRI writes the image's variables and the container's one after the other, and
/// a program finds the first of a name: only the last of each is kept, as runc does.
pub fn environment(variables: &[String]) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut kept: Vec<String> = variables
        .iter()
        .rev()
        .filter(|variable| seen.insert(variable.split('=').next().unwrap_or_default()))
        .cloned()
        .collect();
    kept.reverse();
    kept
}

#[cfg(test)]
mod tests {
    use super::environment;

    #[test]
    fn the_last_variable_of_a_name_counts() {
        let given = ["A=1", "B=2", "A=3", "A2=4", "C"].map(str::to_owned);
        assert_eq!(environment(&given), ["B=2", "A=3", "A2=4", "C"]);
    }
}
