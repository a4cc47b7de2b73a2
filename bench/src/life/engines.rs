//! WasmEdge beside wasmtime under Skiff: the start of a module whose code is cached, what the cache saves, what compiled
//! code is worth to a guest that calculates, and what a pod takes of the node's memory.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::alone::{Lives, milliseconds, rounds};
use super::bundle::Program;
use super::pods::memory_of_a_pod;
use super::shim::Steps;
use super::stage::{self, Stage};
use crate::measurement::{Bound, Measurement, Outcome, Promise, Unit, ratios};
use crate::runtime::Runtime;
use crate::settings::Settings;

/// The least size of the large module.
const BYTES: usize = 1 << 20;
/// Steps of the hash: some ten seconds under an interpreter.
const STEPS: u32 = 30_000_000;
/// Pods alive at once.
const PODS: usize = 20;

/// The scenario.
pub(crate) fn measure(settings: &Settings) -> Result<Outcome> {
    if let Err(error) = Runtime::Wasmedge.shim(settings) {
        return Ok(Outcome {
            skipped: Some(format!("WasmEdge's bundle could not be made here: {error}")),
            ..Outcome::default()
        });
    }
    let stage = stage::stage(settings)?;
    let steps = if settings.quick { STEPS / 10 } else { STEPS };
    put(stage, "large.wasm", &large()?)?;
    put(stage, "hash.wasm", &wat::parse_str(hash(steps))?)?;
    let mut outcome = Outcome::default();
    starts(stage, &mut outcome)?;
    compiling(stage, &mut outcome)?;
    calculating(stage, &mut outcome)?;
    memory(stage, &mut outcome)?;
    outcome.notes.push(format!(
        "A start goes from the exec of the shim's start command to the answer to Wait of a container that says a line. Its \
         module has {BYTES} bytes of code at least, of which next to nothing is executed. The hash is {steps} rounds of \
         multiplying, rotating and reading memory; its time is from Start's answer to Wait's. Ratios are taken round by round. \
         Memory is the sum of the PSS of all processes of {PODS} pods, divided by their number."
    ));
    Ok(outcome)
}

/// Code from the cache, under both engines, and the interpreter in its place.
fn starts(stage: &Stage, outcome: &mut Outcome) -> Result<()> {
    let runtimes = [
        Runtime::Skiff,
        Runtime::Wasmedge,
        Runtime::WasmedgeInterpreter,
    ];
    // The first of each fills the cache.
    rounds(stage, &runtimes, Program::Large, 2)?;
    let count = (stage.settings().rounds / 4).max(5);
    let lives = rounds(stage, &runtimes, Program::Large, count)?;
    let what = "start, code from the cache";
    for (runtime, _) in &lives {
        outcome
            .measurements
            .push(series(&lives, *runtime, what, Unit::Milliseconds, start)?);
    }
    outcome.promises.push(Promise {
        text: "engines: start of a cached module of 1 MiB under WasmEdge, in starts under wasmtime",
        measured: ratio(&lives, Runtime::Skiff, Runtime::Wasmedge, start)?,
        bound: Bound::AtMost(3.0),
        unit: "x",
    });
    outcome.promises.push(Promise {
        text: "engines: the same host interpreting that module, in starts with cached code",
        measured: ratio(
            &lives,
            Runtime::Wasmedge,
            Runtime::WasmedgeInterpreter,
            start,
        )?,
        bound: Bound::AtLeast(1.0),
        unit: "x",
    });
    Ok(())
}

/// A shim that compiles at each start.
fn compiling(stage: &Stage, outcome: &mut Outcome) -> Result<()> {
    let runtimes = [Runtime::Wasmedge, Runtime::WasmedgeUncached];
    let lives = rounds(stage, &runtimes, Program::Large, few(stage))?;
    let what = "start, compiling each time";
    let uncached = series(
        &lives,
        Runtime::WasmedgeUncached,
        what,
        Unit::Milliseconds,
        start,
    )?;
    outcome.measurements.push(uncached);
    outcome.promises.push(Promise {
        text: "engines: compiling that module at the start, in starts with cached code",
        measured: ratio(&lives, Runtime::Wasmedge, Runtime::WasmedgeUncached, start)?,
        bound: Bound::AtLeast(3.0),
        unit: "x",
    });
    Ok(())
}

/// A guest that does nothing but calculate.
fn calculating(stage: &Stage, outcome: &mut Outcome) -> Result<()> {
    let runtimes = [
        Runtime::Skiff,
        Runtime::Wasmedge,
        Runtime::WasmedgeInterpreter,
    ];
    rounds(stage, &runtimes[..2], Program::Hash, 1)?;
    let lives = rounds(stage, &runtimes, Program::Hash, few(stage))?;
    let run = |steps: &Steps| steps.wait;
    for (runtime, _) in &lives {
        outcome
            .measurements
            .push(series(&lives, *runtime, "hash", Unit::Milliseconds, run)?);
    }
    outcome.promises.push(Promise {
        text: "engines: a hash interpreted by WasmEdge, in runs of its compiled code",
        measured: ratio(&lives, Runtime::Wasmedge, Runtime::WasmedgeInterpreter, run)?,
        bound: Bound::AtLeast(20.0),
        unit: "x",
    });
    Ok(())
}

