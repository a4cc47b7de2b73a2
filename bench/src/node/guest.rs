//! What runs in the containers of these scenarios, made here and the same at each run: a service that says one line
//! and sleeps, as module and as native program, and large modules.

use anyhow::{Result, ensure};
use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, ExportKind, ExportSection, Function, FunctionSection,
    GlobalSection, GlobalType, MemArg, MemArgTarget, MemorySection, MemoryType, Module,
    TypeSection, ValType,
};

/// Says a line and ends.
const HELLO: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "\10\00\00\00\06\00\00\00")
    (data (i32.const 16) "hello\n")
    (func (export "_start")
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

/// Says a line and sleeps for eleven days, on the monotonic clock.
const SERVICE: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "\10\00\00\00\06\00\00\00")
    (data (i32.const 16) "ready\n")
    (data (i32.const 80) "\01")
    (func (export "_start")
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
        (i64.store (i32.const 88) (i64.const 1000000000000000))
        (drop (call $poll (i32.const 64) (i32.const 128) (i32.const 1) (i32.const 8)))))"#;

/// The module that says a line and ends.
pub(super) fn hello_module() -> Result<Vec<u8>> {
    Ok(wat::parse_str(HELLO)?)
}

/// The module that says a line and sleeps.
pub(super) fn service_module() -> Result<Vec<u8>> {
    Ok(wat::parse_str(SERVICE)?)
}

/// The native program that says a line and ends.
pub(super) fn hello_program() -> Result<Vec<u8>> {
    // exit_group(0)
    program(b"hello\n", &[0xb8, 231, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05])
}

/// The native program that says a line and sleeps.
pub(super) fn service_program() -> Result<Vec<u8>> {
    // pause(), and again after a signal
    program(b"ready\n", &[0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7])
}

