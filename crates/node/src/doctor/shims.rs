//! The shim's binaries: where containerd will find them, and whether all that they launch lies beside them.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::containerd::{PATIENCE, Process};
use super::cri::CriConfig;
use super::{Finding, probe};

/// Launched by every shim, whatever its engine.
const COMPANIONS: [&str; 2] = ["skiff-init", "skiff-pause"];

const OWN_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Where containerd looks, and what is there.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Folders of containerd's `PATH`, then the one with its own executable.
    pub searched: Vec<PathBuf>,
    /// One entry for each shim that a handler asks for.
    pub shims: Vec<Shim>,
}

/// One shim by its name.
#[derive(Clone, Debug)]
pub struct Shim {
    /// `containerd-shim-wasmtime-v1`.
    pub binary: String,
    /// The file that containerd will run.
    pub found: Option<Found>,
}

/// A file that containerd would run as a shim.
#[derive(Clone, Debug)]
pub struct Found {
    /// As containerd finds it.
    pub path: PathBuf,
    /// Executables that ought to lie beside the file, and do not.
    pub missing: Vec<String>,
    /// The executable that serves components of wasi:http, if it ought to lie beside the file, and does not.
    pub missing_server: Option<String>,
    /// What the file answers to `-v` as its version, if it answers as a shim of Skiff's does.
    pub version: Option<String>,
    /// Somebody other than root may write the file or one beside it.
    pub loose: Vec<PathBuf>,
}

/// Looks for the shims of all of Skiff's handlers; for wasmtime's when there is no handler. `None` when containerd's
/// `PATH` cannot be read.
pub fn gather(process: &Process, config: Option<&CriConfig>) -> Option<Facts> {
    let beside = process
        .executable
        .as_deref()
        .and_then(Path::parent)
        .map(Path::to_owned);
    let path = process
        .environment
        .as_ref()?
        .get("PATH")
        .map(String::as_str)
        .unwrap_or_default();
    let mut searched: Vec<PathBuf> = Vec::new();
    for folder in std::env::split_paths(path).chain(beside) {
        if !searched.contains(&folder) {
            searched.push(folder);
        }
    }
    let mut wanted: BTreeSet<(String, Option<PathBuf>)> = config
        .into_iter()
        .flat_map(CriConfig::skiff_handlers)
        .filter_map(|handler| {
            let fixed =
                (!handler.runtime_path.is_empty()).then(|| PathBuf::from(&handler.runtime_path));
            Some((handler.binary()?, fixed))
        })
        .collect();
    if wanted.is_empty() {
        wanted.insert(("containerd-shim-wasmtime-v1".into(), None));
    }
    let shims = wanted.into_iter().map(|(binary, fixed)| {
        let found = fixed
            .filter(|path| is_executable(path))
            .or_else(|| find(&searched, &binary));
        Shim {
            found: found.map(|path| look_at(&path, &binary)),
            binary,
        }
    });
    Some(Facts {
        shims: shims.collect(),
        searched,
    })
}

