//! How long the life of a container takes without an engine in it. Run by hand, on a quiet machine:
//! `cargo test --release -p skiff-sandbox --features planner --test all measure -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use skiff_sandbox::control::Report;
use skiff_sandbox::plan::Capabilities;
use skiff_sandbox::rootfs::{ContainerdMount, mount_root};
use skiff_sandbox::sys::process::ExitStatus;

use crate::harness::{Alone, Case, Image};

const ROUNDS: usize = 300;

#[test]
#[ignore = "a measurement; it needs a release build and a quiet machine"]
fn life_of_a_container() {
    let _alone = Alone::new();
    let image = Image::new();
    for directory in ["upper", "work"] {
        std::fs::create_dir(image.path(directory)).unwrap();
    }
    let overlay = ContainerdMount {
        fstype: "overlay".to_owned(),
        source: "overlay".to_owned(),
        options: vec![
            format!("lowerdir={}", image.root().display()),
            format!("upperdir={}", image.path("upper").display()),
            format!("workdir={}", image.path("work").display()),
        ],
        ..ContainerdMount::default()
    };
    let bind = ContainerdMount {
        fstype: "bind".to_owned(),
        source: image.root().display().to_string(),
        options: vec!["rbind".to_owned(), "rw".to_owned()],
        ..ContainerdMount::default()
    };
    for mount in [overlay, bind] {
        let mut rounds: Vec<[Duration; 5]> = (0..ROUNDS)
            .map(|_| one(&image, std::slice::from_ref(&mount)))
            .collect();
        println!(
            "{} root, {ROUNDS} rounds, milliseconds (p50, p99):",
            mount.fstype
        );
        for (index, stage) in ["root", "exec", "ready", "run to exit", "all"]
            .into_iter()
            .enumerate()
        {
            rounds.sort_by_key(|round| round[index]);
            let at = |share: usize| rounds[ROUNDS * share / 100][index].as_secs_f64() * 1000.0;
            println!("  {stage:12} {:6.3} {:6.3}", at(50), at(99));
        }
    }
}

/// The time of each stage of one container, and of all.
fn one(image: &Image, mounts: &[ContainerdMount]) -> [Duration; 5] {
    let start = Instant::now();
    let tree = mount_root(mounts, &image.path("bundle"), &image.root()).unwrap();
    // Kept by the shim until the exit is told: an overlay's end writes back the whole file system below it.
    let kept = tree.try_clone().unwrap();
    let rooted = Instant::now();
    let mut case = Case::with_tree(tree, &["exit", "0"])
        .bind(&image.path("outside/secret"), "/etc/hosts")
        .bind(&image.path("outside/secret"), "/etc/resolv.conf")
        .bind(&image.outside(), "/data")
        .guest();
    case.plan.capabilities = Capabilities::default();
    case.plan.no_new_privileges = true;
    let mut running = case.launch().unwrap();
    let launched = Instant::now();
    let report = running.launched.control.receive(crate::harness::PATIENCE);
    assert!(matches!(report, Ok(Report::Ready)), "{report:?}");
    let ready = Instant::now();
    running.go();
    let status = running.wait();
    assert_eq!(status, ExitStatus::Code(0), "{}", running.errors());
    let end = Instant::now();
    drop(kept);
    [
        rooted - start,
        launched - rooted,
        ready - launched,
        end - ready,
        end - start,
    ]
}
