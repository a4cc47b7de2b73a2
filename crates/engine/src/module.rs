//! What a module's bytes are, told from the bytes alone: nothing that an image says of them counts.
//!
//! Native code comes only from our own compiler. Whatever else an image calls a module - an ELF file,
//! an engine's precompiled format, a module with native code in a custom section - is refused here, before
//! any engine sees it. Called by the compile driver and by `skiff inspect`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Largest module, in bytes.
pub const LARGEST: u64 = 256 << 20;

/// Modules inside of components inside of components: how deep the sections are looked through. Compilers
/// refuse less.
const DEEPEST: usize = 32;

/// Sections of a module, those of modules within it included. What linkers make has a few dozen; a walk over
/// hundreds of millions of empty ones would keep a shim busy for seconds.
pub const MOST_SECTIONS: u32 = 100_000;

/// The custom section in which WasmEdge's "universal" format carries a shared library.
const WASMEDGE_SECTION: &[u8] = b"wasmedge";

/// What a compiler can be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A core module.
    Module,
    /// A component.
    Component,
    /// The text format of either; parsing tells.
    Text,
}

/// Why bytes are not given to a compiler. `Display` goes on after the module's name and a colon.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// No bytes.
    #[error("it is empty (0 bytes)")]
    Empty,
    /// More than [`LARGEST`].
    #[error("it is larger than {} MiB, the limit of a module", LARGEST >> 20)]
    TooLarge,
    /// Machine code, a script, or code that an engine has compiled before.
    #[error(
        "it is native code ({what}), and native code is never taken from an image: put the WebAssembly module \
         in its place, it is compiled on the node"
    )]
    Native {
        /// The format.
        what: &'static str,
    },
    /// A known format that is something else.
    #[error("it is {what}, not WebAssembly{advice}")]
    Other {
        /// The format.
        what: &'static str,
        /// What to do, after a colon; or nothing.
        advice: &'static str,
    },
    /// Nothing that is known.
    #[error("it is neither WebAssembly nor its text format; it begins with the bytes {start}")]
    Unknown {
        /// Its first bytes, in hexadecimal.
        start: String,
    },
    /// The magic number, and then not enough.
    #[error("it is cut off within the header of WebAssembly, after {length} bytes")]
    Truncated {
        /// All there is.
        length: u64,
    },
    /// Neither a module nor a component of today.
    #[error(
        "it is of version {version}, layer {layer} of the binary format, which no engine here knows"
    )]
    Version {
        /// The number after the magic.
        version: u16,
        /// 0 for modules, 1 for components.
        layer: u16,
    },
    /// More sections than [`MOST_SECTIONS`].
    #[error("it has more than {MOST_SECTIONS} sections, the limit of a module")]
    Sections,
    /// It cannot be read.
    #[error("it could not be read")]
    Read(#[from] io::Error),
}

