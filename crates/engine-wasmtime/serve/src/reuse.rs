//! Components of WASI 0.3: an instance answers several requests, also at the same time.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Sleep, sleep};
use wasmtime::component::GuestTaskId;
use wasmtime::{Store, StoreContextMut};
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::handler::{
    HandlerState, Instance, ProxyHandler, Request, Response, ShouldAccept, WorkerExpiration,
    WorkerState, WorkerStatus,
};

use crate::metrics::count;
use crate::service::Service;
use crate::state::State;
use crate::tasks::Task;

/// Requests of an instance altogether, without an option.
const REQUESTS: u32 = 128;
/// Requests of an instance at the same time.
const AT_A_TIME: usize = 16;
/// How long a turn takes at most where no instance computes: half of what the clock of the epochs lets one have.
const QUICK: Duration = Duration::from_millis(5);
/// How long an instance waits for another request.
const IDLE: Duration = Duration::from_secs(1);

/// The instances of one thread.
pub(crate) struct SharedInstances {
    handler: ProxyHandler<Shared>,
    turns: Semaphore,
    /// How many turns there are.
    width: AtomicUsize,
}

impl SharedInstances {
    pub(crate) fn new(service: &'static Service) -> Self {
        Self {
            handler: ProxyHandler::new(Shared(service)),
            turns: Semaphore::new(1),
            width: AtomicUsize::new(1),
        }
    }

    /// Gives a request to an instance, and the next one when an instance has looked at it.
    ///
    /// One that has just taken a request counts as busy until it waits for something, and for each further request that is
    /// there meanwhile another instance is made: of as many as there are connections most would get one of their own.
    ///
    /// While an instance computes, the others come to their turn with the clock of the epochs only. Then more requests are
    /// let in at a time, until all goes quickly again.
    ///
    /// # Errors
    /// There is no answer: the handler's documentation has the reasons.
    pub(crate) async fn handle(&self, request: Request) -> wasmtime::Result<Response> {
        let mut handling = pin!(self.handler.handle((), request));
        let turn = self.turns.acquire().await?;
        let begin = Instant::now();
        let mut seen = false;
        let begun = poll_fn(|context| match handling.as_mut().poll(context) {
            Poll::Pending if !seen => {
                seen = true;
                // Behind the instance, which has been woken by now.
                context.waker().wake_by_ref();
                Poll::Pending
            }
            begun => Poll::Ready(begun),
        })
        .await;
        self.leave(turn, begin.elapsed());
        match begun {
            Poll::Ready(answer) => answer,
            Poll::Pending => handling.await,
        }
    }

    fn leave(&self, turn: SemaphorePermit<'_>, took: Duration) {
        // All of it on the one thread.
        let width = self.width.load(Ordering::Relaxed);
        if took > QUICK {
            self.turns.add_permits(AT_A_TIME - width);
            self.width.store(AT_A_TIME, Ordering::Relaxed);
        } else if width > 1 {
            self.width.store(width - 1, Ordering::Relaxed);
            turn.forget();
        }
    }
}

/// What makes instances for requests of one thread.
struct Shared(&'static Service);

impl HandlerState for Shared {
    type StoreData = State;
    type WorkerExpiration = Expiration;
    type WorkerState = Life;

    async fn instantiate(&self) -> wasmtime::Result<Instance<State, Expiration, Life>> {
        let made = self.0.instantiate().await;
        let (mut store, proxy) = made.inspect_err(|error| {
            self.0.mourn("could not be instantiated", error);
        })?;
        if let Some(number) = self.0.number() {
            // It may answer several requests at a time: what it says could be of each of them.
            store.data_mut().log.begin(format!("[instance {number}] "));
        }
        Ok(Instance {
            store,
            proxy,
            view: State::http,
            expiration: Expiration::new(self.0.options.request_time),
            state: Life {
                service: self.0,
                most: self.0.options.instance_requests.unwrap_or(REQUESTS),
                _task: self.0.at_work.begin(),
                _clock: self.0.clock.run(),
            },
        })
    }
}

/// When an instance has been idle, or at work, for too long.
pub(crate) struct Expiration {
    limit: Option<Duration>,
    timer: Pin<Box<Sleep>>,
    /// What the timer runs for.
    armed: Option<Instant>,
}

impl Expiration {
    fn new(limit: Option<Duration>) -> Self {
        Self {
            limit,
            timer: Box::pin(sleep(Duration::ZERO)),
            armed: None,
        }
    }
}

impl WorkerExpiration for Expiration {
    fn poll(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        status: WorkerStatus,
        start: Instant,
    ) -> Poll<()> {
        let limit = match status {
            WorkerStatus::Idle => Some(IDLE),
            WorkerStatus::Requests | WorkerStatus::PostReturn => self.limit,
        };
        let Some(end) = limit.and_then(|limit| start.checked_add(limit)) else {
            return Poll::Pending;
        };
        // With each request the end moves on. A timer that runs for an earlier one is left to run, and set anew when it is
        // over: to move it each time takes longer than a short request's own work.
        if self.armed.is_none_or(|armed| armed > end) {
            self.armed = Some(end);
            self.timer.as_mut().reset(end.into());
        }
        loop {
            ready!(self.timer.as_mut().poll(context));
            if Instant::now() >= end {
                return Poll::Ready(());
            }
            self.armed = Some(end);
            self.timer.as_mut().reset(end.into());
        }
    }
}

/// An instance's life.
pub(crate) struct Life {
    service: &'static Service,
    most: u32,
    _task: Task,
    _clock: crate::epochs::Running,
}

impl WorkerState for Life {
    type StoreData = State;
    type RequestData = ();

    fn should_accept_request(&self, at_a_time: usize, altogether: usize) -> ShouldAccept {
        if u32::try_from(altogether).unwrap_or(u32::MAX) >= self.most {
            ShouldAccept::Never
        } else if at_a_time >= AT_A_TIME {
            ShouldAccept::No
        } else {
            ShouldAccept::Yes
        }
    }

    fn on_request_start(
        &self,
        _: StoreContextMut<'_, State>,
        (): (),
        _: GuestTaskId,
    ) -> Pin<Box<dyn Future<Output = ()> + 'static + Send + Sync>> {
        match self.service.options.request_time {
            Some(limit) => Box::pin(sleep(limit)),
            None => Box::pin(std::future::pending()),
        }
    }

    fn drop(&self, mut store: Store<State>, result: Result<(), wasmtime::Error>) {
        let Err(error) = result else { return };
        count(&self.service.metrics.traps);
        if let Some(refused) = store.data_mut().memory.take_refused() {
            let name = &self.service.name;
            self.service
                .log
                .say(&format!("skiff: {name} could not answer: {refused}"));
        }
        self.service.mourn("trapped at a request", &error);
    }
}