fn find(folders: &[PathBuf], binary: &str) -> Option<PathBuf> {
    folders
        .iter()
        .map(|folder| folder.join(binary))
        .find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// The shim takes its companions from the folder of its own executable, symbolic links resolved.
fn look_at(path: &Path, binary: &str) -> Found {
    let file = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = file.parent().map(Path::to_owned).unwrap_or_default();
    let engine = binary
        .trim_start_matches("containerd-shim-")
        .trim_end_matches("-v1");
    // The shim without an engine in its name takes whatever engine the handler's options name.
    let engine = if engine == "skiff" {
        "wasmtime"
    } else {
        engine
    };
    let own = [
        format!("skiff-host-{engine}"),
        format!("skiff-compile-{engine}"),
    ];
    // An engine that brings libraries of its own lies in a folder for each of its versions.
    let bundle = (!is_executable(&folder.join(&own[0])))
        .then(|| newest_bundle(&folder, engine))
        .flatten();
    let own = own.map(|name| match &bundle {
        Some(bundle) => format!("{bundle}/{name}"),
        None => name,
    });
    let names: Vec<String> = own
        .into_iter()
        .chain(COMPANIONS.map(str::to_owned))
        .collect();
    // The only engine that runs components.
    let server = (engine == "wasmtime").then(|| format!("skiff-serve-{engine}"));
    let missing = names
        .iter()
        .filter(|name| !is_executable(&folder.join(name)))
        .cloned()
        .collect();
    let mut loose: Vec<PathBuf> = names
        .iter()
        .chain(&server)
        .map(|name| folder.join(name))
        .chain([file, folder.clone()])
        .collect();
    loose.retain(|path| {
        fs::metadata(path)
            .is_ok_and(|metadata| metadata.uid() != 0 || metadata.permissions().mode() & 0o022 != 0)
    });
    Found {
        path: path.to_owned(),
        version: version(path),
        missing,
        missing_server: server.filter(|name| !is_executable(&folder.join(name))),
        loose,
    }
}

/// `engines/<engine>/<version>`, if there is one. Of several, whichever comes last by name: they are all installed alike.
fn newest_bundle(folder: &Path, engine: &str) -> Option<String> {
    let versions = fs::read_dir(folder.join("engines").join(engine)).ok()?;
    versions
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(|first: char| first.is_ascii_digit()))
        .max()
        .map(|version| format!("engines/{engine}/{version}"))
}

/// Asks the shim, which containerd would run as root anyway.
fn version(path: &Path) -> Option<String> {
    let answer = probe::answer_of(path, &["-v"], PATIENCE).ok()?;
    let version = answer
        .lines()
        .find_map(|line| line.trim().strip_prefix("Version:"))?;
    Some(version.trim().to_owned())
}

/// One finding for each shim, or more when something is wrong with it.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    facts
        .shims
        .iter()
        .flat_map(|shim| judge_one(shim, &facts.searched))
        .collect()
}

