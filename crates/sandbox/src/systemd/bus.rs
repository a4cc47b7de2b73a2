//! A conversation with systemd in the D-Bus protocol: calls, answers, and the one signal that tells of the end of a job.
//!
//! An own client, since what is needed of D-Bus is a dozen types and four calls: the crates for it bring an event loop
//! of their own (zbus) or a C library (dbus) into a process that every pod has. The protocol is that of the D-Bus
//! specification, 0.43: a line of authentication, then messages, each a header and a body.
//!
//! systemd listens on a socket of its own, which only root can use and which needs no bus daemon; where it is not
//! there (in a container that was given the bus alone), the system bus is asked.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::SystemdError;

const PRIVATE: &str = "/run/systemd/private";
const SYSTEM: &str = "/run/dbus/system_bus_socket";

/// How long systemd may take for one thing. It answers in milliseconds; with a thousand units starting, in seconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest message that is read. systemd's answers to these calls have some hundred bytes.
const LARGEST: usize = 1 << 20;

const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// A connection, used for a few calls and then dropped.
#[derive(Debug)]
pub(super) struct Bus {
    socket: UnixStream,
    serial: u32,
    /// The ends of jobs that were told while something else was waited for: object path and result.
    ended: Vec<(String, String)>,
    /// To be told the answer until then.
    deadline: Instant,
}

/// A message that came.
struct Message {
    kind: u8,
    /// Of a signal.
    member: String,
    /// Of an error.
    error: String,
    answers: u32,
    body: Vec<u8>,
}

const CALL: u8 = 1;
const ANSWER: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

impl Bus {
    /// Connects to systemd.
    pub(super) fn connect() -> Result<Self, SystemdError> {
        match Self::open(PRIVATE) {
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::NotFound | ErrorKind::ConnectionRefused
                ) => {}
            result => return result.map_err(SystemdError::Connect),
        }
        let mut bus = Self::open(SYSTEM).map_err(SystemdError::Connect)?;
        let on_bus = |member| Call {
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            destination: "org.freedesktop.DBus",
            member,
        };
        bus.call(&on_bus("Hello"), "", &[])?;
        let mut rule = Body::default();
        rule.string("type='signal',sender='org.freedesktop.systemd1',member='JobRemoved'");
        bus.call(&on_bus("AddMatch"), "s", &rule.0)?;
        bus.manager("Subscribe", "", &[])?;
        Ok(bus)
    }

    fn open(path: &str) -> io::Result<Self> {
        let mut socket = UnixStream::connect(path)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        authenticate(&mut socket, rustix::process::geteuid().as_raw())?;
        Ok(Self::over(socket))
    }

    fn over(socket: UnixStream) -> Self {
        Self {
            socket,
            serial: 0,
            ended: Vec::new(),
            deadline: Instant::now() + PATIENCE,
        }
    }

    /// Calls systemd's manager; answers the body of its answer.
    pub(super) fn manager(
        &mut self,
        member: &'static str,
        signature: &str,
        body: &[u8],
    ) -> Result<Vec<u8>, SystemdError> {
        let call = Call {
            path: "/org/freedesktop/systemd1",
            interface: MANAGER,
            destination: "org.freedesktop.systemd1",
            member,
        };
        self.call(&call, signature, body)
    }

    fn call(
        &mut self,
        call: &Call<'_>,
        signature: &str,
        body: &[u8],
    ) -> Result<Vec<u8>, SystemdError> {
        let failed = |source| SystemdError::Talk {
            call: call.member.to_owned(),
            source,
        };
        self.serial += 1;
        let serial = self.serial;
        let message = call.message(serial, signature, body).map_err(failed)?;
        self.socket.write_all(&message).map_err(failed)?;
        loop {
            let message = self.receive().map_err(failed)?;
            match message.kind {
                ANSWER if message.answers == serial => return Ok(message.body),
                ERROR if message.answers == serial => {
                    return Err(SystemdError::Refused {
                        call: call.member.to_owned(),
                        name: message.error,
                        message: Reader::new(&message.body).string().unwrap_or_default(),
                    });
                }
                _ => self.keep(&message),
            }
        }
    }

    /// Waits for the end of a job: `done`, `failed`, `canceled` …
    pub(super) fn job(&mut self, job: &str) -> Result<String, SystemdError> {
        let failed = |source| SystemdError::Talk {
            call: "JobRemoved".to_owned(),
            source,
        };
        loop {
            if let Some(place) = self.ended.iter().position(|(path, _)| path == job) {
                return Ok(self.ended.swap_remove(place).1);
            }
            let message = self.receive().map_err(failed)?;
            self.keep(&message);
        }
    }

    fn keep(&mut self, message: &Message) {
        if message.kind == SIGNAL && message.member == "JobRemoved" {
            // uoss: number, path, unit, result.
            let mut body = Reader::new(&message.body);
            let (_, path, _, result) = (body.number(), body.string(), body.string(), body.string());
            if let (Some(path), Some(result)) = (path, result) {
                self.ended.push((path, result));
            }
        }
    }

    fn receive(&mut self) -> io::Result<Message> {
        let mut fixed = [0; 16];
        self.fill(&mut fixed)?;
        let bad = |what: &str| io::Error::new(ErrorKind::InvalidData, what.to_owned());
        let mut reader = Reader::new(&fixed);
        reader.at = 4;
        let (Some(body), Some(_serial), Some(fields)) =
            (reader.size(), reader.number(), reader.size())
        else {
            return Err(bad("a header that is too short"));
        };
        if fixed[0] != b'l' || fixed[3] != 1 {
            return Err(bad("a message of another protocol or byte order"));
        }
        if body > LARGEST || fields > LARGEST {
            return Err(bad("a message that is too long"));
        }
        let mut rest = vec![0; fields.next_multiple_of(8) + body];
        self.fill(&mut rest)?;
        let body = rest.split_off(fields.next_multiple_of(8));
        let mut message = Message {
            kind: fixed[1],
            member: String::new(),
            error: String::new(),
            answers: 0,
            body,
        };
        // The fields begin at byte 16, which is a multiple of all alignments: they can be read from 0 on.
        let mut reader = Reader::new(&rest[..fields]);
        while reader.at < fields {
            reader.align(8);
            let Some(code) = reader.byte() else { break };
            let signature = reader
                .signature()
                .ok_or_else(|| bad("a header field without type"))?;
            match (code, signature.as_str()) {
                (3, "s") => message.member = reader.string().unwrap_or_default(),
                (4, "s") => message.error = reader.string().unwrap_or_default(),
                (5, "u") => message.answers = reader.number().unwrap_or_default(),
                (_, "s" | "o") => drop(reader.string()),
                (_, "g") => drop(reader.signature()),
                (_, "u") => drop(reader.number()),
                _ => return Err(bad("a header field of another type")),
            }
        }
        Ok(message)
    }

    /// `read_exact`, until the deadline.
    fn fill(&mut self, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.socket.set_read_timeout(Some(left))?;
            match self.socket.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => buffer = &mut buffer[count..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Err(ErrorKind::TimedOut.into());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The kernel tells the other side who this is; the user's number is said all the same.
fn authenticate(socket: &mut UnixStream, user: u32) -> io::Result<()> {
    let number: String = user
        .to_string()
        .bytes()
        .map(|digit| format!("{digit:02x}"))
        .collect();
    // All at once, as systemd's own tools do, and nothing more until it answers: of what comes together with BEGIN,
    // systemd reads the call that follows only when something else comes after it.
    socket.write_all(format!("\0AUTH EXTERNAL {number}\r\nBEGIN\r\n").as_bytes())?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte)?;
        answer.extend(byte);
        if answer.len() > 1024 {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                "an answer without end",
            ));
        }
    }
    if !answer.starts_with(b"OK ") {
        let answer = String::from_utf8_lossy(&answer).trim().to_owned();
        return Err(io::Error::new(ErrorKind::PermissionDenied, answer));
    }
    Ok(())
}

