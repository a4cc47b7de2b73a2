//! Creates that fail: one sentence, the right code, nothing left.

use containerd_shim_protos::api::CreateTaskRequest;
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::ttrpc::Code;

use crate::harness::{Containerd, Spec, code, refusal};

fn refused(spec: &Spec, change: impl FnOnce(&mut CreateTaskRequest)) -> (Code, String) {
    let containerd = Containerd::new();
    containerd.make(spec);
    let shim = containerd.shim(&spec.id);
    let mut request = containerd.request(&spec.id);
    change(&mut request);
    let (code, sentence) = refusal(shim.create(&request));
    assert!(!sentence.contains('\n'), "{sentence}");
    assert!(containerd.cgroups().is_empty());
    // The id is free again.
    assert_eq!(refusal(shim.create(&request)), (code, sentence.clone()));
    assert!(containerd.topics().is_empty());
    shim.shutdown();
    (code, sentence)
}

#[test]
fn by_the_host() {
    let (code, sentence) = refused(&Spec::guest("c", "fail"), |_| {});
    assert_eq!(code, Code::INTERNAL);
    assert_eq!(
        sentence,
        "could not create container c: the guest imports moon#rise, which nothing provides"
    );
}

/// What a hostile image is made of does not reach a log as it is, nor does it hold up the answer: nobody reads the
/// container's.
#[test]
fn at_length_and_in_colours() {
    let started = std::time::Instant::now();
    let (_, sentence) = refused(&Spec::guest("c", "fail-at-length"), |_| {});
    assert!(started.elapsed() < std::time::Duration::from_secs(20));
    let expected = "could not create container c: the guest exports \\u{1b}[31mred level=fatal xxx";
    assert!(sentence.starts_with(expected), "{sentence}");
    assert!(
        sentence.len() < 4200 && sentence.ends_with('…'),
        "{sentence}"
    );
}

#[test]
fn a_host_that_dies() {
    let (_, sentence) = refused(&Spec::guest("c", "die 3"), |_| {});
    assert_eq!(
        sentence,
        "could not create container c: its process ended with code 3 before it was ready"
    );
}

#[test]
fn a_host_that_has_no_memory() {
    let (_, sentence) = refused(
        &Spec {
            linux: r#""resources":{"memory":{"limit":4096}},"#,
            ..Spec::guest("c", "run")
        },
        |_| {},
    );
    assert_eq!(
        sentence,
        "could not create container c: its process was killed before it was ready: its memory limit of 4096 bytes is \
         too small for the engine"
    );
}

#[test]
fn a_host_that_its_profile_ends() {
    for code in [128 + 11, 128 + 31] {
        let (_, sentence) = refused(
            &Spec {
                linux: r#""seccomp":{"defaultAction":"SCMP_ACT_ALLOW"},"#,
                ..Spec::guest("c", &format!("die {code}"))
            },
            |_| {},
        );
        assert_eq!(
            sentence,
            format!(
                "could not create container c: its process ended with code {code} before it was ready: the profile in \
                 linux.seccomp may not allow what the engine needs"
            )
        );
    }
}

#[test]
fn a_field_that_is_not_supported() {
    let hooks = r#""hooks":{"prestart":[{"path":"/bin/true"}]},"#.to_owned();
    let (code, sentence) = refused(
        &Spec {
            more: hooks,
            ..Spec::guest("c", "run")
        },
        |_| {},
    );
    assert_eq!(code, Code::INVALID_ARGUMENT);
    assert!(sentence.contains("hooks"), "{sentence}");
}

#[test]
fn checkpoints() {
    let (code, _) = refused(&Spec::guest("c", "run"), |request| {
        request.checkpoint = "/x".to_owned();
    });
    assert_eq!(code, Code::UNIMPLEMENTED);
}

#[test]
fn options_and_streams() {
    let options = Any {
        type_url: "io.example.Options".to_owned(),
        ..Any::default()
    };
    let (code, sentence) = refused(&Spec::guest("c", "run"), |request| {
        request.options = MessageField::some(options);
    });
    assert_eq!(code, Code::INVALID_ARGUMENT);
    assert!(sentence.contains("io.example.Options"), "{sentence}");
    let (code, sentence) = refused(&Spec::guest("c", "run"), |request| {
        request.stdout = "binary:///bin/sh?a=b".to_owned();
    });
    assert_eq!(code, Code::UNIMPLEMENTED);
    assert!(sentence.contains("binary:///bin/sh"), "{sentence}");
}

#[test]
fn ids_that_are_paths() {
    let (code, _) = refused(&Spec::guest("c", "run"), |request| {
        request.id = "../c".to_owned();
    });
    assert_eq!(code, Code::INVALID_ARGUMENT);
}

/// containerd gives up a container that takes too long, and wants the shim gone.
#[test]
fn what_containerd_gives_up() {
    for shut_down in [false, true] {
        let containerd = Containerd::new();
        containerd.make(&Spec {
            compile: "hang",
            ..Spec::guest("c", "run")
        });
        let shim = containerd.shim("c");
        let caller = containerd.connect(&shim.address);
        let request = containerd.request("c");
        let create = std::thread::spawn(move || refusal(caller.create(&request)));
        // Nothing tells from outside when the worker has begun.
        std::thread::sleep(std::time::Duration::from_millis(300));
        if shut_down {
            shim.shutdown();
            drop(shim);
            drop(create);
        } else {
            assert_eq!(code(shim.delete("c")), Code::NOT_FOUND);
            assert_eq!(create.join().unwrap().0, Code::CANCELLED);
            shim.shutdown();
        }
    }
}
