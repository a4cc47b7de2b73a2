//! Restarting containerd by whatever keeps it running.

use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::doctor::probe;
use crate::host::{Host, Program};

/// How long a containerd of its own service has; with the restart that puts it back this stays below 30 s.
const PATIENCE: Duration = Duration::from_secs(13);
/// How long one has that is restarted with everything around it.
const SLOW_PATIENCE: Duration = Duration::from_secs(90);

/// What restarts containerd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Restart {
    /// A shell command of the operator's.
    Command(String),
    /// systemd, by this unit.
    Systemd(String),
    /// OpenRC, by this service.
    OpenRc(String),
    /// It is not running.
    Needless,
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(command) => write!(f, "`{command}`"),
            Self::Systemd(unit) => write!(f, "`systemctl restart {unit}`"),
            Self::OpenRc(service) => write!(f, "`rc-service {service} restart`"),
            Self::Needless => f.write_str("nothing"),
        }
    }
}

impl Restart {
    /// Finds out what keeps a process running; `None` if nothing known does.
    pub(super) fn of(host: &Host, pid: i32) -> Option<Self> {
        let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        if host.exists(Path::new("/run/systemd/system"))
            && let Some(unit) = unit_of(&cgroups)
        {
            return Some(Self::Systemd(unit));
        }
        if host.exists(Path::new("/run/openrc")) {
            let services = ["k3s", "rke2", "k0sworker", "k0scontroller", "containerd"];
            let service = services
                .iter()
                .find(|name| host.exists(&Path::new("/run/openrc/started").join(name)))?;
            return Some(Self::OpenRc((*service).to_owned()));
        }
        None
    }

    /// How long to wait for it, unless the operator says.
    pub(super) fn patience(&self, asked: Option<Duration>) -> Duration {
        let usual = if self.is_slow() {
            SLOW_PATIENCE
        } else {
            PATIENCE
        };
        asked.unwrap_or(usual)
    }

    /// The whole of a distribution is restarted with its containerd, and takes its time.
    fn is_slow(&self) -> bool {
        let name = match self {
            Self::Systemd(name) | Self::OpenRc(name) => name,
            Self::Command(_) | Self::Needless => return false,
        };
        ["k3s", "rke2", "k0s", "microk8s"]
            .iter()
            .any(|slow| name.contains(slow))
    }

    /// Runs it. A sentence if it fails.
    pub(super) fn run(&self, host: &Host, patience: Duration) -> Result<(), String> {
        let find = |name: &str| {
            let path = host.find_program(name);
            path.ok_or_else(|| format!("there is no {name} on this node"))
        };
        let (program, arguments): (_, Vec<&str>) = match self {
            Self::Needless => return Ok(()),
            Self::Command(command) => (find("sh")?, vec!["-c", command]),
            Self::Systemd(unit) => (find("systemctl")?, vec!["restart", unit]),
            Self::OpenRc(service) => (find("rc-service")?, vec![service, "restart"]),
        };
        let mut command = host.command(&Program::at(program));
        command.args(arguments);
        match probe::answer(&mut command, patience) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{self} {error}")),
        }
    }
}

/// The unit that a process belongs to, by its cgroups: the last part of the path that is a service.
fn unit_of(cgroups: &str) -> Option<String> {
    let paths = cgroups
        .lines()
        .filter_map(|line| line.splitn(3, ':').nth(2));
    let units = paths.filter_map(|path| path.rsplit('/').find(|part| part.ends_with(".service")));
    units.map(str::to_owned).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_known_by_cgroups() {
        for (cgroups, unit) in [
            (
                "0::/system.slice/containerd.service\n",
                Some("containerd.service"),
            ),
            (
                "12:pids:/system.slice/k3s-agent.service/x\n1:name=systemd:/system.slice/k3s-agent.service\n",
                Some("k3s-agent.service"),
            ),
            (
                "0::/kubelet.slice/containerd.service/init.scope",
                Some("containerd.service"),
            ),
            ("0::/user.slice/session-1.scope\n", None),
            ("", None),
        ] {
            assert_eq!(unit_of(cgroups).as_deref(), unit, "{cgroups}");
        }
    }

    #[test]
    fn distributions_get_more_time() {
        assert!(Restart::Systemd("rke2-server.service".into()).is_slow());
        assert!(!Restart::Systemd("containerd.service".into()).is_slow());
    }
}
