//! Instances of a component of WASI 0.2: made ahead of the request where there is time, used once, or several times
//! where the handler's options say so.

use std::sync::{Mutex, PoisonError};

use wasmtime::Store;
use wasmtime_wasi_http::handler::Proxy;
use wasmtime_wasi_http::p2::bindings::Proxy as Handler;

use crate::service::Service;
use crate::state::State;

/// Instances that wait for a request, on each thread.
const AHEAD: usize = 2;
/// Instances that have answered and are kept, on each thread.
const KEPT: usize = 32;

/// An instance of a component of WASI 0.2.
pub(crate) struct Instance {
    pub(crate) store: Store<State>,
    pub(crate) handler: Handler,
    /// Requests that it has answered.
    answered: u32,
}

impl Instance {
    async fn new(service: &Service) -> wasmtime::Result<Self> {
        match service.instantiate().await? {
            (store, Proxy::P2(handler)) => Ok(Self {
                store,
                handler,
                answered: 0,
            }),
            _ => Err(wasmtime::format_err!("it is of WASI 0.3")),
        }
    }
}

/// The instances of one thread.
pub(crate) struct Instances {
    service: &'static Service,
    waiting: Mutex<Vec<Instance>>,
}

impl Instances {
    pub(crate) fn new(service: &'static Service) -> Self {
        Self {
            service,
            waiting: Mutex::default(),
        }
    }

    /// One that waits, or a new one.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) async fn take(&self) -> wasmtime::Result<Instance> {
        let waiting = self.lock().pop();
        match waiting {
            Some(instance) => Ok(instance),
            None => Instance::new(self.service).await,
        }
    }

    /// Takes one back that has answered, if it may answer again.
    pub(crate) fn give_back(&self, mut instance: Instance) {
        instance.answered += 1;
        let most = self.service.options.instance_requests.unwrap_or(1);
        if instance.answered >= most {
            return;
        }
        let mut waiting = self.lock();
        if waiting.len() < KEPT {
            waiting.push(instance);
        }
    }

    /// Makes one ahead, if there are too few.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) async fn prepare(&self) -> wasmtime::Result<()> {
        if self.is_short() {
            let instance = Instance::new(self.service).await?;
            self.lock().push(instance);
        }
        Ok(())
    }

    /// Whether too few are ready.
    pub(crate) fn is_short(&self) -> bool {
        self.lock().len() < AHEAD
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Instance>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
