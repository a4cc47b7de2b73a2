//! On directories that look like cgroups: this machine may keep its controllers to v1. The real ones are met by
//! `make test-vm`.

use std::fs;
use std::path::PathBuf;

use super::super::plan::Check;
use super::super::{Cgroup, CgroupPlan, Layout, Mode};
use super::*;

/// A tree of three levels; what a level is called, what it can use, what it passes on.
fn tree(levels: &[(&str, &str, &str)]) -> (tempfile::TempDir, Hierarchy) {
    let root = tempfile::tempdir().unwrap();
    for (path, controllers, passed_on) in levels {
        let level = root.path().join(path);
        fs::create_dir_all(&level).unwrap();
        fs::write(level.join(CONTROLLERS), controllers).unwrap();
        fs::write(level.join(PASSED_ON), passed_on).unwrap();
        fs::write(level.join("cgroup.procs"), "").unwrap();
    }
    let tree = Hierarchy {
        controllers: vec!["cpu".to_owned(), "memory".to_owned()],
        mount: root.path().to_owned(),
        own: root.path().to_owned(),
    };
    (root, tree)
}

fn setting(controller: &'static str, file: &str, value: &str) -> Setting {
    Setting {
        controller,
        file: file.to_owned(),
        value: value.to_owned(),
        field: "linux.resources.memory.limit",
        check: Check::Written,
    }
}

#[test]
fn what_is_missing_is_passed_on() {
    let (root, tree) = tree(&[
        ("", "cpu memory", "cpu\n"),
        ("pods", "cpu memory", ""),
        ("pods/c", "", ""),
    ]);
    pass_on(&root.path().join("pods/c"), &tree);
    let written =
        |level: &str| fs::read_to_string(root.path().join(level).join(PASSED_ON)).unwrap();
    // The kernel adds what is written to what is there; a file keeps the rest of it.
    assert!(written("").starts_with("+mem"), "{}", written(""));
    assert_eq!(written("pods"), "+cpu +memory");
    assert_eq!(written("pods/c"), "");
}

#[test]
fn what_is_passed_on_is_left_alone() {
    let (root, tree) = tree(&[("", "cpu memory", ""), ("c", "memory cpu", "")]);
    pass_on(&root.path().join("c"), &tree);
    assert_eq!(fs::read_to_string(root.path().join(PASSED_ON)).unwrap(), "");
}

#[test]
fn a_cgroup_in_the_way_is_named() {
    let (root, _tree) = tree(&[
        ("", "memory", "memory"),
        ("a", "memory", ""),
        ("a/c", "", ""),
    ]);
    let leaf = root.path().join("a/c");
    let limit = setting("memory", "memory.max", "5");
    let told = why_missing(&limit, &leaf).unwrap().to_string();
    assert!(told.contains("/a does not pass it on"), "{told}");
    fs::write(root.path().join("a/cgroup.procs"), "7\n").unwrap();
    let told = why_missing(&limit, &leaf).unwrap().to_string();
    assert!(told.contains("/a has processes of its own"), "{told}");
    assert!(
        told.starts_with("linux.resources.memory.limit asks for the cgroup controller memory"),
        "{told}"
    );
    // A file that this kernel lacks is another matter.
    assert!(why_missing(&limit, &root.path().join("a")).is_none());
}

#[test]
fn a_limit_below_what_is_used_is_refused() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("memory.current"), "100\n").unwrap();
    let room = |limit| make_room(&setting("memory", "memory.max", limit), root.path());
    room("100").unwrap();
    room("max").unwrap();
    let told = room("99").unwrap_err().to_string();
    assert!(told.contains("its processes use 100 bytes"), "{told}");
    make_room(&setting("memory", "memory.high", "9"), root.path()).unwrap();
}

#[test]
fn a_relative_path_is_beside_the_shim_and_not_below_it() {
    let layout = |own: &str| Layout {
        mode: Mode::V2,
        hierarchies: Vec::new(),
        unified: Some(Hierarchy {
            controllers: vec!["memory".to_owned()],
            mount: "/c".into(),
            own: own.into(),
        }),
    };
    let place = |own: &str, path: &str| Cgroup::open(path, &layout(own)).unwrap().unified.unwrap();
    assert_eq!(
        place("/c/system.slice/d.service", "x"),
        PathBuf::from("/c/system.slice/x")
    );
    assert_eq!(
        place("/c/system.slice/d.service", "/x"),
        PathBuf::from("/c/x")
    );
    assert_eq!(place("/c", "x"), PathBuf::from("/c/x"));
    let cgroup = Cgroup::open("/x", &layout("/c")).unwrap();
    assert_eq!(cgroup.directory("memory"), Some(Path::new("/c/x")));
    assert_eq!(cgroup.directory("cgroup"), Some(Path::new("/c/x")));
    assert_eq!(cgroup.directory("freezer"), None);
}

#[test]
fn settings_of_files_that_differ_by_kernel() {
    let (root, mut tree) = tree(&[("", "", "")]);
    tree.controllers = vec!["cpu".to_owned(), "io".to_owned()];
    let layout = Layout {
        mode: Mode::V2,
        hierarchies: Vec::new(),
        unified: Some(tree),
    };
    let leaf = root.path().join("c");
    fs::create_dir(&leaf).unwrap();
    for (file, text) in [
        ("io.weight", ""),
        ("cpu.max", "5000 100000\n"),
        ("cgroup.procs", ""),
    ] {
        fs::write(leaf.join(file), text).unwrap();
    }
    let mut plan = CgroupPlan::new("/c");
    plan.settings = vec![
        Setting {
            check: Check::OrNumber("io.weight", 4950),
            ..setting("io", "io.bfq.weight", "8:0 500")
        },
        Setting {
            check: Check::SecondWord,
            ..setting("cpu", "cpu.max", "50000")
        },
    ];
    Cgroup::create(&plan, &layout).unwrap();
    let written = |file: &str| fs::read_to_string(leaf.join(file)).unwrap();
    assert_eq!(written("io.weight"), "8:0 4950");
    assert!(
        written("cpu.max").starts_with("5000 50000"),
        "{}",
        written("cpu.max")
    );
}
