//! The trait that runs guests.

use std::fs::File;
use std::future::Future;
use std::io::Read as _;

use anyhow::{Context as _, Result};

use self::context::{RuntimeContext, Source};

pub mod context;

/// An engine that runs guests, each in a process of its own.
pub trait Sandbox: Default + 'static {
    /// Runs a guest to its end; answers its exit code.
    fn run_wasi(&self, ctx: &impl RuntimeContext) -> impl Future<Output = Result<i32>> + Send;

    /// Whether the guest can be run, asked before it is started. Unless an engine knows better: a layer can, and so can a
    /// file that is a module in either format.
    fn can_handle(&self, ctx: &impl RuntimeContext) -> impl Future<Output = Result<()>> + Send {
        let source = ctx.entrypoint().source;
        let checked = match source {
            Source::Oci(_) => Ok(()),
            Source::File(path) => is_module(&path),
        };
        async move { checked }
    }
}

fn is_module(path: &std::path::Path) -> Result<()> {
    let path = context::find(path).context("module not found")?;
    let mut magic = [0; 4];
    File::open(&path)?.read_exact(&mut magic)?;
    if magic != *b"\0asm" {
        wat::parse_file(&path)?;
    }
    Ok(())
}
