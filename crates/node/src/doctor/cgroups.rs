//! Control groups: which layout the node has, which controllers, and who manages the tree.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use rustix::fs::statfs;

use super::Finding;
use super::cri::CriConfig;

/// `CGROUP2_SUPER_MAGIC` of `linux/magic.h`.
const CGROUP2: u64 = 0x6367_7270;
/// Without these a limit of a pod has nothing to act on.
const NEEDED: [&str; 3] = ["cpu", "memory", "pids"];

/// The node's cgroup tree.
#[derive(Clone, Debug)]
pub struct Facts {
    /// How `/sys/fs/cgroup` is laid out.
    pub layout: Layout,
    /// Controllers that can be used.
    pub controllers: BTreeSet<String>,
    /// `cgroupDriver` of the kubelet's configuration, when there is one.
    pub kubelet_driver: Option<String>,
    /// systemd can be asked.
    pub systemd: bool,
}

/// Which hierarchies are mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One hierarchy per controller.
    V1,
    /// The same, and a unified tree without controllers beside them.
    Hybrid,
    /// The unified tree alone.
    V2,
    /// Nothing is mounted at `/sys/fs/cgroup`.
    Absent,
}

/// Reads `/sys/fs/cgroup`, and what systemd and the kubelet leave to be seen.
pub fn gather() -> Facts {
    let root = Path::new("/sys/fs/cgroup");
    let is_unified =
        |path: &Path| statfs(path).is_ok_and(|stat| u64::try_from(stat.f_type) == Ok(CGROUP2));
    let hierarchies = || -> BTreeSet<String> {
        fs::read_dir(root)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect()
    };
    let (layout, controllers) = if is_unified(root) {
        let controllers = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
        (
            Layout::V2,
            controllers.split_whitespace().map(str::to_owned).collect(),
        )
    } else {
        let controllers = hierarchies();
        let layout = if is_unified(&root.join("unified")) {
            Layout::Hybrid
        } else if controllers.is_empty() {
            Layout::Absent
        } else {
            Layout::V1
        };
        (layout, controllers)
    };
    Facts {
        layout,
        controllers,
        kubelet_driver: fs::read_to_string("/var/lib/kubelet/config.yaml")
            .ok()
            .and_then(|text| kubelet_driver(&text)),
        systemd: ["/run/systemd/private", "/run/dbus/system_bus_socket"]
            .iter()
            .any(|socket| Path::new(socket).exists()),
    }
}

/// The value of the top-level key `cgroupDriver` of a KubeletConfiguration.
fn kubelet_driver(yaml: &str) -> Option<String> {
    let value = yaml
        .lines()
        .find_map(|line| line.strip_prefix("cgroupDriver:"))?;
    Some(value.trim().trim_matches(['"', '\'']).to_owned())
}

/// Findings on layout, controllers and driver.
pub fn judge(facts: &Facts, config: Option<&CriConfig>) -> Vec<Finding> {
    let mut findings = vec![layout(facts.layout)];
    if facts.layout != Layout::Absent {
        findings.push(controllers(facts));
        findings.push(driver(facts, config));
    }
    findings
}

fn layout(layout: Layout) -> Finding {
    let id = "cgroups.layout";
    match layout {
        Layout::V1 => Finding::ok(
            id,
            "cgroups v1; containers are killed process by process, since there is no unified tree with cgroup.kill",
        ),
        Layout::Hybrid => Finding::ok(id, "cgroups v1 with a unified tree beside it (hybrid)"),
        Layout::V2 => Finding::ok(id, "cgroups v2"),
        Layout::Absent => Finding::fail(
            id,
            "no cgroups are mounted at /sys/fs/cgroup",
            "mount them as the distribution does (systemd, or the package cgroupfs-mount), or run doctor on the node itself",
        ),
    }
}

fn controllers(facts: &Facts) -> Finding {
    let id = "cgroups.controllers";
    let missing: Vec<&str> = NEEDED
        .into_iter()
        .filter(|name| !facts.controllers.contains(*name))
        .collect();
    if missing.is_empty() {
        return Finding::ok(
            id,
            format!("cgroup controllers {} are there", NEEDED.join(", ")),
        );
    }
    Finding::fail(
        id,
        format!(
            "cgroup controllers {} are missing; pods with such limits cannot be started",
            missing.join(", ")
        ),
        "enable them in the kernel (boot parameter cgroup_enable=memory on some distributions)",
    )
}

