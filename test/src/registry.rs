//! A registry on loopback, and pushing to it what [`Image`] made.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::image::{Image, Parts};
use crate::tools;

/// A running registry. It keeps its images in memory and ends with this value.
#[derive(Debug)]
pub struct Registry {
    process: Child,
    port: u16,
    private: Option<u16>,
}

impl Registry {
    /// Starts one on a free port.
    ///
    /// # Errors
    /// If it does not say its port.
    pub fn start() -> Result<Self> {
        Self::spawn("registry", &["-port", "0"])
    }

    /// Starts one that answers by HTTPS on 127.0.0.1:443 too, under these names, for clients that cannot be told
    /// another address. The certificate that they must trust is written to `authority`.
    ///
    /// # Errors
    /// As [`Registry::start`].
    pub fn start_under_names(names: &[&str], authority: &Path) -> Result<Self> {
        let file = authority.display().to_string();
        Self::spawn("names", &["-names", &names.join(","), "-authority", &file])
    }

    /// Starts one that answers a second port only to who gives this name and this password.
    ///
    /// # Errors
    /// As [`Registry::start`].
    pub fn start_with_private((name, password): (&str, &str)) -> Result<Self> {
        Self::spawn("private", &["-user", name, "-password", password])
    }

    fn spawn(program: &str, arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL"])
            .arg(tools::component("registry")?.join(program))
            .args(arguments);
        let mut process = command
            .stderr(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .context("could not start the registry")?;
        let mut reader = BufReader::new(
            process
                .stderr
                .take()
                .context("the registry has no standard error")?,
        );
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let port = line
            .trim()
            .rsplit(' ')
            .next()
            .and_then(|port| port.parse().ok());
        let port =
            port.with_context(|| format!("the registry did not say its port, but: {line}"))?;
        let private = line
            .split_once("private on port ")
            .and_then(|(_, rest)| rest.split(',').next()?.parse().ok());
        // It goes on writing a line for each request.
        std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
        Ok(Self {
            process,
            port,
            private,
        })
    }

    /// The port of loopback that it answers at by HTTP.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port that asks for a name and a password, and has the same images.
    pub fn private_port(&self) -> Option<u16> {
        self.private
    }

    /// The process, which is not residue.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Pushes an image and answers the reference to pull it by.
    ///
    /// # Errors
    /// If the registry refuses a part.
    pub fn push(&self, image: &Image, name: &str) -> Result<String> {
        self.push_parts(&image.parts(), name)
    }

    /// Pushes an image that was taken apart.
    ///
    /// # Errors
    /// If the registry refuses a part.
    pub fn push_parts(&self, parts: &Parts, name: &str) -> Result<String> {
        self.push_tagged(parts, name, "1")?;
        Ok(format!("localhost:{}/{name}:1", self.port))
    }

    /// Pushes an image that was taken apart, under a tag of the caller's.
    ///
    /// # Errors
    /// If the registry refuses a part.
    pub fn push_tagged(&self, parts: &Parts, name: &str, tag: &str) -> Result<()> {
        let manifest = |bytes: &[u8]| {
            bytes.starts_with(b"{") && String::from_utf8_lossy(bytes).contains("schemaVersion")
        };
        for (digest, bytes) in parts.blobs.iter().filter(|(_, bytes)| !manifest(bytes)) {
            self.request(
                "POST",
                &format!("/v2/{name}/blobs/uploads/?digest={digest}"),
                "application/octet-stream",
                bytes,
            )?;
        }
        // An index may only name manifests that are there.
        let mut manifests: Vec<_> = parts
            .blobs
            .iter()
            .filter(|(_, bytes)| manifest(bytes))
            .collect();
        manifests
            .sort_by_key(|(_, bytes)| String::from_utf8_lossy(bytes).contains("\"manifests\""));
        for (digest, bytes) in manifests {
            let text: serde_json::Value = serde_json::from_slice(bytes)?;
            let media_type = text["mediaType"].as_str().unwrap_or_default();
            self.request(
                "PUT",
                &format!("/v2/{name}/manifests/{digest}"),
                media_type,
                bytes,
            )?;
            if parts.top["digest"] == **digest {
                self.request(
                    "PUT",
                    &format!("/v2/{name}/manifests/{tag}"),
                    media_type,
                    bytes,
                )?;
            }
        }
        Ok(())
    }

    fn request(&self, method: &str, path: &str, media_type: &str, body: &[u8]) -> Result<()> {
        let mut stream = TcpStream::connect(("localhost", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        )?;
        stream.write_all(body)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        ensure!(
            status.starts_with('2'),
            "the registry answered {method} {path} with: {answer}"
        );
        Ok(())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It has ended already if this fails.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
