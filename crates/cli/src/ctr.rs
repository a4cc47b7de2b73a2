//! containerd's own `ctr`, for the two things that move a whole image: import and export.
//!
//! It speaks every version's way of importing (the transfer service, leases, labels against garbage
//! collection), and is there wherever containerd is.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::arguments::Place;

/// Puts an OCI archive into containerd's image store.
pub(crate) fn import(place: &Place, archive: File) -> anyhow::Result<()> {
    // Not unpacked now: an index holds platforms that are not this node's. The first run unpacks.
    let mut command = ctr(
        place,
        &["images", "import", "--no-unpack", "--all-platforms", "-"],
    );
    command.stdin(archive).stdout(Stdio::null());
    run(&mut command, place).context("could not put the image into containerd")
}

/// Writes an image of containerd's store to an OCI archive.
pub(crate) fn export(place: &Place, image: &str, archive: &Path) -> anyhow::Result<()> {
    let mut command = ctr(place, &["images", "export", "--all-platforms"]);
    command
        .arg(archive)
        .arg(image)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    run(&mut command, place)
        .with_context(|| format!("could not read the image {image} from containerd"))
}

fn ctr(place: &Place, arguments: &[&str]) -> Command {
    let mut command = Command::new("ctr");
    command
        .arg("--address")
        .arg(&place.address)
        .arg("--namespace")
        .arg(&place.namespace)
        .args(arguments);
    command
}

fn run(command: &mut Command, place: &Place) -> anyhow::Result<()> {
    let output = match command.stderr(Stdio::piped()).spawn() {
        Ok(child) => child.wait_with_output().context("could not wait for ctr")?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            bail!(
                "containerd's command ctr is not in PATH: install it beside containerd, or build an archive with -o and import that where ctr is"
            );
        }
        Err(error) => return Err(error).context("could not start ctr"),
    };
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    bail!("{}", explain(&said, place))
}

/// ctr's last words, and what to do about those that are often met.
fn explain(said: &str, place: &Place) -> String {
    let last = said
        .lines()
        .rfind(|line| !line.trim().is_empty())
        .unwrap_or("ctr said nothing")
        .trim();
    let last = last.trim_start_matches("ctr: ");
    let address = place.address.display();
    let hint = if last.contains("not found") && place.namespace != "k8s.io" {
        format!(
            "not in namespace {} (Kubernetes' images are in --namespace k8s.io; `ctr namespaces ls` lists all)",
            place.namespace
        )
    } else if last.contains("not found") {
        format!("not in namespace {}", place.namespace)
    } else if last.contains("permission denied") {
        format!("{address} is root's: run this as root")
    } else if last.contains("no such file")
        || last.contains("connection refused")
        || last.contains("deadline exceeded")
    {
        format!(
            "containerd does not answer at {address}: `skiff doctor --address {address}` says why"
        )
    } else {
        return last.to_owned();
    };
    format!("{hint}: {last}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ctr_says_is_explained() {
        let place = |namespace: &str| Place {
            address: "/run/c.sock".into(),
            namespace: namespace.into(),
        };
        let table = [
            (
                "ctr: image \"a\": not found\n",
                "default",
                "--namespace k8s.io",
            ),
            (
                "ctr: image \"a\": not found\n",
                "k8s.io",
                "not in namespace k8s.io",
            ),
            (
                "ctr: failed to dial \"/run/c.sock\": context deadline exceeded\n",
                "default",
                "skiff doctor --address /run/c.sock",
            ),
            (
                "ctr: dial unix /run/c.sock: connect: permission denied",
                "default",
                "run this as root",
            ),
            ("ctr: something new", "default", "something new"),
            ("", "default", "ctr said nothing"),
        ];
        for (said, namespace, expected) in table {
            let explained = explain(said, &place(namespace));
            assert!(explained.contains(expected), "{explained}");
            assert!(!explained.contains("ctr: "), "{explained}");
        }
    }
}