/// The path of a pod's cgroup says who makes it, and containerd takes that path from the kubelet: its driver counts.
/// `SystemdCgroup` has to agree with it, or containers are refused.
fn driver(facts: &Facts, config: Option<&CriConfig>) -> Finding {
    let id = "cgroups.driver";
    let by_handler = config
        .into_iter()
        .flat_map(CriConfig::skiff_handlers)
        .find(|handler| handler.systemd_cgroup);
    let by_kubelet = facts.kubelet_driver.as_deref();
    if let Some(handler) = by_handler
        && by_kubelet == Some("cgroupfs")
    {
        return Finding::fail(
            id,
            format!(
                "handler {} asks for the cgroup driver systemd, and the kubelet uses cgroupfs; its pods are refused",
                handler.name
            ),
            format!(
                "set cgroupDriver: systemd in the kubelet's configuration, or SystemdCgroup = false in the options of runtimes.{} in containerd's, and restart both",
                handler.name
            ),
        );
    }
    if by_handler.is_none() && by_kubelet != Some("systemd") {
        return Finding::ok(id, "cgroup driver cgroupfs");
    }
    if facts.systemd {
        Finding::ok(id, "cgroup driver systemd")
    } else {
        Finding::fail(
            id,
            "the cgroup driver is systemd, and systemd does not answer here: neither /run/systemd/private nor /run/dbus/system_bus_socket is there; pods are refused",
            "run doctor on the node itself; on a node without systemd set SystemdCgroup = false and cgroupDriver: cgroupfs",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::super::cri::Handler;
    use super::*;

    fn facts(layout: Layout, controllers: &[&str]) -> Facts {
        Facts {
            layout,
            controllers: controllers.iter().map(|&name| name.to_owned()).collect(),
            kubelet_driver: None,
            systemd: true,
        }
    }

    fn statuses(facts: &Facts, config: Option<&CriConfig>) -> Vec<(String, Status)> {
        judge(facts, config)
            .into_iter()
            .map(|finding| (finding.id, finding.status))
            .collect()
    }

    fn with_handler(systemd_cgroup: bool) -> CriConfig {
        let handler = Handler {
            name: "wasmtime".into(),
            runtime_type: "io.containerd.wasmtime.v1".into(),
            systemd_cgroup,
            ..Handler::default()
        };
        CriConfig {
            handlers: vec![handler],
            ..CriConfig::default()
        }
    }

    #[test]
    fn layouts_and_controllers() {
        use Status::{Fail, Ok};
        let all = ["cpu", "memory", "pids", "io"];
        let few = ["cpu", "pids"];
        let whole = |layout, controllers, driver| {
            vec![
                ("cgroups.layout".to_owned(), layout),
                ("cgroups.controllers".to_owned(), controllers),
                ("cgroups.driver".to_owned(), driver),
            ]
        };
        let table = [
            (facts(Layout::V1, &all), whole(Ok, Ok, Ok)),
            (facts(Layout::Hybrid, &all), whole(Ok, Ok, Ok)),
            (facts(Layout::V2, &all), whole(Ok, Ok, Ok)),
            (facts(Layout::V2, &few), whole(Ok, Fail, Ok)),
            (facts(Layout::Hybrid, &few), whole(Ok, Fail, Ok)),
        ];
        for (facts, expected) in table {
            assert_eq!(statuses(&facts, None), expected, "{facts:?}");
        }
        let absent = statuses(&facts(Layout::Absent, &[]), None);
        assert_eq!(absent, [("cgroups.layout".to_owned(), Fail)]);
    }

    #[test]
    fn the_kubelet_and_the_handler_have_to_agree() {
        use Status::{Fail, Ok};
        let table = [
            (false, None, true, Ok),
            (false, Some("cgroupfs"), false, Ok),
            (true, None, true, Ok),
            (true, Some("systemd"), true, Ok),
            (true, Some("systemd"), false, Fail),
            (true, Some("cgroupfs"), true, Fail),
            // containerd follows the kubelet.
            (false, Some("systemd"), true, Ok),
            (false, Some("systemd"), false, Fail),
        ];
        for (asked, kubelet, systemd, expected) in table {
            let facts = Facts {
                kubelet_driver: kubelet.map(str::to_owned),
                systemd,
                ..facts(Layout::Hybrid, &["cpu", "memory", "pids"])
            };
            let config = with_handler(asked);
            let found = judge(&facts, Some(&config)).pop().unwrap();
            assert_eq!(
                (found.id.as_str(), found.status),
                ("cgroups.driver", expected),
                "{asked} {kubelet:?} {systemd}"
            );
        }
    }

    #[test]
    fn the_kubelets_driver_is_read_as_written() {
        assert_eq!(
            kubelet_driver("kind: KubeletConfiguration\ncgroupDriver: systemd\n"),
            Some("systemd".into())
        );
        assert_eq!(
            kubelet_driver("cgroupDriver: \"cgroupfs\"\n"),
            Some("cgroupfs".into())
        );
        assert_eq!(kubelet_driver("kind: KubeletConfiguration\n"), None);
    }
}
