//! Wasm becomes native code for this machine.

use skiff_engine::options::{CodeOptions, OptLevel};
use skiff_engine::order::CodeKind;
use wasmtime::Engine;

use crate::failure::Failure;
use crate::input::Input;

/// Deeply nested code makes the compiler recurse; only what is used of a stack costs memory.
const STACK: usize = 8 << 20;

/// What a component of WASI 0.3 is refused for where that is off.
const ASYNCHRONOUS: &str = "requires the component model async feature";

/// Validates and compiles, with as many threads.
///
/// # Errors
/// The module is not valid, or uses a proposal that is switched off.
pub(crate) fn compile(
    input: &Input<'_>,
    threads: u16,
    level: OptLevel,
    options: &CodeOptions,
) -> Result<Vec<u8>, Failure> {
    let mut config = skiff_engine_wasmtime::config(options, input.kind)
        .map_err(|error| Failure::Engine(error.into()))?;
    config
        .cranelift_opt_level(match level {
            OptLevel::None => wasmtime::OptLevel::None,
            OptLevel::Speed => wasmtime::OptLevel::Speed,
            OptLevel::SpeedAndSize => wasmtime::OptLevel::SpeedAndSize,
        })
        .parallel_compilation(threads > 1);
    if threads > 1 {
        rayon_core::ThreadPoolBuilder::new()
            .num_threads(usize::from(threads))
            .stack_size(STACK)
            .build_global()
            .map_err(Failure::Threads)?;
    }
    let engine = Engine::new(&config).map_err(|error| Failure::Engine(error.into()))?;
    let code = match input.kind {
        CodeKind::Module => engine.precompile_module(&input.wasm),
        CodeKind::Component | CodeKind::Service => engine.precompile_component(&input.wasm),
    };
    code.map_err(|error| {
        // The parser's own words, by which alone it tells.
        let asynchronous = error
            .chain()
            .any(|error| error.to_string().contains(ASYNCHRONOUS));
        if asynchronous && !options.wasi_p3 && input.kind != CodeKind::Module {
            Failure::WasiP3(error.into())
        } else {
            Failure::Invalid(error.into())
        }
    })
}

#[cfg(test)]
mod tests {
    use skiff_sandbox::sentence::chain;

    use super::*;

    fn compiled(text: &str) -> Result<Vec<u8>, String> {
        let input = crate::input::parse(text.as_bytes()).map_err(|failure| chain(&failure))?;
        let options = CodeOptions::default();
        compile(&input, 1, OptLevel::Speed, &options).map_err(|failure| chain(&failure))
    }

    #[test]
    fn the_same_module_gives_the_same_code() {
        let text = "(module (func (export \"_start\")))";
        assert_eq!(compiled(text).unwrap(), compiled(text).unwrap());
    }

    #[test]
    fn a_component_of_0_3_is_told_what_switches_it_on() {
        let sentence = compiled("(component (type (stream u8)))").unwrap_err();
        assert!(sentence.contains("WasiP3 = true"), "{sentence}");
    }

    #[test]
    fn invalid_code_is_a_sentence_with_an_offset() {
        let sentence = compiled("(module (func (result i32) i64.const 1))").unwrap_err();
        assert!(
            sentence.starts_with("this is not valid WebAssembly: "),
            "{sentence}"
        );
        assert!(
            sentence.contains("type mismatch") && sentence.contains("at offset "),
            "{sentence}"
        );
    }
}
