//! A containerd that is away, comes back, refuses: order, repetition, losses.

use std::sync::Arc;

use containerd_shim_protos::protobuf::MessageFull;
use containerd_shim_protos::protobuf::well_known_types::empty::Empty;
use containerd_shim_protos::shim_async::{Events as EventsService, create_events};
use ttrpc::r#async::{Server, TtrpcContext};

use super::*;

#[derive(Default)]
struct Containerd {
    taken: Mutex<Vec<(String, Any)>>,
    refuse: Mutex<Vec<ttrpc::Code>>,
}

#[async_trait::async_trait]
impl EventsService for Containerd {
    async fn forward(&self, _: &TtrpcContext, request: ForwardRequest) -> ttrpc::Result<Empty> {
        if let Some(code) = self.refuse.lock().unwrap().pop() {
            return Err(ttrpc::Error::RpcStatus(ttrpc::get_status(code, "no")));
        }
        let envelope = request.envelope.unwrap();
        assert_eq!(envelope.namespace, "k8s.io");
        self.taken
            .lock()
            .unwrap()
            .push((envelope.topic, envelope.event.unwrap()));
        Ok(Empty::new())
    }
}

impl Containerd {
    async fn serve(self: &Arc<Self>, address: &str) -> Server {
        drop(std::fs::remove_file(address));
        let service = create_events(Arc::clone(self) as Arc<dyn EventsService + Send + Sync>);
        let mut server = Server::new()
            .bind(&format!("unix://{address}"))
            .unwrap()
            .register_service(service);
        server.start().await.unwrap();
        server
    }

    fn topics(&self) -> Vec<String> {
        self.taken
            .lock()
            .unwrap()
            .iter()
            .map(|(topic, _)| topic.clone())
            .collect()
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

fn address(directory: &tempfile::TempDir) -> String {
    directory
        .path()
        .join("events.sock")
        .to_str()
        .unwrap()
        .to_owned()
}

fn life(events: &Events) {
    let exit = Exit {
        pid: 5,
        code: 3,
        unix_nanos: 1_000_000_007,
    };
    events.created("c", "/b", Vec::new(), &Places::default(), 5);
    events.started("c", 5);
    events.exited("c", "", &exit);
    events.deleted("c", &exit);
}

const LIFE: [&str; 4] = [
    "/tasks/create",
    "/tasks/start",
    "/tasks/exit",
    "/tasks/delete",
];

#[test]
fn in_order_and_whole() {
    let directory = tempfile::tempdir().unwrap();
    let address = address(&directory);
    block_on(async {
        let containerd = Arc::new(Containerd::default());
        let _server = containerd.serve(&address).await;
        let events = Arc::new(Events::new("k8s.io", &address));
        let sender = Arc::clone(&events);
        tokio::spawn(async move { sender.run().await });
        life(&events);
        assert_eq!(events.flush(Duration::from_secs(5)).await, 0);
        assert_eq!(containerd.topics(), LIFE);
        let taken = containerd.taken.lock().unwrap().clone();
        let types: Vec<_> = taken
            .iter()
            .map(|(_, event)| event.type_url.clone())
            .collect();
        assert_eq!(
            types,
            [
                TaskCreate::descriptor().full_name(),
                TaskStart::descriptor().full_name(),
                TaskExit::descriptor().full_name(),
                TaskDelete::descriptor().full_name(),
            ]
        );
        let (_, exit) = taken[2].clone();
        assert_eq!(exit.type_url, "containerd.events.TaskExit");
        let exit = TaskExit::parse_from_bytes(&exit.value).unwrap();
        assert_eq!(
            (
                exit.container_id.as_str(),
                exit.id.as_str(),
                exit.pid,
                exit.exit_status
            ),
            ("c", "c", 5, 3)
        );
        assert_eq!((exit.exited_at.seconds, exit.exited_at.nanos), (1, 7));
    });
}

#[test]
fn a_containerd_that_is_away_gets_them_later() {
    let directory = tempfile::tempdir().unwrap();
    let address = address(&directory);
    block_on(async {
        let events = Arc::new(Events::new("k8s.io", &address));
        let sender = Arc::clone(&events);
        tokio::spawn(async move { sender.run().await });
        life(&events);
        assert_eq!(events.flush(Duration::from_millis(100)).await, 4);
        let containerd = Arc::new(Containerd::default());
        containerd
            .refuse
            .lock()
            .unwrap()
            .extend([ttrpc::Code::UNAVAILABLE, ttrpc::Code::UNKNOWN]);
        let mut server = containerd.serve(&address).await;
        assert_eq!(events.flush(Duration::from_secs(5)).await, 0);
        assert_eq!(containerd.topics(), LIFE);
        // It restarts: the old connection is dead, the next event goes over a new one.
        server.shutdown().await.unwrap();
        drop(server);
        let second = Arc::new(Containerd::default());
        let _server = second.serve(&address).await;
        life(&events);
        assert_eq!(events.flush(Duration::from_secs(5)).await, 0);
        assert_eq!(second.topics(), LIFE);
    });
}

#[test]
fn what_containerd_never_takes_holds_nothing_up() {
    let directory = tempfile::tempdir().unwrap();
    let address = address(&directory);
    block_on(async {
        let containerd = Arc::new(Containerd::default());
        containerd
            .refuse
            .lock()
            .unwrap()
            .push(ttrpc::Code::INVALID_ARGUMENT);
        let _server = containerd.serve(&address).await;
        let events = Arc::new(Events::new("k8s.io", &address));
        let sender = Arc::clone(&events);
        tokio::spawn(async move { sender.run().await });
        life(&events);
        assert_eq!(events.flush(Duration::from_secs(5)).await, 0);
        assert_eq!(containerd.topics(), LIFE[1..]);
        assert_eq!(events.lock().lost, 1);
    });
}

#[test]
fn the_queue_is_bounded_and_keeps_exits() {
    let events = Events::new("k8s.io", "/no/such/socket");
    for _ in 0..LONGEST_QUEUE {
        life(&events);
    }
    let queue = events.lock();
    assert_eq!(queue.waiting.len(), LONGEST_QUEUE);
    assert_eq!(queue.lost, 3 * LONGEST_QUEUE as u64);
    assert!(
        queue
            .waiting
            .iter()
            .all(|event| event.topic == topics::TASK_EXIT_EVENT_TOPIC || event.number > 0)
    );
    let exits = queue
        .waiting
        .iter()
        .filter(|event| event.topic == topics::TASK_EXIT_EVENT_TOPIC)
        .count();
    assert!(exits >= LONGEST_QUEUE - 4, "{exits}");
    let numbers: Vec<_> = queue.waiting.iter().map(|event| event.number).collect();
    assert!(numbers.is_sorted());
}
