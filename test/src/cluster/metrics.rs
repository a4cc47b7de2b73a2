//! metrics-server: `kubectl top`, and what a HorizontalPodAutoscaler counts with. Started by the scenario that needs it.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::config::NODE_ADDRESS;
use super::{Cluster, Daemon, end_of, plain};
use crate::command::wait_for;
use crate::tools;

const PORT: u16 = 4443;
const PATIENCE: Duration = Duration::from_secs(90);

impl Cluster {
    /// Starts metrics-server beside the control plane, tells the API server of it, and waits for the first figures.
    ///
    /// # Errors
    /// If it is missing, or no figures come; the end of its log is part of the message.
    pub fn start_metrics_server(&self) -> Result<Daemon> {
        let keys = self.directory.join("keys");
        let file = self.directory.join("metrics.conf");
        let config = file.display();
        let words = vec![
            format!("--kubeconfig={config}"),
            format!("--authentication-kubeconfig={config}"),
            format!("--authorization-kubeconfig={config}"),
            format!("--secure-port={PORT}"),
            format!(
                "--tls-cert-file={}",
                keys.join("metrics-server.crt").display()
            ),
            format!(
                "--tls-private-key-file={}",
                keys.join("metrics-server.key").display()
            ),
            format!(
                "--kubelet-certificate-authority={}",
                keys.join("ca.crt").display()
            ),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            // The shortest that it takes, which must be longer than a question may.
            "--metric-resolution=10s".to_owned(),
            "--kubelet-request-timeout=5s".to_owned(),
        ];
        let programs = tools::component("metrics-server")?;
        let daemon = plain(&self.directory, "metrics-server", &programs, words)?;
        let service = json!({ "name": "metrics-server", "namespace": "kube-system" });
        let space = json!({ "name": "metrics-server", "namespace": "kube-system",
            "labels": { "kubernetes.io/service-name": "metrics-server" } });
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": [
            { "apiVersion": "v1", "kind": "Service", "metadata": service,
                "spec": { "ports": [{ "name": "https", "port": 443, "targetPort": PORT }] } },
            { "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": space, "addressType": "IPv4",
                "endpoints": [{ "addresses": [NODE_ADDRESS], "conditions": { "ready": true } }],
                "ports": [{ "name": "https", "port": PORT }] },
            { "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
                "metadata": { "name": "v1beta1.metrics.k8s.io" },
                "spec": { "group": "metrics.k8s.io", "version": "v1beta1", "insecureSkipTLSVerify": true,
                    "groupPriorityMinimum": 100, "versionPriority": 100, "service": { "name": "metrics-server", "namespace": "kube-system", "port": 443 } } },
        ] });
        let objects = self.directory.join("files/metrics-server.json");
        std::fs::write(&objects, list.to_string())?;
        self.kubectl(&["apply", "--filename", &objects.display().to_string()])?
            .ok()?;
        wait_for("there are no figures", PATIENCE, || {
            let ran = self.kubectl(&["get", "--raw", "/apis/metrics.k8s.io/v1beta1/nodes"])?;
            Ok(ran.stdout.contains("\"usage\"").then_some(()))
        })
        .with_context(|| end_of(&daemon.log()))?;
        Ok(daemon)
    }

    /// The API server asks nobody for figures any more.
    ///
    /// # Errors
    /// If the API server refuses.
    pub fn forget_metrics_server(&self) -> Result<()> {
        let api = "apiservice/v1beta1.metrics.k8s.io";
        self.kubectl(&["delete", api])?.ok()?;
        let service = "service/metrics-server";
        self.kubectl(&["--namespace", "kube-system", "delete", service])?
            .ok()?;
        Ok(())
    }
}
