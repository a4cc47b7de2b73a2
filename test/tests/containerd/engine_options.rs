//! Options that are WasmEdge's alone, and what the cache of compiled code is for, in real containers.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use skiff_test::command;
use skiff_test::guest;
use skiff_test::image::Image;
use skiff_test::node::{Node, Version, WASMEDGE, engine, runtime};

use super::cache::entries;
use super::engines::bundle;

skiff_test::cases!(
    a_cache_policy,
    an_interpreter_by_option,
    what_was_executed_is_told,
    pages_of_a_memory,
    a_plugin_of_the_node,
);

const NEVER: &str = "CachePolicy = \"only\"";
const ALWAYS: &str = "CachePolicy = \"off\"";

/// Under the engine that the tests are run for.
fn a_cache_policy() -> Result<()> {
    let node = Node::cold(Version::V2_4)?;
    let images = [
        Image::layer("layer", &guest::text(SAYS)?),
        Image::root_file("file", &guest::text(SAYS)?),
    ];
    for image in &images {
        node.import(image)?;
    }
    let run = |image, toml: &str| {
        let run = node.run(image).runtime(runtime()).options(toml)?;
        run.output()
    };
    for image in &images {
        let refused = run(image, NEVER)?;
        refused.fails_with(&["no compiled code on this node", "CachePolicy = \"only\""])?;
        for _ in 0..2 {
            assert_eq!(run(image, ALWAYS)?.ok()?, "said\n");
        }
        assert!(entries(&node)?.is_empty(), "it was kept");
    }
    for image in &images {
        assert_eq!(run(image, "")?.ok()?, "said\n");
        assert_eq!(run(image, NEVER)?.ok()?, "said\n");
        assert_eq!(run(image, ALWAYS)?.ok()?, "said\n");
    }
    assert_eq!(entries(&node)?.len(), 1);
    Ok(())
}

