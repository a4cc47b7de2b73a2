//! What the components of a cluster are told: files and command lines.

use std::fs;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use crate::node::{PAUSE_IMAGE, Version};

/// What tells the nodes of a cluster apart.
#[derive(Debug)]
pub(super) struct Member {
    /// Its name in the cluster.
    pub(super) name: &'static str,
    /// Its address: components refuse one of loopback.
    pub(super) address: &'static str,
    /// Addresses of its pods.
    pub(super) pods: &'static str,
    /// What its files are called by, after what they are.
    pub(super) suffix: &'static str,
}

/// The node that the control plane is on, too.
pub(super) const FIRST: Member = Member {
    name: NODE,
    address: NODE_ADDRESS,
    pods: "10.244.0.0/24",
    suffix: "",
};
/// The node that some scenarios have beside it.
pub(super) const SECOND: Member = Member {
    name: SECOND_NODE,
    address: "10.250.0.2",
    pods: "10.244.1.0/24",
    suffix: "-second",
};
/// The first node's name.
pub const NODE: &str = "skiff-node";
/// The second node's name.
pub const SECOND_NODE: &str = "skiff-node-second";
/// The first node's address, on a bridge of its own.
pub(super) const NODE_ADDRESS: &str = "10.250.0.1";
/// Addresses of services.
pub(super) const SERVICES: &str = "10.96.0.0/16";
/// The first of them is the API server's.
pub(super) const API_SERVICE: &str = "10.96.0.1";
/// Where the API server answers.
pub(super) const API: &str = "https://10.250.0.1:6443";

/// What kubeadm's users have in `/etc/containerd/config.toml`, and what this machine needs beyond it.
pub(super) fn containerd(version: Version) -> String {
    let head = "# Kept by whoever keeps this node.\n";
    match version {
        Version::V1_7 => format!(
            "{head}version = 2\n\n[plugins.\"io.containerd.grpc.v1.cri\"]\n  \
             sandbox_image = \"{PAUSE_IMAGE}\"\n  restrict_oom_score_adj = true\n\n  \
             [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\n    \
             runtime_type = \"io.containerd.runc.v2\"\n\n    \
             [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\n      SystemdCgroup = false\n"
        ),
        Version::V2_1 | Version::V2_4 => format!(
            "{head}version = 3\nimports = ['/etc/containerd/conf.d/*.toml']\n\n\
             [plugins.'io.containerd.cri.v1.runtime']\n  restrict_oom_score_adj = true\n\n  \
             [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\n    \
             runtime_type = 'io.containerd.runc.v2'\n\n    \
             [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]\n      SystemdCgroup = false\n\n\
             [plugins.'io.containerd.cri.v1.images'.pinned_images]\n  sandbox = '{PAUSE_IMAGE}'\n"
        ),
    }
}

/// A network of pods: a bridge, and addresses that are handed out on the node.
pub(super) fn network(member: &Member) -> Value {
    json!({
        "cniVersion": "1.0.0", "name": "pods",
        "plugins": [
            { "type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
              "ipam": { "type": "host-local", "ranges": [[{ "subnet": member.pods }]], "routes": [{ "dst": "0.0.0.0/0" }] } },
            { "type": "portmap", "capabilities": { "portMappings": true }, "snat": false },
            { "type": "loopback" },
        ],
    })
}

/// The kubelet's configuration. `cgroup` is the parent of all that it makes.
pub(super) fn kubelet(keys: &Path, member: &Member, cgroup: &str) -> Value {
    let key = |end: &str| keys.join(format!("kubelet-server{}.{end}", member.suffix));
    let nothing = json!({
        "imagefs.available": "0%", "imagefs.inodesFree": "0%", "memory.available": "0%",
        "nodefs.available": "0%", "nodefs.inodesFree": "0%", "pid.available": "0%",
    });
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "authentication": { "anonymous": { "enabled": false }, "webhook": { "enabled": true },
            "x509": { "clientCAFile": keys.join("ca.crt") } },
        "authorization": { "mode": "Webhook" },
        "tlsCertFile": key("crt"), "tlsPrivateKeyFile": key("key"),
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "cgroupDriver": "cgroupfs", "cgroupRoot": cgroup,
        "failCgroupV1": false, "failSwapOn": false,
        "clusterDNS": [NODE_ADDRESS], "clusterDomain": "cluster.local", "resolvConf": "/etc/skiff-test-resolv.conf",
        // The disk and the memory of whoever runs the tests are no reason to evict a pod.
        "evictionHard": nothing, "imageGCHighThresholdPercent": 100, "imageGCLowThresholdPercent": 99,
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        // What a test waits for comes soon.
        "syncFrequency": "5s", "nodeStatusUpdateFrequency": "4s",
        "serializeImagePulls": false, "registryPullQPS": 0, "eventRecordQPS": 0, "maxPods": 150,
        "maxParallelImagePulls": 5,
        "crashLoopBackOff": { "maxContainerRestartPeriod": "10s" },
        "featureGates": { "KubeletCrashLoopBackOffMax": true },
        "makeIPTablesUtilChains": false,
    })
}

