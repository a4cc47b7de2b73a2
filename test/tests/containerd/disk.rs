//! Full disks: for the cache a container runs all the same, for the bundle it fails with a sentence.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use skiff_test::guest;
use skiff_test::image::Image;
use skiff_test::node::{Node, Options, Version};

skiff_test::cases!(
    cache_without_room,
    cache_without_room_for_the_entry,
    cache_that_cannot_be_written,
    bundle_without_room
);

/// A small file system of its own, unmounted and removed at the end.
struct Small {
    place: PathBuf,
}

impl Small {
    fn new(name: &str, options: &std::ffi::CStr) -> Result<Self> {
        let place = Path::new("/tmp").join(format!("skt{}-{name}", std::process::id()));
        fs::create_dir_all(&place)?;
        mount("tmpfs", &place, "tmpfs", MountFlags::empty(), Some(options))?;
        Ok(Self { place })
    }

    /// Leaves so many bytes.
    fn fill(&self, leave: u64) -> Result<()> {
        let facts = rustix::fs::statvfs(&self.place)?;
        let room = facts.f_bavail * facts.f_frsize;
        let size = usize::try_from(room.saturating_sub(leave))?;
        fs::write(self.place.join("filler"), vec![1; size])?;
        Ok(())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.place, UnmountFlags::DETACH) {
            skiff_test::runner::fault(format!(
                "could not unmount {}: {error}",
                self.place.display()
            ));
        }
        // What is still there is the probe's to report.
        fs::remove_dir(&self.place).ok();
    }
}

fn with_cache_in(small: &Small) -> Result<()> {
    let options = Options {
        cache: Some(small.place.join("cache")),
        ..Options::default()
    };
    fs::create_dir_all(small.place.join("cache"))?;
    let node = Node::with(Version::V2_4, options)?;
    let image = Image::layer("layer", &guest::module()?);
    node.import(&image)?;
    for _ in 0..2 {
        let ran = node.run(&image).output()?;
        assert_eq!(
            (ran.code, ran.stdout.as_str()),
            (0, "hello from a guest\n"),
            "{}",
            ran.stderr
        );
    }
    Ok(())
}

fn cache_without_room() -> Result<()> {
    let small = Small::new("full", c"size=1m")?;
    small.fill(0)?;
    with_cache_in(&small)
}

fn cache_without_room_for_the_entry() -> Result<()> {
    let small = Small::new("tight", c"size=1m")?;
    small.fill(48 << 10)?;
    with_cache_in(&small)?;
    // Nothing half written is to be seen.
    for entry in fs::read_dir(small.place.join("cache"))?.flatten() {
        ensure!(
            entry.metadata()?.len() < 48 << 10,
            "{} is too large to be whole",
            entry.path().display()
        );
    }
    Ok(())
}

fn cache_that_cannot_be_written() -> Result<()> {
    let small = Small::new("readonly", c"size=1m")?;
    fs::create_dir_all(small.place.join("cache"))?;
    rustix::mount::mount_remount(&small.place, MountFlags::RDONLY, c"size=1m")?;
    with_cache_in(&small)
}

/// With less and less room in the bundle each start either works or says that there is no space.
fn bundle_without_room() -> Result<()> {
    let small = Small::new("bundle", c"size=2m")?;
    let node = Node::with(
        Version::V2_4,
        Options {
            directory: Some(small.place.join("n")),
            ..Options::default()
        },
    );
    // containerd's own database and the image need more than that.
    if let Ok(node) = node {
        let image = Image::layer(
            "small",
            &guest::text(r#"(module (memory (export "memory") 1) (func (export "_start")))"#)?,
        );
        if node.try_import(&image)?.code != 0 {
            skiff_test::skip!("containerd's own state does not fit into 2 MiB");
        }
        for leave in [64 << 10, 32 << 10, 16 << 10, 8 << 10, 4 << 10, 0] {
            small.fill(leave)?;
            let ran = node.run(&image).output()?;
            ensure!(
                ran.code == 0 || ran.stderr.contains("no space") || ran.stderr.contains("No space"),
                "with {leave} bytes left: {}",
                ran.stderr
            );
            fs::remove_file(small.place.join("filler"))?;
            let left = node.probe().settle(node.before());
            ensure!(
                left.is_empty(),
                "with {leave} bytes left, this was left behind: {left:#?}"
            );
        }
        return Ok(());
    }
    skiff_test::skip!("containerd does not start in 2 MiB")
}
