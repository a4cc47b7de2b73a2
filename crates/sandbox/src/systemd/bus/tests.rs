//! Both ends of a socket: this test is systemd.

use std::thread;

use super::*;

/// A message as the other side sends it: an answer (with a body) or a signal.
fn told(kind: u8, answers: Option<u32>, member: &str, signature: &str, body: &[u8]) -> Vec<u8> {
    let mut fields = Body::default();
    let mut next = |code: u8, kind: &str| {
        fields.align(8);
        fields.0.push(code);
        fields.signature(kind);
        fields.0.len()
    };
    next(7, "s");
    fields.string("org.freedesktop.systemd1");
    if let Some(serial) = answers {
        fields.align(8);
        fields.0.push(5);
        fields.signature("u");
        fields.number(serial);
    }
    fields.align(8);
    fields.0.push(if kind == ERROR { 4 } else { 3 });
    fields.signature("s");
    fields.string(member);
    fields.align(8);
    fields.0.push(8);
    fields.signature("g");
    fields.signature(signature);
    let mut message = Body(vec![b'l', kind, 0, 1]);
    message.number(u32::try_from(body.len()).unwrap());
    message.number(99);
    message.number(u32::try_from(fields.0.len()).unwrap());
    message.0.extend(fields.0);
    message.align(8);
    message.0.extend(body);
    message.0
}

fn strings(texts: &[&str]) -> Vec<u8> {
    let mut body = Body::default();
    for text in texts {
        body.string(text);
    }
    body.0
}

#[test]
fn a_job_whose_end_is_told_before_the_answer() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let other = thread::spawn(move || {
        let mut call = vec![0; 16];
        theirs.read_exact(&mut call).unwrap();
        let mut body = Body::default();
        body.number(5);
        body.string("/job/5");
        body.string("a.scope");
        body.string("done");
        theirs
            .write_all(&told(SIGNAL, None, "JobRemoved", "uoss", &body.0))
            .unwrap();
        theirs
            .write_all(&told(SIGNAL, None, "UnitNew", "so", &strings(&["a", "/a"])))
            .unwrap();
        theirs
            .write_all(&told(ANSWER, Some(1), "", "o", &strings(&["/job/5"])))
            .unwrap();
        theirs
    });
    let mut bus = Bus::over(ours);
    let answer = bus
        .manager("StartTransientUnit", "s", &strings(&["a.scope"]))
        .unwrap();
    let job = Reader::new(&answer).string().unwrap();
    assert_eq!(job, "/job/5");
    assert_eq!(bus.job(&job).unwrap(), "done");
    drop(other.join().unwrap());
    // The other side is gone.
    assert!(matches!(
        bus.job("/job/6").unwrap_err(),
        SystemdError::Talk { .. }
    ));
}

#[test]
fn a_refusal_is_told_in_its_words() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let body = strings(&["Unit a.scope not loaded."]);
    theirs
        .write_all(&told(
            ERROR,
            Some(1),
            "org.freedesktop.systemd1.NoSuchUnit",
            "s",
            &body,
        ))
        .unwrap();
    let error = Bus::over(ours).manager("StopUnit", "", &[]).unwrap_err();
    assert!(error.is_unknown_unit());
    assert_eq!(
        error.to_string(),
        "systemd refused StopUnit: Unit a.scope not loaded. (org.freedesktop.systemd1.NoSuchUnit)"
    );
}

#[test]
fn calls_are_well_formed() {
    let call = Call {
        path: "/o",
        interface: "i.i",
        destination: "d.d",
        member: "M",
    };
    let message = call.message(7, "s", &strings(&["x"])).unwrap();
    let mut expected = b"l\x01\0\x01\x06\0\0\0\x07\0\0\0".to_vec();
    expected.extend(b"\x47\0\0\0\x01\x01o\0\x02\0\0\0/o\0\0\0\0\0\0\x02\x01s\0\x03\0\0\0i.i\0\0\0\0\0\x03\x01s\0\x01\0\0\0M\0\0\0\0\0\0\0");
    expected.extend(b"\x06\x01s\0\x03\0\0\0d.d\0\0\0\0\0\x08\x01g\0\x01s\0\0\x01\0\0\0x\0");
    assert_eq!(message, expected);
}

#[test]
fn nonsense_is_an_error_and_no_panic() {
    for nonsense in [
        vec![0; 16],
        b"l\x02\0\x01\xff\xff\xff\xff\x01\0\0\0\xff\xff\xff\xff".to_vec(),
        b"l\x02\0\x01\0\0\0\0\x01\0\0\0\x08\0\0\0\x05\xffu\0\0\0\0\0".to_vec(),
        b"l\x02\0\x01\0\0\0\0\x01\0\0\0\x08\0\0\0\x05\x01q\0\0\0\0\0".to_vec(),
        b"l\x02".to_vec(),
    ] {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(&nonsense).unwrap();
        drop(theirs);
        assert!(Bus::over(ours).receive().is_err());
    }
}

#[test]
fn authentication_names_the_user() {
    let (mut ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(b"OK 1234\r\n").unwrap();
    authenticate(&mut ours, 1000).unwrap();
    drop(ours);
    let mut said = String::new();
    theirs.read_to_string(&mut said).unwrap();
    assert_eq!(said, "\0AUTH EXTERNAL 31303030\r\nBEGIN\r\n");
    let (mut ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(b"REJECTED\r\n").unwrap();
    assert_eq!(
        authenticate(&mut ours, 0).unwrap_err().to_string(),
        "REJECTED"
    );
}
