//! From a request to its answer: what the host refuses itself, what the component answers, and what is answered in
//! its place where it does not.

use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER, UPGRADE,
};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt, Either};
use hyper::body::{Body as _, Incoming};
use tokio::sync::{SemaphorePermit, oneshot};
use tokio::time::timeout;
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::handler::ExpirationError;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};

use crate::body::{AnswerBody, GuestBody, Over, RequestBody, Verdict, text};
use crate::call::Call;
use crate::drain::Phase;
use crate::instance::Instance;
use crate::metrics::{Limit, count};
use crate::reuse::SharedInstances;
use crate::service::Service;
use crate::workers::Worker;

/// Bytes of an answer that waits for company, at most; of 0.2 their number is not known.
const SHORT: u64 = 16 << 10;

/// Why a request is not answered by the component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Upgrade,
    Connect,
    NoHost,
    Limit(Limit),
    Failed,
    Gateway,
}

impl Refusal {
    fn answer(self) -> (StatusCode, &'static str) {
        match self {
            Self::Upgrade => (
                StatusCode::NOT_IMPLEMENTED,
                "WebSockets and other upgrades are not served\n",
            ),
            Self::Connect => (StatusCode::NOT_IMPLEMENTED, "CONNECT is not served\n"),
            Self::NoHost => (StatusCode::BAD_REQUEST, "the request names no host\n"),
            Self::Limit(Limit::Header) => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "the request's head is too large\n",
            ),
            Self::Limit(Limit::Body) => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "the request's body is too large\n",
            ),
            Self::Limit(Limit::Concurrency) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "too many requests are waiting\n",
            ),
            Self::Limit(Limit::Time) => (
                StatusCode::GATEWAY_TIMEOUT,
                "the answer did not begin in time\n",
            ),
            Self::Limit(Limit::Client) => (
                StatusCode::REQUEST_TIMEOUT,
                "the request's body did not arrive in time\n",
            ),
            Self::Limit(Limit::Memory) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "the component has asked for too much memory\n",
            ),
            Self::Failed => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "the component has failed\n",
            ),
            Self::Gateway => (
                StatusCode::BAD_GATEWAY,
                "the component could not reach another service\n",
            ),
        }
    }

    fn response(self) -> Response<AnswerBody> {
        let (status, words) = self.answer();
        let mut response = Response::new(text(words));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        if self == Self::Limit(Limit::Concurrency) {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// Answers a request.
///
/// # Errors
/// None: every request is answered.
pub(crate) async fn answer(
    worker: &'static Worker,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Infallible> {
    let service = worker.service;
    let begin = Instant::now();
    let version = request.version();
    let mut response = match handle(worker, request).await {
        Ok(response) => response,
        Err(refusal) => {
            if let Refusal::Limit(limit) = refusal {
                service.metrics.limited(limit);
            }
            refusal.response()
        }
    };
    // HTTP/2 says it by another message: see `connection`.
    if version < Version::HTTP_2 && (service.phase() > Phase::Serving || worker.is_retired()) {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    let status = response.status().as_u16();
    service.metrics.answered(status, begin.elapsed());
    Ok(response)
}

async fn handle(
    worker: &'static Worker,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Refusal> {
    let service = worker.service;
    check(&request, service)?;
    let place = service.gate.enter().await;
    let place = place.ok_or(Refusal::Limit(Limit::Concurrency))?;
    let verdict = Verdict::default();
    let options = &service.options;
    let request = request.map(|body| {
        RequestBody::new(
            body,
            options.body_limit,
            options.client_time,
            verdict.clone(),
        )
    });
    let result = match worker.shared() {
        None => by_instance(worker, request, verdict.clone(), place).await,
        Some(instances) => by_shared(worker, instances, request, verdict.clone(), place).await,
    };
    // Whatever the component has made of it.
    if verdict.is_too_large() {
        return Err(Refusal::Limit(Limit::Body));
    }
    if verdict.is_too_slow() {
        return Err(Refusal::Limit(Limit::Client));
    }
    result
}

/// What is refused before the component hears of it.
fn check(request: &Request<Incoming>, service: &Service) -> Result<(), Refusal> {
    if request.method() == Method::CONNECT {
        return Err(Refusal::Connect);
    }
    let headers = request.headers();
    // An offer of HTTP/2 may be passed over; who wants another protocol cannot go on without it.
    if let Some(upgrade) = headers.get(UPGRADE)
        && !upgrade.as_bytes().eq_ignore_ascii_case(b"h2c")
    {
        return Err(Refusal::Upgrade);
    }
    if request.uri().authority().is_none()
        && headers.get(HOST).is_none_or(|host| host.to_str().is_err())
    {
        return Err(Refusal::NoHost);
    }
    let length = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok());
    let length = length.and_then(|length| length.parse().ok());
    let length: u64 = length.unwrap_or_else(|| request.body().size_hint().lower());
    if service
        .options
        .body_limit
        .is_some_and(|limit| length > limit)
    {
        return Err(Refusal::Limit(Limit::Body));
    }
    Ok(())
}

/// WASI 0.3: an instance that may have others to answer.
async fn by_shared(
    worker: &'static Worker,
    instances: &SharedInstances,
    request: Request<RequestBody>,
    verdict: Verdict,
    place: SemaphorePermit<'static>,
) -> Result<Response<AnswerBody>, Refusal> {
    let service = worker.service;
    let limit = service.options.request_time.unwrap_or(Duration::MAX);
    let begin = Instant::now();
    let request = request.map(BodyExt::boxed_unsync);
    let response = match timeout(limit, instances.handle(request)).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) if error.is::<ExpirationError>() => {
            return Err(Refusal::Limit(Limit::Time));
        }
        // An instance that computes is ended by whoever looks at the clock first.
        Ok(Err(_)) if begin.elapsed() >= limit => return Err(Refusal::Limit(Limit::Time)),
        Ok(Err(_)) => return Err(Refusal::Failed),
        Err(_) => return Err(Refusal::Limit(Limit::Time)),
    };
    // A place is taken until the answer is over.
    let over = Over::Left {
        _place: place,
        _task: service.at_work.begin(),
    };
    let response = response.map(|body| GuestBody::new(body, verdict, over));
    // A long one goes while the processor still has it in its caches.
    if response.body().size_hint().lower() <= SHORT {
        worker.company.wait().await;
    }
    Ok(response.map(Either::Right))
}

