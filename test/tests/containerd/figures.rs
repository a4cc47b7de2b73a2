//! Stats of two equal containers, one by ours and one by containerd's runc shim: what that fills in, ours fills in.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use skiff_test::guest;
use skiff_test::image::Image;
use skiff_test::node::{Node, RUNC, Version};

skiff_test::cases!(every_figure_of_runc);

/// Where figures are, in a message as `ctr` prints it.
fn places(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                places(value, &format!("{at}/{name}"), found);
            }
        }
        // One of several processors, devices, sizes: they are alike.
        Value::Array(all) => all.iter().for_each(|value| places(value, at, found)),
        Value::Null => {}
        _ => {
            found.insert(at.to_owned());
        }
    }
}

/// Counts of what may have happened to one of the two and not to the other, which JSON has no place for then: pages
/// read from a disk, written to one, given back, of files or shared, huge pages, the kernel's own memory and time, a quota
/// that a busy machine leaves no time to use up.
const CHANCE: [&str; 15] = [
    "maj_fault",
    "writeback",
    "dirty",
    "mapped_file",
    "cache",
    "active_file",
    "unevictable",
    "rss_huge",
    "kernel/",
    "kernel_tcp/",
    "failcnt",
    "pg_pg_out",
    "usage/kernel",
    "throttled",
    "active_anon",
];

fn every_figure_of_runc() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let module = Image::layer("layer", &guest::module()?);
    let busybox = Image::busybox("busybox")?;
    node.import(&module)?;
    node.import(&busybox)?;
    let limits = [
        "--memory-limit",
        "134217728",
        "--cpu-quota",
        "50000",
        "--cpu-period",
        "100000",
    ];
    let ours = node
        .run(&module)
        .with(&limits)
        .guest(&["say", "up", "spin"])
        .start()?;
    let script = "echo up; while :; do :; done";
    let theirs = node.run(&busybox).runtime(RUNC).with(&limits);
    let theirs = theirs.args(["/bin/busybox", "sh", "-c", script]).start()?;
    for task in [&ours, &theirs] {
        task.wait_for_output("up")?;
    }
    // Long enough to use up the quota, and for the kernel to count up pages, which it does every two seconds.
    std::thread::sleep(Duration::from_millis(2500));
    let figures = |id: &str| -> Result<BTreeSet<String>> {
        let text = node
            .ctr(&["task", "metrics", "--format", "json", id])?
            .ok()?;
        let mut found = BTreeSet::new();
        places(&serde_json::from_str(&text).context(text)?, "", &mut found);
        Ok(found)
    };
    let (of_ours, of_theirs) = (figures(ours.id())?, figures(theirs.id())?);
    let missing: Vec<&String> = of_theirs
        .difference(&of_ours)
        .filter(|place| !CHANCE.iter().any(|word| place.contains(word)))
        .collect();
    ensure!(
        missing.is_empty(),
        "runc's shim fills {missing:?}, and ours does not, which fills {of_ours:?}"
    );
    ensure!(
        of_theirs.len() > 20,
        "hardly any figures under runc: {of_theirs:?}"
    );
    ours.remove()?;
    theirs.remove()?;
    Ok(())
}
