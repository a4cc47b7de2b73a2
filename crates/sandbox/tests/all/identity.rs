//! Ids, capabilities, no_new_privs, seccomp: what the kernel says of the process from outside.

use skiff_sandbox::plan::{Capabilities, Identity, SeccompFilter};
use skiff_sandbox::sys::process::ExitStatus;

use crate::harness::{Alone, Case, Image, own_capabilities};

const NET_BIND_SERVICE: u64 = 1 << 10;
const KILL: u64 = 1 << 5;

#[test]
fn a_user_without_privileges() {
    let _alone = Alone::new();
    let image = Image::new();
    let mut case = Case::new(&image, &["wait"]);
    case.plan.identity = Identity {
        uid: 1000,
        gid: 2000,
        groups: vec![30, 4, 2000],
        umask: Some(0o027),
    };
    case.plan.capabilities = Capabilities::default();
    case.plan.no_new_privileges = true;
    let running = case.start();
    assert_eq!(running.status("Uid"), "1000 1000 1000 1000");
    assert_eq!(running.status("Gid"), "2000 2000 2000 2000");
    assert_eq!(running.status("Groups"), "4 30 2000");
    assert_eq!(running.status("Umask"), "0027");
    assert_eq!(running.status("NoNewPrivs"), "1");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(running.status(set), "0000000000000000", "{set}");
    }
}

#[test]
fn capability_sets_are_exactly_those_of_the_plan() {
    let _alone = Alone::new();
    let image = Image::new();
    let some = NET_BIND_SERVICE | KILL;
    for (uid, ambient, program) in [
        (0, 0, some),
        (1000, 0, 0),
        (1000, NET_BIND_SERVICE, NET_BIND_SERVICE),
    ] {
        let mut case = Case::new(&image, &["wait"]);
        case.plan.identity.uid = uid;
        case.plan.capabilities = Capabilities {
            bounding: some,
            effective: some,
            permitted: some,
            inheritable: ambient,
            ambient,
        };
        let running = case.start();
        let hex = |set: u64| format!("{set:016x}");
        assert_eq!(running.status("CapBnd"), hex(some));
        assert_eq!(running.status("CapEff"), hex(some));
        assert_eq!(running.status("CapPrm"), hex(some));
        assert_eq!(running.status("CapInh"), hex(ambient));
        assert_eq!(running.status("CapAmb"), hex(ambient));
        // The program has what an exec leaves of them.
        running.go();
        let end = std::time::Instant::now() + crate::harness::PATIENCE;
        while !running.link("exe").contains("probe") {
            assert!(std::time::Instant::now() < end);
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        assert_eq!(
            running.status("CapEff"),
            hex(program),
            "uid {uid}, ambient {ambient:x}"
        );
    }
}

#[test]
fn capabilities_that_cannot_be_had_end_the_start() {
    let _alone = Alone::new();
    let image = Image::new();
    let mut case = Case::new(&image, &["wait"]);
    // Ambient without inheritable: the kernel refuses.
    case.plan.capabilities.ambient = KILL;
    assert!(case.refusal().contains("could not set the capabilities"));
    if own_capabilities() & 1 << 24 == 0 {
        let mut case = Case::new(&image, &["wait"]);
        case.plan.capabilities.bounding |= 1 << 24;
        let sentence = case.refusal();
        assert!(sentence.contains("CapBnd is"), "{sentence}");
    }
}

#[test]
fn ids_that_do_not_exist_are_an_error() {
    let _alone = Alone::new();
    let image = Image::new();
    let mut case = Case::new(&image, &["wait"]);
    case.plan.identity.uid = u32::MAX;
    // For the kernel this number means "leave it": only the comparison notices.
    assert!(
        case.refusal()
            .contains("Uid is 0 0 0 0, and not 4294967295")
    );
}

/// `if (number == nr) return verdict; return ALLOW`, without looking at the architecture: tests only.
fn filter(nr: u32, verdict: u32) -> SeccompFilter {
    let instruction = |code: u16, jt: u8, jf: u8, k: u32| {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&code.to_ne_bytes());
        bytes.extend_from_slice(&[jt, jf]);
        bytes.extend_from_slice(&k.to_ne_bytes());
        bytes
    };
    let program = [
        instruction(0x20, 0, 0, 0),
        instruction(0x15, 0, 1, nr),
        instruction(0x06, 0, 0, verdict),
        instruction(0x06, 0, 0, 0x7fff_0000),
    ];
    SeccompFilter {
        program: program.concat(),
        flags: 0,
    }
}

const MKDIR: u32 = 83;
const ERRNO_EPERM: u32 = 0x0005_0001;

#[test]
fn a_filter_is_in_force_with_and_without_no_new_privs() {
    let _alone = Alone::new();
    let image = Image::new();
    for no_new_privileges in [true, false] {
        for uid in [0, 1000] {
            let mut case = Case::new(&image, &["each", "mkdir:/tmp/new"]);
            case.plan.no_new_privileges = no_new_privileges;
            case.plan.identity.uid = uid;
            case.plan.capabilities = Capabilities::default();
            case.plan.seccomp = Some(filter(MKDIR, ERRNO_EPERM));
            let mut running = case.start();
            assert_eq!(running.status("Seccomp"), "2");
            assert_eq!(
                running.status("NoNewPrivs"),
                u8::from(no_new_privileges).to_string()
            );
            running.go();
            assert_eq!(running.wait(), ExitStatus::Code(0));
            assert_eq!(running.output(), "mkdir:/tmp/new errno 1\n");
        }
    }
}

#[test]
fn a_bad_filter_is_an_error() {
    let _alone = Alone::new();
    let image = Image::new();
    for program in [vec![1, 2, 3], vec![0; 16], Vec::new()] {
        let mut case = Case::new(&image, &["wait"]);
        case.plan.no_new_privileges = true;
        case.plan.seccomp = Some(SeccompFilter { program, flags: 0 });
        assert!(
            case.refusal()
                .contains("could not load the container's seccomp profile")
        );
    }
}

#[test]
fn oom_score_is_set_or_the_refusal_told() {
    let _alone = Alone::new();
    let image = Image::new();
    let mut case = Case::new(&image, &["wait"]);
    case.plan.oom_score_adj = Some(500);
    assert_eq!(case.start().proc("oom_score_adj").trim(), "500");
    if own_capabilities() & 1 << 24 == 0 {
        let mut case = Case::new(&image, &["wait"]);
        case.plan.oom_score_adj = Some(-998);
        assert!(
            case.refusal()
                .contains("could not set oom_score_adj to -998")
        );
    }
}