/// Bytes that can be read at any place.
pub trait Bytes {
    /// How many there are.
    ///
    /// # Errors
    /// The file cannot be looked at.
    fn length(&self) -> io::Result<u64>;

    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// There are not so many, or they cannot be read.
    fn read_exactly(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl Bytes for [u8] {
    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_exactly(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.get(offset..))
            .unwrap_or_default();
        let from = rest
            .get(..buffer.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(from);
        Ok(())
    }
}

impl Bytes for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_exactly(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }
}

/// Says what bytes are, or why they are refused. Validates nothing but the walk over the sections.
///
/// # Errors
/// See [`Refusal`].
pub fn sniff(bytes: &(impl Bytes + ?Sized)) -> Result<Form, Refusal> {
    let length = bytes.length().map_err(Refusal::Read)?;
    if length == 0 {
        return Err(Refusal::Empty);
    }
    if length > LARGEST {
        return Err(Refusal::TooLarge);
    }
    let mut start = vec![0; usize::try_from(length).map_or(START, |length| length.min(START))];
    bytes.read_exactly(&mut start, 0).map_err(Refusal::Read)?;

    if let Some(refusal) = disguise(&start) {
        return Err(refusal);
    }
    if let Some(rest) = start.strip_prefix(b"\0asm") {
        let form = match *rest {
            [1, 0, 0, 0, ..] => Form::Module,
            [0x0d, 0, 1, 0, ..] => Form::Component,
            [a, b, c, d, ..] => {
                return Err(Refusal::Version {
                    version: u16::from_le_bytes([a, b]),
                    layer: u16::from_le_bytes([c, d]),
                });
            }
            _ => return Err(Refusal::Truncated { length }),
        };
        Window::new(bytes, length).walk(HEADER, length, form, DEEPEST)?;
        return Ok(form);
    }
    if is_text(&start) {
        return Ok(Form::Text);
    }
    if b"\0asm".starts_with(&start) {
        return Err(Refusal::Truncated { length });
    }
    let start: Vec<String> = start
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Err(Refusal::Unknown {
        start: start.join(" "),
    })
}

/// Bytes looked at from the start.
const START: usize = 4096;
/// Magic and version.
const HEADER: u64 = 8;

/// Formats that are known not to be WebAssembly, by their first bytes.
fn disguise(start: &[u8]) -> Option<Refusal> {
    let native = |what| Some(Refusal::Native { what });
    let other = |what, advice| Some(Refusal::Other { what, advice });
    match start {
        // EI_OSABI of wasmtime's own ELF files.
        [0x7f, b'E', b'L', b'F', _, _, _, 200, ..] => {
            native("wasmtime's precompiled format, .cwasm")
        }
        [0x7f, b'E', b'L', b'F', ..] => native("an ELF file"),
        [b'#', b'!', ..] => native("a script"),
        [b'M', b'Z', ..] => native("a Windows program"),
        [0xfe, 0xed, 0xfa, 0xce | 0xcf, ..]
        | [0xce | 0xcf, 0xfa, 0xed, 0xfe, ..]
        | [0xca, 0xfe, 0xba, 0xbe, ..] => native("a Mach-O file or Java class"),
        [b'!', b'<', b'a', b'r', b'c', b'h', b'>', ..] => native("an archive of object files"),
        _ if start.starts_with(b"wasmer-universal") || start.starts_with(b"WASMER") => {
            native("Wasmer's precompiled format")
        }
        _ if start.starts_with(b"\0wasmer") => native("Wasmer's precompiled format"),
        _ if start.starts_with(b"\0aot") => native("WAMR's precompiled format"),
        [b'B', b'C', 0xc0, 0xde, ..] => other("LLVM bitcode", ": link it to a module first"),
        [0x1f, 0x8b, ..] => other("gzip data", ": a module in an image is not compressed"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            other("zstd data", ": a module in an image is not compressed")
        }
        [b'P', b'K', 3, 4, ..] => other("a zip archive", ""),
        [b'{', ..] => other("JSON", ""),
        _ if start.get(257..262) == Some(b"ustar") => {
            other("a tar archive", ": as a layer it needs a tar media type")
        }
        _ => None,
    }
}

/// UTF-8 whose first token is a parenthesis, after white space and comments.
fn is_text(start: &[u8]) -> bool {
    let valid = match std::str::from_utf8(start) {
        Ok(text) => text,
        // A character may be cut at the end of what was read.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&start[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    let mut rest = valid.trim_start_matches('\u{feff}');
    loop {
        rest = rest.trim_start();
        if let Some(comment) = rest.strip_prefix(";;") {
            // A comment that goes on past what was read is the text format's, too.
            let Some((_, after)) = comment.split_once('\n') else {
                return start.len() == START;
            };
            rest = after;
        } else if rest.starts_with("(;") {
            return true;
        } else {
            return rest.starts_with('(');
        }
    }
}

/// Bytes read through a window: a module of nothing but empty sections must not cost a system call for each.
struct Window<'a, B: ?Sized> {
    bytes: &'a B,
    chunk: Vec<u8>,
    offset: u64,
    length: u64,
    sections: u32,
}

/// Bytes in a window.
const WINDOW: u64 = 64 * 1024;

impl<'a, B: Bytes + ?Sized> Window<'a, B> {
    fn new(bytes: &'a B, length: u64) -> Self {
        Self {
            bytes,
            chunk: Vec::new(),
            offset: 0,
            length,
            sections: 0,
        }
    }

    fn byte(&mut self, offset: u64) -> io::Result<u8> {
        let inside = |window: &Self| {
            let index = usize::try_from(offset.checked_sub(window.offset)?).ok()?;
            window.chunk.get(index).copied()
        };
        if let Some(byte) = inside(self) {
            return Ok(byte);
        }
        let count = WINDOW.min(self.length.saturating_sub(offset));
        self.chunk.resize(usize::try_from(count).unwrap_or(0), 0);
        self.offset = offset;
        self.bytes.read_exactly(&mut self.chunk, offset)?;
        inside(self).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// An unsigned LEB128 number of 32 bits, and the offset after it; `None` when it is malformed or goes
    /// past `to`.
    fn number(&mut self, mut offset: u64, to: u64) -> io::Result<Option<(u64, u64)>> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            if offset >= to {
                return Ok(None);
            }
            let byte = self.byte(offset)?;
            offset += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(Some((value, offset)));
            }
        }
        Ok(None)
    }

    /// Refuses a custom section named `wasmedge` in a module or component, at any depth, and more sections than
    /// are worth a walk. What is malformed has no section that an engine would find: the compiler refuses it.
    fn walk(&mut self, from: u64, to: u64, form: Form, depth: usize) -> Result<(), Refusal> {
        let mut offset = from;
        while offset < to {
            self.sections += 1;
            if self.sections > MOST_SECTIONS {
                return Err(Refusal::Sections);
            }
            let id = self.byte(offset)?;
            let Some((size, body)) = self.number(offset + 1, to)? else {
                return Ok(());
            };
            let end = body + size;
            if end > to {
                return Ok(());
            }
            match (id, form) {
                (0, _) if self.is_native_name(body, end)? => {
                    let what = "a module with WasmEdge's compiled code in a custom section";
                    return Err(Refusal::Native { what });
                }
                // A component's sections 1 and 4 hold a whole module and a whole component.
                (1 | 4, Form::Component) if depth > 0 && size > HEADER => {
                    let form = if id == 1 {
                        Form::Module
                    } else {
                        Form::Component
                    };
                    self.walk(body + HEADER, end, form, depth - 1)?;
                }
                _ => {}
            }
            offset = end;
        }
        Ok(())
    }

    fn is_native_name(&mut self, body: u64, end: u64) -> io::Result<bool> {
        let Some((length, name)) = self.number(body, end)? else {
            return Ok(false);
        };
        if length != WASMEDGE_SECTION.len() as u64 || name + length > end {
            return Ok(false);
        }
        for (offset, expected) in (name..).zip(WASMEDGE_SECTION) {
            if self.byte(offset)? != *expected {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
