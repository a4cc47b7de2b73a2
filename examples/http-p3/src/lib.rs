//! A web service of WASI 0.3: one instance answers several requests at the same time, and whoever waits lets the others
//! go on. The routes are those of `examples/http`, as far as they show something here.

use std::sync::atomic::{AtomicU32, Ordering};

use wasip3::http::client;
use wasip3::http::types::{ErrorCode, Fields, Request, Response, Scheme};
use wasip3::{spawn_local, wit_future, wit_stream};

wasip3::http::service::export!(Service);

struct Service;

impl wasip3::exports::http::handler::Guest for Service {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let target = request.get_path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        match path {
            "/" => answer(200, b"hello from a component\n".to_vec()),
            "/echo" => echo(request),
            "/bytes" => answer(200, vec![b'x'; query.parse().unwrap_or(0)]),
            "/environment" => {
                let lines: String = std::env::vars()
                    .map(|(key, value)| format!("{key}={value}\n"))
                    .chain(std::env::args().map(|argument| format!("argument {argument}\n")))
                    .collect();
                answer(200, lines.into_bytes())
            }
            "/read" => match std::fs::read(query) {
                Ok(content) => answer(200, content),
                Err(error) => answer(404, format!("{query}: {error}\n").into_bytes()),
            },
            "/say" => {
                println!("said {query}");
                eprintln!("complained {query}");
                answer(200, b"said\n".to_vec())
            }
            // Others have their turn meanwhile.
            "/sleep" => {
                let milliseconds: u64 = query.parse().unwrap_or(100);
                wasip3::clocks::monotonic_clock::wait_for(milliseconds * 1_000_000).await;
                answer(200, b"slept\n".to_vec())
            }
            "/spin" => loop {
                std::hint::spin_loop();
            },
            "/trap" => trap(query),
            "/fetch" => fetch(query).await,
            // How often this very instance was asked.
            "/count" => {
                static COUNT: AtomicU32 = AtomicU32::new(0);
                let count = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
                answer(200, format!("{count}\n").into_bytes())
            }
            _ => answer(404, b"there is nothing here\n".to_vec()),
        }
    }
}

fn answer(status: u16, content: Vec<u8>) -> Result<Response, ErrorCode> {
    let length = content.len().to_string().into_bytes();
    let fields = [
        ("content-length".to_owned(), length),
        ("content-type".to_owned(), b"text/plain".to_vec()),
    ];
    let fields = Fields::from_list(&fields).expect("the fields are allowed");
    let (mut to, body) = wit_stream::new();
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (response, _) = Response::new(fields, Some(body), trailers);
    response
        .set_status_code(status)
        .expect("a status has three digits");
    // The body goes out when the answer has begun.
    spawn_local(async move {
        // What is left over, the client did not want.
        drop(to.write_all(content).await);
    });
    Ok(response)
}

/// What comes in goes out: the host joins the two ends, and nothing of it comes here.
fn echo(request: Request) -> Result<Response, ErrorCode> {
    let (_, taken) = wit_future::new(|| Ok(()));
    let (body, trailers) = Request::consume_body(request, taken);
    Ok(Response::new(Fields::new(), Some(body), trailers).0)
}

#[inline(never)]
fn trap(reason: &str) -> ! {
    panic!("it was asked to trap: {reason}");
}

/// Calls another service, and hands its answer on.
async fn fetch(url: &str) -> Result<Response, ErrorCode> {
    let (scheme, rest) = match url.split_once("://") {
        Some(("https", rest)) => (Scheme::Https, rest),
        Some((_, rest)) => (Scheme::Http, rest),
        None => (Scheme::Http, url),
    };
    let (authority, path) = rest
        .find('/')
        .map_or((rest, "/"), |slash| rest.split_at(slash));
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (request, _) = Request::new(Fields::new(), None, trailers, None);
    let wrong = |()| ErrorCode::HttpRequestUriInvalid;
    request.set_scheme(Some(&scheme)).map_err(wrong)?;
    request.set_authority(Some(authority)).map_err(wrong)?;
    request.set_path_with_query(Some(path)).map_err(wrong)?;
    match client::send(request).await {
        Ok(response) => {
            let status = response.get_status_code();
            let (_, taken) = wit_future::new(|| Ok(()));
            let (body, trailers) = Response::consume_body(response, taken);
            let (handed, _) = Response::new(Fields::new(), Some(body), trailers);
            handed.set_status_code(status).map_err(wrong)?;
            Ok(handed)
        }
        Err(code) => answer(502, format!("{url}: {code:?}\n").into_bytes()),
    }
}
