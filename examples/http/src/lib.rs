//! A web service in a few routes, each of which shows one thing that a component can do.

use std::io::Write as _;

use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    Fields, IncomingBody, IncomingRequest, IncomingResponse, Method, OutgoingBody, OutgoingRequest,
    OutgoingResponse, ResponseOutparam, Scheme,
};

wasip2::http::proxy::export!(Service);

struct Service;

/// Most that is read at once.
const PIECE: u64 = 64 << 10;

impl wasip2::exports::http::incoming_handler::Guest for Service {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        match path {
            "/" => answer(out, 200, b"hello from a component\n"),
            // What comes in goes out, piece by piece.
            "/echo" => echo(&request, out),
            // An answer of so many bytes.
            "/bytes" => answer(out, 200, &vec![b'x'; query.parse().unwrap_or(0)]),
            "/environment" => {
                let lines: String = std::env::vars()
                    .map(|(key, value)| format!("{key}={value}\n"))
                    .chain(std::env::args().map(|argument| format!("argument {argument}\n")))
                    .collect();
                answer(out, 200, lines.as_bytes());
            }
            "/read" => match std::fs::read(query) {
                Ok(content) => answer(out, 200, &content),
                Err(error) => answer(out, 404, format!("{query}: {error}\n").as_bytes()),
            },
            "/write" => match std::fs::write(query, "written\n") {
                Ok(()) => answer(out, 200, b"written\n"),
                Err(error) => answer(out, 500, format!("{query}: {error}\n").as_bytes()),
            },
            "/say" => {
                println!("said {query}");
                eprintln!("complained {query}");
                answer(out, 200, b"said\n");
            }
            "/sleep" => {
                std::thread::sleep(std::time::Duration::from_millis(
                    query.parse().unwrap_or(100),
                ));
                answer(out, 200, b"slept\n");
            }
            "/spin" => loop {
                std::hint::spin_loop();
            },
            "/grow" => {
                let mebibytes: usize = query.parse().unwrap_or(1);
                let memory = vec![1u8; mebibytes << 20];
                answer(out, 200, format!("{}\n", memory.len()).as_bytes());
            }
            "/trap" => trap(query),
            // An answer that promises what never comes, and one that is begun and goes no further.
            "/promise" => broken(out, true, b""),
            "/begin" => broken(out, false, b"the begin"),
            // No answer at all.
            "/silence" => drop(out),
            "/fetch" => match fetch(query) {
                Ok(content) => answer(out, 200, &content),
                Err(error) => answer(out, 502, format!("{query}: {error}\n").as_bytes()),
            },
            // How often this very instance was asked.
            "/count" => {
                static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
                let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
                answer(out, 200, format!("{count}\n").as_bytes());
            }
            _ => answer(out, 404, b"there is nothing here\n"),
        }
    }
}

fn answer(out: ResponseOutparam, status: u16, content: &[u8]) {
    let fields = Fields::new();
    let length = content.len().to_string().into_bytes();
    for (name, value) in [
        ("content-length", &length[..]),
        ("content-type", b"text/plain"),
    ] {
        fields.append(name, value).expect("the field is allowed");
    }
    let response = OutgoingResponse::new(fields);
    response
        .set_status_code(status)
        .expect("a status has three digits");
    let body = response.body().expect("it was not taken before");
    ResponseOutparam::set(out, Ok(response));
    let mut stream = body.write().expect("it was not taken before");
    // The client may have gone.
    drop(stream.write_all(content));
    drop(stream.blocking_flush());
    drop(stream);
    drop(OutgoingBody::finish(body, None));
}

fn broken(out: ResponseOutparam, promise: bool, begin: &[u8]) {
    let fields = Fields::new();
    if promise {
        let length = fields.append("content-length", b"100");
        length.expect("the field is allowed");
    }
    let response = OutgoingResponse::new(fields);
    let body = response.body().expect("it was not taken before");
    ResponseOutparam::set(out, Ok(response));
    let mut stream = body.write().expect("it was not taken before");
    if !begin.is_empty() {
        drop(stream.write_all(begin));
        drop(stream.blocking_flush());
        // Until it has gone out.
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    trap("in the middle of an answer");
}

fn echo(request: &IncomingRequest, out: ResponseOutparam) {
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().expect("it was not taken before");
    let incoming = request.consume().expect("it was not taken before");
    let from = incoming.stream().expect("it was not taken before");
    // The first piece comes before the answer begins: a body that is too large has an answer of its own.
    let mut piece = from.blocking_read(PIECE).unwrap_or_default();
    ResponseOutparam::set(out, Ok(response));
    let mut to = body.write().expect("it was not taken before");
    while !piece.is_empty() && to.write_all(&piece).is_ok() {
        piece = from.blocking_read(PIECE).unwrap_or_default();
    }
    drop(to.blocking_flush());
    drop((from, to));
    // Trailers come when the body has ended.
    let future = IncomingBody::finish(incoming);
    future.subscribe().block();
    let trailers = match future.get() {
        Some(Ok(Ok(trailers))) => trailers,
        _ => None,
    };
    drop(OutgoingBody::finish(body, trailers));
}

#[inline(never)]
fn trap(reason: &str) {
    panic!("it was asked to trap: {reason}");
}

/// Calls another service.
fn fetch(url: &str) -> Result<Vec<u8>, String> {
    let (scheme, rest) = match url.split_once("://") {
        Some(("https", rest)) => (Scheme::Https, rest),
        Some((_, rest)) => (Scheme::Http, rest),
        None => (Scheme::Http, url),
    };
    let (authority, path) = rest
        .find('/')
        .map_or((rest, "/"), |slash| rest.split_at(slash));
    let request = OutgoingRequest::new(Fields::new());
    let wrong = |()| "it is not an address".to_owned();
    request.set_method(&Method::Get).map_err(wrong)?;
    request.set_scheme(Some(&scheme)).map_err(wrong)?;
    request.set_authority(Some(authority)).map_err(wrong)?;
    request.set_path_with_query(Some(path)).map_err(wrong)?;
    let future = outgoing_handler::handle(request, None).map_err(|code| code.to_string())?;
    future.subscribe().block();
    let response: IncomingResponse = future
        .get()
        .ok_or("there is no answer")?
        .map_err(|()| "the answer was taken before")?
        .map_err(|code| code.to_string())?;
    let body = response.consume().map_err(wrong)?;
    let stream = body.stream().map_err(wrong)?;
    let mut content = Vec::new();
    // It ends with an error that says so.
    while let Ok(piece) = stream.blocking_read(PIECE) {
        content.extend(piece);
    }
    Ok(content)
}
