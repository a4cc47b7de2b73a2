//! The container's log: what the host has to say in it, and what becomes of lines of the component.

use std::fs::File;

use skiff_engine::notes;
use skiff_wasi_wasmtime::stdio::{Input, Output};

/// The container's standard streams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Log {
    output: Output,
    error: Output,
}

impl Log {
    /// Descriptors 1 and 2.
    pub(crate) fn inherited() -> Self {
        Self {
            output: Output::new(rustix::stdio::stdout()),
            error: Output::new(rustix::stdio::stderr()),
        }
    }

    /// Standard input, for a component that asks for it.
    pub(crate) fn input(self) -> Input {
        Input::new(rustix::stdio::stdin())
    }

    /// Standard output.
    pub(crate) fn output(self) -> Output {
        self.output
    }

    /// Standard error.
    pub(crate) fn error(self) -> Output {
        self.error
    }

    /// Writes a message of the host, in one piece.
    pub(crate) fn say(self, message: &str) {
        // Nobody reads it: then there is nobody to tell, either.
        drop(self.error.write_all(format!("{message}\n").as_bytes()));
    }

    /// Says why the container ends, to the log, and to the shim for the termination message.
    pub(crate) fn last_words(self, notes: &File, words: &str) {
        self.say(words);
        // There is no room for it: the log has it.
        drop(notes::leave_words(notes, words));
    }
}
