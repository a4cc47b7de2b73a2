//! Components: `wasi:cli` 0.2.

use crate::harness::Container;

/// A component around a core module whose `run` returns `body`'s result (0 is success).
fn command(body: &str) -> String {
    format!(
        r#"(component
            (core module $m (func (export "run") (result i32) {body}))
            (core instance $i (instantiate $m))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance $cli (export "run" (func $run)))
            (export "wasi:cli/run@0.2.3" (instance $cli)))"#
    )
}

#[test]
fn the_result_of_run_is_the_exit_code() {
    assert_eq!(Container::new(command("(i32.const 0)")).run().code(), 0);
    assert_eq!(Container::new(command("(i32.const 1)")).run().code(), 1);
    let outcome = Container::new(command("unreachable")).run();
    assert_eq!(outcome.code(), 134);
    assert!(outcome.stderr.contains("trapped"), "{}", outcome.stderr);
}

#[test]
fn an_entrypoint_can_name_a_function() {
    let component = r#"(component
        (core module $m (func (export "f") (result i32) (i32.const 1)))
        (core instance $i (instantiate $m))
        (func (export "fails") (result (result)) (canon lift (core func $i "f")))
        (func (export "answers") (result u32) (canon lift (core func $i "f"))))"#;
    assert_eq!(Container::new(component).function("fails").run().code(), 1);
    assert_eq!(
        Container::new(component).function("answers").run().code(),
        0
    );
}

#[test]
fn a_component_writes_to_standard_output() {
    let component = r#"(component
        (import "wasi:io/error@0.2.0" (instance $error (export "error" (type (sub resource)))))
        (alias export $error "error" (type $io-error))
        (import "wasi:io/streams@0.2.0" (instance $streams
            (export "output-stream" (type $output (sub resource)))
            (alias outer 1 $io-error (type $e))
            (export "error" (type $error (eq $e)))
            (type $own (own $error))
            (type $variant (variant (case "last-operation-failed" $own) (case "closed")))
            (export "stream-error" (type $stream-error (eq $variant)))
            (export "[method]output-stream.blocking-write-and-flush"
                (func (param "self" (borrow $output)) (param "contents" (list u8)) (result (result (error $stream-error)))))))
        (alias export $streams "output-stream" (type $output))
        (import "wasi:cli/stdout@0.2.0" (instance $stdout
            (alias outer 1 $output (type $o))
            (export "output-stream" (type $output (eq $o)))
            (export "get-stdout" (func (result (own $output))))))
        (core module $libc (memory (export "memory") 1))
        (core instance $libc (instantiate $libc))
        (alias core export $libc "memory" (core memory $memory))
        (core func $get (canon lower (func $stdout "get-stdout")))
        (core func $write (canon lower (func $streams "[method]output-stream.blocking-write-and-flush") (memory $memory)))
        (core module $m
            (import "wasi" "get" (func $get (result i32)))
            (import "wasi" "write" (func $write (param i32 i32 i32 i32)))
            (import "libc" "memory" (memory 1))
            (data (i32.const 64) "hello from a component\n")
            (func (export "run") (result i32)
                (call $write (call $get) (i32.const 64) (i32.const 23) (i32.const 0))
                (i32.load8_u (i32.const 0))))
        (core instance $i (instantiate $m
            (with "wasi" (instance (export "get" (func $get)) (export "write" (func $write))))
            (with "libc" (instance $libc))))
        (func $run (result (result)) (canon lift (core func $i "run")))
        (instance $cli (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $cli)))"#;
    let outcome = Container::new(component).run();
    assert_eq!(
        (outcome.code(), outcome.stdout.as_str()),
        (0, "hello from a component\n"),
        "{outcome:?}"
    );
}

#[test]
fn a_component_learns_its_working_directory() {
    // run() is 0 if `initial-cwd` is "/data": the option's discriminant, then pointer and length.
    let component = r#"(component
        (import "wasi:cli/environment@0.2.0" (instance $environment
            (export "initial-cwd" (func (result (option string))))))
        (core module $libc
            (memory (export "memory") 1)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
        (core instance $libc (instantiate $libc))
        (alias core export $libc "memory" (core memory $memory))
        (alias core export $libc "realloc" (core func $realloc))
        (core func $cwd (canon lower (func $environment "initial-cwd") (memory $memory) (realloc $realloc)))
        (core module $m
            (import "wasi" "cwd" (func $cwd (param i32)))
            (import "libc" "memory" (memory 1))
            (func (export "run") (result i32)
                (call $cwd (i32.const 0))
                (i32.or
                    (i32.ne (i32.load8_u (i32.const 0)) (i32.const 1))
                    (i32.or
                        (i32.ne (i32.load (i32.const 8)) (i32.const 5))
                        (i32.or
                            (i32.ne (i32.load (i32.const 1024)) (i32.const 0x7461642f))
                            (i32.ne (i32.load8_u (i32.const 1028)) (i32.const 0x61)))))))
        (core instance $i (instantiate $m
            (with "wasi" (instance (export "cwd" (func $cwd))))
            (with "libc" (instance $libc))))
        (func $run (result (result)) (canon lift (core func $i "run")))
        (instance $cli (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $cli)))"#;
    assert_eq!(
        Container::new(component)
            .working_directory("/data")
            .run()
            .code(),
        0
    );
    assert_eq!(
        Container::new(component)
            .working_directory("/")
            .run()
            .code(),
        1
    );
}

#[test]
fn wasi_3_is_an_option() {
    // An asynchronous function, implemented by a synchronous one.
    let component = r#"(component
        (core module $m (func (export "run") (result i32) (i32.const 1)))
        (core instance $i (instantiate $m))
        (func $run async (result (result)) (canon lift (core func $i "run")))
        (instance $cli (export "run" (func $run)))
        (export "wasi:cli/run@0.3.0" (instance $cli)))"#;
    let outcome = Container::new(component).wasi_p3().run();
    assert_eq!(outcome.code(), 1, "{outcome:?}");
    let Err(sentence) = Container::new(component).create() else {
        panic!("it was created")
    };
    assert!(sentence.contains("async"), "{sentence}");
}
