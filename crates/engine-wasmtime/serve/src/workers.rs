//! The threads: one accepts connections and serves a part of them, the others serve the rest. A connection stays with
//! the thread that has the fewest when it comes.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use skiff_sandbox::sentence::chain;
use skiff_wasi_wasmtime::obituary::obituary;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::sleep;

use crate::company::Company;
use crate::connection;
use crate::drain::{Phase, Signal};
use crate::instance::Instances;
use crate::listen::{self, Accepted, Listener};
use crate::metrics::count;
use crate::notes::Notes;
use crate::reuse::SharedInstances;
use crate::service::Service;
use crate::tasks::Task;

/// One thread's share of the service.
pub(crate) struct Worker {
    pub(crate) service: &'static Service,
    pub(crate) instances: Instances,
    /// WASI 0.3.
    shared: Option<SharedInstances>,
    pub(crate) company: Company,
    connections: AtomicUsize,
    /// Calls that are not over.
    pub(crate) busy: AtomicUsize,
    preparing: AtomicBool,
    retired: AtomicBool,
}

impl Worker {
    fn new(service: &'static Service) -> &'static Self {
        Box::leak(Box::new(Self {
            service,
            instances: Instances::new(service),
            shared: service.is_p3().then(|| SharedInstances::new(service)),
            company: Company::new(),
            connections: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            preparing: AtomicBool::new(false),
            retired: AtomicBool::new(false),
        }))
    }

    /// Where instances answer several requests at a time: WASI 0.3.
    pub(crate) fn shared(&self) -> Option<&SharedInstances> {
        self.shared.as_ref()
    }

    /// Whether the container has fewer processors by now than threads: this one ends with its connections.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// Makes instances ahead, when the thread has nothing better to do.
    pub(crate) fn prepare(&'static self) {
        if !self.instances.is_short() || self.preparing.swap(true, Ordering::Relaxed) {
            return;
        }
        tokio::spawn(async move {
            // Whoever waits for an answer comes first.
            tokio::task::yield_now().await;
            while self.instances.is_short() && self.service.phase() == Phase::Serving {
                // It is told when a request needs it.
                if self.instances.prepare().await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            self.preparing.store(false, Ordering::Relaxed);
        });
    }

    fn serve(&'static self, accepted: Accepted, task: Task) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            // The client has gone otherwise.
            if let Ok(stream) = accepted.stream() {
                connection::serve(self, stream).await;
            }
            self.connections.fetch_sub(1, Ordering::Relaxed);
            self.service
                .metrics
                .connections
                .fetch_sub(1, Ordering::Relaxed);
            drop(task);
        });
    }
}

type Handed = (Accepted, Task);

/// A thread beside the first.
struct Other {
    worker: &'static Worker,
    connections: UnboundedSender<Handed>,
}

/// All threads.
struct Crew {
    first: &'static Worker,
    others: Mutex<Vec<Other>>,
}

impl Crew {
    /// Makes or retires threads until there are so many.
    fn resize(&self, threads: usize) -> io::Result<()> {
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        while others.len() + 1 > threads.max(1) {
            if let Some(other) = others.pop() {
                other.worker.retired.store(true, Ordering::Relaxed);
            }
        }
        while others.len() + 1 < threads {
            let worker = Worker::new(self.first.service);
            let (connections, receiver) = unbounded_channel();
            std::thread::Builder::new()
                .name(format!("worker-{}", others.len() + 1))
                .spawn(move || work(worker, receiver))?;
            others.push(Other {
                worker,
                connections,
            });
        }
        Ok(())
    }

    /// Gives a connection to the thread with the fewest.
    fn hand(&self, accepted: Accepted, task: Task) {
        let load = |worker: &Worker| worker.connections.load(Ordering::Relaxed);
        let others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        let least = others.iter().min_by_key(|other| load(other.worker));
        match least {
            Some(other) if load(other.worker) < load(self.first) => {
                // Its thread lives as long as this end of the channel.
                drop(other.connections.send((accepted, task)));
            }
            _ => self.first.serve(accepted, task),
        }
    }
}

/// An event loop on the calling thread.
fn event_loop() -> io::Result<Runtime> {
    // Components that wait for files and sockets at the same time need a few helpers.
    Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()
}

