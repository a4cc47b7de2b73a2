//! Events on their way to containerd: one queue, in order, repeated until containerd has taken them.
//!
//! The task service puts events in without waiting; one task of the runtime sends them over containerd's
//! ttrpc socket, reconnecting when containerd restarts. The queue is bounded; when containerd is away for
//! so long that it overflows, the oldest events that are not exits go first, counted and logged.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use containerd_shim_protos::api::ForwardRequest;
use containerd_shim_protos::events::task::{
    TaskCreate, TaskDelete, TaskExecAdded, TaskExecStarted, TaskExit, TaskIO, TaskOOM, TaskPaused,
    TaskResumed, TaskStart,
};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::shim_async::EventsClient;
use containerd_shim_protos::topics;
use containerd_shim_protos::types::mount::Mount;
use tokio::net::UnixStream;
use tokio::sync::Notify;
use ttrpc::r#async::Client;
use ttrpc::asynchronous::transport::Socket;

use crate::exit_record::Exit;
use crate::stdio::Places;

/// Events that wait at most. A pod makes five for each run of a container.
const LONGEST_QUEUE: usize = 2048;
/// Time that containerd gets to take one event.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pauses between tries: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(3));
/// A connection that had nothing to do for so long is closed.
const IDLE: Duration = Duration::from_secs(10);

/// The queue. Everything but [`Events::run`] answers at once.
#[derive(Debug)]
pub struct Events {
    namespace: String,
    address: String,
    queue: Mutex<Queue>,
    /// Something was put in.
    filled: Notify,
    /// The queue has become empty.
    emptied: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Event>,
    lost: u64,
}

#[derive(Clone, Debug)]
struct Event {
    number: u64,
    topic: &'static str,
    envelope: Envelope,
}

impl Events {
    /// Events of containerd's namespace `namespace`, for the ttrpc socket at `address`.
    pub fn new(namespace: &str, address: &str) -> Self {
        let address = address.strip_prefix("unix://").unwrap_or(address);
        Self {
            namespace: namespace.to_owned(),
            address: address.to_owned(),
            queue: Mutex::default(),
            filled: Notify::new(),
            emptied: Notify::new(),
        }
    }

    /// A task was created.
    pub fn created(&self, id: &str, bundle: &str, rootfs: Vec<Mount>, places: &Places, pid: u32) {
        let mut io = TaskIO::new();
        io.stdin.clone_from(&places.stdin);
        io.stdout.clone_from(&places.stdout);
        io.stderr.clone_from(&places.stderr);
        let mut event = TaskCreate::new();
        event.container_id = id.to_owned();
        event.bundle = bundle.to_owned();
        event.rootfs = rootfs;
        event.io = MessageField::some(io);
        event.pid = pid;
        self.put(
            topics::TASK_CREATE_EVENT_TOPIC,
            "containerd.events.TaskCreate",
            &event,
        );
    }

    /// A task was started.
    pub fn started(&self, id: &str, pid: u32) {
        let mut event = TaskStart::new();
        event.container_id = id.to_owned();
        event.pid = pid;
        self.put(
            topics::TASK_START_EVENT_TOPIC,
            "containerd.events.TaskStart",
            &event,
        );
    }

    /// A task stands still.
    pub fn paused(&self, id: &str) {
        let mut event = TaskPaused::new();
        event.container_id = id.to_owned();
        self.put(
            topics::TASK_PAUSED_EVENT_TOPIC,
            "containerd.events.TaskPaused",
            &event,
        );
    }

    /// A task goes on.
    pub fn resumed(&self, id: &str) {
        let mut event = TaskResumed::new();
        event.container_id = id.to_owned();
        self.put(
            topics::TASK_RESUMED_EVENT_TOPIC,
            "containerd.events.TaskResumed",
            &event,
        );
    }

    /// The kernel killed a process of the task for want of memory.
    pub fn out_of_memory(&self, id: &str) {
        let mut event = TaskOOM::new();
        event.container_id = id.to_owned();
        self.put(
            topics::TASK_OOM_EVENT_TOPIC,
            "containerd.events.TaskOOM",
            &event,
        );
    }

    /// A process is to join a task.
    pub fn exec_added(&self, id: &str, exec: &str) {
        let mut event = TaskExecAdded::new();
        event.container_id = id.to_owned();
        event.exec_id = exec.to_owned();
        self.put(
            topics::TASK_EXEC_ADDED_EVENT_TOPIC,
            "containerd.events.TaskExecAdded",
            &event,
        );
    }

    /// A process has joined a task.
    pub fn exec_started(&self, id: &str, exec: &str, pid: u32) {
        let mut event = TaskExecStarted::new();
        event.container_id = id.to_owned();
        event.exec_id = exec.to_owned();
        event.pid = pid;
        self.put(
            topics::TASK_EXEC_STARTED_EVENT_TOPIC,
            "containerd.events.TaskExecStarted",
            &event,
        );
    }

    /// A process has ended: the task's first, whose `exec` is empty, or one that joined. Called once for each, by
    /// the one place that learns of it.
    pub fn exited(&self, id: &str, exec: &str, exit: &Exit) {
        let mut event = TaskExit::new();
        event.container_id = id.to_owned();
        event.id = if exec.is_empty() { id } else { exec }.to_owned();
        event.pid = exit.pid;
        event.exit_status = exit.code.into();
        event.exited_at = MessageField::some(exit.timestamp());
        self.put(
            topics::TASK_EXIT_EVENT_TOPIC,
            "containerd.events.TaskExit",
            &event,
        );
    }

