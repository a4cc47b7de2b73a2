//! Help, version, completions, and arguments that are not understood.

use crate::harness::{Place, fields};

const COMMANDS: [&[&str]; 10] = [
    &[],
    &["build"],
    &["inspect"],
    &["cache"],
    &["cache", "ls"],
    &["cache", "verify"],
    &["cache", "prune"],
    &["cache", "warm"],
    &["doctor"],
    &["completions"],
];

#[test]
fn every_command_has_help() {
    let place = Place::new();
    for command in COMMANDS {
        let arguments: Vec<&str> = command.iter().copied().chain(["--help"]).collect();
        let help = place.skiff(&arguments).well();
        assert!(help.contains("Usage: skiff"), "{command:?}: {help}");
        assert!(help.contains("--json"), "{command:?}: {help}");
    }
}

#[test]
fn help_says_what_the_exit_codes_mean() {
    let place = Place::new();
    for command in [
        &[][..],
        &["build"],
        &["inspect"],
        &["doctor"],
        &["cache", "verify"],
    ] {
        let arguments: Vec<&str> = command.iter().copied().chain(["--help"]).collect();
        assert!(
            place.skiff(&arguments).well().contains("Exit codes:"),
            "{command:?}"
        );
    }
}

#[test]
fn the_version_is_the_packages() {
    let place = Place::new();
    assert_eq!(
        place.skiff(&["--version"]).well().trim(),
        concat!("skiff ", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn arguments_that_are_not_understood_are_2() {
    let place = Place::new();
    for arguments in [
        &["no-such-command"][..],
        &["build"],
        &["build", "a.wasm", "--layout", "flat"],
        &["build", "a.wasm", "--env", "novalue"],
        &["build", "a.wasm", "--file", "only-here"],
        &["build", "a.wasm", "--file", "here:relative"],
        &["build", "a.wasm", "-o", "x.tar", "--containerd"],
        &["cache", "prune", "--keep", "much"],
        &["cache", "prune", "--unused-for", "5"],
        &["completions", "cmd.exe"],
    ] {
        let ended = place.skiff(arguments);
        assert_eq!(ended.code, 2, "{arguments:?}: {ended:?}");
        assert!(ended.stdout.is_empty(), "{ended:?}");
    }
}

#[test]
fn there_are_completions_for_every_shell() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(
            place
                .skiff(&["completions", shell])
                .well()
                .contains("doctor"),
            "{shell}"
        );
    }
    let (code, document) = place.json(&["completions", "bash"]);
    assert_eq!((code, fields(&document)), (0, vec!["script", "shell"]));
}

#[test]
fn a_failure_is_a_document_too() {
    let place = Place::new();
    let (code, document) = place.json(&["inspect", "./no-such.wasm"]);
    assert_eq!((code, fields(&document)), (3, vec!["error"]));
}