/// The command line of the API server.
pub(super) fn api_server(keys: &Path) -> Vec<String> {
    let key = |name: &str| keys.join(name).display().to_string();
    vec![
        "--etcd-servers=http://127.0.0.1:2379".to_owned(),
        "--secure-port=6443".to_owned(),
        format!("--advertise-address={NODE_ADDRESS}"),
        format!("--service-cluster-ip-range={SERVICES}"),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--allow-privileged=true".to_owned(),
        format!("--client-ca-file={}", key("ca.crt")),
        // Those who answer for a part of the API are told by these who asks.
        format!("--requestheader-client-ca-file={}", key("ca.crt")),
        "--requestheader-allowed-names=front-proxy".to_owned(),
        "--requestheader-username-headers=X-Remote-User".to_owned(),
        "--requestheader-group-headers=X-Remote-Group".to_owned(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
        format!("--proxy-client-cert-file={}", key("front-proxy.crt")),
        format!("--proxy-client-key-file={}", key("front-proxy.key")),
        format!("--tls-cert-file={}", key("api-server.crt")),
        format!("--tls-private-key-file={}", key("api-server.key")),
        format!("--kubelet-certificate-authority={}", key("ca.crt")),
        format!("--kubelet-client-certificate={}", key("api-client.crt")),
        format!("--kubelet-client-key={}", key("api-client.key")),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
        format!("--service-account-key-file={}", key("accounts.crt")),
        format!("--service-account-signing-key-file={}", key("accounts.key")),
    ]
}

/// The command line of the controller manager.
pub(super) fn controller_manager(keys: &Path, kubeconfig: &Path) -> Vec<String> {
    let key = |name: &str| keys.join(name).display().to_string();
    vec![
        format!("--kubeconfig={}", kubeconfig.display()),
        "--leader-elect=false".to_owned(),
        "--use-service-account-credentials=true".to_owned(),
        format!("--service-account-private-key-file={}", key("accounts.key")),
        format!("--root-ca-file={}", key("ca.crt")),
        "--authentication-skip-lookup=true".to_owned(),
        "--pvclaimbinder-sync-period=1s".to_owned(),
        "--horizontal-pod-autoscaler-sync-period=2s".to_owned(),
        "--horizontal-pod-autoscaler-cpu-initialization-period=5s".to_owned(),
        "--horizontal-pod-autoscaler-initial-readiness-delay=2s".to_owned(),
    ]
}

/// The command line of kube-proxy. It leaves alone what is the whole machine's.
pub(super) fn proxy(kubeconfig: &Path, member: &Member) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--hostname-override={}", member.name),
        format!("--cluster-cidr={}", member.pods),
        "--proxy-mode=nftables".to_owned(),
        "--oom-score-adj=0".to_owned(),
        "--conntrack-max-per-core=0".to_owned(),
        "--conntrack-tcp-timeout-established=0s".to_owned(),
        "--conntrack-tcp-timeout-close-wait=0s".to_owned(),
    ]
}

/// What CoreDNS is told. It runs on the node itself, not in a pod, and is the resolver of all pods.
pub(super) fn names(kubeconfig: &Path) -> String {
    format!(
        ".:53 {{\n    bind {NODE_ADDRESS}\n    ready 127.0.0.1:8181\n    errors\n    \
         kubernetes cluster.local in-addr.arpa {{\n        kubeconfig {}\n        ttl 2\n    }}\n}}\n",
        kubeconfig.display()
    )
}

/// What the kubelet sets for the whole machine, and insists on: it gets files of its own to write to instead.
pub(super) const MACHINE_WIDE: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// Writes those files, and answers the shell's line that puts them in place in a mount namespace of the kubelet's own,
/// from where mounts still come to containerd.
pub(super) fn machine_wide(directory: &Path) -> Result<String> {
    let mut line = "mount --make-private /proc && ".to_owned();
    for (name, value) in MACHINE_WIDE {
        let file = directory.join(name.replace('/', "."));
        fs::write(&file, value)?;
        line.push_str(&format!(
            "mount --bind {} /proc/sys/{name} && ",
            file.display()
        ));
    }
    line.push_str("exec \"$@\"");
    Ok(line)
}
