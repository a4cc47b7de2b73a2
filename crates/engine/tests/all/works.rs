//! What works when nothing is wrong, and what a worker has within its reach.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::{Digest, Sha256};
use skiff_engine::compile::{ModuleBuffer, Origin};
use skiff_engine::options::CodeOptions;
use skiff_engine::order::CodeKind;

use super::*;

#[test]
fn a_module_is_compiled_once() {
    let fixture = Fixture::new();
    for module in [text("code"), binary("code")] {
        let code = fixture.code(&module).unwrap();
        assert_eq!(
            (code.kind, &code.origin),
            (CodeKind::Module, &Origin::Compiled { milliseconds: 5 })
        );
        assert_eq!(bytes_of(&code), made(&module));
        assert_eq!(code.module, <[u8; 32]>::from(Sha256::digest(&module)));

        let again = fixture.code(&module).unwrap();
        assert_eq!(
            (again.kind, &again.origin, again.length),
            (CodeKind::Module, &Origin::Cached, code.length)
        );
        assert_eq!(bytes_of(&again), made(&module));
    }
    assert_eq!(fixture.entries(), 2);
}

/// Nobody waits for the worker's cgroup to be removed, but a driver that goes away does.
#[test]
fn a_driver_that_goes_away_leaves_no_cgroup() {
    let fixture = Fixture::new();
    for number in 0..20 {
        let compiler = Compiler::new(settings(&fixture.directory)).unwrap();
        let source = Source::File(file(&text(&format!("code {number}"))));
        let code = run(compiler.code_for(source, "x", CompileOptions::default())).unwrap();
        assert!(matches!(code.origin, Origin::Compiled { .. }));
        drop(compiler);
        assert_eq!(cgroups(&fixture.cache), Vec::<PathBuf>::new(), "{number}");
    }
}

#[test]
fn a_component_in_text_is_what_the_worker_says() {
    let fixture = Fixture::new();
    assert_eq!(
        fixture.code(&text("code component")).unwrap().kind,
        CodeKind::Component
    );
    assert_eq!(
        fixture.code(&text("code component")).unwrap().kind,
        CodeKind::Component
    );
}

#[test]
fn options_are_part_of_the_key() {
    let fixture = Fixture::new();
    let module = text("code");
    fixture.code(&module).unwrap();
    let options = CompileOptions {
        code: CodeOptions {
            wasi_p3: true,
            ..CodeOptions::default()
        },
        ..CompileOptions::default()
    };
    let code = run(fixture
        .compiler
        .code_for(Source::File(file(&module)), "x", options))
    .unwrap();
    assert!(matches!(code.origin, Origin::Compiled { .. }));
    assert_eq!(fixture.entries(), 2);
    let sha256 = Sha256::digest(&module).into();
    assert!(fixture.compiler.has(&sha256, options));
    assert!(!fixture.compiler.has(&[0; 32], options));
}

/// A source of known digest that counts how often it is asked.
fn blob(module: &[u8], sha256: [u8; 32], asked: &Arc<AtomicUsize>) -> Source<'static> {
    let (module, asked) = (module.to_vec(), Arc::clone(asked));
    let bytes = Box::pin(async move {
        asked.fetch_add(1, Ordering::Relaxed);
        let mut buffer = ModuleBuffer::new()?;
        for chunk in module.chunks(7) {
            buffer.write(chunk)?;
            tokio::task::yield_now().await;
        }
        Ok(buffer.finish()?)
    });
    Source::Blob { sha256, bytes }
}

#[test]
fn a_layer_is_fetched_only_when_its_code_is_missing() {
    let fixture = Fixture::new();
    let (module, asked) = (binary("code"), Arc::default());
    for time in 0..3 {
        let source = blob(&module, Sha256::digest(&module).into(), &asked);
        let code = run(fixture
            .compiler
            .code_for(source, "layer", CompileOptions::default()))
        .unwrap();
        assert_eq!(bytes_of(&code), made(&module));
        assert_eq!(code.origin == Origin::Cached, time > 0);
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    // The same bytes as a file of a root are the same module.
    assert_eq!(fixture.code(&module).unwrap().origin, Origin::Cached);
}

#[test]
fn a_layer_with_other_bytes_than_its_digest_is_refused() {
    let fixture = Fixture::new();
    let module = binary("code");
    let source = blob(&module, [7; 32], &Arc::default());
    let error = chain(
        &run(fixture
            .compiler
            .code_for(source, "layer 1", CompileOptions::default()))
        .unwrap_err(),
    );
    assert!(
        error.starts_with("could not read module layer 1: its bytes have the digest sha256:"),
        "{error}"
    );
    assert!(
        error.contains(&format!("not sha256:{}", "07".repeat(32))),
        "{error}"
    );
    let source = Source::Blob {
        sha256: [7; 32],
        bytes: Box::pin(async { Err("the content store is gone".into()) }),
    };
    let error = chain(
        &run(fixture
            .compiler
            .code_for(source, "layer 1", CompileOptions::default()))
        .unwrap_err(),
    );
    assert_eq!(
        error,
        "could not get module layer 1: the content store is gone"
    );
    assert_eq!(fixture.entries(), 0);
}

#[test]
fn what_is_no_module_never_reaches_the_worker() {
    let fixture = Fixture::new();
    let error = fixture.error(b"\x7fELF\x02\x01\x01\xc8 native");
    assert!(
        error.starts_with(
            "could not use /app.wasm as a module: it is native code (wasmtime's precompiled format"
        ),
        "{error}"
    );
    assert_eq!(
        fixture.error(b""),
        "could not use /app.wasm as a module: it is empty (0 bytes)"
    );
}

#[test]
fn twenty_at_once_make_one_compilation() {
    let fixture = Fixture::new();
    let module = text("slow 300");
    let compiled = AtomicUsize::new(0);
    // A process each, as far as the locks are concerned: every thread opens the cache anew.
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                let compiler = Compiler::new(settings(&fixture.directory)).unwrap();
                let source = Source::File(file(&module));
                let code = run(compiler.code_for(source, "x", CompileOptions::default())).unwrap();
                assert_eq!(bytes_of(&code), made(&module));
                if code.origin != Origin::Cached {
                    compiled.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(compiled.into_inner(), 1);
}

#[test]
fn a_worker_reaches_nothing() {
    let fixture = Fixture::new();
    let error = fixture.error(&text("probe"));
    let expected = "could not compile module /app.wasm: pid=1 ppid=0 uid=65534 gid=65534 groups=0 caps=0 nnp=yes root=[] \
                    writable=no network=NetworkUnreachable proc=no open=0,1,2,3,";
    assert!(error.starts_with(expected), "{error}\n{expected}");
    assert!(error.ends_with("output-readable=no"), "{error}");
}