/// The least that a native program can be: one page, no library, nothing to start up. No runtime for native
/// programs is at a disadvantage with it.
fn program(line: &[u8], then: &[u8]) -> Result<Vec<u8>> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    ensure!(
        cfg!(target_arch = "x86_64"),
        "the native program of the bench exists for x86_64 only"
    );
    // write(1, line, length)
    let mut code = vec![0xb8, 1, 0, 0, 0, 0xbf, 1, 0, 0, 0, 0x48, 0x8d, 0x35];
    // The address is relative to the next instruction: behind it are 7 bytes and `then`.
    code.extend(u32::try_from(7 + then.len())?.to_le_bytes());
    code.push(0xba);
    code.extend(u32::try_from(line.len())?.to_le_bytes());
    code.extend([0x0f, 0x05]);
    code.extend(then);
    code.extend(line);
    let length = HEADERS + u64::try_from(code.len())?;

    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    // Executable, x86-64, version.
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    for word in [BASE + HEADERS, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    // No flags; one program header of 56 bytes behind a header of 64, no sections.
    file.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    // To be loaded, readable and executable.
    file.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    for word in [0, BASE, BASE, length, length, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    Ok(file)
}

/// A core module of about so many bytes, most of them code. `entry` is the name of the function that a runtime
/// calls; it returns `0` if `answers`.
pub(super) fn large_module(bytes: usize, entry: &str, answers: bool) -> Vec<u8> {
    let mut types = TypeSection::new();
    types.ty().function([ValType::I32], [ValType::I32]);
    types.ty().function(
        [],
        if answers {
            vec![ValType::I32]
        } else {
            Vec::new()
        },
    );
    let mut memories = MemorySection::new();
    memories.memory(MemoryType {
        minimum: 1,
        maximum: None,
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    let mut globals = GlobalSection::new();
    globals.global(
        GlobalType {
            val_type: ValType::I32,
            mutable: true,
            shared: false,
        },
        &ConstExpr::i32_const(0),
    );
    let mut functions = FunctionSection::new();
    let mut code = CodeSection::new();
    functions.function(1);
    code.function(&start(answers));
    let mut count = 1;
    while code.byte_len() < bytes {
        functions.function(0);
        code.function(&work(count));
        count += 1;
    }
    let mut exports = ExportSection::new();
    exports.export("memory", ExportKind::Memory, 0);
    exports.export(entry, ExportKind::Func, 0);
    let mut module = Module::new();
    module
        .section(&types)
        .section(&functions)
        .section(&memories)
        .section(&globals)
        .section(&exports)
        .section(&code);
    module.finish()
}

/// A component for `wasi:cli/run` around a module of about so many bytes.
pub(crate) fn large_component(bytes: usize) -> Vec<u8> {
    use wasm_encoder::{
        CanonicalFunctionSection, Component, ComponentExportKind, ComponentExportSection,
        ComponentInstanceSection, ComponentTypeSection, ComponentValType, InstanceSection,
        ModuleArg, RawSection,
    };
    let core = large_module(bytes, "run", true);
    let mut instances = InstanceSection::new();
    instances.instantiate::<_, &str>(0, std::iter::empty::<(&str, ModuleArg)>());
    let mut aliases = wasm_encoder::ComponentAliasSection::new();
    aliases.alias(wasm_encoder::Alias::CoreInstanceExport {
        instance: 0,
        kind: ExportKind::Func,
        name: "run",
    });
    let mut types = ComponentTypeSection::new();
    types.defined_type().result(None, None);
    types
        .function()
        .params::<_, ComponentValType>([])
        .result(Some(ComponentValType::Type(0)));
    let mut lifted = CanonicalFunctionSection::new();
    lifted.lift(0, 1, []);
    let mut cli = ComponentInstanceSection::new();
    cli.export_items([("run", ComponentExportKind::Func, 0)]);
    let mut exports = ComponentExportSection::new();
    exports.export("wasi:cli/run@0.2.0", ComponentExportKind::Instance, 0, None);

    let mut component = Component::new();
    component
        .section(&RawSection {
            id: wasm_encoder::ComponentSectionId::CoreModule.into(),
            data: &core,
        })
        .section(&instances)
        .section(&aliases)
        .section(&types)
        .section(&lifted)
        .section(&cli)
        .section(&exports);
    component.finish()
}

fn start(answers: bool) -> Function {
    let mut function = Function::new([]);
    let mut body = function.instructions();
    if answers {
        body.i32_const(0);
    }
    body.end();
    function
}

/// A function like any other: arithmetic, memory, a loop with a branch, a global, a call of its predecessor.
fn work(number: u32) -> Function {
    let at = |offset: u32| MemArg {
        offset: u64::from(offset % 0x4000) * 4,
        align: 2,
        target: MemArgTarget::Memory(0),
        ordering: None,
    };
    let mut function = Function::new([(3, ValType::I32)]);
    let mut body = function.instructions();
    let seed = i32::from_ne_bytes(number.wrapping_mul(0x9e37_79b1).to_ne_bytes());
    body.local_get(0).i32_const(seed).i32_xor().local_set(1);
    body.loop_(BlockType::Empty);
    for step in 0..12 {
        let constant = seed.rotate_left(step * 3 + 1);
        body.local_get(1).i32_const(constant).i32_add();
        body.local_get(2).i32_mul().local_set(2);
        body.i32_const(0).local_get(2).i32_store(at(number + step));
        body.i32_const(0)
            .i32_load(at(number.wrapping_mul(7) + step));
        body.local_get(1).i32_rotl().local_set(1);
    }
    body.local_get(3).i32_const(1).i32_add().local_tee(3);
    body.i32_const(3).i32_lt_u().br_if(0).end();
    body.global_get(0).local_get(1).i32_add().global_set(0);
    body.local_get(1);
    if number > 1 {
        body.call(number - 1);
    }
    body.local_get(2).i32_add().end();
    function
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_as_asked_for() {
        let module = large_module(200_000, "_start", false);
        assert!(
            (200_000..210_000).contains(&module.len()),
            "{}",
            module.len()
        );
        assert_eq!(module, large_module(200_000, "_start", false));
        assert!(large_component(200_000).len() > 200_000);
    }

    #[test]
    fn the_native_program_runs() {
        let path = std::env::temp_dir().join(format!("skiff-bench-hello-{}", std::process::id()));
        std::fs::write(&path, hello_program().unwrap()).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .unwrap();
        let output = std::process::Command::new(&path).output();
        std::fs::remove_file(&path).unwrap();
        let output = output.unwrap();
        assert!(
            output.status.success() && output.stdout == b"hello\n",
            "{output:?}"
        );
    }
}
