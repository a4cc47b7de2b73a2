//! The shim's log: lines to standard error, in the form of containerd's own.
//!
//! For the daemon standard error is the bundle's `log` FIFO, opened for reading and writing and without
//! blocking. containerd copies it to its own log. When containerd is away the pipe fills and lines are
//! lost and counted; the shim never waits for a reader.

use std::fmt::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use log::{Level, LevelFilter, Log, Metadata, Record};

/// Longest line: up to `PIPE_BUF` a write to a pipe is whole or nothing, and lines of two shims never mix.
const LONGEST_LINE: usize = 4096;

#[derive(Debug)]
struct Logger {
    /// ` namespace=… id=…`, at the end of every line.
    fields: String,
    lost: AtomicU64,
}

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// Sets up the log of this process, and of panics. A second call changes nothing.
pub fn init(namespace: &str, id: &str, debug: bool) {
    let logger = LOGGER.get_or_init(|| Logger {
        fields: format!(" namespace={namespace} id={id} runtime=skiff"),
        lost: AtomicU64::new(0),
    });
    if log::set_logger(logger).is_ok() {
        log::set_max_level(if debug {
            LevelFilter::Debug
        } else {
            LevelFilter::Info
        });
        std::panic::set_hook(Box::new(|panic| {
            log::error!("the shim has a fault: {panic}");
        }));
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // ttrpc logs every frame at trace level and closed connections as errors.
        metadata.level() <= log::max_level() && !metadata.target().starts_with("ttrpc")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0
            && !self.write(
                Level::Warn,
                &format!("{lost} lines of this log were lost: nobody read them"),
            )
        {
            self.lost.fetch_add(lost, Ordering::Relaxed);
        }
        if !self.write(record.level(), &record.args().to_string()) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}

impl Logger {
    fn write(&self, level: Level, message: &str) -> bool {
        let line = line(SystemTime::now(), level, message, &self.fields);
        rustix::io::write(rustix::stdio::stderr(), line.as_bytes()).is_ok()
    }
}

fn line(now: SystemTime, level: Level, message: &str, fields: &str) -> String {
    let level = match level {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    };
    let mut line = format!("time=\"{}\" level={level} msg=\"", Rfc3339(now));
    let room = LONGEST_LINE.saturating_sub(fields.len() + 8);
    for character in message.chars() {
        if line.len() + 8 > room {
            line.push('…');
            break;
        }
        match character {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            other if other.is_control() => {
                write!(line, "{}", other.escape_unicode()).unwrap_or_default();
            }
            other => line.push(other),
        }
    }
    line.push('"');
    line.push_str(fields);
    line.push('\n');
    line
}

/// A time in UTC with nanoseconds, `2026-11-21T10:00:00.000000000Z`.
struct Rfc3339(SystemTime);

impl std::fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:09}Z",
            since.subsec_nanos()
        )
    }
}

/// Day of the Gregorian calendar from days since 1970. Years are counted from March, so that the leap day
/// is the last of its year; 400 years always have 146 097 days.
fn civil(days: u64) -> (u64, u64, u64) {
    // 0000-03-01 is 719 468 days before 1970-01-01.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let months = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * months + 2) / 5 + 1;
    let month = if months < 10 { months + 3 } else { months - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calendar() {
        let at = |seconds| Rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)).to_string();
        assert_eq!(at(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000000000Z");
        assert_eq!(at(1_700_000_000), "2023-11-14T22:13:20.000000000Z");
        assert_eq!(at(4_107_542_399), "2100-02-28T23:59:59.000000000Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00.000000000Z");
    }

    #[test]
    fn a_line_is_one_line_and_bounded() {
        let text = line(UNIX_EPOCH, Level::Warn, "a \"b\"\nc\u{1b}[0m", " id=x");
        assert_eq!(
            text,
            "time=\"1970-01-01T00:00:00.000000000Z\" level=warning msg=\"a \\\"b\\\"\\nc\\u{1b}[0m\" id=x\n"
        );
        for character in ["x", "\u{1b}", "é", "\u{10ffff}"] {
            let long = line(UNIX_EPOCH, Level::Info, &character.repeat(100_000), " id=x");
            assert!(
                long.len() <= LONGEST_LINE && long.ends_with("id=x\n"),
                "{}",
                long.len()
            );
        }
    }
}
