//! Paths of the entrypoint: where it may lie, and which mount it lies in. By name only; opening them is the
//! caller's, with the root as its limit.

use super::entrypoint;

/// The paths at which the entrypoint may lie in the root, in order; absolute, `.` and `..` taken out by
/// name. A path with a slash is relative to the working directory; a bare name is looked for in the
/// directories of the container's `PATH`, then in the working directory, as runwasi does.
pub fn candidates(args: &[String], working_directory: &str, environment: &[String]) -> Vec<String> {
    let path = entrypoint(args).path;
    if path.is_empty() {
        return Vec::new();
    }
    let here = absolute("/", working_directory);
    if path.contains('/') {
        return vec![absolute(&here, path)];
    }
    let mut found = Vec::new();
    let path_variable = environment
        .iter()
        .rev()
        .find_map(|entry| entry.strip_prefix("PATH="));
    let directories = path_variable
        .unwrap_or_default()
        .split(':')
        .filter(|directory| !directory.is_empty());
    for directory in directories
        .map(|directory| absolute(&here, directory))
        .chain([here.clone()])
    {
        let candidate = absolute(&directory, path);
        if !found.contains(&candidate) {
            found.push(candidate);
        }
    }
    found
}

/// Which of the container's mounts a path lies in: its index and the path inside it (no leading slash;
/// empty for the mount itself, as with a mounted single file). `None` means the root.
///
/// Mounts are attached in order, so the last one that covers the path is the one that is seen, also when
/// an earlier one lies deeper. Destinations are taken by name, as the spec has them.
pub fn covering_mount<'a>(
    path: &str,
    destinations: impl IntoIterator<Item = &'a str>,
) -> Option<(usize, String)> {
    let path = absolute("/", path);
    let mut seen = None;
    for (index, destination) in destinations.into_iter().enumerate() {
        let destination = absolute("/", destination);
        if let Some(rest) = path.strip_prefix(destination.trim_end_matches('/'))
            && (rest.is_empty() || rest.starts_with('/'))
        {
            seen = Some((index, rest.trim_start_matches('/').to_owned()));
        }
    }
    seen
}

/// Joins by name: `..` goes up, never above `/`.
pub(crate) fn absolute(base: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let base = if path.starts_with('/') { "" } else { base };
    for part in base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}
