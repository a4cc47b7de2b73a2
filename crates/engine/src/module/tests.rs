use super::*;

fn module(sections: &[&[u8]]) -> Vec<u8> {
    [b"\0asm\x01\0\0\0", sections.concat().as_slice()].concat()
}

fn component(sections: &[&[u8]]) -> Vec<u8> {
    [b"\0asm\x0d\0\x01\0", sections.concat().as_slice()].concat()
}

fn section(id: u8, body: &[u8]) -> Vec<u8> {
    let size = u8::try_from(body.len()).unwrap();
    // A number may have more bytes than it needs; what looks for a section must not be fooled.
    [&[id, size & 0x7f | 0x80, size >> 7 | 0x80, 0x80, 0], body].concat()
}

fn custom(name: &str) -> Vec<u8> {
    section(
        0,
        &[
            &[u8::try_from(name.len()).unwrap()],
            name.as_bytes(),
            b"payload",
        ]
        .concat(),
    )
}

fn refused(bytes: &[u8]) -> String {
    sniff(bytes).unwrap_err().to_string()
}

#[test]
fn what_a_compiler_takes() {
    let long_comment = format!(";;{}\n(module)", "ä".repeat(START));
    let cases: &[(&[u8], Form)] = &[
        (&module(&[]), Form::Module),
        (&module(&[&custom("name"), &section(1, &[0])]), Form::Module),
        (&component(&[]), Form::Component),
        (&component(&[&section(1, &module(&[]))]), Form::Component),
        (b"(module)", Form::Text),
        (b"\n  ;; a comment with ) in it\n(component)", Form::Text),
        ("\u{feff}(; block ;) (module)".as_bytes(), Form::Text),
        (long_comment.as_bytes(), Form::Text),
        // Malformed inside: the compiler has better words for it.
        (b"\0asm\x01\0\0\0\xff\xff\xff\xff\xff\xff", Form::Module),
        (b"\0asm\x01\0\0\0\0\x7f", Form::Module),
    ];
    for (bytes, form) in cases {
        assert_eq!(sniff(*bytes).unwrap(), *form, "{bytes:?}");
    }
}

#[test]
fn what_is_refused_and_how_it_is_called() {
    let mut cwasm = b"\x7fELF\x02\x01\x01".to_vec();
    cwasm.push(200);
    let mut tar = vec![b'a'; 512];
    tar[257..262].copy_from_slice(b"ustar");
    let cases: &[(&[u8], &str)] = &[
        (b"", "it is empty (0 bytes)"),
        (
            &cwasm,
            "native code (wasmtime's precompiled format, .cwasm)",
        ),
        (b"\x7fELF\x02\x01\x01\0rest", "native code (an ELF file)"),
        (b"\x7fELF", "native code (an ELF file)"),
        (b"#!/bin/sh\n", "native code (a script)"),
        (b"MZ\x90\0", "native code (a Windows program)"),
        (b"\xcf\xfa\xed\xfe\x07", "native code (a Mach-O"),
        (b"!<arch>\n", "native code (an archive"),
        (b"wasmer-universal\0", "native code (Wasmer's"),
        (b"\0aot\x03\0\0\0", "native code (WAMR's"),
        (
            b"\x1f\x8b\x08\0",
            "it is gzip data, not WebAssembly: a module in an image is not compressed",
        ),
        (b"{\"a\": 1}", "it is JSON, not WebAssembly"),
        (&tar, "it is a tar archive"),
        (
            b"\0asm",
            "cut off within the header of WebAssembly, after 4 bytes",
        ),
        (b"\0asm\x01\0\0", "after 7 bytes"),
        (b"\0a", "after 2 bytes"),
        (b"\0asm\x02\0\0\0", "version 2, layer 0"),
        (b"\0asm\x0c\0\x01\0", "version 12, layer 1"),
        (
            b"hello, world",
            "begins with the bytes 68 65 6c 6c 6f 2c 20 77",
        ),
        (b"\xff", "begins with the bytes ff"),
        (
            b";; only a comment",
            "neither WebAssembly nor its text format",
        ),
    ];
    for (bytes, sentence) in cases {
        let got = refused(bytes);
        assert!(got.contains(sentence), "{got:?} does not have {sentence:?}");
    }
}

#[test]
fn native_code_in_a_custom_section_is_found_at_any_depth() {
    let universal = module(&[&section(1, &[0]), &custom("wasmedge")]);
    let inner = component(&[&custom("name"), &section(1, &universal)]);
    for bytes in [
        universal.clone(),
        component(&[&custom("wasmedge")]),
        inner.clone(),
        component(&[&section(4, &inner)]),
    ] {
        assert!(refused(&bytes).contains("WasmEdge"), "{bytes:?}");
    }
    // Names that only look like it.
    for name in ["wasmedg", "wasmedge2", "WASMEDGE"] {
        sniff(module(&[&custom(name)]).as_slice()).unwrap();
    }
}

#[test]
fn a_file_is_read_as_bytes_are() {
    let mut file = tempfile::tempfile().unwrap();
    io::Write::write_all(&mut file, &module(&[&custom("wasmedge")])).unwrap();
    assert!(matches!(sniff(&file), Err(Refusal::Native { .. })));
    file.set_len(LARGEST + 1).unwrap();
    assert!(matches!(sniff(&file), Err(Refusal::TooLarge)));
    file.set_len(LARGEST).unwrap();
    assert!(matches!(sniff(&file), Err(Refusal::Native { .. })));
}

#[test]
fn a_module_of_empty_sections_costs_no_call_for_each() {
    struct Counted(Vec<u8>, std::cell::Cell<usize>);
    impl Bytes for Counted {
        fn length(&self) -> io::Result<u64> {
            self.0.as_slice().length()
        }
        fn read_exactly(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
            self.1.set(self.1.get() + 1);
            self.0.as_slice().read_exactly(buffer, offset)
        }
    }
    // Two bytes each: id and length. Id 14 is no section of anything; the walk does not judge.
    let count = usize::try_from(MOST_SECTIONS).unwrap();
    let bytes = Counted(module(&[&[14, 0].repeat(count)]), 0.into());
    assert_eq!(sniff(&bytes).unwrap(), Form::Module);
    assert!(bytes.1.get() < 10, "{} reads", bytes.1.get());
    assert!(refused(&module(&[&[14, 0].repeat(count + 1)])).contains("more than 100000 sections"));
    // Those of inner modules count too.
    let inner = section_of(1, &module(&[&[14, 0].repeat(count / 2)]));
    assert!(matches!(
        sniff(component(&[&inner, &inner]).as_slice()),
        Err(Refusal::Sections)
    ));
}

fn section_of(id: u8, body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(body.len()).unwrap();
    let byte = |shift: u32| {
        u8::try_from(size >> shift & 0x7f).unwrap() | if shift < 28 { 0x80 } else { 0 }
    };
    [&[id, byte(0), byte(7), byte(14), byte(21), byte(28)], body].concat()
}
