//! How a guest died.

use skiff_sandbox::sentence::chain;
use wasmtime::{Error, Trap, WasmBacktrace};

/// Why a guest died, and where in its own functions. `how` goes on after its name where it is a trap: `trapped`.
pub fn obituary(guest: &str, how: &str, error: &Error) -> String {
    let mut text = match error.downcast_ref::<Trap>() {
        Some(trap) => format!("skiff: {guest} {how}: {trap}"),
        None => format!(
            "skiff: {guest} was ended by an error of the engine: {}",
            chain(error.as_ref())
        ),
    };
    if let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() {
        text.push('\n');
        text.push_str(backtrace.to_string().trim_end());
    }
    text
}
