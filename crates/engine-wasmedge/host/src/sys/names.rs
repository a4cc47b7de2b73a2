//! `getaddrinfo` and `freeaddrinfo`, which WasmEdge's library calls for `sock_getaddrinfo`.
//!
//! The C library's own would load whatever library the `nsswitch.conf` in its root names, and this root is an image's. The
//! definitions here come first for the dynamic loader, since they are the executable's; behind them is
//! [`skiff_host::resolver`]. What callers may expect of them: `getaddrinfo(3)`.

use std::ffi::{CStr, CString, c_char, c_int};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ptr;

use libc::{addrinfo, sockaddr_in, sockaddr_in6, sockaddr_storage};
use skiff_host::resolver::{LookupError, Resolver};

/// One answer, and what its pointers lead to.
#[repr(C)]
struct Answer {
    /// First, so that a pointer to it is one to the whole.
    info: addrinfo,
    address: sockaddr_storage,
}

/// What is asked for.
struct Wish {
    flags: c_int,
    family: c_int,
    kind: c_int,
    protocol: c_int,
}

/// # Safety
/// As for the C library's: strings end with a zero or are null, `result` can be written to.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn getaddrinfo(
    node: *const c_char,
    service: *const c_char,
    hints: *const addrinfo,
    result: *mut *mut addrinfo,
) -> c_int {
    // SAFETY: the caller's promise.
    let node = unsafe { text(node) };
    // SAFETY: as above.
    let service = unsafe { text(service) };
    // SAFETY: null, or the caller's structure.
    let wish = match unsafe { hints.as_ref() } {
        Some(hints) => Wish {
            flags: hints.ai_flags,
            family: hints.ai_family,
            kind: hints.ai_socktype,
            protocol: hints.ai_protocol,
        },
        None => Wish {
            flags: 0,
            family: libc::AF_UNSPEC,
            kind: 0,
            protocol: 0,
        },
    };
    match answers(node, service, &wish) {
        Ok(first) => {
            // SAFETY: the caller's promise.
            unsafe { result.write(first) };
            0
        }
        Err(code) => code,
    }
}

/// # Safety
/// `first` is null or comes from [`getaddrinfo`], and is not used afterwards.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn freeaddrinfo(first: *mut addrinfo) {
    let mut next = first;
    while !next.is_null() {
        // SAFETY: made by `Box::into_raw` of an `Answer`, whose first field this is.
        let answer = unsafe { Box::from_raw(next.cast::<Answer>()) };
        next = answer.info.ai_next;
        if !answer.info.ai_canonname.is_null() {
            // SAFETY: made by `CString::into_raw`.
            drop(unsafe { CString::from_raw(answer.info.ai_canonname) });
        }
    }
}

/// # Safety
/// Null, or ends with a zero.
unsafe fn text<'a>(pointer: *const c_char) -> Option<&'a CStr> {
    // SAFETY: the caller's promise.
    (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) })
}

fn answers(
    node: Option<&CStr>,
    service: Option<&CStr>,
    wish: &Wish,
) -> Result<*mut addrinfo, c_int> {
    let port = match service.map(CStr::to_bytes) {
        None | Some(b"") => 0,
        Some(digits) => std::str::from_utf8(digits)
            .ok()
            .and_then(|digits| digits.parse().ok())
            .ok_or(libc::EAI_SERVICE)?,
    };
    let addresses = match node {
        Some(node) => lookup(node.to_str().map_err(|_| libc::EAI_NONAME)?)?,
        None if service.is_none() => return Err(libc::EAI_NONAME),
        None if wish.flags & libc::AI_PASSIVE != 0 => {
            vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()]
        }
        None => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
    };
    let kinds: &[(c_int, c_int)] = match (wish.kind, wish.protocol) {
        (0, 0) => &[
            (libc::SOCK_STREAM, libc::IPPROTO_TCP),
            (libc::SOCK_DGRAM, libc::IPPROTO_UDP),
        ],
        (libc::SOCK_STREAM, _) | (0, libc::IPPROTO_TCP) => {
            &[(libc::SOCK_STREAM, libc::IPPROTO_TCP)]
        }
        (libc::SOCK_DGRAM, _) | (0, libc::IPPROTO_UDP) => &[(libc::SOCK_DGRAM, libc::IPPROTO_UDP)],
        _ => return Err(libc::EAI_SOCKTYPE),
    };
    let mut first = ptr::null_mut();
    let wanted = |address: &&IpAddr| match wish.family {
        libc::AF_INET => address.is_ipv4(),
        libc::AF_INET6 => address.is_ipv6(),
        _ => true,
    };
    for address in addresses.iter().filter(wanted).rev() {
        for (kind, protocol) in kinds.iter().rev() {
            first = answer(SocketAddr::new(*address, port), *kind, *protocol, first);
        }
    }
    if first.is_null() {
        return Err(libc::EAI_NONAME);
    }
    if wish.flags & libc::AI_CANONNAME != 0 {
        let name = node.map(CStr::to_owned).unwrap_or_default();
        // SAFETY: not null, and nobody else's yet.
        unsafe { (*first).ai_canonname = name.into_raw() };
    }
    Ok(first)
}

fn lookup(name: &str) -> Result<Vec<IpAddr>, c_int> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|_| libc::EAI_MEMORY)?;
    runtime
        .block_on(Resolver::new("/etc").lookup(name))
        .map_err(|error| match error {
            LookupError::Temporary { .. } => libc::EAI_AGAIN,
            LookupError::Permanent { .. } => libc::EAI_FAIL,
            LookupError::InvalidName(_) | LookupError::NotFound(_) => libc::EAI_NONAME,
        })
}

/// The families of addresses are small numbers.
fn family(number: c_int) -> libc::sa_family_t {
    libc::sa_family_t::try_from(number).unwrap_or_default()
}

fn answer(address: SocketAddr, kind: c_int, protocol: c_int, next: *mut addrinfo) -> *mut addrinfo {
    // SAFETY: all bytes zero is a valid value of these structures of integers and pointers.
    let mut answer: Box<Answer> = Box::new(unsafe { std::mem::zeroed() });
    let storage = &raw mut answer.address;
    let (kind_of_address, length) = match address {
        SocketAddr::V4(address) => {
            let plain = sockaddr_in {
                sin_family: family(libc::AF_INET),
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from_ne_bytes(address.ip().octets()),
                },
                sin_zero: [0; 8],
            };
            // SAFETY: the storage is larger than every kind of address, and aligned for each.
            unsafe { storage.cast::<sockaddr_in>().write(plain) };
            (libc::AF_INET, size_of::<sockaddr_in>())
        }
        SocketAddr::V6(address) => {
            let plain = sockaddr_in6 {
                sin6_family: family(libc::AF_INET6),
                sin6_port: address.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr {
                    s6_addr: address.ip().octets(),
                },
                sin6_scope_id: 0,
            };
            // SAFETY: as above.
            unsafe { storage.cast::<sockaddr_in6>().write(plain) };
            (libc::AF_INET6, size_of::<sockaddr_in6>())
        }
    };
    answer.info.ai_family = kind_of_address;
    answer.info.ai_socktype = kind;
    answer.info.ai_protocol = protocol;
    answer.info.ai_addrlen = libc::socklen_t::try_from(length).unwrap_or_default();
    answer.info.ai_addr = storage.cast();
    answer.info.ai_next = next;
    Box::into_raw(answer).cast()
}
