//! HTTP/2, for clients that know that the server speaks it: many requests of one connection, trailers, the end.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::channel::Channel;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use skiff_test::guest;
use skiff_test::http::PORT;
use skiff_test::image::Image;
use skiff_test::node::{Node, Version};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::http::{served, served_as};

skiff_test::cases!(
    one_connection_many_requests,
    trailers_go_both_ways,
    trailers_go_both_ways_of_0_3,
    the_end_is_told_and_nobody_is_left,
);

const LONGEST: Duration = Duration::from_secs(30);

/// Does something with an event loop, within a time.
fn on_loop<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        tokio::time::timeout(LONGEST, work)
            .await
            .context("it takes too long")?
    })
}

/// A connection, and how it ends.
async fn connect<B>() -> Result<(SendRequest<B>, JoinHandle<hyper::Result<()>>)>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT))).await?;
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    Ok((sender, tokio::spawn(connection)))
}

fn request<B>(method: &str, target: &str, body: B) -> Result<Request<B>> {
    let uri = format!("http://service:{PORT}{target}");
    Ok(Request::builder().method(method).uri(uri).body(body)?)
}

fn get(target: &str) -> Result<Request<Full<Bytes>>> {
    request("GET", target, Full::new(Bytes::new()))
}

async fn text(response: Response<Incoming>) -> Result<String> {
    let body = response.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8(body.to_vec())?)
}

fn one_connection_many_requests() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let toml = "[Http]\nHeaderLimit = '16Ki'\nBodyLimit = '1Mi'";
    let (task, network) = served(&node, toml, &[])?;
    network.inside(|| {
        on_loop(async {
            let (sender, _connection) = connect().await?;
            let mut answers = Vec::new();
            for number in 0..200 {
                let mut sender = sender.clone();
                let target = format!("/bytes?{}", number * 100);
                answers.push(tokio::spawn(async move {
                    sender.ready().await?;
                    let answer = sender.send_request(get(&target)?).await?;
                    ensure!(answer.status() == 200, "{}", answer.status());
                    text(answer).await
                }));
            }
            for (number, answer) in answers.into_iter().enumerate() {
                assert_eq!(answer.await??.len(), number * 100);
            }
            // One of them traps, and the connection goes on.
            let mut sender = sender.clone();
            assert_eq!(sender.send_request(get("/trap?now")?).await?.status(), 500);
            let large = Full::new(Bytes::from(vec![b'x'; 2 << 20]));
            let refused = sender
                .send_request(request("POST", "/echo", large)?)
                .await?;
            assert_eq!(refused.status(), 413);
            let mut wide = get("/")?;
            wide.headers_mut()
                .insert("wide", "x".repeat(40_000).parse()?);
            assert_eq!(sender.send_request(wide).await?.status(), 431);
            assert_eq!(sender.send_request(get("/")?).await?.status(), 200);
            Ok(())
        })
    })?;
    task.remove()?;
    Ok(())
}

fn trailers_go_both_ways() -> Result<()> {
    with_trailers(&Image::layer("http", &guest::service()?), "")
}

fn trailers_go_both_ways_of_0_3() -> Result<()> {
    with_trailers(
        &Image::layer("http-p3", &guest::service_p3()?),
        "WasiP3 = true",
    )
}

/// The service answers with what it is asked, piece by piece.
fn with_trailers(image: &Image, toml: &str) -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let (task, network) = served_as(&node, image, toml, &[])?;
    network.inside(|| {
        on_loop(async {
            let (mut sender, _connection) = connect().await?;
            let (mut pieces, body) = Channel::<Bytes>::new(1);
            let answer = sender.send_request(request("POST", "/echo", body)?);
            let sending = async {
                for piece in ["one ", "two ", "three"] {
                    pieces.send_data(Bytes::from(piece)).await?;
                }
                let mut trailers = HeaderMap::new();
                trailers.insert("checksum", "abc".parse()?);
                pieces.send_trailers(trailers).await?;
                drop(pieces);
                Ok(())
            };
            let (answer, sent): (_, Result<()>) = tokio::join!(answer, sending);
            sent?;
            let whole = answer?.into_body().collect().await?;
            let trailers = whole.trailers().cloned().unwrap_or_default();
            assert_eq!(whole.to_bytes(), "one two three");
            assert_eq!(
                trailers.get("checksum").context("no trailer came back")?,
                "abc"
            );
            Ok(())
        })
    })?;
    task.remove()?;
    Ok(())
}

/// Told to end, the service says so on the connection, and answers what was asked before.
fn the_end_is_told_and_nobody_is_left() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let (task, network) = served(&node, "[Http]\nDrainDelay = '1s'", &[])?;
    let (asked, told) = mpsc::channel();
    let client = || {
        network.inside(|| {
            on_loop(async {
                let (mut sender, connection) = connect().await?;
                assert_eq!(sender.send_request(get("/")?).await?.status(), 200);
                let slow = tokio::spawn(sender.send_request(get("/sleep?3000")?));
                tokio::time::sleep(Duration::from_millis(500)).await;
                asked.send(())?;
                assert_eq!(text(slow.await??).await?, "slept\n");
                // The other side has closed it, in order.
                connection.await??;
                ensure!(sender.is_closed(), "it goes on");
                Ok(())
            })
        })
    };
    thread::scope(|scope| {
        let client = scope.spawn(client);
        told.recv_timeout(LONGEST)?;
        task.signal("SIGTERM")?.ok()?;
        client.join().expect("it does not panic")
    })?;
    task.wait_until_stopped(LONGEST)?;
    assert_eq!(task.remove()?, 0);
    Ok(())
}
