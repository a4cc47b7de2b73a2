//! What the bytes are: a module, a component, one that handles HTTP requests, or the text format of one.
//!
//! The shim has told them apart by the same rules before it launched this worker; what counts is what is found
//! here, and after text has become binary it is looked at again.

use std::borrow::Cow;

use skiff_engine::module::{Form, sniff};
use skiff_engine::order::CodeKind;
use wasmparser::{Parser, Payload, TypeRef};

use crate::failure::Failure;

/// A module or component in the binary format, not yet validated.
#[derive(Debug)]
pub(crate) struct Input<'a> {
    pub(crate) kind: CodeKind,
    pub(crate) wasm: Cow<'a, [u8]>,
}

/// Tells what `bytes` are.
///
/// # Errors
/// They are nothing that is compiled: native code above all, as itself or inside a module.
pub(crate) fn parse(bytes: &[u8]) -> Result<Input<'_>, Failure> {
    let mut input = look(bytes)?;
    if shares_memory(&input.wasm) {
        return Err(Failure::SharedMemory);
    }
    if input.kind == CodeKind::Component && skiff_engine_wasmtime::is_service(exports(&input.wasm))
    {
        input.kind = CodeKind::Service;
    }
    Ok(input)
}

fn look(bytes: &[u8]) -> Result<Input<'_>, Failure> {
    if let Some(kind) = binary(bytes)? {
        return Ok(Input {
            kind,
            wasm: Cow::Borrowed(bytes),
        });
    }
    let wasm = wat::parse_bytes(bytes).map_err(Failure::Text)?.into_owned();
    let kind = binary(&wasm)?.ok_or(Failure::TextInText)?;
    Ok(Input {
        kind,
        wasm: Cow::Owned(wasm),
    })
}

/// Whether a module has or wants a memory for threads; in a component, one of its modules. What is wrong with
/// bytes that cannot be parsed is the compiler's to say.
fn shares_memory(wasm: &[u8]) -> bool {
    let shared = |payload| match payload {
        Payload::MemorySection(memories) => {
            memories.into_iter().flatten().any(|memory| memory.shared)
        }
        Payload::ImportSection(imports) => imports
            .into_imports()
            .flatten()
            .any(|import| matches!(import.ty, TypeRef::Memory(memory) if memory.shared)),
        _ => false,
    };
    Parser::new(0)
        .parse_all(wasm)
        .map_while(Result::ok)
        .any(shared)
}

/// The names of what a component exports. Whether they are valid is the compiler's to say.
fn exports(wasm: &[u8]) -> impl Iterator<Item = &str> {
    let mut depth = 0u32;
    let own = move |payload: &Payload<'_>| {
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0
    };
    Parser::new(0)
        .parse_all(wasm)
        .map_while(Result::ok)
        .scan(own, |own, payload| Some(own(&payload).then_some(payload)))
        .filter_map(|payload| match payload? {
            Payload::ComponentExportSection(section) => Some(section),
            _ => None,
        })
        .flat_map(|section| section.into_iter().flatten())
        .map(|export| export.name.name)
}

/// `None` for text.
fn binary(bytes: &[u8]) -> Result<Option<CodeKind>, Failure> {
    Ok(match sniff(bytes)? {
        Form::Module => Some(CodeKind::Module),
        Form::Component => Some(CodeKind::Component),
        Form::Text => None,
    })
}

#[cfg(test)]
mod tests {
    use skiff_sandbox::sentence::chain;

    use super::*;

    fn refusal(bytes: &[u8]) -> String {
        chain(&parse(bytes).expect_err("these bytes must be refused"))
    }

    #[test]
    fn modules_components_and_their_text() {
        assert_eq!(parse(b"(module)").unwrap().kind, CodeKind::Module);
        assert_eq!(
            parse(b"\n  ;; comment\n(component)").unwrap().kind,
            CodeKind::Component
        );
        let wasm = wat::parse_str("(module (func (export \"_start\")))").unwrap();
        assert_eq!(parse(&wasm).unwrap().wasm, wasm);
    }

    #[test]
    fn a_component_that_handles_requests_is_a_service() {
        let kind = |text: &str| parse(text.as_bytes()).unwrap().kind;
        let exports = |name: &str| {
            kind(&format!(
                "(component (component) (core module) (instance $i) (export \"{name}\" (instance $i)))"
            ))
        };
        for name in [
            "wasi:http/incoming-handler@0.2.0",
            "wasi:http/incoming-handler@0.2.99",
        ] {
            assert_eq!(exports(name), CodeKind::Service, "{name}");
        }
        assert_eq!(exports("wasi:http/handler@0.3.0"), CodeKind::Service);
        for name in [
            "wasi:cli/run@0.2.0",
            "wasi:http/types@0.2.0",
            "wasi:http/incoming-handler@0.2.0-rc-2023-12-05",
        ] {
            assert_eq!(exports(name), CodeKind::Component, "{name}");
        }
        // Only what the component itself exports counts.
        let inner = "(component (component (instance $i) (export \"wasi:http/incoming-handler@0.2.0\" (instance $i))))";
        assert_eq!(kind(inner), CodeKind::Component);
    }

    #[test]
    fn other_bytes_are_refused_with_what_they_are() {
        let cases: &[(&[u8], &str)] = &[
            (b"", "empty (0 bytes)"),
            (b"\x7fELF\x02\x01\x01", "native code (an ELF file)"),
            (b"\xff\x00random", "neither WebAssembly nor its text format"),
            (b"hello world", "neither WebAssembly nor its text format"),
            (
                b"(module (func (export \"x\") i32.bogus))",
                "unknown operator",
            ),
        ];
        for (bytes, expected) in cases {
            let sentence = refusal(bytes);
            assert!(sentence.contains(expected), "{bytes:?}: {sentence}");
        }
    }

    #[test]
    fn a_memory_for_threads_is_refused() {
        for text in [
            "(module (memory 1 2 shared))",
            "(module (import \"env\" \"memory\" (memory 1 2 shared)))",
            "(component (core module (memory 1 2 shared)))",
        ] {
            let wasm = wat::parse_str(text).unwrap();
            for bytes in [text.as_bytes(), &wasm] {
                assert!(refusal(bytes).contains("without threads"), "{text}");
            }
        }
        // Instructions of the proposal are fine, and used by many.
        parse(b"(module (memory 1) (func (drop (i32.atomic.load (i32.const 0)))))").unwrap();
    }

    #[test]
    fn text_does_not_hide_native_code() {
        let texts = [
            "(module (@custom \"wasmedge\" \"code\"))",
            "(module (func) (@custom \"wasmedge\" (after code) \"code\"))",
            "(component (core module (@custom \"wasmedge\" \"code\")))",
            "(module binary \"\\00asm\\01\\00\\00\\00\\00\\09\\08wasmedge\")",
        ];
        for text in texts {
            assert!(refusal(text.as_bytes()).contains("native code"), "{text}");
        }
        // Whatever bytes such text stands for, the engine gets none that are not WebAssembly.
        refusal(b"(module binary \"\\7fELF\\02\\01\\01\")");
    }
}
