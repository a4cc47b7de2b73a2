//! containerd's own `ctr`, for the two things that move a whole image: import and export.
//!
//! It speaks every version's way of importing (the transfer service, leases, labels against garbage
//! collection), and is there wherever containerd is.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, anyhow, bail};

use crate::arguments::Place;

/// Puts an OCI archive into containerd's image store.
pub(crate) fn import(place: &Place, archive: File) -> anyhow::Result<()> {
    // Not unpacked now: an index holds platforms that are not this node's. The first run unpacks.
    let mut command = ctr(
        place,
        &["images", "import", "--no-unpack", "--all-platforms", "-"],
    );
    command.stdin(archive).stdout(Stdio::null());
    match said_by(&mut command).context("could not put the image into containerd")? {
        None => Ok(()),
        Some(said) => {
            Err(anyhow!(explain(&said, place))).context("could not put the image into containerd")
        }
    }
}

/// Writes an image of containerd's store to an OCI archive.
///
/// With all its platforms if they are there. A pull for one platform leaves the others out, which `ctr`
/// refuses to export whole; then what the node has for its own platform.
pub(crate) fn export(place: &Place, image: &str, archive: &Path) -> anyhow::Result<()> {
    let export = |options: &[&str]| {
        // Not by the transfer service: ctr may end before the last bytes of its stream are in the file (seen in 3
        // of 25 exports under load, an archive without its index).
        let mut command = ctr(place, &["images", "export", "--local"]);
        command.args(options).arg(archive).arg(image);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        said_by(&mut command)
    };
    let said = match export(&["--all-platforms"])? {
        Some(said) if is_partial(&said) => export(&[])?,
        other => other,
    };
    let Some(said) = said else { return Ok(()) };
    Err(anyhow!(explain(&said, place)))
        .with_context(|| format!("could not read the image {image} from containerd"))
}

/// A blob is missing, not the image.
fn is_partial(said: &str) -> bool {
    said.contains("content digest") && said.contains("not found")
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

/// Runs `ctr`; what it complained of when it failed.
fn said_by(command: &mut Command) -> anyhow::Result<Option<String>> {
    let output = match command.stderr(Stdio::piped()).spawn() {
        Ok(child) => child.wait_with_output().context("could not wait for ctr")?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            bail!(
                "containerd's command ctr is not in PATH: install it beside containerd, or go by way of an archive (.tar) made or imported where ctr is"
            );
        }
        Err(error) => return Err(error).context("could not start ctr"),
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok((!output.status.success()).then_some(said))
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
    let hint = if is_partial(last) {
        "some of its content is not on this node; pull it again".to_owned()
    } else if last.contains("not found") && place.namespace != "k8s.io" {
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
            (
                "ctr: content digest sha256:16f7: not found\n",
                "k8s.io",
                "pull it again",
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
