//! What can be told without runc; the rest is tested with containerd, beside its own shim.

use std::os::unix::fs::PermissionsExt as _;

use super::call::{last_error, without_prefix};
use super::*;

#[test]
fn the_last_error_of_a_log_counts() {
    let log = "{\"level\":\"warning\",\"msg\":\"old\"}\nno json\n{\"level\":\"error\",\"msg\":\"one\"}\n\
               {\"level\":\"error\",\"msg\":\" two \"}\n{\"level\":\"info\",\"msg\":\"three\"}\n{\"level\":\"err";
    assert_eq!(last_error(log).as_deref(), Some("two"));
    assert_eq!(last_error(""), None);
}

#[test]
fn what_our_sentence_says_is_not_said_twice() {
    let said = "runc create failed: unable to start container process: no such file";
    assert_eq!(
        without_prefix(said, "create"),
        "unable to start container process: no such file"
    );
    assert_eq!(without_prefix(said, "exec"), said);
    assert_eq!(without_prefix("no room", "create"), "no room");
}

#[test]
fn an_executable_is_found_by_name_or_path() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("runc");
    std::fs::write(&file, "").unwrap();
    let path = directory.path().as_os_str();
    let by_path = file.to_str().unwrap();
    // Not while nobody may execute it: root may not either.
    assert_eq!(
        (find_in("runc", path), find_in(by_path, path)),
        (None, None)
    );
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(find_in("runc", path), Some(file.clone()));
    assert_eq!(find_in(by_path, OsStr::new("")), Some(file.clone()));
    assert_eq!(find_in("crun", path), None);
    // A directory is none, and a folder that is relative could be anybody's.
    assert_eq!(find_in(directory.path().to_str().unwrap(), path), None);
    assert_eq!(find_in("runc", OsStr::new("relative")), None);
}

#[test]
fn one_that_is_not_installed_is_named() {
    let options = RuncOptions {
        binary_name: "no-such-runc".to_owned(),
        ..RuncOptions::default()
    };
    let error = Runc::find(&options, false, "k8s.io", Path::new("/b")).unwrap_err();
    let sentence = error.to_string();
    assert!(
        sentence.contains("no-such-runc") && sentence.contains("BinaryName"),
        "{sentence}"
    );
    features(&options).unwrap_err();
}
