//! The clock by which a component that computes lets others have their turn: while requests are handled it ticks a
//! hundred times a second, and else it stands still and costs nothing.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{Builder, JoinHandle, park, sleep};
use std::time::Duration;

use wasmtime::Engine;

const TICK: Duration = Duration::from_millis(10);
/// Ticks without a request, after which the clock stands still.
const IDLE: u32 = 50;

/// The clock.
#[derive(Debug)]
pub(crate) struct Clock {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    running: AtomicU64,
    parked: AtomicBool,
}

impl Clock {
    /// Starts it.
    ///
    /// # Errors
    /// No thread can be made: the container's limit of processes is reached.
    pub(crate) fn new(engine: Engine) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        let thread = Builder::new()
            .name("clock".to_owned())
            .stack_size(64 << 10)
            .spawn(move || tick(&engine, &for_thread))?;
        Ok(Self { shared, thread })
    }

    /// Runs at least until what this returns is dropped.
    pub(crate) fn run(&self) -> Running {
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.parked.load(Ordering::SeqCst) {
            self.thread.thread().unpark();
        }
        Running(Arc::clone(&self.shared))
    }
}

/// Somebody needs the clock.
#[derive(Debug)]
pub(crate) struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

fn tick(engine: &Engine, shared: &Shared) {
    let mut idle = 0;
    loop {
        if shared.running.load(Ordering::SeqCst) > 0 {
            idle = 0;
        } else {
            idle += 1;
        }
        if idle < IDLE {
            sleep(TICK);
            engine.increment_epoch();
            continue;
        }
        shared.parked.store(true, Ordering::SeqCst);
        // Who came before that was stored has not seen it.
        while shared.running.load(Ordering::SeqCst) == 0 {
            park();
        }
        shared.parked.store(false, Ordering::SeqCst);
        idle = 0;
    }
}
