//! wasi:http as runwasi's own wasmtime shim serves it: an instance for each request, made when the request is there, on
//! hyper's HTTP/1.1 with keep-alive; the address and the backlog by the same variables; environment and nothing else.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use containerd_shim_wasm::sandbox::context::RuntimeContext;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpSocket;
use tokio::sync::oneshot;
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView, default_hooks};

const PORT: u16 = 8080;
const BACKLOG: u32 = 100;

struct State {
    context: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.context, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: default_hooks() }
    }
}

/// The engine for services: as runwasi's, with the pool of memories. What it compiles and loads is the same code.
pub fn engine() -> Result<Engine> {
    let mut config = Config::new();
    config.allocation_strategy(InstanceAllocationStrategy::pooling());
    Ok(Engine::new(&config)?)
}

/// Whether a component handles requests.
pub fn is_service(engine: &Engine, component: &Component) -> bool {
    let names = component.component_type();
    names.exports(engine).any(|(name, _)| name.starts_with("wasi:http/incoming-handler"))
}

struct Service {
    pre: ProxyPre<State>,
    environment: Vec<(String, String)>,
    requests: AtomicU64,
}

/// Serves for ever.
pub async fn serve(component: &Component, context: &impl RuntimeContext) -> Result<()> {
    let mut linker = Linker::<State>::new(component.engine());
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    let pre = ProxyPre::new(linker.instantiate_pre(component)?)?;
    let mut address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
    let mut backlog = BACKLOG;
    let mut environment = Vec::new();
    for variable in context.envs() {
        let (key, value) = variable.split_once('=').unwrap_or((variable, ""));
        match key {
            "WASMTIME_HTTP_PROXY_SOCKET_ADDR" => address = value.parse().context("not an address")?,
            "WASMTIME_HTTP_BACKLOG" => backlog = value.parse().context("not a number")?,
            _ => environment.push((key.to_owned(), value.to_owned())),
        }
    }
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(backlog)?;
    let service = Arc::new(Service { pre, environment, requests: AtomicU64::new(0) });
    loop {
        let (stream, _) = listener.accept().await?;
        let service = Arc::clone(&service);
        tokio::spawn(async move {
            let answer = service_fn(move |request| Arc::clone(&service).answer(request));
            let connection = http1::Builder::new().keep_alive(true).serve_connection(TokioIo::new(stream), answer);
            if let Err(error) = connection.await {
                eprintln!("a connection failed: {error:?}");
            }
        });
    }
}

impl Service {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<HyperOutgoingBody>> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let mut builder = WasiCtxBuilder::new();
        builder.envs(&self.environment).env("REQUEST_ID", number.to_string());
        let state = State { context: builder.build(), http: WasiHttpCtx::new(), table: ResourceTable::new() };
        let mut store = Store::new(self.pre.engine(), state);
        let (sender, receiver) = oneshot::channel();
        let request = store.data_mut().http().new_incoming_request(Scheme::Http, request)?;
        let out = store.data_mut().http().new_response_outparam(sender)?;
        let proxy = self.pre.instantiate_async(&mut store).await?;
        let call = tokio::spawn(async move {
            proxy.wasi_http_incoming_handler().call_handle(&mut store, request, out).await
        });
        match receiver.await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(code)) => Err(code.into()),
            Err(_) => {
                call.await??;
                anyhow::bail!("the component has set no answer")
            }
        }
    }
}
