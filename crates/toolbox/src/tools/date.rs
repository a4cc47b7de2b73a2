//! `date`.

use std::io::Write;
use std::time::SystemTime;

use crate::failure::{Done, failed, usage, words};
use crate::options::Options;
use crate::streams::Io;
use crate::time::Civil;

pub(super) const HELP: &str = "date [-u] [-r FILE] [+FORMAT]: shows the time, or when a file was changed, in UTC; sets nothing";

pub(super) fn run(args: &[String], io: &mut Io) -> Done {
    let options = Options::parse(args, "ur:", &[("utc", 'u'), ("reference", 'r')])?;
    let time = match options.value('r') {
        None => SystemTime::now(),
        Some(path) => std::fs::metadata(path)
            .and_then(|metadata| metadata.modified())
            .map_err(|error| failed(format!("{path}: {}", words(&error))))?,
    };
    let format = match options.operands.as_slice() {
        [] => "%a %b %e %T %Z %Y",
        [only] if only.starts_with('+') => &only[1..],
        _ => return Err(usage("only a format, which begins with +, is understood")),
    };
    writeln!(io.output, "{}", Civil::of(time).format(format))?;
    Ok(0)
}
