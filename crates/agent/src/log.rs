//! Lines of the agent's log: one sentence each, on the streams that `kubectl logs` shows.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is the log")]

use skiff_node::installer::Progress;

/// Something was done.
pub(crate) fn info(sentence: &str) {
    println!("{sentence}");
}

/// Something is not as it should be, and work goes on.
pub(crate) fn warning(sentence: &str) {
    eprintln!("warning: {sentence}");
}

/// Something could not be done.
pub(crate) fn error(sentence: &str) {
    eprintln!("skiff-agent: {sentence}");
}

/// Steps of the installer as lines of the log.
pub(crate) struct Steps;

impl Progress for Steps {
    fn step(&self, _name: &str, sentence: &str) {
        info(sentence);
    }

    fn warning(&self, sentence: &str) {
        warning(sentence);
    }
}

/// Steps that nobody reads: those of looks at a node that is well.
pub(crate) struct Quiet;

impl Progress for Quiet {
    fn step(&self, _name: &str, _sentence: &str) {}

    fn warning(&self, _sentence: &str) {}
}
