//! The daemon: serves one pod until its last container is deleted.
//!
//! Made by [`crate::start`] with its socket, already listening, and the bundle of the pod's first container as
//! working directory. One thread: the kernel ties the containers' lives to it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use ttrpc::r#async::Server;

use crate::command_line::Flags;
use crate::connections::{self, Open};
use crate::engine::Runtime;
use crate::events::Events;
use crate::logging;
use crate::pod::Pod;
use crate::service::services;
use crate::socket::{self, Identity};
use crate::start::Daemon;
use crate::sys;

/// How long the events of a pod that has ended may take to reach containerd.
const FLUSH: Duration = Duration::from_secs(10);
/// How long containerd may take to close its connection after `Shutdown`.
const GOODBYE: Duration = Duration::from_secs(1);
/// A shim without containers that nobody is connected to ends after so long: containerd died between
/// `start` and `Create`, or between `Delete` and `Shutdown`.
const LONELY: Duration = Duration::from_secs(12);
/// A shim that was never asked for a container ends after so long, whoever is connected: a containerd that fails between
/// `start` and `Create`, for instance because it cannot write the bundle's `bootstrap.json`, forgets the shim and keeps
/// its connection. It asks within milliseconds when all is well.
const FORGOTTEN: Duration = Duration::from_secs(20);

/// Nothing was created for so long: nothing will be soon.
const QUIET: Duration = Duration::from_secs(2);

/// The daemon could not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A system call failed.
    #[error("could not {0}")]
    Io(&'static str, #[source] io::Error),
    /// The server.
    #[error("could not serve the Task service")]
    Server(#[source] ttrpc::Error),
}

/// Serves until the pod is gone.
///
/// # Errors
/// See [`ServeError`].
pub fn serve(daemon: Daemon, flags: &Flags, runtime_type: Runtime) -> Result<(), ServeError> {
    let path = daemon.path.clone();
    // Of the socket's file: nobody replaces it while it is served.
    let identity = Identity::of(&path);
    logging::init(&flags.namespace, &flags.id, daemon.debug);
    // Out of containerd's session.
    if let Err(error) = rustix::process::setsid() {
        log::debug!("could not make a session: {error}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // The default is room for 1,024, 12 KiB in every shim of the node.
        .max_io_events_per_tick(64)
        .build()
        .map_err(|error| ServeError::Io("make the event loop", error))?;
    let served = runtime.block_on(serve_pod(daemon, &flags.namespace, runtime_type, identity));
    // Without waiting for tasks that are left: there are none that matter.
    runtime.shutdown_background();
    if let Err(error) = identity.map_or(Ok(()), |identity| socket::remove_own(&path, identity)) {
        log::warn!("{}", crate::status::chain(&error));
    }
    served
}

async fn serve_pod(
    daemon: Daemon,
    namespace: &str,
    runtime_type: Runtime,
    identity: Option<Identity>,
) -> Result<(), ServeError> {
    let path = daemon.path.as_path();
    let listener = tokio::net::UnixListener::from_std(daemon.listener)
        .map_err(|error| ServeError::Io("watch the socket", error))?;
    let bundle =
        std::env::current_dir().map_err(|error| ServeError::Io("find the bundle", error))?;
    let address = daemon
        .address
        .strip_prefix("unix://")
        .unwrap_or(&daemon.address);
    let events = Events::new(namespace, &daemon.events);
    let pod = Arc::new(Pod::new(
        namespace,
        Path::new(address),
        runtime_type,
        &bundle,
        events,
    ));

    // Whoever stops the machine stops the pods first. A shim that a signal ended would take its containers with it.
    if let Err(error) = sys::ignore_terminating_signals() {
        log::warn!("could not ignore SIGTERM and SIGINT: {error}");
    }
    let open = Open::default();
    let uid = rustix::process::geteuid().as_raw();
    let mut server = Server::new()
        .add_listener(connections::listener(listener, uid, &open))
        .register_service(services(&pod));
    server.start().await.map_err(ServeError::Server)?;
    let sender = Arc::clone(&pod);
    tokio::spawn(async move { sender.events.run().await });
    log::debug!("serving on {}", path.display());
    pod.prepare();
    tokio::spawn(give_back(Arc::clone(&pod)));

    let lonely = tokio::spawn(watch_loneliness(Arc::clone(&pod), open.clone()));
    pod.quit().await;
    lonely.abort();
    // No start finds this shim any more, from here on.
    if let Err(error) = identity.map_or(Ok(()), |identity| socket::remove_own(path, identity)) {
        log::warn!("{}", crate::status::chain(&error));
    }
    let left = pod.events.flush(FLUSH).await;
    if left > 0 {
        log::error!("containerd did not take {left} events: they are lost");
    }
    // Who stays connected for longer does not mind.
    drop(timeout(GOODBYE, open.none()).await);
    Ok(())
}

/// Gives back the memory that the creation of containers took, when nothing was created for a while: a shim lives as
/// long as its pod, and there are hundreds on a node.
async fn give_back(pod: Arc<Pod>) {
    loop {
        pod.created.notified().await;
        while timeout(QUIET, pod.created.notified()).await.is_ok() {}
        sys::give_back_memory();
    }
}

async fn watch_loneliness(pod: Arc<Pod>, open: Open) {
    let begin = Instant::now();
    let mut since = begin;
    loop {
        // Not a look every second while all is well: a node has a thousand shims.
        if open.count() > 0 && pod.was_used() {
            open.none().await;
            since = Instant::now();
        }
        sleep(LONELY / 12).await;
        if begin.elapsed() >= FORGOTTEN && pod.shut_down_unused() {
            log::warn!(
                "containerd has not asked for a container in {} seconds: ending",
                FORGOTTEN.as_secs()
            );
            return;
        }
        if open.count() > 0 || !pod.is_empty() {
            since = Instant::now();
        } else if since.elapsed() >= LONELY {
            log::warn!("nobody is connected and there are no containers: ending");
            pod.shut_down();
        }
    }
}

/// The shim's bundle, for the other actions: the working directory, as containerd sets it.
///
/// # Errors
/// It is gone.
pub fn bundle_of(flags: &Flags) -> io::Result<PathBuf> {
    match &flags.bundle {
        Some(bundle) if bundle.is_absolute() => Ok(bundle.clone()),
        _ => std::env::current_dir(),
    }
}