/// Pods that sleep.
fn memory(stage: &Stage, outcome: &mut Outcome) -> Result<()> {
    let runtimes = [Runtime::Skiff, Runtime::Wasmedge];
    // The first of each compiles.
    rounds(stage, &runtimes, Program::Hello, 1)?;
    for runtime in runtimes {
        let pss = memory_of_a_pod(stage, runtime, PODS)?;
        outcome.measurements.push(Measurement {
            scenario: "engines",
            runtime: runtime.name(),
            what: "memory of a pod, 20 pods, PSS",
            unit: Unit::Megabytes,
            samples: vec![pss],
        });
        if runtime == Runtime::Wasmedge {
            outcome.promises.push(Promise {
                text: "engines: memory of a pod under WasmEdge, 20 pods, PSS",
                measured: pss,
                bound: Bound::AtMost(5.0),
                unit: "MB",
            });
        }
    }
    Ok(())
}

/// Rounds of what takes seconds.
fn few(stage: &Stage) -> usize {
    if stage.settings().quick { 2 } else { 5 }
}

fn start(steps: &Steps) -> Duration {
    steps.shim + steps.create + steps.start + steps.wait
}

fn times(lives: &Lives, wanted: Runtime, of: impl Fn(&Steps) -> Duration) -> Result<Vec<f64>> {
    let found = lives.iter().find(|(runtime, _)| *runtime == wanted);
    let (_, lives) = found.context("a runtime was not measured")?;
    Ok(lives.iter().map(|steps| milliseconds(of(steps))).collect())
}

fn series(
    lives: &Lives,
    runtime: Runtime,
    what: &'static str,
    unit: Unit,
    of: impl Fn(&Steps) -> Duration,
) -> Result<Measurement> {
    Ok(Measurement {
        scenario: "engines",
        runtime: runtime.name(),
        what,
        unit,
        samples: times(lives, runtime, of)?,
    })
}

/// How many times the one's time the other takes.
fn ratio(
    lives: &Lives,
    one: Runtime,
    other: Runtime,
    of: impl Fn(&Steps) -> Duration + Copy,
) -> Result<f64> {
    let found = ratios(&times(lives, one, of)?, &times(lives, other, of)?);
    Ok(found.context("there are too few rounds")?.median)
}

/// Puts a module into the root of the containers.
fn put(stage: &Stage, name: &str, module: &[u8]) -> Result<()> {
    let path = stage.root(Runtime::Skiff).join(name);
    fs::write(&path, module)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Says the line that every guest of these scenarios says.
const SAY: &str = r#"
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "\10\00\00\00\17\00\00\00")
    (data (i32.const 16) "hello from a container\n")
    (func $say (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
"#;

/// Much code, like any other: arithmetic, memory, a loop with a branch, a call of the function before.
fn large() -> Result<Vec<u8>> {
    let mut functions = String::from("(func $f0 (param i32) (result i32) local.get 0)\n");
    let mut count = 1_u32;
    // What a function is in binary, about.
    while (count as usize) * 300 < BYTES * 5 / 4 {
        let seed = count.wrapping_mul(0x9e37_79b1);
        write!(
            functions,
            "(func $f{count} (param i32) (result i32) (local i32 i32 i32)\nlocal.get 0 i32.const {seed} i32.xor local.set 1 loop\n"
        )?;
        for step in 0..8 {
            let (constant, at) = (seed.rotate_left(step * 3 + 1), (count + step) % 0x3000 * 4);
            write!(
                functions,
                "local.get 1 i32.const {constant} i32.add local.get 2 i32.mul local.set 2\n\
                 i32.const 64 local.get 2 i32.store offset={at}\n\
                 i32.const 64 i32.load offset={at} local.get 1 i32.rotl local.set 1\n"
            )?;
        }
        writeln!(
            functions,
            "local.get 3 i32.const 1 i32.add local.tee 3 i32.const 3 i32.lt_u br_if 0 end\n\
             local.get 1 call $f{} local.get 2 i32.add)",
            count - 1
        )?;
        count += 1;
    }
    let text = format!("(module {SAY} {functions} (func (export \"_start\") call $say))");
    let module = wat::parse_str(text)?;
    ensure!(
        module.len() >= BYTES,
        "the large module has {} bytes only",
        module.len()
    );
    Ok(module)
}

/// A hash over memory, whose value decides whether the line is said: nothing of it can be left out.
fn hash(steps: u32) -> String {
    format!(
        r#"(module {SAY}
        (func (export "_start") (local $hash i64) (local $left i32)
            (local.set $hash (i64.const 0xcbf29ce484222325))
            (local.set $left (i32.const {steps}))
            (loop $next
                (local.set $hash
                    (i64.mul
                        (i64.xor
                            (i64.rotl (local.get $hash) (i64.const 5))
                            (i64.load8_u offset=4096 (i32.wrap_i64 (i64.and (local.get $hash) (i64.const 0xfff)))))
                        (i64.const 0x100000001b3)))
                (i64.store offset=4096
                    (i32.wrap_i64 (i64.and (i64.shr_u (local.get $hash) (i64.const 32)) (i64.const 0xff8)))
                    (local.get $hash))
                (br_if $next (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
            (if (i64.eqz (local.get $hash)) (then unreachable))
            (call $say)))"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_what_they_are_said_to_be() {
        assert!(large().unwrap().len() >= BYTES);
        wat::parse_str(hash(7)).unwrap();
    }
}
