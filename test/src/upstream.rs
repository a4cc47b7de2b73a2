//! Images under the names that upstream's suites pull, made of this machine's and its distribution's programs.
//!
//! What the suites ask of an image is what its commands do; no byte is upstream's.

mod programs;

use anyhow::Result;
use serde_json::json;

use crate::image::{Entry, Image, digest, go_architecture};
use crate::registry::Registry;

/// An image, with the path and the tags that it has in a registry.
#[derive(Clone, Debug)]
struct Named {
    path: String,
    tags: Vec<&'static str>,
    image: Image,
}

/// What a suite must know of the images.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// `sha256:…` of the image that critest pulls by digest.
    pub by_digest: String,
}

/// critest's own repository.
const CRITEST: &str = "k8s-staging-cri-tools";
/// Images of Kubernetes' end-to-end tests.
const E2E: &str = "e2e-test-images";

/// Pushes every image that critest 1.36 pulls.
///
/// # Errors
/// If a program is missing on this machine, or the registry refuses a part.
pub fn push_for_critest(registry: &Registry) -> Result<Pushed> {
    let by_digest = marked("test-image-digest")?;
    let found = digest_of(&by_digest.image);
    let mut all = vec![
        e2e("busybox", "1.29-2", shell()?),
        e2e("nginx", "1.14-2", web_server(80)?),
        e2e("httpd", "2.4.39-4", plain_web_server()?),
        e2e("nonewprivs", "1.3", effective_user()?),
        named("pause", &["3.9"], pause()?),
        critest(
            &format!("hostnet-nginx-{}", go_architecture()),
            &["latest"],
            web_server(12003)?,
        ),
        critest("test-image-tags", &["1", "2", "3"], with_mark("same")?),
        critest("test-image-tag", &["test"], with_mark("test")?),
        critest("test-image-tag", &["all"], with_mark("all")?),
        by_digest,
    ];
    for name in [
        "test-image-1",
        "test-image-2",
        "test-image-3",
        "test-image-latest",
    ] {
        all.push(marked(name)?);
    }
    for (name, user) in [
        ("uid", "1002"),
        ("username", "www-data"),
        ("uid-group", "1003:1004"),
        ("username-group", "www-data:1004"),
    ] {
        let image = shell()?.config("User", &json!(user));
        all.push(critest(
            &format!("test-image-user-{name}"),
            &["latest"],
            image,
        ));
    }
    let groups = "group-defined-in-image:x:50000:default-user\n";
    let image = shell()?
        .with_layer_over(&programs::accounts(
            "default-user:x:1000:1000::/home:/bin/sh\n",
            groups,
        ))
        .config("User", &json!("1000"));
    all.push(critest("test-image-predefined-group", &["latest"], image));
    push(registry, &all)?;
    Ok(Pushed { by_digest: found })
}

/// Registries whose names containerd's client suite pulls from.
pub const CLIENT_SUITE_REGISTRIES: [&str; 2] = ["ghcr.io", "registry.k8s.io"];

/// Pushes the images that containerd's client suite pulls, but one that it names by a digest.
///
/// # Errors
/// As [`push_for_critest`].
pub fn push_for_client_suite(registry: &Registry) -> Result<()> {
    // No two share a layer: tests delete an image and look whether its content is gone.
    let one = |path: &str, tag: &'static str, image: Image| {
        let mark = [Entry::file(
            "name",
            0o644,
            format!("{path}:{tag}").as_bytes(),
        )];
        let image = image.with_root(&mark);
        named(path, &[tag], image)
    };
    let others: Vec<&str> = ["amd64", "arm64", "s390x"]
        .into_iter()
        .filter(|architecture| *architecture != go_architecture())
        .collect();
    let all = [
        one("containerd/busybox", "1.36", shell()?.also_for(&others)),
        one("containerd/volume-copy-up", "2.2", layered()?),
        one("containerd/volume-ownership", "2.1", whole_system()?),
        one("pause", "3.10.2", pause()?.also_for(&others)),
        one("pause", "3.6", pause()?.also_for(&others)),
        one(
            "e2e-test-images/busybox",
            "1.29-2",
            shell()?.also_for(&others),
        ),
    ];
    push(registry, &all)
}

/// Several layers.
fn layered() -> Result<Image> {
    let layer = |name: &str| [Entry::file(name, 0o644, name.as_bytes())];
    Ok(shell()?
        .with_layer_over(&layer("first"))
        .with_layer_over(&layer("second")))
}

/// Programs of a distribution that busybox has not, with a set-user-ID one.
fn whole_system() -> Result<Image> {
    let mut root = programs::shell()?;
    root.extend(programs::of_this_machine()?);
    let owned = Entry::directory("test_dir").owner(65534, 65534);
    root.push(owned);
    Ok(programs::with_environment(Image::linux("system", &root)).command(&["bash"]))
}

fn push(registry: &Registry, all: &[Named]) -> Result<()> {
    for one in all {
        let parts = one.image.parts();
        for tag in &one.tags {
            registry.push_tagged(&parts, &one.path, tag)?;
        }
    }
    Ok(())
}

fn named(path: &str, tags: &[&'static str], image: Image) -> Named {
    Named {
        path: path.to_owned(),
        tags: tags.to_vec(),
        image,
    }
}

fn e2e(name: &str, tag: &'static str, image: Image) -> Named {
    named(&format!("{E2E}/{name}"), &[tag], image)
}

fn critest(name: &str, tags: &[&'static str], image: Image) -> Named {
    named(&format!("{CRITEST}/{name}"), tags, image)
}

/// One that differs from all others by a file of its name.
fn marked(name: &str) -> Result<Named> {
    Ok(critest(name, &["latest"], with_mark(name)?))
}

fn with_mark(name: &str) -> Result<Image> {
    Ok(shell()?.with_root(&[Entry::file(name, 0o644, b"")]))
}

fn digest_of(image: &Image) -> String {
    image.parts().top["digest"]
        .as_str()
        .map_or_else(|| digest(b""), str::to_owned)
}

/// A shell and its tools.
fn shell() -> Result<Image> {
    Ok(programs::with_environment(Image::linux("shell", &programs::shell()?)).command(&["sh"]))
}

/// What waits: a sandbox under runc runs it.
fn pause() -> Result<Image> {
    // Not what the node's own sandboxes are made of: a spec counts the names of this image.
    let mark = [Entry::file("upstream", 0o644, b"")];
    Ok(Image::busybox("pause")?
        .with_root(&mark)
        .entrypoint(&["/bin/busybox", "sleep", "1000000"]))
}

/// nginx, with the shell's tools beside it.
fn web_server(port: u16) -> Result<Image> {
    let mut root = programs::shell()?;
    root.extend(programs::nginx(port)?);
    Ok(
        programs::with_environment(Image::linux("nginx", &root)).command(&[
            "nginx",
            "-g",
            "daemon off;",
        ]),
    )
}

/// A web server that writes its own name to its log.
fn plain_web_server() -> Result<Image> {
    let mut root = programs::shell()?;
    root.extend([
        Entry::directory("www"),
        Entry::file("www/index.html", 0o644, b"it works\n"),
    ]);
    let line = "echo httpd starts; exec httpd -f -p 80 -h /www";
    Ok(programs::with_environment(Image::linux("httpd", &root)).command(&["sh", "-c", line]))
}

/// A program that is root's and set-user-ID, and says who it runs as.
fn effective_user() -> Result<Image> {
    let root = [Entry::file("nnp", 0o4755, &programs::effective_user()?)];
    Ok(Image::linux("nonewprivs", &root).entrypoint(&["/nnp"]))
}
