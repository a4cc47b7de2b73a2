//! A web service whose routes are calls of interfaces that WASI has drafts of. An answer is the call's result in words.

use std::io::Write as _;

use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

mod bindings {
    wit_bindgen::generate!({ path: "wit", world: "skiff:drafts/drafts", generate_all });
}

use bindings::wasi::config::store as config;
use bindings::wasi::keyvalue0_2_0_draft as first;
use bindings::wasi::keyvalue0_2_0_draft2 as second;
use bindings::wasi::logging::logging::{Level, log};

wasip2::http::proxy::export!(Service);

struct Service;

impl wasip2::exports::http::incoming_handler::Guest for Service {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let words = match path {
            "/config" => format!("{:?}", config::get(query)),
            "/config-all" => format!("{:?}", config::get_all()),
            "/log" => {
                log(Level::Warn, "drafts", query);
                log(Level::Info, "", "no context");
                print!("begun {query}");
                println!(" and ended\nnext\nopen");
                "logged".to_owned()
            }
            "/count" => {
                let bucket = second::store::open("default").expect("there is one");
                let count = second::atomics::increment(&bucket, "visits", 1);
                format!("{}", count.expect("it is a number"))
            }
            "/no-store" => format!("{:?}", second::store::open("other").map(|_| ())),
            "/first" => with_first().unwrap_or_else(|error| format!("{error:?}")),
            "/second" => with_second().unwrap_or_else(|error| format!("{error:?}")),
            "/fill" => {
                let bucket = second::store::open("").expect("there is one");
                let piece = vec![0; 1 << 20];
                let set = (0..32).map(|number| bucket.set(&format!("fill{number}"), &piece));
                let count = set.take_while(Result::is_ok).count();
                for number in 0..32 {
                    drop(bucket.delete(&format!("fill{number}")));
                }
                format!("{count}")
            }
            _ => "nothing".to_owned(),
        };
        answer(out, &words);
    }
}

fn text(value: Option<Vec<u8>>) -> String {
    value.map_or_else(
        || "none".to_owned(),
        |value| String::from_utf8_lossy(&value).into_owned(),
    )
}

fn with_first() -> Result<String, first::store::Error> {
    let bucket = first::store::open("")?;
    bucket.set("a", b"1")?;
    let entry = |key: &str, value: &[u8]| (key.to_owned(), value.to_vec());
    first::batch::set_many(&bucket, &[entry("b", b"2"), entry("c", b"3")])?;
    let sum = first::atomics::increment(&bucket, "a", 41)?;
    first::batch::delete_many(&bucket, &["c".to_owned()])?;
    let many = first::batch::get_many(&bucket, &["b".to_owned(), "c".to_owned()])?;
    let many: Vec<String> = many
        .into_iter()
        .map(|entry| {
            entry.map_or("none".to_owned(), |(key, value)| {
                format!("{key}={}", text(Some(value)))
            })
        })
        .collect();
    let there = (bucket.exists("a")?, bucket.exists("c")?);
    let keys = bucket.list_keys(Some(1))?;
    bucket.delete("a")?;
    Ok(format!(
        "{sum} {many:?} {there:?} {:?} {:?} {}",
        keys.keys,
        keys.cursor,
        text(bucket.get("a")?)
    ))
}

fn with_second() -> Result<String, second::store::Error> {
    let bucket = second::store::open("")?;
    let entry = |key: &str, value: &[u8]| (key.to_owned(), value.to_vec());
    second::batch::set_many(&bucket, &[entry("x", b"7"), entry("y", b"8")])?;
    let less = second::atomics::increment(&bucket, "x", -10)?;
    let many = second::batch::get_many(&bucket, &["y".to_owned(), "z".to_owned()])?;
    let many: Vec<String> = many
        .into_iter()
        .map(|(key, value)| format!("{key}={}", text(value)))
        .collect();
    let seen = second::atomics::Cas::new(&bucket, "y")?;
    bucket.set("y", b"other")?;
    let failed = match second::atomics::swap(seen, b"mine") {
        Ok(()) => "swapped".to_owned(),
        Err(second::atomics::CasError::StoreError(error)) => format!("{error:?}"),
        Err(second::atomics::CasError::CasFailed(now)) => {
            let before = text(now.current()?);
            match second::atomics::swap(now, b"mine") {
                Ok(()) => format!("{before}, then {}", text(bucket.get("y")?)),
                Err(_) => "failed again".to_owned(),
            }
        }
    };
    let keys = bucket.list_keys(Some("x"))?;
    second::batch::delete_many(&bucket, &["x".to_owned(), "y".to_owned()])?;
    Ok(format!(
        "{less} {many:?} {failed} {:?} {:?}",
        keys.keys, keys.cursor
    ))
}

fn answer(out: ResponseOutparam, words: &str) {
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().expect("it was not taken before");
    ResponseOutparam::set(out, Ok(response));
    let mut stream = body.write().expect("it was not taken before");
    drop(writeln!(stream, "{words}"));
    drop(stream.blocking_flush());
    drop(stream);
    drop(OutgoingBody::finish(body, None));
}
