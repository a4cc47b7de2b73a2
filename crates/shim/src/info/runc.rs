//! What the node's runc says of itself: `runc features`.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use skiff_sandbox::sys::process::wait_readable;

use super::Others;

/// It answers within 20 ms, on an idle node; containerd waits for this one while it starts.
const PATIENCE: Duration = Duration::from_secs(5);
/// Its document is some kilobytes long.
const LONGEST: u64 = 1 << 20;

/// Asks `program`: a path, or a name that is looked for in `PATH`.
pub(super) fn features(program: &str) -> Others {
    let Some(path) = find(program) else {
        return Others::None;
    };
    match ask(&path) {
        Ok(text) => match serde_json::from_slice(&text) {
            Ok(document) => Others::Features(document),
            Err(error) => Others::Unknown(format!(
                "{} features did not print a features document: {error}",
                path.display()
            )),
        },
        Err(error) => Others::Unknown(format!("{} features: {error}", path.display())),
    }
}

fn find(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        let path = PathBuf::from(program);
        return path.is_file().then_some(path);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}

/// This process lives for its answer only, so it may fork.
fn ask(path: &Path) -> io::Result<Vec<u8>> {
    let mut child = Command::new(path)
        .arg("features")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let text = child
        .stdout
        .take()
        .ok_or_else(|| io::ErrorKind::BrokenPipe.into())
        .and_then(read);
    if text.is_err()
        && let Err(error) = child.kill()
    {
        log::debug!("could not kill {}: {error}", path.display());
    }
    let status = child.wait()?;
    let text = text?;
    if status.success() {
        Ok(text)
    } else {
        Err(io::Error::other(format!("it ended with {status}")))
    }
}

/// Reads to the end, which may not take longer than [`PATIENCE`].
fn read(output: impl Into<std::os::fd::OwnedFd>) -> io::Result<Vec<u8>> {
    use std::os::fd::AsFd as _;
    let mut output = File::from(output.into()).take(LONGEST);
    let start = std::time::Instant::now();
    let mut text = Vec::new();
    loop {
        let left = PATIENCE.saturating_sub(start.elapsed());
        if !wait_readable(output.get_ref().as_fd(), Some(left))? {
            let sentence = format!("it did not answer within {} seconds", PATIENCE.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, sentence));
        }
        let mut buffer = [0; 16 * 1024];
        match output.read(&mut buffer)? {
            0 => return Ok(text),
            length => text.extend_from_slice(&buffer[..length]),
        }
    }
}
