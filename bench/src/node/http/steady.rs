//! Requests at a fixed rate, whatever becomes of the answers: a server that falls behind is not spared the requests that
//! were due meanwhile, and their time counts from when they were due.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::event::epoll;
use rustix::thread::{CpuSet, sched_setaffinity};

use super::{LOADING, number};

/// How long the last answers may take.
const PATIENCE: Duration = Duration::from_secs(5);

struct Connection {
    stream: TcpStream,
    /// What has come of an answer so far.
    answer: Vec<u8>,
    /// When the request that it is about was due.
    due: Option<Instant>,
}

/// Asks so many times a second over so many connections; answers the times in milliseconds, in order of size.
pub(super) fn run(
    server: SocketAddr,
    rate: f64,
    connections: usize,
    time: Duration,
) -> Result<Vec<f64>> {
    // On a thread that can be bound to a processor, and that is in the same network as this one.
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut processors = CpuSet::new();
            processors.set(LOADING.parse()?);
            sched_setaffinity(None, &processors)?;
            load(server, rate, connections, time)
        });
        load.join().unwrap_or_else(|_| bail!("the load panicked"))
    })
}

fn load(server: SocketAddr, rate: f64, count: usize, time: Duration) -> Result<Vec<f64>> {
    let events = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut connections = Vec::with_capacity(count);
    for index in 0..count {
        let stream = TcpStream::connect(server).context("could not connect")?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let data = epoll::EventData::new_u64(u64::try_from(index)?);
        epoll::add(&events, &stream, data, epoll::EventFlags::IN)?;
        connections.push(Connection {
            stream,
            answer: Vec::with_capacity(4096),
            due: None,
        });
    }
    let request = format!("GET / HTTP/1.1\r\nhost: {server}\r\n\r\n");
    let every = Duration::from_secs_f64(1.0 / rate);
    let mut idle: Vec<usize> = (0..count).collect();
    let mut waiting: VecDeque<Instant> = VecDeque::new();
    let mut times = Vec::new();
    let mut ready = Vec::with_capacity(count);
    let begin = Instant::now();
    let (mut next, end) = (begin, begin + time);
    loop {
        let now = Instant::now();
        while next <= now && next < end {
            waiting.push_back(next);
            next += every;
        }
        while let (Some(due), Some(index)) = (waiting.front().copied(), idle.last().copied()) {
            waiting.pop_front();
            idle.pop();
            connections[index].due = Some(due);
            // A line fits into the buffer of a connection without a request.
            (&connections[index].stream).write_all(request.as_bytes())?;
        }
        if now >= end && waiting.is_empty() && idle.len() == count {
            break;
        }
        ensure!(
            now < end + PATIENCE,
            "{} requests have no answer",
            waiting.len() + count - idle.len()
        );
        ready.clear();
        // It never sleeps: its processor is its own, and a timer would be late.
        let none = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        epoll::wait(
            &events,
            rustix::buffer::spare_capacity(&mut ready),
            Some(&none),
        )?;
        for event in &ready {
            let index = usize::try_from(event.data.u64())?;
            if let Some(due) = connections[index].answered()? {
                times.push(due.elapsed().as_secs_f64() * 1e3);
                idle.push(index);
            }
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

impl Connection {
    /// Reads what is there; when the answer is whole, tells when its request was due.
    fn answered(&mut self) -> Result<Option<Instant>> {
        let mut bytes = [0; 4096];
        match self.stream.read(&mut bytes) {
            Ok(0) => bail!("the server has closed a connection"),
            Ok(length) => self.answer.extend_from_slice(&bytes[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let Some(length) = whole(&self.answer)? else {
            return Ok(None);
        };
        ensure!(length == self.answer.len(), "more was answered than asked");
        self.answer.clear();
        Ok(self.due.take())
    }
}

/// The length of an answer, if all of it is there.
fn whole(answer: &[u8]) -> Result<Option<usize>> {
    let Some(head) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&answer[..head])?;
    ensure!(text.starts_with("HTTP/1.1 200"), "answered with {text}");
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    let length = head + 4 + length.context("an answer without a length")?;
    Ok((answer.len() >= length).then_some(length))
}

/// The figure below which this share of the sorted times lies; not a number if there are none.
pub(super) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = (number(sorted.len()) * share).ceil();
    let mut index = 0;
    while number(index + 1) < place {
        index += 1;
    }
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(whole(answer).unwrap(), Some(answer.len()));
        assert_eq!(whole(&answer[..answer.len() - 1]).unwrap(), None);
        assert_eq!(whole(b"HTTP/1.1 200 OK\r\nContent-").unwrap(), None);
        whole(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n").unwrap_err();
    }

    #[test]
    fn quantiles_are_samples() {
        let samples: Vec<f64> = (1..=1000).map(f64::from).collect();
        assert!((quantile(&samples, 0.99) - 990.0).abs() < 1e-9);
        assert!((quantile(&samples, 0.999) - 999.0).abs() < 1e-9);
        assert!(quantile(&[], 0.5).is_nan());
    }
}