    /// A task was deleted.
    pub fn deleted(&self, id: &str, exit: &Exit) {
        let mut event = TaskDelete::new();
        event.container_id = id.to_owned();
        event.pid = exit.pid;
        event.exit_status = exit.code.into();
        event.exited_at = MessageField::some(exit.timestamp());
        self.put(
            topics::TASK_DELETE_EVENT_TOPIC,
            "containerd.events.TaskDelete",
            &event,
        );
    }

    fn put(&self, topic: &'static str, type_name: &str, message: &impl Message) {
        let mut any = Any::new();
        // containerd's registry knows the bare names. They are not asked of the message: its description
        // would have to be parsed for that, and stays in memory.
        type_name.clone_into(&mut any.type_url);
        any.value = message
            .write_to_bytes()
            .expect("a message without required fields can always be written");
        let mut envelope = Envelope::new();
        envelope.timestamp = MessageField::some(now());
        envelope.namespace.clone_from(&self.namespace);
        topic.clone_into(&mut envelope.topic);
        envelope.event = MessageField::some(any);
        self.lock().put(topic, envelope);
        self.filled.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Sends events as they come. Never ends.
    pub async fn run(&self) {
        let mut client: Option<EventsClient> = None;
        let mut pause = PAUSES.0;
        loop {
            let next = self.lock().waiting.front().cloned();
            let Some(event) = next else {
                self.emptied.notify_waiters();
                if tokio::time::timeout(IDLE, self.filled.notified())
                    .await
                    .is_err()
                {
                    client = None;
                    self.filled.notified().await;
                }
                continue;
            };
            match self.send(&mut client, &event).await {
                Sent::Taken => {
                    self.lock().remove(event.number);
                    pause = PAUSES.0;
                }
                Sent::Refused(why) => {
                    let lost = self.lock().give_up(event.number);
                    log::error!(
                        "containerd refused the event {}: {why}; {lost} events are lost",
                        event.topic
                    );
                }
                Sent::NotNow(why) => {
                    log::debug!("event {} not sent yet: {why}", event.topic);
                    client = None;
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
        }
    }

    /// Waits until nothing is in the queue, at most for `time`. Then tells what is left.
    pub async fn flush(&self, time: Duration) -> usize {
        let empty = async {
            loop {
                let emptied = self.emptied.notified();
                if self.lock().waiting.is_empty() {
                    return;
                }
                emptied.await;
            }
        };
        // What is left is counted below.
        drop(tokio::time::timeout(time, empty).await);
        self.lock().waiting.len()
    }

    async fn send(&self, client: &mut Option<EventsClient>, event: &Event) -> Sent {
        if client.is_none() {
            match UnixStream::connect(&self.address).await {
                Ok(stream) => *client = Some(EventsClient::new(Client::new(Socket::new(stream)))),
                Err(error) => {
                    return Sent::NotNow(format!("could not connect to {}: {error}", self.address));
                }
            }
        }
        let Some(client) = client else {
            return Sent::NotNow("not connected".to_owned());
        };
        let mut request = ForwardRequest::new();
        request.envelope = MessageField::some(event.envelope.clone());
        match client
            .forward(ttrpc::context::with_duration(PATIENCE), &request)
            .await
        {
            Ok(_) => Sent::Taken,
            Err(ttrpc::Error::RpcStatus(status)) if is_final(status.code()) => {
                Sent::Refused(status.message)
            }
            Err(error) => Sent::NotNow(error.to_string()),
        }
    }
}

enum Sent {
    Taken,
    /// It will never be taken.
    Refused(String),
    NotNow(String),
}

/// Whether containerd answers the same however often it is asked.
fn is_final(code: ttrpc::Code) -> bool {
    use ttrpc::Code;
    matches!(
        code,
        Code::INVALID_ARGUMENT | Code::UNIMPLEMENTED | Code::PERMISSION_DENIED | Code::OUT_OF_RANGE
    )
}

impl Queue {
    fn put(&mut self, topic: &'static str, envelope: Envelope) {
        if self.waiting.len() >= LONGEST_QUEUE {
            // An exit is what containerd cannot find out later by asking for a state.
            let oldest = self
                .waiting
                .iter()
                .position(|event| event.topic != topics::TASK_EXIT_EVENT_TOPIC)
                .unwrap_or(0);
            self.waiting.remove(oldest);
            self.lost += 1;
            log::error!("containerd takes no events: {} are lost", self.lost);
        }
        let number = self.waiting.back().map_or(0, |last| last.number + 1);
        self.waiting.push_back(Event {
            number,
            topic,
            envelope,
        });
    }

    /// It may have been dropped for newer ones while it was being sent.
    fn remove(&mut self, number: u64) {
        self.waiting.retain(|event| event.number != number);
    }

    fn give_up(&mut self, number: u64) -> u64 {
        self.remove(number);
        self.lost += 1;
        self.lost
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    let mut timestamp = Timestamp::new();
    timestamp.seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    timestamp.nanos = i32::try_from(since.subsec_nanos()).unwrap_or(0);
    timestamp
}

#[cfg(test)]
mod tests;
