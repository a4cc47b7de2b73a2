//! A tool's standard streams and environment. In the shell they are redirected, so tools never touch the process's own.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Cursor, IsTerminal, Read, Write};
use std::rc::Rc;

const BUFFER: usize = 64 * 1024;

/// What a tool reads. Clones read on where the others stopped.
#[derive(Clone)]
pub(crate) struct Input {
    source: Rc<RefCell<dyn BufRead>>,
    /// Somebody sits in front of it.
    pub(crate) terminal: bool,
}

impl Input {
    fn new(source: impl BufRead + 'static, terminal: bool) -> Self {
        Self {
            source: Rc::new(RefCell::new(source)),
            terminal,
        }
    }

    /// Bytes that are there already.
    pub(crate) fn bytes(bytes: Vec<u8>) -> Self {
        Self::new(Cursor::new(bytes), false)
    }

    /// A file's.
    pub(crate) fn file(file: File) -> Self {
        Self::new(BufReader::with_capacity(BUFFER, file), false)
    }

    /// The next line with its end, as bytes; empty at the end of the input.
    pub(crate) fn line(&self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        self.source.borrow_mut().read_until(b'\n', &mut line)?;
        Ok(line)
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.source.borrow_mut().read(buffer)
    }
}

/// What a tool writes to. Clones write to the same place.
#[derive(Clone)]
pub(crate) struct Output {
    sink: Rc<RefCell<dyn Write>>,
    /// Somebody sits in front of it.
    pub(crate) terminal: bool,
}

impl Output {
    /// Writes into `sink`.
    pub(crate) fn new(sink: impl Write + 'static, terminal: bool) -> Self {
        Self {
            sink: Rc::new(RefCell::new(sink)),
            terminal,
        }
    }

    /// Into a file.
    pub(crate) fn file(file: File) -> Self {
        Self::new(BufWriter::with_capacity(BUFFER, file), false)
    }

    /// Everything is written out.
    pub(crate) fn finish(&self) -> io::Result<()> {
        self.sink.borrow_mut().flush()
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sink.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.borrow_mut().flush()
    }
}

/// All that a tool is given besides its arguments.
#[derive(Clone)]
pub(crate) struct Io {
    pub(crate) input: Input,
    pub(crate) output: Output,
    pub(crate) error: Output,
    /// Names and values, in no order.
    pub(crate) environment: Vec<(String, String)>,
    /// The output is the next tool's input: it gets it when this tool has ended.
    pub(crate) piped: bool,
}

impl Io {
    /// The process's own.
    pub(crate) fn of_process() -> Self {
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        let terminal = stdout.is_terminal();
        let on_terminal = stdin.is_terminal();
        Self {
            input: Input::new(BufReader::with_capacity(BUFFER, stdin), on_terminal),
            output: if terminal {
                Output::new(stdout, true)
            } else {
                Output::new(BufWriter::with_capacity(BUFFER, stdout), false)
            },
            error: Output::new(stderr, false),
            environment: std::env::vars_os()
                .map(|(name, value)| {
                    (
                        name.to_string_lossy().into_owned(),
                        value.to_string_lossy().into_owned(),
                    )
                })
                .collect(),
            piped: false,
        }
    }

    /// One line on standard error, after what was written before.
    pub(crate) fn complain(&mut self, sentence: &str) {
        // Where nobody reads, nobody needs to be told.
        drop(self.output.finish());
        drop(writeln!(self.error, "{sentence}").and_then(|()| self.error.flush()));
    }

    /// The value of an environment variable.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.environment
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// An operand of a tool: a file, or `-` for standard input.
    pub(crate) fn open(&self, path: &str) -> io::Result<Input> {
        match path {
            "-" | "/dev/stdin" => return Ok(self.input.clone()),
            // A guest has no devices; this one is what scripts take it for.
            "/dev/null" => return Ok(Input::bytes(Vec::new())),
            _ => {}
        }
        let file = File::open(path)?;
        if file.metadata()?.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Ok(Input::file(file))
    }
}