/// WASI 0.2: an instance for each request, or one that has answered before.
async fn by_instance(
    worker: &'static Worker,
    request: Request<RequestBody>,
    verdict: Verdict,
    place: SemaphorePermit<'static>,
) -> Result<Response<AnswerBody>, Refusal> {
    let service = worker.service;
    let mut instance = match worker.instances.take().await {
        Ok(instance) => instance,
        Err(error) => {
            service.mourn("could not be instantiated", &error);
            return Err(Refusal::Failed);
        }
    };
    let about = About {
        method: request.method().clone(),
        uri: request.uri().clone(),
        number: service.number(),
    };
    if let Some(number) = about.number {
        let log = &mut instance.store.data_mut().log;
        log.begin(format!("[request {number}] "));
    }
    let (sender, receiver) = oneshot::channel();
    let mut http = instance.store.data_mut().http();
    let incoming = http.new_incoming_request(Scheme::Http, request);
    let outparam = http.new_response_outparam(sender);
    let (Ok(incoming), Ok(outparam)) = (incoming, outparam) else {
        return Err(Refusal::Failed);
    };
    let (sender, gone) = oneshot::channel();
    let over = Over::Told { _sender: sender };
    let limit = service.options.request_time;
    let asks_for_a_body = about.method != Method::HEAD;
    let told = verdict.clone();
    let mut call = Call::new(worker, async move {
        let _task = service.at_work.begin();
        let _clock = service.clock.run();
        instance.store.set_epoch_deadline(1);
        let call = instance.handler.wasi_http_incoming_handler().call_handle(
            &mut instance.store,
            incoming,
            outparam,
        );
        let result = tokio::select! {
            biased;
            result = call => Some(result),
            () = afterwards(gone, limit) => None,
        };
        drop(place);
        if !matches!(result, Some(Ok(()))) {
            told.fail();
        }
        let end = judged(service, instance, result, &about);
        match end {
            Ok(instance) => {
                worker.instances.give_back(instance);
                worker.prepare();
                Ok(())
            }
            Err(refusal) => {
                worker.prepare();
                Err(refusal)
            }
        }
    });
    // Gone when the component has thrown it away.
    let mut receiver = Some(receiver);
    let answered = poll_fn(|context| {
        let ending = call.poll(context);
        // It may have answered before it had to wait, and also before it ended: then it is looked for whatever the event
        // loop thinks of how long this task has been at work.
        let answer = match (&mut receiver, ending.is_ready()) {
            (None, _) => None,
            (Some(receiver), true) => receiver.try_recv().ok(),
            (Some(waiting), false) => match Pin::new(waiting).poll(context) {
                Poll::Ready(Ok(answer)) => Some(answer),
                Poll::Ready(Err(_)) => {
                    receiver = None;
                    None
                }
                Poll::Pending => None,
            },
        };
        if let Some(answer) = answer {
            let answer = answer.map_err(|code| of_code(&code));
            return Poll::Ready(answer.map(|response| (response, ending)));
        }
        ending.map(|ending| Err(ending.err().unwrap_or(Refusal::Failed)))
    });
    match timeout(limit.unwrap_or(Duration::MAX), answered).await {
        Ok(Ok((response, ending))) => {
            let (head, body) = response.into_parts();
            let body = GuestBody::of(body, verdict, call, ending, over).await?;
            // Nothing has gone out yet: what is promised and not there is said as it is.
            let promised = head.headers.get(CONTENT_LENGTH);
            let promised = promised.is_some_and(|length| length != "0") && asks_for_a_body;
            if body.is_empty() && promised && head.status != StatusCode::NOT_MODIFIED {
                return Err(Refusal::Failed);
            }
            worker.company.wait().await;
            Ok(Response::from_parts(head, Either::Right(body)))
        }
        Ok(Err(refusal)) => Err(refusal),
        Err(_) => {
            call.abort();
            Err(Refusal::Limit(Limit::Time))
        }
    }
}