/// What is called.
struct Call<'a> {
    path: &'a str,
    interface: &'a str,
    destination: &'a str,
    member: &'a str,
}

impl Call<'_> {
    fn message(&self, serial: u32, signature: &str, body: &[u8]) -> io::Result<Vec<u8>> {
        let length =
            u32::try_from(body.len()).map_err(|_| io::Error::from(ErrorKind::InvalidInput))?;
        let mut fields = Body::default();
        let mut field = |code: u8, kind: &str, text: &str| {
            fields.align(8);
            fields.0.push(code);
            fields.signature(kind);
            if kind == "g" {
                fields.signature(text);
            } else {
                fields.string(text);
            }
        };
        field(1, "o", self.path);
        field(2, "s", self.interface);
        field(3, "s", self.member);
        field(6, "s", self.destination);
        if !signature.is_empty() {
            field(8, "g", signature);
        }
        let mut message = Body(vec![b'l', CALL, 0, 1]);
        message.number(length);
        message.number(serial);
        message.number(
            u32::try_from(fields.0.len()).map_err(|_| io::Error::from(ErrorKind::InvalidInput))?,
        );
        message.0.extend(fields.0);
        message.align(8);
        message.0.extend_from_slice(body);
        Ok(message.0)
    }
}

/// The arguments of a call, being written. Each value is aligned to its size, counted from the beginning.
#[derive(Debug, Default)]
pub(super) struct Body(pub(super) Vec<u8>);

impl Body {
    pub(super) fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    pub(super) fn number(&mut self, number: u32) {
        self.align(4);
        self.0.extend(number.to_le_bytes());
    }

    pub(super) fn long(&mut self, number: u64) {
        self.align(8);
        self.0.extend(number.to_le_bytes());
    }

    pub(super) fn string(&mut self, text: &str) {
        self.number(u32::try_from(text.len()).unwrap_or(u32::MAX));
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    pub(super) fn signature(&mut self, text: &str) {
        self.0.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    /// An array of what `write` writes, whose elements are aligned to `to`.
    pub(super) fn array(&mut self, to: usize, write: impl FnOnce(&mut Self)) {
        self.number(0);
        let place = self.0.len() - 4;
        self.align(to);
        let begin = self.0.len();
        write(self);
        let length = u32::try_from(self.0.len() - begin).unwrap_or(u32::MAX);
        self.0[place..place + 4].copy_from_slice(&length.to_le_bytes());
    }
}

/// What a message holds, being read.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn number(&mut self) -> Option<u32> {
        self.align(4);
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn size(&mut self) -> Option<usize> {
        self.number()?.try_into().ok()
    }

    /// A text or an object path.
    pub(super) fn string(&mut self) -> Option<String> {
        let length = self.size()?;
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.take(1)?;
        Some(text)
    }

    fn signature(&mut self) -> Option<String> {
        let length = usize::from(self.byte()?);
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.take(1)?;
        Some(text)
    }
}

#[cfg(test)]
mod tests;
