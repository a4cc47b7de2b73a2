//! Limits, options and the cache.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use skiff_test::guest;
use skiff_test::image::Image;
use skiff_test::node::{Node, Version};

use crate::{ENGINES, each, runtime};

skiff_test::cases!(
    memory_limit,
    time_limit,
    options_that_cannot_be_had,
    compiled_once_for_the_node,
);

fn memory_limit() -> Result<()> {
    each(&Image::layer("layer", &guest::module()?), |_, run, _| {
        let limited = || run().with(&["--memory-limit", "67108864"]);
        let ran = limited().guest(&["grow", "8", "exit", "3"]).output()?;
        ensure!(ran.code == 3, "{ran:?}");
        let ran = limited().guest(&["grow", "1000"]).output()?;
        ensure!(ran.code == 137, "{ran:?}");
        Ok(())
    })
}

fn time_limit() -> Result<()> {
    each(&Image::layer("layer", &guest::module()?), |_, run, _| {
        let ran = run()
            .options("TimeLimit = \"1s\"")?
            .guest(&["spin"])
            .output()?;
        ensure!(
            ran.code == 142 && ran.stderr.contains("TimeLimit"),
            "{ran:?}"
        );
        Ok(())
    })
}

/// runwasi's interface has no place for them, and nobody is told that they hold.
fn options_that_cannot_be_had() -> Result<()> {
    each(
        &Image::layer("layer", &guest::module()?),
        |_, run, engine| {
            for (toml, option) in [
                ("MemoryCap = \"64Mi\"", "MemoryCap = \"64Mi\""),
                ("StackSize = \"1Mi\"", "StackSize"),
                ("OptLevel = \"none\"", "OptLevel"),
                (
                    "[Proposals]\nsimd = false\nrelaxed-simd = false",
                    "Proposals",
                ),
            ] {
                let ran = run().options(toml)?.output()?;
                ran.fails_with(&[option, "cannot be had with", engine, "leave it out"])?;
            }
            // Those that have no meaning here, and that promise nothing.
            let ran = run()
                .options("Backtrace = \"off\"\nMemoryCap = \"off\"\nLinuxPrograms = false")?
                .output()?;
            ensure!(ran.code == 0, "{ran:?}");
            Ok(())
        },
    )
}

/// Entries of the cache, by their paths and inodes: one that is made again has another.
fn entries(folder: &Path) -> Result<BTreeMap<PathBuf, u64>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.append(&mut entries(&entry.path())?);
        } else if fs::read(entry.path())?.starts_with(b"skiff-rw") {
            found.insert(entry.path(), entry.metadata()?.ino());
        }
    }
    Ok(found)
}

fn compiled_once_for_the_node() -> Result<()> {
    let module = guest::module()?;
    for engine in ENGINES {
        let node = Node::cold(Version::V2_4)?;
        let run = |image: &Image| -> Result<()> {
            node.import(image)?;
            let ran = node.run(image).runtime(&runtime(engine)).output()?;
            ensure!(
                ran.code == 0 && ran.stdout == "hello from a guest\n",
                "{engine}: {ran:?}"
            );
            Ok(())
        };
        run(&Image::layer("layer", &module))?;
        let made = entries(&node.cache())?;
        ensure!(made.len() == 1, "{engine}: one module, but {made:?}");
        let compiled = made
            .keys()
            .all(|entry| fs::read(entry).is_ok_and(|bytes| bytes[8] == 1));
        ensure!(
            compiled == (engine == "wasmtime36"),
            "{engine}: compiled is {compiled}"
        );
        // The same bytes in another image.
        run(&Image::layer("layer", &module))?;
        run(&Image::root_file("file", &module))?;
        ensure!(
            entries(&node.cache())? == made,
            "{engine}: the cache was not used"
        );
    }
    Ok(())
}
