//! The OCI spec of a run: what containerd writes for a container of the same image.

use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};
use skiff_image::build::Unpacked;

use super::passwd;
use crate::arguments::{Network, Run};

/// What containerd gives a container's root by default; a guest has no use for them, a Linux program of the image does.
const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Microseconds of the period in which processor time is counted.
const PERIOD: u32 = 100_000;
/// The cgroup that runs have theirs in.
pub(super) const CGROUP: &str = "skiff-run";

/// `size` is that of the terminal: rows and columns.
pub(super) fn config(
    arguments: &Run,
    image: &Unpacked,
    id: &str,
    root: &Path,
    size: Option<(u16, u16)>,
) -> anyhow::Result<Value> {
    let args = args(arguments, image);
    let mut env = vec![PATH.to_owned()];
    if arguments.tty {
        env.push("TERM=xterm".to_owned());
    }
    let given = arguments
        .env
        .iter()
        .map(|(name, value)| format!("{name}={value}"));
    for entry in image.environment.iter().cloned().chain(given) {
        let name = entry.split('=').next().unwrap_or_default().to_owned() + "=";
        env.retain(|known| !known.starts_with(&name));
        env.push(entry);
    }
    let directory = [arguments.workdir.as_deref(), Some(&image.working_directory)];
    let directory = directory
        .into_iter()
        .flatten()
        .find(|directory| !directory.is_empty());
    let user = passwd::user(arguments.user.as_deref().unwrap_or(&image.user), root)?;
    let mut process = json!({
        "terminal": arguments.tty,
        "user": { "uid": user.uid, "gid": user.gid, "additionalGids": user.additional },
        "args": args,
        "env": env,
        "cwd": directory.unwrap_or("/"),
        "capabilities": { "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES },
        "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
        "noNewPrivileges": true,
    });
    if let Some((rows, columns)) = size {
        process["consoleSize"] = json!({ "height": rows, "width": columns });
    }
    let mut namespaces = vec!["pid", "ipc", "uts", "mount"];
    if arguments.network == Network::None {
        namespaces.push("network");
    }
    let namespaces: Vec<Value> = namespaces
        .iter()
        .map(|kind| json!({ "type": kind }))
        .collect();
    Ok(json!({
        "ociVersion": "1.2.0",
        "process": process,
        "root": { "path": "rootfs", "readonly": arguments.read_only },
        "mounts": mounts(arguments)?,
        "linux": {
            "cgroupsPath": cgroup(arguments, id),
            "namespaces": namespaces,
            "resources": resources(arguments),
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    }))
}

pub(super) fn args(arguments: &Run, image: &Unpacked) -> Vec<String> {
    if arguments.entrypoint.is_some() {
        return arguments.words();
    }
    let words = if arguments.args.is_empty() {
        &image.command
    } else {
        &arguments.args
    };
    [image.entrypoint.as_slice(), words].concat()
}

fn cgroup(arguments: &Run, id: &str) -> String {
    let systemd = arguments
        .engine_options
        .iter()
        .any(|(key, value)| key == "SystemdCgroup" && value == "true");
    if systemd {
        format!("system.slice:{CGROUP}:{id}")
    } else {
        format!("/{CGROUP}/{id}")
    }
}

fn resources(arguments: &Run) -> Value {
    let mut resources = json!({ "devices": [{ "allow": false, "access": "rwm" }] });
    if let Some(bytes) = arguments.memory {
        resources["memory"] = json!({ "limit": bytes });
    }
    if let Some(processors) = arguments.cpus {
        // At most 10,000 processors: checked when it was read.
        let quota = format!("{:.0}", processors * f64::from(PERIOD));
        resources["cpu"] =
            json!({ "quota": quota.parse::<i64>().unwrap_or(100_000), "period": PERIOD });
    }
    resources
}

fn mounts(arguments: &Run) -> anyhow::Result<Vec<Value>> {
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": kind, "options": options });
    let mut mounts = vec![
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount(
            "/dev",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount(
            "/dev/pts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        ),
        mount(
            "/dev/shm",
            "tmpfs",
            &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
        ),
        mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount(
            "/run",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
    ];
    let bind = |source: &Path, destination: &str, read_only: bool| json!({ "destination": destination, "type": "bind", "source": source, "options": ["rbind", if read_only { "ro" } else { "rw" }] });
    if arguments.network == Network::Host {
        // Names mean there what they mean here.
        for file in ["/etc/resolv.conf", "/etc/hosts"] {
            if Path::new(file).is_file() {
                mounts.push(bind(Path::new(file), file, true));
            }
        }
    }
    for volume in &arguments.volumes {
        let source = volume
            .source
            .canonicalize()
            .with_context(|| format!("could not find the volume {}", volume.source.display()))?;
        mounts.push(bind(&source, &volume.destination, volume.read_only));
    }
    Ok(mounts)
}
