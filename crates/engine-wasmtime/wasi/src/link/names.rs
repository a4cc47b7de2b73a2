//! `wasi:sockets/ip-name-lookup`, answered by [`skiff_host::resolver`].
//!
//! wasmtime's own implementation asks the C library, on a second thread; it is never linked.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use wasmtime::component::{Accessor, Linker, Resource, ResourceType};
use wasmtime::{Result, StoreContextMut};
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddress};
use wasmtime_wasi::p2::{DynPollable, Network, Pollable, subscribe};
use wasmtime_wasi::p3::bindings::sockets::{ip_name_lookup, types};
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, poll_noop, spawn};

use super::Resolves;
use skiff_host::resolver::{LookupError, Resolver};

/// The newest version; a linker matches all of 0.2 with it.
const P2: &str = "wasi:sockets/ip-name-lookup@0.2.12";
const P3: &str = "wasi:sockets/ip-name-lookup@0.3.0";

type Addresses = Result<std::vec::IntoIter<IpAddr>, ErrorCode>;

/// The guest's `resolve-address-stream`.
enum AddressStream {
    Waiting(AbortOnDropJoinHandle<Addresses>),
    Ready(Addresses),
}

impl AddressStream {
    /// The addresses, if they are known by now.
    fn poll(&mut self) -> Option<&mut Addresses> {
        if let Self::Waiting(lookup) = self {
            *self = Self::Ready(poll_noop(Pin::new(lookup))?);
        }
        match self {
            Self::Ready(addresses) => Some(addresses),
            Self::Waiting(_) => None,
        }
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for AddressStream {
    async fn ready(&mut self) {
        if let Self::Waiting(lookup) = self {
            *self = Self::Ready(lookup.await);
        }
    }
}

/// Links the interface of WASI 0.2.
pub(super) fn add_p2<T: Resolves>(linker: &mut Linker<T>) -> Result<()> {
    let mut instance = linker.instance(P2)?;
    let drop_stream = |mut store: StoreContextMut<'_, T>, index| {
        store
            .data_mut()
            .ctx()
            .table
            .delete(Resource::<AddressStream>::new_own(index))?;
        Ok(())
    };
    instance.resource(
        "resolve-address-stream",
        ResourceType::host::<AddressStream>(),
        drop_stream,
    )?;
    instance.func_wrap(
        "resolve-addresses",
        |mut store: StoreContextMut<'_, T>,
         (network, name): (Resource<Network>, String)|
         -> Result<(Result<Resource<AddressStream>, ErrorCode>,)> {
            let state = store.data_mut();
            // Having one is the permission to ask.
            state.ctx().table.get(&network)?;
            let resolver = Arc::clone(state.resolver());
            let stream =
                AddressStream::Waiting(spawn(async move { lookup_p2(&resolver, &name).await }));
            Ok((Ok(state.ctx().table.push(stream)?),))
        },
    )?;
    instance.func_wrap(
        "[method]resolve-address-stream.resolve-next-address",
        |mut store: StoreContextMut<'_, T>,
         (stream,): (Resource<AddressStream>,)|
         -> Result<(Result<Option<IpAddress>, ErrorCode>,)> {
            let next = match store.data_mut().ctx().table.get_mut(&stream)?.poll() {
                Some(Ok(addresses)) => Ok(addresses.next().map(IpAddress::from)),
                Some(Err(code)) => Err(*code),
                None => Err(ErrorCode::WouldBlock),
            };
            Ok((next,))
        },
    )?;
    instance.func_wrap(
        "[method]resolve-address-stream.subscribe",
        |mut store: StoreContextMut<'_, T>,
         (stream,): (Resource<AddressStream>,)|
         -> Result<(Resource<DynPollable>,)> {
            Ok((subscribe(store.data_mut().ctx().table, stream)?,))
        },
    )?;
    Ok(())
}

async fn lookup_p2(resolver: &Resolver, name: &str) -> Addresses {
    match resolver.lookup(name).await {
        Ok(addresses) => Ok(addresses.into_iter()),
        Err(LookupError::InvalidName(_)) => Err(ErrorCode::InvalidArgument),
        Err(LookupError::NotFound(_)) => Err(ErrorCode::NameUnresolvable),
        Err(LookupError::Temporary { .. }) => Err(ErrorCode::TemporaryResolverFailure),
        Err(LookupError::Permanent { .. }) => Err(ErrorCode::PermanentResolverFailure),
    }
}

/// Links the interface of WASI 0.3.
pub(super) fn add_p3<T: Resolves>(linker: &mut Linker<T>) -> Result<()> {
    linker.instance(P3)?.func_wrap_concurrent(
        "resolve-addresses",
        |accessor: &Accessor<T>, (name,): (String,)| {
            let resolver = accessor.with(|mut access| Arc::clone(access.get().resolver()));
            Box::pin(async move { Ok((lookup_p3(&resolver, &name).await,)) })
        },
    )
}

async fn lookup_p3(
    resolver: &Resolver,
    name: &str,
) -> Result<Vec<types::IpAddress>, ip_name_lookup::ErrorCode> {
    use ip_name_lookup::ErrorCode;
    match resolver.lookup(name).await {
        Ok(addresses) => Ok(addresses.into_iter().map(types::IpAddress::from).collect()),
        Err(LookupError::InvalidName(_)) => Err(ErrorCode::InvalidArgument),
        Err(LookupError::NotFound(_)) => Err(ErrorCode::NameUnresolvable),
        Err(LookupError::Temporary { .. }) => Err(ErrorCode::TemporaryResolverFailure),
        Err(LookupError::Permanent { .. }) => Err(ErrorCode::PermanentResolverFailure),
    }
}
