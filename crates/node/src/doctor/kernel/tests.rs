use super::super::Status;
use super::*;

fn healthy() -> Facts {
    Facts {
        release: "6.12.0-1-amd64".into(),
        calls: Call::ALL
            .into_iter()
            .map(|call| (call, Answer::There))
            .collect(),
        landlock: Ok(6),
        seccomp_actions: Some(
            "kill_process kill_thread trap errno user_notif trace log allow\n".into(),
        ),
        overlay: Overlay::OneByOne,
    }
}

fn status_of(facts: &Facts, id: &str) -> Status {
    judge(facts)
        .into_iter()
        .find(|finding| finding.id == id)
        .unwrap_or_else(|| panic!("no finding {id}"))
        .status
}

#[test]
fn a_healthy_kernel_has_nothing_to_complain_of() {
    for finding in judge(&healthy()) {
        assert_eq!(finding.status, Status::Ok, "{finding:?}");
    }
}

#[test]
fn each_fault_has_its_status() {
    type Fault = fn(&mut Facts);
    let table: [(&str, Fault, Status); 11] = [
        (
            "kernel.version",
            |facts| facts.release = "5.15.0".into(),
            Status::Ok,
        ),
        (
            "kernel.version",
            |facts| facts.release = "5.14.21-150500".into(),
            Status::Fail,
        ),
        (
            "kernel.version",
            |facts| facts.release = "4.19".into(),
            Status::Fail,
        ),
        (
            "kernel.version",
            |facts| facts.release = "custom".into(),
            Status::Warn,
        ),
        (
            "kernel.landlock",
            |facts| facts.landlock = Err(Errno::NOSYS),
            Status::Warn,
        ),
        (
            "kernel.landlock",
            |facts| facts.landlock = Err(Errno::OPNOTSUPP),
            Status::Warn,
        ),
        (
            "kernel.seccomp",
            |facts| facts.seccomp_actions = None,
            Status::Fail,
        ),
        (
            "kernel.seccomp",
            |facts| facts.seccomp_actions = Some("kill trap allow".into()),
            Status::Fail,
        ),
        (
            "kernel.overlay",
            |facts| facts.overlay = Overlay::OneString,
            Status::Ok,
        ),
        (
            "kernel.overlay",
            |facts| facts.overlay = Overlay::Absent,
            Status::Fail,
        ),
        (
            "kernel.overlay",
            |facts| facts.overlay = Overlay::Unknown,
            Status::Warn,
        ),
    ];
    for (id, fault, expected) in table {
        let mut facts = healthy();
        fault(&mut facts);
        assert_eq!(status_of(&facts, id), expected, "{id} of {facts:?}");
    }
}

#[test]
fn a_missing_call_fails_and_a_refused_one_warns() {
    for (answer, expected) in [
        (Answer::Missing, Status::Fail),
        (Answer::Refused, Status::Warn),
        (Answer::There, Status::Ok),
    ] {
        for call in Call::ALL {
            let mut facts = healthy();
            facts.calls = vec![(call, answer)];
            assert_eq!(status_of(&facts, &format!("kernel.{call}")), expected);
        }
    }
}

#[test]
fn a_fallback_in_use_is_named() {
    let facts = Facts {
        overlay: Overlay::OneString,
        ..healthy()
    };
    assert!(
        judge(&facts)
            .iter()
            .any(|finding| finding.finding.contains("fallback in use"))
    );
}

/// Needs root. The machine's own kernel is newer than 6.8, or `lowerdir+` is not asked of it.
#[test]
fn this_kernels_overlay_is_told() {
    let overlay = overlay();
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    if parse_release(&release) >= Some((6, 8)) {
        assert_eq!(overlay, Overlay::OneByOne);
    } else {
        assert_ne!(overlay, Overlay::Unknown);
    }
}

/// Runs against the machine's own kernel: the toolchain's own floor is far above 5.15's calls.
#[test]
fn gathering_answers_for_every_call() {
    let facts = gather();
    assert_eq!(facts.calls.len(), Call::ALL.len());
    assert!(parse_release(&facts.release).is_some(), "{}", facts.release);
    for (call, answer) in facts.calls {
        assert_ne!(answer, Answer::Missing, "{call}");
    }
}
