//! What the calls of one instance work on.

use std::sync::Arc;

use skiff_engine::order::Guest;
use skiff_engine::service::{Destination, ServiceOptions};
use skiff_host::resolver::Resolver;
use skiff_wasi_wasmtime::link::Resolves;
use skiff_wasi_wasmtime::link::drafts::Drafts;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::filesystem::{WasiFilesystemCtx, WasiFilesystemCtxView};
use wasmtime_wasi::sockets::SocketAddrUse;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::lines::Voice;
use crate::log::Log;
use crate::memory::{Memory, Total};
use crate::outgoing::{Client, Hooks};

/// The guest's directory, and the only one it has.
const ROOT: &str = "/";

/// The state of one instance.
pub(crate) struct State {
    wasi: WasiCtx,
    filesystem: WasiFilesystemCtx,
    http: WasiHttpCtx,
    hooks: Hooks,
    table: ResourceTable,
    resolver: Arc<Resolver>,
    drafts: Arc<Drafts>,
    pub(crate) log: Voice,
    pub(crate) environment: Arc<Environment>,
    pub(crate) memory: Memory,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl Resolves for State {
    fn resolver(&self) -> &Arc<Resolver> {
        &self.resolver
    }

    fn drafts(&self) -> &Arc<Drafts> {
        &self.drafts
    }

    fn log(&mut self, line: String) {
        self.log.say(line);
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.hooks,
            table: &mut self.table,
            ctx: &mut self.http,
        }
    }
}

impl State {
    /// The directory that all instances share.
    pub(crate) fn filesystem(&mut self) -> WasiFilesystemCtxView<'_> {
        WasiFilesystemCtxView {
            ctx: &mut self.filesystem,
            table: &mut self.table,
        }
    }
}

/// What an instance is told of the container.
#[derive(Debug)]
pub(crate) struct Environment {
    pub(crate) arguments: Vec<String>,
    pub(crate) variables: Vec<(String, String)>,
    pub(crate) directory: String,
}

/// What all instances have in common.
pub(crate) struct Template {
    environment: Arc<Environment>,
    filesystem: WasiFilesystemCtx,
    client: Arc<Client>,
    total: Arc<Total>,
    limit: Option<u64>,
    drafts: Arc<Drafts>,
    log: Log,
    /// Whether each line of an instance says whose it is.
    log_prefix: bool,
    /// WASI 0.3 takes from the context what 0.2 is given by interfaces of this host's own.
    wasi_p3: bool,
}

impl Template {
    /// Opens the guest's directory, once.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(crate) fn new(
        guest: &Guest,
        client: Arc<Client>,
        total: Arc<Total>,
        options: &ServiceOptions,
        log: Log,
        wasi_p3: bool,
    ) -> wasmtime::Result<Self> {
        let variables = guest.env.iter().map(|variable| {
            let (key, value) = variable.split_once('=').unwrap_or((variable, ""));
            (key.to_owned(), value.to_owned())
        });
        let mut first = WasiCtxBuilder::new();
        first
            .allow_blocking_current_thread(true)
            .preopened_dir(ROOT, ROOT, FsPerms::ReadWrite)?;
        Ok(Self {
            environment: Arc::new(Environment {
                arguments: guest.args.clone(),
                variables: variables.collect(),
                directory: guest.working_directory.clone(),
            }),
            filesystem: first.build().filesystem().clone(),
            client,
            total,
            limit: options.instance_memory,
            drafts: Drafts::new(guest),
            log,
            log_prefix: options.log_prefix,
            wasi_p3,
        })
    }

    /// The state of a new instance.
    ///
    /// # Errors
    /// WASI 0.3: the guest's directory cannot be opened.
    pub(crate) fn state(&self) -> wasmtime::Result<State> {
        let log = Voice::new(self.log, self.log_prefix);
        let mut wasi = WasiCtxBuilder::new();
        wasi.allow_blocking_current_thread(true)
            .stdin(self.log.input())
            .allow_tcp(true)
            .allow_udp(true);
        match &log {
            Voice::Plain(log) => wasi.stdout(log.output()).stderr(log.error()),
            Voice::Prefixed { output, error } => wasi.stdout(output.clone()).stderr(error.clone()),
        };
        match self.client.egress() {
            None => wasi.inherit_network(),
            Some(egress) => {
                let egress = Arc::clone(egress);
                wasi.socket_addr_check(move |address, purpose| {
                    let allowed = is_allowed(&egress, address, purpose);
                    Box::pin(async move { allowed })
                })
            }
        };
        if self.wasi_p3 {
            let own = &self.environment;
            wasi.args(&own.arguments)
                .envs(&own.variables)
                .initial_cwd(&own.directory)
                .preopened_dir(ROOT, ROOT, FsPerms::ReadWrite)?;
        }
        Ok(State {
            wasi: wasi.build(),
            filesystem: self.filesystem.clone(),
            http: WasiHttpCtx::new(),
            hooks: Hooks::new(Arc::clone(&self.client)),
            table: ResourceTable::new(),
            resolver: Arc::clone(self.client.resolver()),
            drafts: Arc::clone(&self.drafts),
            log,
            environment: Arc::clone(&self.environment),
            memory: Memory::new(Arc::clone(&self.total), self.limit),
        })
    }
}

/// Names are not known where a socket connects: only addresses and networks allow it.
fn is_allowed(
    egress: &[Destination],
    address: std::net::SocketAddr,
    purpose: SocketAddrUse,
) -> bool {
    match purpose {
        SocketAddrUse::TcpConnect | SocketAddrUse::UdpSend => {
            egress.iter().any(|place| place.covers(None, address))
        }
        _ => true,
    }
}