const SAYS: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\05\00\00\00")
  (data (i32.const 16) "said\n")
  (func (export "_start") (local $left i32)
    (local.set $left (i32.const 1000))
    (loop $next
      (br_if $next (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

fn an_interpreter_by_option() -> Result<()> {
    bundle()?;
    let node = Node::cold(Version::V2_4)?;
    let image = Image::layer("says", &guest::text(SAYS)?);
    node.import(&image)?;
    let run = |toml: &str| node.run(&image).runtime(WASMEDGE).options(toml)?.output();
    assert_eq!(run("[WasmEdge]\nInterpreter = true")?.ok()?, "said\n");
    // Native code begins like an ELF file, and this is none.
    assert!(entries(&node)?.is_empty(), "it was compiled");
    assert_eq!(run("")?.ok()?, "said\n");
    assert_eq!(entries(&node)?.len(), 1);
    Ok(())
}

/// How many instructions a container's host says that its guest executed.
fn told(errors: &str) -> Option<u64> {
    let (_, rest) = errors.split_once(" executed ")?;
    rest.split_once(" instructions")?.0.parse().ok()
}

fn what_was_executed_is_told() -> Result<()> {
    bundle()?;
    let node = Node::start(Version::V2_4)?;
    let image = Image::layer("says", &guest::text(SAYS)?);
    node.import(&image)?;
    let run = |toml: &str| node.run(&image).runtime(WASMEDGE).options(toml)?.output();
    for interpreter in [false, true] {
        let toml = format!("[WasmEdge]\nStatistics = true\nInterpreter = {interpreter}");
        let ran = run(&toml)?;
        assert_eq!((ran.code, ran.stdout.as_str()), (0, "said\n"), "{ran:?}");
        // A round of the loop has some instructions, and what is around it few.
        let count = told(&ran.stderr).unwrap_or_default();
        ensure!((2000..20_000).contains(&count), "{count}: {}", ran.stderr);
    }
    ensure!(told(&run("")?.stderr).is_none(), "it is told unasked");
    // A guest that traps is counted, too.
    let traps = Image::layer(
        "traps",
        &guest::text(
            r#"(module (memory (export "memory") 1) (func (export "_start") unreachable))"#,
        )?,
    );
    node.import(&traps)?;
    let run = node.run(&traps).runtime(WASMEDGE);
    let ran = run.options("[WasmEdge]\nStatistics = true")?.output()?;
    ensure!(
        ran.code == 134 && told(&ran.stderr).is_some() && ran.stderr.contains("trapped"),
        "{ran:?}"
    );
    Ok(())
}

/// Asks for nine pages more, and ends with 3 if it does not get them.
const GROWS: &str = r#"(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 8)
  (func (export "_start")
    (if (i32.eq (memory.grow (i32.const 9)) (i32.const -1)) (then (call $exit (i32.const 3))))))"#;

fn pages_of_a_memory() -> Result<()> {
    bundle()?;
    let node = Node::start(Version::V2_4)?;
    let image = Image::layer("grows", &guest::text(GROWS)?);
    node.import(&image)?;
    let run = |pages: u32| {
        let toml = format!("[WasmEdge]\nMemoryPages = {pages}");
        node.run(&image).runtime(WASMEDGE).options(&toml)?.output()
    };
    assert_eq!(run(17)?.code, 0);
    assert_eq!(run(16)?.code, 3);
    run(7)?.fails_with(&["declares a memory of 8 pages", "MemoryPages allows 7"])?;
    Ok(())
}

/// As small as a plugin can be: a module with a function that answers 42.
const PLUGIN: &str = r#"
#include <stddef.h>
#include <stdint.h>
typedef struct { uint32_t code; } Result;
typedef struct { uint8_t data[8]; } Kind;
typedef struct { unsigned __int128 value; Kind kind; } Value;
typedef struct { uint32_t length; const char *bytes; } String;
typedef struct Module { const char *name, *about; void *(*create)(const struct Module *); } Module;
typedef struct { const char *name, *about; uint32_t api, version[4], modules, options; Module *module; void *option; } Plugin;
Kind WasmEdge_ValTypeGenI32(void);
Value WasmEdge_ValueGenI32(int32_t);
String WasmEdge_StringWrap(const char *, uint32_t);
void *WasmEdge_FunctionTypeCreate(const Kind *, uint32_t, const Kind *, uint32_t);
void *WasmEdge_FunctionInstanceCreate(const void *, Result (*)(void *, const void *, const Value *, Value *), void *, uint64_t);
void *WasmEdge_ModuleInstanceCreate(String);
void WasmEdge_ModuleInstanceAddFunction(void *, String, void *);
static Result answer(void *data, const void *frame, const Value *given, Value *answers) {
    answers[0] = WasmEdge_ValueGenI32(42);
    return (Result){0};
}
static void *create(const Module *module) {
    void *made = WasmEdge_ModuleInstanceCreate(WasmEdge_StringWrap("skiff_test", 10));
    Kind number = WasmEdge_ValTypeGenI32();
    void *type = WasmEdge_FunctionTypeCreate(NULL, 0, &number, 1);
    WasmEdge_ModuleInstanceAddFunction(made, WasmEdge_StringWrap("answer", 6), WasmEdge_FunctionInstanceCreate(type, answer, NULL, 0));
    return made;
}
static Module module = {"skiff_test", "answers", create};
static Plugin plugin = {"skiff_test", "answers", 5, {0, 0, 0, 1}, 1, 0, &module, NULL};
const Plugin *WasmEdge_Plugin_GetDescriptor(void) { return &plugin; }
"#;

const ASKS: &str = r#"(module
  (import "skiff_test" "answer" (func $answer (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start") (call $exit (call $answer))))"#;

fn build_plugin(directory: &Path) -> Result<()> {
    let source = directory.join("plugin.c");
    fs::write(&source, PLUGIN)?;
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]);
    compiler.arg(directory.join("libwasmedgePluginTest.so"));
    command::run(compiler.arg(&source))?.ok()?;
    fs::remove_file(source)?;
    Ok(())
}

fn a_plugin_of_the_node() -> Result<()> {
    bundle()?;
    let node = Node::start(Version::V2_4)?;
    let image = Image::layer("asks", &guest::text(ASKS)?);
    let plain = Image::layer("says", &guest::text(SAYS)?);
    node.import(&image)?;
    node.import(&plain)?;
    let plugins = node.directory().join("logs/plugins");
    let empty = node.directory().join("logs/empty");
    for directory in [&plugins, &empty] {
        fs::create_dir(directory)?;
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
    }
    build_plugin(&plugins)?;
    let run = |image, directory: &Path| {
        let directory = directory.display();
        let toml = format!("[WasmEdge]\nPluginDirectory = \"{directory}\"");
        node.run(image).runtime(WASMEDGE).options(&toml)?.output()
    };
    let ran = run(&image, &plugins)?;
    assert_eq!(ran.code, 42, "{}", ran.stderr);
    // Who needs none of them is not disturbed.
    assert_eq!(run(&plain, &plugins)?.ok()?, "said\n");

    let imports = "imports answer from skiff_test";
    run(&image, &empty)?.fails_with(&[imports, "its plugins provide (none)"])?;
    let ran = node.run(&image).runtime(WASMEDGE).output()?;
    ran.fails_with(&[imports, "PluginDirectory"])?;
    let missing = node.directory().join("logs/missing");
    run(&image, &missing)?.fails_with(&["could not look for plugins in", "logs/missing"])?;
    fs::set_permissions(&plugins, fs::Permissions::from_mode(0o777))?;
    run(&image, &plugins)?.fails_with(&["others than its owner may write to it"])?;
    // A table that wasmtime has no use for does it no harm.
    if engine() == "wasmtime" {
        let toml = "[WasmEdge]\nStatistics = true\nPluginDirectory = \"/no/such\"";
        assert_eq!(node.run(&plain).options(toml)?.output()?.ok()?, "said\n");
    }
    Ok(())
}
