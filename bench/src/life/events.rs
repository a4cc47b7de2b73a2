//! Takes the events that shims publish, as containerd does: a shim whose events nobody takes would try again,
//! or wait. One thread, at the address that every shim is given.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use containerd_shim_protos::api::ForwardRequest;
use containerd_shim_protos::events::task::TaskExit;
use containerd_shim_protos::protobuf::Message as _;
use containerd_shim_protos::ttrpc::proto::{MESSAGE_TYPE_RESPONSE, Request};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use super::ttrpc::{HEADER, frame, lengths};

/// An empty `Status` (field 1, no bytes): the event was taken.
const TAKEN: [u8; 2] = [0x0a, 0];
/// The listener among the connections' descriptors.
const LISTENER: u64 = u64::MAX;

/// Who waits for the exits of which processes. Events are looked into only while somebody does.
static AWAITED: LazyLock<Mutex<HashMap<String, Sender<Told>>>> = LazyLock::new(Mutex::default);

/// An exit, and when its event arrived.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub(super) at: Instant,
    pub(super) status: u32,
}

/// Waits for the exit of a process that is not started yet.
#[derive(Debug)]
pub(super) struct Exit(Receiver<Told>);

impl Exit {
    /// Of a container or of an exec: ids of both are unique in a run.
    pub(super) fn expect(id: &str) -> Self {
        let (tell, told) = channel();
        awaited().insert(id.to_owned(), tell);
        Self(told)
    }

    /// Comes back when the event has arrived.
    pub(super) fn wait(&self) -> Result<Told> {
        let told = self.0.recv_timeout(Duration::from_secs(30));
        told.context("the shim has told of no exit for 30 s")
    }
}

fn awaited() -> MutexGuard<'static, HashMap<String, Sender<Told>>> {
    AWAITED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells who waits, if the request in a frame brings an exit.
fn look_for_exit(body: &[u8]) {
    let mut awaited = awaited();
    if awaited.is_empty() {
        return;
    }
    let at = Instant::now();
    let exit = || {
        let call = Request::parse_from_bytes(body).ok()?;
        let forwarded = ForwardRequest::parse_from_bytes(&call.payload).ok()?;
        if forwarded.envelope.topic != "/tasks/exit" {
            return None;
        }
        TaskExit::parse_from_bytes(&forwarded.envelope.event.value).ok()
    };
    if let Some(exit) = exit()
        && let Some(tell) = awaited.remove(&exit.id)
    {
        let status = exit.exit_status;
        // Who has given up waiting has said so.
        tell.send(Told { at, status }).ok();
    }
}

/// Starts the thread. It ends with the process.
pub(super) fn serve(socket: &Path) -> Result<()> {
    let listener = UnixListener::bind(socket)
        .with_context(|| format!("could not listen on {}", socket.display()))?;
    let events = epoll::create(CreateFlags::CLOEXEC)?;
    let data = EventData::new_u64(LISTENER);
    epoll::add(&events, &listener, data, EventFlags::IN)?;
    std::thread::Builder::new()
        .name("events".to_owned())
        .spawn(move || take(&listener, &events))
        .context("could not start the thread that takes events")?;
    Ok(())
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    read: Vec<u8>,
}

fn take(listener: &UnixListener, events: &rustix::fd::OwnedFd) -> Result<()> {
    let mut connections: HashMap<u64, Connection> = HashMap::new();
    let mut ready = Vec::with_capacity(64);
    loop {
        ready.clear();
        match epoll::wait(events, rustix::buffer::spare_capacity(&mut ready), None) {
            Ok(_) => (),
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        for event in &ready {
            let key = event.data.u64();
            if key == LISTENER {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                let key = u64::try_from(stream.as_fd().as_raw_fd())?;
                epoll::add(events, &stream, EventData::new_u64(key), EventFlags::IN)?;
                connections.insert(
                    key,
                    Connection {
                        stream,
                        read: Vec::new(),
                    },
                );
                continue;
            }
            let goes_on = connections.get_mut(&key).is_some_and(Connection::answer);
            if !goes_on {
                // Closing it takes it out of the set.
                connections.remove(&key);
            }
        }
    }
}

impl Connection {
    /// Answers what has arrived; answers false once the shim has closed.
    fn answer(&mut self) -> bool {
        let mut bytes = [0; 4096];
        let Ok(count @ 1..) = self.stream.read(&mut bytes) else {
            return false;
        };
        self.read
            .extend_from_slice(bytes.get(..count).unwrap_or_default());
        while let Some(header) = self.read.first_chunk::<HEADER>() {
            let (length, stream) = lengths(header);
            if self.read.len() < HEADER + length {
                break;
            }
            look_for_exit(self.read.get(HEADER..HEADER + length).unwrap_or_default());
            self.read.drain(..HEADER + length);
            let Ok(answer) = frame(stream, MESSAGE_TYPE_RESPONSE, &TAKEN) else {
                return false;
            };
            if self.stream.write_all(&answer).is_err() {
                return false;
            }
        }
        true
    }
}
