//! Bodies on their way: the request's is counted and may not stand still, the answer's tells when it is over.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use tokio::sync::{SemaphorePermit, oneshot};
use tokio::time::{Sleep, sleep};
use wasmtime_wasi_http::{Error, WasiBody};

use crate::answer::Refusal;
use crate::call::Call;
use crate::tasks::Task;

/// What a request is answered with.
pub(crate) type AnswerBody = Either<Full<Bytes>, GuestBody>;

/// What became of a request, told to whoever answers it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict(Arc<AtomicU8>);

const TOO_LARGE: u8 = 1;
const TOO_SLOW: u8 = 2;
const FAILED: u8 = 4;

impl Verdict {
    /// It has more bytes than are allowed.
    pub(crate) fn is_too_large(&self) -> bool {
        self.has(TOO_LARGE)
    }

    /// Its client has stopped sending it.
    pub(crate) fn is_too_slow(&self) -> bool {
        self.has(TOO_SLOW)
    }

    /// The component has failed: said before its end of the answer's body is dropped.
    pub(crate) fn fail(&self) {
        self.add(FAILED);
    }

    fn has(&self, what: u8) -> bool {
        self.0.load(Ordering::Relaxed) & what != 0
    }

    fn add(&self, what: u8) {
        self.0.fetch_or(what, Ordering::Relaxed);
    }
}

/// The body of a request.
#[derive(Debug)]
pub(crate) struct RequestBody {
    body: Incoming,
    limit: Option<u64>,
    left: u64,
    patience: Duration,
    /// Runs while the client is waited for.
    waiting: Option<Pin<Box<Sleep>>>,
    verdict: Verdict,
}

impl RequestBody {
    pub(crate) fn new(
        body: Incoming,
        limit: Option<u64>,
        patience: Duration,
        verdict: Verdict,
    ) -> Self {
        Self {
            body,
            limit,
            left: limit.unwrap_or(u64::MAX),
            patience,
            waiting: None,
            verdict,
        }
    }

    fn counted(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, Error> {
        let length = frame.data_ref().map_or(0, Bytes::len);
        match self
            .left
            .checked_sub(u64::try_from(length).unwrap_or(u64::MAX))
        {
            Some(left) => {
                self.left = left;
                Ok(frame)
            }
            None => {
                self.verdict.add(TOO_LARGE);
                Err(Error::HttpRequestBodySize(self.limit))
            }
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(frame) => {
                self.waiting = None;
                Poll::Ready(match frame {
                    Some(Ok(frame)) => Some(self.counted(frame)),
                    Some(Err(error)) => Some(Err(error.into())),
                    None => None,
                })
            }
            Poll::Pending => {
                let patience = self.patience;
                let waiting = self
                    .waiting
                    .get_or_insert_with(|| Box::pin(sleep(patience)));
                if waiting.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                self.verdict.add(TOO_SLOW);
                Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What comes next of a body; `None` is its end.
type Piece = Option<Result<Frame<Bytes>, Error>>;

/// The body of a component's answer.
pub(crate) struct GuestBody {
    body: WasiBody,
    /// What was taken of it before anybody asked, and how large it was before that.
    begin: Option<(Piece, SizeHint)>,
    /// Whether what writes it has failed: then its end is none.
    verdict: Verdict,
    /// Dropped with the body: at its end, or when its client has gone.
    _over: Over,
}

/// What ends with a body.
pub(crate) enum Over {
    /// The time that a call has for itself begins.
    Told { _sender: oneshot::Sender<()> },
    /// A request has been handled.
    Left {
        _place: SemaphorePermit<'static>,
        _task: Task,
    },
}

impl GuestBody {
    pub(crate) fn new(body: WasiBody, verdict: Verdict, over: Over) -> Self {
        Self {
            body,
            begin: None,
            verdict,
            _over: over,
        }
    }

    /// One that `call` writes. Its begin is taken here, so that a call with a short answer is over, and its instance
    /// free, before the answer goes out. A call that is not over goes on by itself; `ending` is what is known of it.
    ///
    /// # Errors
    /// It has failed before there was anything of the body.
    pub(crate) async fn of(
        body: WasiBody,
        verdict: Verdict,
        mut call: Call,
        ending: Poll<Result<(), Refusal>>,
        over: Over,
    ) -> Result<Self, Refusal> {
        let mut own = Self::new(body, verdict, over);
        let hint = own.body.size_hint();
        let (begin, now) = poll_fn(|context| {
            let begin = own.poll_piece(context);
            // Also when there is a piece: now there is room for another, and a call that has waited for that may be over.
            let now = call.poll(context);
            let begin = match begin {
                Poll::Pending => own.poll_piece(context),
                begin => begin,
            };
            Poll::Ready((begin, now))
        })
        .await;
        if let Poll::Ready(piece) = begin {
            if let Some(Err(_)) = piece {
                let ending = if ending.is_ready() { ending } else { now };
                return Err(match ending {
                    Poll::Ready(Err(refusal)) => refusal,
                    Poll::Ready(Ok(())) | Poll::Pending => Refusal::Failed,
                });
            }
            own.begin = Some((piece, hint));
        }
        Ok(own)
    }

    /// Whether it is known to have nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self.begin, Some((None, _)))
    }

    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Piece> {
        match Pin::new(&mut self.body).poll_frame(context) {
            // The client would take what there is for the whole.
            Poll::Ready(None) if self.verdict.has(FAILED) => {
                let words = "the component has failed in the middle of its answer";
                Poll::Ready(Some(Err(Error::InternalError(Some(words.to_owned())))))
            }
            piece => piece,
        }
    }
}

impl Body for GuestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.begin.take() {
            Some((piece, _)) => Poll::Ready(piece),
            None => self.poll_piece(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.begin {
            Some((piece, _)) => piece.is_none(),
            None => self.body.is_end_stream() && !self.verdict.has(FAILED),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.begin {
            Some((_, hint)) => *hint,
            None => self.body.size_hint(),
        }
    }
}

/// An answer of the host's own.
pub(crate) fn text(words: &'static str) -> AnswerBody {
    Either::Left(Full::new(Bytes::from_static(words.as_bytes())))
}
