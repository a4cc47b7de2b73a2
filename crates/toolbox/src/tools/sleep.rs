//! `sleep`.

use std::io::Write;
use std::time::Duration;

use crate::failure::{Done, Stop, usage};
use crate::streams::Io;

pub(super) const HELP: &str = "sleep TIME...: waits: 2, 0.5, 1m, 2h, 1d; several are added";

pub(super) fn run(args: &[String], io: &mut Io) -> Done {
    if args.is_empty() {
        return Err(usage("there is no time"));
    }
    let mut sum = Duration::ZERO;
    for arg in args {
        sum = sum.saturating_add(duration(arg)?);
    }
    io.output.flush()?;
    std::thread::sleep(sum);
    Ok(0)
}

/// A number of seconds, or of what its last letter says.
pub(super) fn duration(text: &str) -> Result<Duration, Stop> {
    let (digits, factor) = match text.chars().last() {
        Some('s') => (&text[..text.len() - 1], 1.0),
        Some('m') => (&text[..text.len() - 1], 60.0),
        Some('h') => (&text[..text.len() - 1], 3600.0),
        Some('d') => (&text[..text.len() - 1], 86_400.0),
        _ => (text, 1.0),
    };
    let plain = digits.starts_with(|letter: char| letter.is_ascii_digit() || letter == '.');
    digits
        .parse::<f64>()
        .ok()
        .filter(|_| plain)
        .and_then(|number| Duration::try_from_secs_f64(number * factor).ok())
        .ok_or_else(|| usage(format!("invalid number '{text}'")))
}
