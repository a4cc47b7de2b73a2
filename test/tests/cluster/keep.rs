//! `make cluster`: a cluster that stays, with commands to reach it from outside of its namespaces.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::Result;
use skiff_test::cluster::Cluster;
use skiff_test::tools;

/// Writes the commands, says that all is ready, and waits until the file `stop` is there.
pub(crate) fn until_told(cluster: &Cluster, outside: u32) -> Result<()> {
    let directory = cluster.directory();
    let bin = directory.join("bin");
    fs::create_dir_all(&bin)?;
    let kubernetes = tools::component("kubernetes")?;
    let write = |name: &str, text: String| -> Result<()> {
        let path = bin.join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n"))?;
        Ok(fs::set_permissions(
            &path,
            fs::Permissions::from_mode(0o755),
        )?)
    };
    // The network is the cluster's, files are the caller's.
    let net = format!("nsenter --net=/proc/{outside}/ns/net");
    let config = directory.join("admin.conf");
    let config = config.display();
    write(
        "kubectl",
        format!(
            "export KUBECONFIG={config}\nexec {net} {}/kubectl \"$@\"",
            kubernetes.display()
        ),
    )?;
    if let Ok(helm) = tools::component("helm") {
        write(
            "helm",
            format!(
                "export KUBECONFIG={config}\nexec {net} {}/helm \"$@\"",
                helm.display()
            ),
        )?;
    }
    write(
        "on-node",
        format!(
            "# Runs a command on the node: on-node crictl ps, on-node skiff-node status\n\
             export PATH={}:{}\n\
             exec {net} --mount=/proc/{outside}/ns/mnt --ipc=/proc/{outside}/ns/ipc --pid=/proc/{outside}/ns/pid_for_children \"$@\"",
            tools::skiff_dir().display(),
            cluster.path()
        ),
    )?;
    write(
        "load",
        "# Puts an archive of `skiff build` on the node: load hello.tar\n\
         exec \"$(dirname \"$0\")\"/on-node ctr --namespace k8s.io images import \"$(realpath \"$1\")\""
            .to_owned(),
    )?;
    let images = cluster.images();
    fs::write(
        directory.join("images"),
        format!(
            "guest={}\ncomponent={}\nnative={}\n",
            images.guest, images.component, images.native
        ),
    )?;
    fs::write(directory.join("ready"), "")?;
    let stop = directory.join("stop");
    while !stop.exists() {
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}
