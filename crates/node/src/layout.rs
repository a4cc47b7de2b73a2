//! How a distribution keeps containerd's configuration: which file is read, and which one lasts.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Who writes the file that containerd reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// The operator: kubeadm, kind, AKS, EKS, GKE and whoever starts containerd with a file.
    Plain,
    /// k3s and rke2 write it at each start, from a template in the same folder.
    Rancher,
    /// k0s writes most of it at each start, and merges what lies in a folder.
    K0s,
    /// microk8s writes it at each start, from a file in the same folder.
    Microk8s,
}

/// A configuration that may be there, by layout.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// The file that containerd is started with.
    pub config: &'static str,
    /// The socket that it listens on.
    pub address: &'static str,
    /// containerd's executable, if it does not lie where programs usually do.
    pub program: Option<&'static str>,
}

/// The places that distributions use, the most special first: a node of k3s may have a containerd of its own besides.
pub const KNOWN: [Known; 5] = [
    Known {
        config: "/var/lib/rancher/k3s/agent/etc/containerd/config.toml",
        address: "/run/k3s/containerd/containerd.sock",
        program: Some("/var/lib/rancher/k3s/data/current/bin/containerd"),
    },
    Known {
        config: "/var/lib/rancher/rke2/agent/etc/containerd/config.toml",
        address: "/run/k3s/containerd/containerd.sock",
        program: Some("/var/lib/rancher/rke2/bin/containerd"),
    },
    Known {
        config: "/etc/k0s/containerd.toml",
        address: "/run/k0s/containerd.sock",
        program: Some("/var/lib/k0s/bin/containerd"),
    },
    Known {
        config: "/var/snap/microk8s/current/args/containerd.toml",
        address: "/var/snap/microk8s/common/run/containerd.sock",
        program: Some("/snap/microk8s/current/bin/containerd"),
    },
    Known {
        config: "/etc/containerd/config.toml",
        address: "/run/containerd/containerd.sock",
        program: None,
    },
];

/// The drop-in folder of k0s.
pub const K0S_DROP_INS: &str = "/etc/k0s/containerd.d";
/// The first line of a file that k0s writes itself; without it the operator has taken the file over.
const K0S_MANAGED: &str = "# k0s_managed=true";
/// What microk8s renders.
const MICROK8S_TEMPLATE: &str = "containerd-template.toml";

impl Layout {
    /// Judges by the path of the file that containerd reads, and by its text.
    pub fn of(config: &Path, text: Option<&str>) -> Self {
        let path = config.to_string_lossy();
        if path.ends_with("/agent/etc/containerd/config.toml") {
            Self::Rancher
        } else if path.ends_with("/k0s/containerd.toml")
            && text.is_none_or(|text| text.starts_with(K0S_MANAGED))
        {
            Self::K0s
        } else if path.contains("/microk8s/") && path.ends_with("/args/containerd.toml") {
            Self::Microk8s
        } else {
            Self::Plain
        }
    }

    /// Files beside the configuration that decide what becomes of it.
    pub fn sources(&self, config: &Path) -> Vec<PathBuf> {
        match self {
            Self::Plain | Self::K0s => Vec::new(),
            Self::Rancher => ["config-v3.toml.tmpl", "config.toml.tmpl"]
                .map(|name| config.with_file_name(name))
                .to_vec(),
            Self::Microk8s => vec![config.with_file_name(MICROK8S_TEMPLATE)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_known_by_their_paths() {
        let of = |path: &str, text| Layout::of(Path::new(path), text);
        assert_eq!(of("/etc/containerd/config.toml", None), Layout::Plain);
        assert_eq!(
            of("/data/rke2/agent/etc/containerd/config.toml", None),
            Layout::Rancher
        );
        assert_eq!(
            of("/var/snap/microk8s/7000/args/containerd.toml", None),
            Layout::Microk8s
        );
        assert_eq!(
            of("/etc/k0s/containerd.toml", Some("# k0s_managed=true\n")),
            Layout::K0s
        );
        assert_eq!(
            of("/etc/k0s/containerd.toml", Some("version = 2\n")),
            Layout::Plain
        );
    }

    #[test]
    fn every_known_place_has_its_layout() {
        let layouts: Vec<Layout> = KNOWN
            .iter()
            .map(|known| Layout::of(Path::new(known.config), None))
            .collect();
        use Layout::{K0s, Microk8s, Plain, Rancher};
        assert_eq!(layouts, [Rancher, Rancher, K0s, Microk8s, Plain]);
    }
}
