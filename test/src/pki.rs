//! Certificates for a cluster or a server: one authority, and a key pair for each who proves a name by it. Made by `openssl`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::command;

/// An authority with a directory of key pairs: `<name>.crt` and `<name>.key`.
#[derive(Debug)]
pub struct Authority {
    directory: PathBuf,
}

impl Authority {
    /// Makes one.
    ///
    /// # Errors
    /// There is no `openssl`, or the directory cannot be written to.
    pub fn new(directory: PathBuf) -> Result<Self> {
        fs::create_dir_all(&directory)?;
        // None of the extensions that a distribution's own file adds.
        fs::write(
            directory.join("openssl.cnf"),
            "[req]\ndistinguished_name = subject\n[subject]\n",
        )?;
        let authority = Self { directory };
        authority.request(
            "ca",
            "/CN=skiff-test",
            &[
                "basicConstraints=critical,CA:TRUE",
                "keyUsage=critical,keyCertSign,digitalSignature",
            ],
            false,
        )?;
        Ok(authority)
    }

    /// The authority's certificate.
    pub fn certificate(&self) -> PathBuf {
        self.path("ca", "crt")
    }

    /// A file of a key pair.
    pub fn path(&self, name: &str, end: &str) -> PathBuf {
        self.directory.join(format!("{name}.{end}"))
    }

    /// A key pair for a client, whose name and group Kubernetes reads out of the subject (`/O=group/CN=name`).
    pub(crate) fn client(&self, name: &str, subject: &str) -> Result<()> {
        self.request(name, subject, &["extendedKeyUsage=clientAuth"], true)
    }

    /// A key pair for a server with these names (`DNS:…`, `IP:…`).
    ///
    /// # Errors
    /// As [`Authority::new`].
    pub fn server(&self, name: &str, names: &[&str]) -> Result<()> {
        let names = format!("subjectAltName={}", names.join(","));
        let use_of_key = "extendedKeyUsage=serverAuth";
        self.request(name, &format!("/CN={name}"), &[use_of_key, &names], true)
    }

    fn request(&self, name: &str, subject: &str, extensions: &[&str], signed: bool) -> Result<()> {
        let mut openssl = Command::new("openssl");
        openssl
            .args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"])
            .args(["-pkeyopt", "ec_paramgen_curve:P-256", "-subj", subject])
            .arg("-config")
            .arg(self.directory.join("openssl.cnf"))
            .arg("-keyout")
            .arg(self.path(name, "key"))
            .arg("-out")
            .arg(self.path(name, "crt"));
        for extension in extensions {
            openssl.args(["-addext", extension]);
        }
        if signed {
            openssl
                .arg("-CA")
                .arg(self.certificate())
                .arg("-CAkey")
                .arg(self.path("ca", "key"));
        }
        let ran = command::run(&mut openssl)?.ok();
        ran.with_context(|| format!("could not make the certificate {name}"))?;
        Ok(())
    }

    /// A kubeconfig by which a client proves its name to the API server.
    pub(crate) fn kubeconfig(&self, name: &str, server: &str, place: &Path) -> Result<()> {
        let text = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "skiff",
            "clusters": [{ "name": "skiff", "cluster": { "server": server, "certificate-authority": self.certificate() } }],
            "users": [{ "name": name, "user": {
                "client-certificate": self.path(name, "crt"), "client-key": self.path(name, "key") } }],
            "contexts": [{ "name": "skiff", "context": { "cluster": "skiff", "user": name } }],
        });
        fs::write(place, text.to_string())
            .with_context(|| format!("could not write {}", place.display()))
    }
}