fn judge_one(shim: &Shim, searched: &[PathBuf]) -> Vec<Finding> {
    let id = format!("shim.{}", shim.binary);
    let Some(found) = &shim.found else {
        let folders: Vec<String> = searched
            .iter()
            .map(|folder| folder.display().to_string())
            .collect();
        return vec![Finding::fail(
            id,
            format!(
                "{} is not where containerd looks ({})",
                shim.binary,
                folders.join(":")
            ),
            "install Skiff into one of these folders (`make install PREFIX=/usr/local`), or set PATH in containerd's unit and restart it",
        )];
    };
    let mut findings = Vec::new();
    if found.missing.is_empty() {
        findings.push(Finding::ok(
            &id,
            format!("{} with its engine beside it", found.path.display()),
        ));
    } else {
        findings.push(Finding::fail(
            &id,
            format!("{} lacks {} beside it", found.path.display(), found.missing.join(", ")),
            "install all of Skiff's binaries into one folder; if this shim is another project's, put Skiff's folder before it in containerd's PATH",
        ));
    }
    if let Some(server) = &found.missing_server
        && found.missing.is_empty()
    {
        findings.push(Finding::warn(
            format!("{id}.server"),
            format!(
                "{} lacks {server} beside it: components that handle HTTP requests are refused",
                found.path.display()
            ),
            "install all of Skiff's binaries into one folder, from one build",
        ));
    }
    if let Some(version) = found.version.as_deref()
        && version != OWN_VERSION
    {
        findings.push(Finding::warn(
            format!("{id}.version"),
            format!(
                "{} is version {version}, this command {OWN_VERSION}",
                found.path.display()
            ),
            "install all of Skiff's binaries from one build, and look for an older copy in containerd's PATH",
        ));
    }
    if let Some(first) = found.loose.first() {
        findings.push(Finding::fail(
            format!("{id}.owner"),
            format!(
                "{} can be written by others than root, and is run as root",
                first.display()
            ),
            format!("chown root:root {0} && chmod go-w {0}", first.display()),
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::Status;
    use super::*;

    fn containerd(path: &str) -> Process {
        Process {
            pid: 1,
            executable: Some("/nonexistent/bin/containerd".into()),
            version: Ok(String::new()),
            environment: Some(BTreeMap::from([("PATH".into(), path.into())])),
            config_file: "/etc/containerd/config.toml".into(),
            stale: false,
            capabilities: None,
        }
    }

    fn install(folder: &Path, names: &[&str]) {
        for name in names {
            fs::write(folder.join(name), "").unwrap();
            fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    const SERVER: &str = "skiff-serve-wasmtime";
    const ALL: [&str; 6] = [
        "containerd-shim-wasmtime-v1",
        "skiff-host-wasmtime",
        "skiff-compile-wasmtime",
        "skiff-init",
        "skiff-pause",
        SERVER,
    ];

    fn judged(folder: &Path) -> Vec<(String, Status, String)> {
        let facts = gather(&containerd(&folder.display().to_string()), None).unwrap();
        judge(&facts)
            .into_iter()
            .map(|finding| (finding.id, finding.status, finding.finding))
            .collect()
    }

    /// Needs root: the files it makes must be root's.
    #[test]
    fn a_whole_installation_is_found() {
        let folder = tempfile::tempdir().unwrap();
        install(folder.path(), &ALL);
        let judged = judged(folder.path());
        assert_eq!(judged.len(), 1, "{judged:?}");
        assert_eq!(judged[0].1, Status::Ok, "{judged:?}");
    }

    #[test]
    fn each_missing_binary_is_named() {
        for missing in ALL.into_iter().filter(|name| *name != SERVER) {
            let folder = tempfile::tempdir().unwrap();
            install(folder.path(), &ALL);
            fs::remove_file(folder.path().join(missing)).unwrap();
            let judged = judged(folder.path());
            assert_eq!(judged[0].1, Status::Fail, "{judged:?}");
            assert!(judged[0].2.contains(missing), "{judged:?}");
        }
    }

    #[test]
    fn a_node_without_the_server_is_warned() {
        let folder = tempfile::tempdir().unwrap();
        install(folder.path(), &ALL);
        fs::remove_file(folder.path().join(SERVER)).unwrap();
        let judged = judged(folder.path());
        let told: Vec<_> = judged
            .iter()
            .filter(|(_, status, _)| *status != Status::Ok)
            .collect();
        assert_eq!(told.len(), 1, "{judged:?}");
        assert_eq!(told[0].1, Status::Warn);
        assert!(told[0].2.contains(SERVER), "{judged:?}");
    }

    #[test]
    fn another_build_is_told() {
        let folder = tempfile::tempdir().unwrap();
        install(folder.path(), &ALL);
        for (version, status) in [(OWN_VERSION, None), ("0.0.0", Some(Status::Warn))] {
            let shim = format!("#!/bin/sh\necho \"$0:\"\necho '  Version: {version}'\n");
            fs::write(folder.path().join(ALL[0]), shim).unwrap();
            let judged = judged(folder.path());
            let found = judged.iter().find(|(id, ..)| id.ends_with(".version"));
            assert_eq!(found.map(|(_, status, _)| *status), status, "{judged:?}");
        }
    }

    #[test]
    fn a_writable_engine_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        install(folder.path(), &ALL);
        fs::set_permissions(
            folder.path().join("skiff-host-wasmtime"),
            fs::Permissions::from_mode(0o777),
        )
        .unwrap();
        let judged = judged(folder.path());
        assert!(
            judged
                .iter()
                .any(|(id, status, _)| id.ends_with(".owner") && *status == Status::Fail),
            "{judged:?}"
        );
    }

    #[test]
    fn companions_lie_beside_the_file_behind_the_link() {
        let (real, links) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        install(
            real.path(),
            &[
                "containerd-shim-skiff-v1",
                "skiff-host-wasmtime",
                "skiff-compile-wasmtime",
                "skiff-init",
                "skiff-pause",
            ],
        );
        std::os::unix::fs::symlink(
            real.path().join("containerd-shim-skiff-v1"),
            links.path().join("containerd-shim-wasmtime-v1"),
        )
        .unwrap();
        let judged = judged(links.path());
        assert_eq!(judged[0].1, Status::Ok, "{judged:?}");
    }
}
