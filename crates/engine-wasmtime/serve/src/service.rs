//! A service: the component and all that its instances, connections and threads share. It lives as long as the process.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use skiff_engine::order::Guest;
use skiff_engine::service::ServiceOptions;
use skiff_wasi_wasmtime::obituary::obituary;
use tokio::sync::watch;
use wasmtime::component::Component;
use wasmtime::{Engine, Store};
use wasmtime_wasi_http::handler::{Proxy, ProxyPre};

use crate::drain::Phase;
use crate::engine;
use crate::epochs::Clock;
use crate::gate::Gate;
use crate::link::Linked;
use crate::log::Log;
use crate::memory::Total;
use crate::metrics::{Metrics, count};
use crate::notes::Notes;
use crate::outgoing::Client;
use crate::state::{State, Template};
use crate::tasks::Tasks;

/// The service.
pub(crate) struct Service {
    /// What the user calls the component.
    pub(crate) name: String,
    pub(crate) options: ServiceOptions,
    pub(crate) log: Log,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) gate: Gate,
    pub(crate) clock: Clock,
    pub(crate) memory: Arc<Total>,
    /// Open connections.
    pub(crate) connections: Tasks,
    /// Instances at work, also after their answers.
    pub(crate) at_work: Tasks,
    engine: Engine,
    component: Component,
    pre: ProxyPre<State>,
    template: Template,
    numbers: AtomicU64,
    phase: AtomicU8,
    phases: watch::Sender<Phase>,
}

impl Service {
    /// Makes everything but instances.
    ///
    /// # Errors
    /// The guest's directory cannot be opened, or no thread can be made.
    pub(crate) fn new(
        guest: &Guest,
        options: ServiceOptions,
        linked: Linked,
        notes: &Notes,
        log: Log,
    ) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let Linked {
            engine,
            component,
            pre,
        } = linked;
        let metrics = Arc::new(Metrics::new());
        let memory = Arc::new(Total::new(notes.memory_cap()));
        let roots = guest.env.iter();
        let mut roots = roots.filter_map(|variable| variable.strip_prefix("SSL_CERT_FILE="));
        let client = Arc::new(Client::new(
            options.egress.clone(),
            roots.next_back().map(str::to_owned),
            Arc::clone(&metrics),
        ));
        let wasi_p3 = matches!(pre, ProxyPre::P3(_));
        let template = Template::new(guest, client, Arc::clone(&memory), &options, log, wasi_p3)?;
        let service = Self {
            name: guest.name.clone(),
            gate: Gate::new(1, options.queue),
            clock: Clock::new(engine.clone())?,
            options,
            log,
            metrics,
            memory,
            connections: Tasks::default(),
            at_work: Tasks::default(),
            engine,
            component,
            pre,
            template,
            numbers: AtomicU64::new(1),
            phase: AtomicU8::new(0),
            phases: watch::Sender::new(Phase::Serving),
        };
        service.memory_is(notes.memory_cap());
        Ok(service)
    }

    /// The cap on the memory of all instances is this now. So many requests are handled at a time as instances fit.
    pub(crate) fn memory_is(&self, cap: Option<u64>) {
        self.memory.set_cap(cap);
        let mut most = engine::possible(&self.component, &self.options);
        let declared = self.component.resources_required();
        let declared = declared.and_then(|each| each.max_initial_memory_size);
        if let (Some(cap), Some(declared)) = (cap, declared.filter(|size| *size > 0)) {
            let fit = u32::try_from(cap / declared).unwrap_or(u32::MAX);
            most = most.min(fit.max(1));
        }
        self.gate
            .resize(usize::try_from(most).unwrap_or(usize::MAX));
    }

    /// A new instance.
    ///
    /// # Errors
    /// There is no room for it, or it traps.
    pub(crate) async fn instantiate(&self) -> wasmtime::Result<(Store<State>, Proxy)> {
        let mut store = Store::new(&self.engine, self.template.state()?);
        store.limiter(|state| &mut state.memory);
        store.epoch_deadline_async_yield_and_update(1);
        store.set_epoch_deadline(1);
        let made = self.pre.instantiate_async(&mut store).await;
        let counter = match &made {
            Ok(_) => &self.metrics.instances,
            Err(_) => &self.metrics.failed_instances,
        };
        count(counter);
        let proxy = made?;
        store.data_mut().memory.instantiated();
        Ok((store, proxy))
    }

    /// The next number of a request (WASI 0.3: of an instance), if the log is to say it.
    pub(crate) fn number(&self) -> Option<u64> {
        let asked = self.options.log_prefix;
        asked.then(|| self.numbers.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether the component is of WASI 0.3.
    pub(crate) fn is_p3(&self) -> bool {
        matches!(self.pre, ProxyPre::P3(_))
    }

    /// Says in the log how an instance died. `how` says at what.
    pub(crate) fn mourn(&self, how: &str, error: &wasmtime::Error) {
        self.log.say(&obituary(&self.name, how, error));
    }

    /// How far the end has come.
    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Serving,
            1 => Phase::Draining,
            _ => Phase::Closing,
        }
    }

    /// Tells everybody.
    pub(crate) fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
        self.phases.send_replace(phase);
    }

    /// Waits until the end has come so far.
    pub(crate) async fn reached(&self, phase: Phase) {
        // The sender is this service, and stays.
        drop(self.phases.subscribe().wait_for(|now| *now >= phase).await);
    }
}