/// A request, for messages about it. Nothing is formatted as long as there is none.
struct About {
    method: Method,
    uri: Uri,
    /// Where the log says of each line which request it belongs to.
    number: Option<u64>,
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.uri)?;
        match self.number {
            Some(number) => write!(f, " (request {number})"),
            None => Ok(()),
        }
    }
}

/// Ends when the component has had its time after its answer was over.
async fn afterwards(gone: oneshot::Receiver<()>, limit: Option<Duration>) {
    // Nobody sends: it resolves when the other end is dropped.
    drop(gone.await);
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

/// What became of a call. `None`: its time was over.
fn judged(
    service: &Service,
    mut instance: Instance,
    result: Option<wasmtime::Result<()>>,
    about: &About,
) -> Result<Instance, Refusal> {
    instance.store.data_mut().log.end();
    let refused = instance.store.data_mut().memory.take_refused();
    match result {
        Some(Ok(())) => Ok(instance),
        Some(Err(error)) => {
            count(&service.metrics.traps);
            if let Some(refused) = refused {
                service.log.say(&format!(
                    "skiff: {} could not answer {about}: {refused}",
                    service.name
                ));
            }
            service.mourn(&format!("trapped at {about}"), &error);
            Err(match refused {
                Some(_) => Refusal::Limit(Limit::Memory),
                None => Refusal::Failed,
            })
        }
        None => {
            service.log.say(&format!(
                "skiff: {} was ended: it was still at work long after its answer to {about} (handler option Http.RequestTime)",
                service.name
            ));
            service.metrics.limited(Limit::Time);
            Err(Refusal::Limit(Limit::Time))
        }
    }
}

/// What a component gives as an answer where it has none.
fn of_code(code: &ErrorCode) -> Refusal {
    match code {
        ErrorCode::HttpRequestBodySize(_) => Refusal::Limit(Limit::Body),
        ErrorCode::DnsTimeout
        | ErrorCode::DnsError(_)
        | ErrorCode::DestinationNotFound
        | ErrorCode::DestinationUnavailable
        | ErrorCode::DestinationIpProhibited
        | ErrorCode::DestinationIpUnroutable
        | ErrorCode::ConnectionRefused
        | ErrorCode::ConnectionTerminated
        | ErrorCode::ConnectionTimeout
        | ErrorCode::ConnectionReadTimeout
        | ErrorCode::ConnectionWriteTimeout
        | ErrorCode::ConnectionLimitReached
        | ErrorCode::TlsProtocolError
        | ErrorCode::TlsCertificateError
        | ErrorCode::TlsAlertReceived(_) => Refusal::Gateway,
        _ => Refusal::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_has_a_status_of_its_own() {
        let limits = [
            (Limit::Header, 431),
            (Limit::Body, 413),
            (Limit::Concurrency, 503),
            (Limit::Time, 504),
            (Limit::Client, 408),
            (Limit::Memory, 500),
        ];
        for (limit, status) in limits {
            let response = Refusal::Limit(limit).response();
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(
                response.headers().contains_key(RETRY_AFTER),
                limit == Limit::Concurrency
            );
        }
    }
}
