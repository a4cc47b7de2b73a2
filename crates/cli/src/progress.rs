//! Progress of long work, on stderr: a line that rewrites itself on a terminal, plain lines elsewhere and
//! only when the work takes more than a second.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Work that is quicker than this needs no words in a log.
const QUICK: Duration = Duration::from_secs(1);
/// Lines of a log are at least this far apart.
const APART: Duration = Duration::from_secs(10);

/// Tells how far some work has come. Dropped, it leaves a terminal's line clean.
pub(crate) struct Progress {
    terminal: bool,
    begun: Instant,
    told: Option<Instant>,
}

impl Progress {
    /// Begins to count the time.
    pub(crate) fn begin() -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            begun: Instant::now(),
            told: None,
        }
    }

    /// Says what is being done now.
    pub(crate) fn step(&mut self, what: &str) {
        let now = Instant::now();
        if self.terminal {
            // Back to the line's beginning, and away with what was there.
            let elapsed = (now - self.begun).as_secs();
            let elapsed = if elapsed > 1 {
                format!(" {elapsed} s")
            } else {
                String::new()
            };
            eprint!("\r\x1b[K{what} …{elapsed}");
            let _flushed = std::io::stderr().flush();
        } else if worth_a_line(now - self.begun, self.told.map(|told| now - told)) {
            eprintln!("skiff: {what} ({} s)", (now - self.begun).as_secs());
            self.told = Some(now);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }
}

fn worth_a_line(elapsed: Duration, since_last: Option<Duration>) -> bool {
    elapsed > QUICK && since_last.is_none_or(|since| since > APART)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_gets_a_line_after_a_second_and_then_now_and_again() {
        let seconds = Duration::from_secs;
        assert!(!worth_a_line(Duration::from_millis(900), None));
        assert!(worth_a_line(seconds(2), None));
        assert!(!worth_a_line(seconds(5), Some(seconds(3))));
        assert!(worth_a_line(seconds(20), Some(seconds(11))));
    }
}