/// The life of a thread beside the first.
fn work(worker: &'static Worker, mut connections: UnboundedReceiver<Handed>) {
    let runtime = match event_loop() {
        Ok(runtime) => runtime,
        Err(error) => {
            worker.service.log.say(&format!(
                "skiff: a thread of {} could not be set up: {error}",
                worker.service.name
            ));
            return;
        }
    };
    runtime.block_on(async {
        worker.prepare();
        while let Some((accepted, task)) = connections.recv().await {
            worker.serve(accepted, task);
        }
        // Retired: what it has begun, it ends.
        let rest =
            || worker.connections.load(Ordering::Relaxed) + worker.busy.load(Ordering::Relaxed);
        while rest() > 0 {
            sleep(Duration::from_millis(100)).await;
        }
    });
}

/// Serves until the end is asked for and reached.
///
/// # Errors
/// Why nothing was served, as last words.
pub(crate) fn run(service: &'static Service, notes: &Notes, signal: &Signal) -> Result<(), String> {
    let failed = |reason: String| format!("skiff: {} was not served: {reason}", service.name);
    let runtime = event_loop().map_err(|error| failed(error.to_string()))?;
    runtime.block_on(async {
        let crew: &'static Crew = Box::leak(Box::new(Crew {
            first: Worker::new(service),
            others: Mutex::default(),
        }));
        first_instance(crew.first).await?;
        let listeners = listen::open(&service.options);
        let listeners = listeners.map_err(|error| failed(chain(&error)))?;
        crew.resize(notes.threads())
            .map_err(|error| failed(format!("a thread could not be made: {error}")))?;
        if let Some(address) = service.options.metrics {
            let listener = listen::at(address, service.options.backlog, false);
            let listener = listener.map_err(|error| failed(chain(&error)))?;
            tokio::spawn(crate::exposition::serve(service, listener));
        }
        let addresses: Vec<String> = listeners
            .iter()
            .map(|listener| listener.address.to_string())
            .collect();
        let accepting: Vec<_> = listeners
            .into_iter()
            .map(|listener| tokio::spawn(accept(crew, listener)))
            .collect();
        service.log.say(&format!(
            "skiff: {} is served on {}",
            service.name,
            addresses.join(" and ")
        ));
        tokio::select! {
            end = end(service, signal) => end.map_err(|error| failed(error.to_string()))?,
            error = notes.follow(|notes| follow(crew, notes)) => {
                return Err(failed(error.err().map_or_else(String::new, |error| error.to_string())));
            }
        }
        for accepting in accepting {
            // It ends with the phase.
            drop(accepting.await);
        }
        service.connections.none().await;
        service.at_work.none().await;
        Ok(())
    })
}

/// The port is opened only when there is somebody to answer.
async fn first_instance(worker: &'static Worker) -> Result<(), String> {
    let service = worker.service;
    let made = if service.is_p3() {
        service.instantiate().await.map(drop)
    } else {
        worker.instances.prepare().await
    };
    made.map_err(|error| {
        let what = obituary(&service.name, "trapped when it was instantiated", &error);
        format!("{what}\nskiff: {} was not served", service.name)
    })
}

/// The shim has changed a limit.
fn follow(crew: &Crew, notes: &Notes) {
    let service = crew.first.service;
    service.memory_is(notes.memory_cap());
    if let Err(error) = crew.resize(notes.threads()) {
        service.log.say(&format!(
            "skiff: {} goes on with fewer threads than it has processors: {error}",
            service.name
        ));
    }
}

/// Waits for the signal, and for the time that others need to hear of it.
async fn end(service: &'static Service, signal: &Signal) -> io::Result<()> {
    signal.asked().await?;
    service.set_phase(Phase::Draining);
    sleep(service.options.drain_delay).await;
    service.set_phase(Phase::Closing);
    Ok(())
}

async fn accept(crew: &'static Crew, listener: Listener) {
    let service = crew.first.service;
    let most = usize::try_from(service.options.connections).unwrap_or(usize::MAX);
    let hand = |accepted| {
        count(&service.metrics.connections);
        crew.hand(accepted, service.connections.begin());
    };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = service.reached(Phase::Closing) => break,
        };
        match accepted {
            Ok(accepted) => hand(accepted),
            // No more descriptors, or a client that has gone already.
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
        while service.connections.count() >= most {
            sleep(Duration::from_millis(5)).await;
        }
    }
    // Who has connected before the port was closed is not turned away.
    while let Ok(Some(accepted)) = listener.accept_now() {
        hand(accepted);
    }
}
