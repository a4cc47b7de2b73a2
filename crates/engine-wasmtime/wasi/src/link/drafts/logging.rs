//! `wasi:logging`: lines of the container's log.

use wasmtime::component::{ComponentType, Lift, LinkerInstance};
use wasmtime::{Result, StoreContextMut};

use crate::link::Resolves;

/// How much a message matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "made of the guest's number")]
enum Level {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
    #[component(name = "critical")]
    Critical,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Trace => "TRACE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
            Self::Critical => "CRITICAL",
        }
    }
}

pub(super) fn add<T: Resolves>(instance: &mut LinkerInstance<'_, T>) -> Result<()> {
    instance.func_wrap(
        "log",
        |mut store: StoreContextMut<'_, T>, (level, context, message): (Level, String, String)| {
            store.data_mut().log(line(level, &context, &message));
            Ok(())
        },
    )
}

/// `WARN checkout: the card was refused`
fn line(level: Level, context: &str, message: &str) -> String {
    let level = level.word();
    if context.is_empty() {
        format!("{level} {message}")
    } else {
        format!("{level} {context}: {message}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_may_be_missing() {
        assert_eq!(
            line(Level::Warn, "cart", "it is full"),
            "WARN cart: it is full"
        );
        assert_eq!(line(Level::Info, "", "ready"), "INFO ready");
    }
}
