//! WASI's functions with arguments as Rust has them, for the parts of a case that are not what it is about.

use crate::sys::{self, Memory, vectors};

/// An error of WASI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub u32);

macro_rules! errors {
    ($($name:ident = $number:literal),* $(,)?) => {
        $(pub const $name: Errno = Errno($number);)*

        impl std::fmt::Display for Errno {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self.0 {
                    $($number => f.write_str(stringify!($name)),)*
                    other => write!(f, "error {other}"),
                }
            }
        }
    };
}

errors! {
    SUCCESS = 0, ACCES = 2, BADF = 8, BUSY = 10, EXIST = 20, FAULT = 21, FBIG = 22, ILSEQ = 25, INVAL = 28, IO = 29, ISDIR = 31,
    LOOP = 32, NAMETOOLONG = 37, NOENT = 44, NOSPC = 51, NOSYS = 52, NOTDIR = 54, NOTEMPTY = 55, NOTSOCK = 57,
    NOTSUP = 58, NXIO = 60, OVERFLOW = 61, PERM = 63, RANGE = 68, ROFS = 69, SPIPE = 70, XDEV = 75, NOTCAPABLE = 76,
}

pub type Answer<T> = Result<T, Errno>;

/// What a case says of itself when it fails.
pub type Outcome = Result<(), String>;

pub const FOLLOW: u32 = 1;

pub const CREATE: u32 = 1;
pub const DIRECTORY: u32 = 2;
pub const EXCLUSIVE: u32 = 4;
pub const TRUNCATE: u32 = 8;

pub const APPEND: u32 = 1;
pub const DSYNC: u32 = 2;
pub const NONBLOCK: u32 = 4;
pub const SYNC: u32 = 16;

pub const ACCESS: u32 = 1;
pub const ACCESS_NOW: u32 = 2;
pub const CHANGE: u32 = 4;
pub const CHANGE_NOW: u32 = 8;

pub const SET: u32 = 0;
pub const CURRENT: u32 = 1;
pub const END: u32 = 2;

pub const KIND_DIRECTORY: u8 = 3;
pub const KIND_FILE: u8 = 4;
pub const KIND_SOCKET: u8 = 6;
pub const KIND_LINK: u8 = 7;

pub const RIGHT_READ: u64 = 1 << 1;
pub const RIGHT_WRITE: u64 = 1 << 6;
pub const RIGHT_SEEK: u64 = 1 << 2;
/// All that can be done with a file.
pub const FILE: u64 = 0x1ff | 1 << 21 | 1 << 22 | 1 << 23 | 1 << 27;
/// The same without writing.
pub const READ_ONLY: u64 = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 7 | 1 << 21 | 1 << 27;
/// All that can be done with a directory.
pub const FOLDER: u64 = 1 << 1 | 1 << 4 | 0x1f_fe00 | 1 << 21 | 0x0700_0000 | 1 << 23;
const ALL: u64 = (1 << 30) - 1;

/// The first descriptor of all guests that is not a stream: the directory "/".
pub const ROOT: u32 = 3;
/// A descriptor that nobody has.
pub const NO_FD: u32 = 4242;

pub fn answer(code: u32) -> Answer<()> {
    if code == 0 { Ok(()) } else { Err(Errno(code)) }
}

/// Opens with these rights, or with those of them that an engine lets its directories hand down.
pub fn open_at(
    fd: u32,
    lookup: u32,
    path: &[u8],
    flags: u32,
    rights: u64,
    fd_flags: u32,
) -> Answer<u32> {
    // The path ends nowhere: there is no 0 after it.
    let (mut path, mut opened) = (Memory::of(path), Memory::new(4));
    let inheriting = if flags & DIRECTORY == 0 { 0 } else { ALL };
    let mut call = |mask: u64| {
        answer(sys::path_open(
            fd,
            lookup,
            path.at(),
            path.len(),
            flags,
            rights & mask,
            inheriting & mask,
            fd_flags,
            opened.at(),
        ))
    };
    if let Err(error) = call(u64::MAX) {
        let mut stat = Memory::new(24);
        if error != NOTCAPABLE || sys::fd_fdstat_get(fd, stat.at()) != 0 {
            return Err(error);
        }
        call(stat.u64(16))?;
    }
    Ok(opened.u32(0))
}

/// To read.
pub fn open(fd: u32, path: &str) -> Answer<u32> {
    open_at(fd, FOLLOW, path.as_bytes(), 0, READ_ONLY, 0)
}

pub fn open_folder(fd: u32, path: &str) -> Answer<u32> {
    open_at(fd, FOLLOW, path.as_bytes(), DIRECTORY, FOLDER, 0)
}

/// To read and write, made if it is not there.
pub fn create(fd: u32, path: &str) -> Answer<u32> {
    open_at(fd, FOLLOW, path.as_bytes(), CREATE, FILE, 0)
}

/// A file with these bytes, closed again.
pub fn file(fd: u32, path: &str, bytes: &[u8]) -> Answer<()> {
    let made = create(fd, path)?;
    write(made, bytes)?;
    close(made)
}

pub fn close(fd: u32) -> Answer<()> {
    answer(sys::fd_close(fd))
}

pub fn write(fd: u32, bytes: &[u8]) -> Answer<u32> {
    let (mut buffer, mut done) = (Memory::of(bytes), Memory::new(4));
    let mut list = vectors(&mut [&mut buffer]);
    answer(sys::fd_write(fd, list.at(), 1, done.at()))?;
    Ok(done.u32(0))
}

pub fn pwrite(fd: u32, bytes: &[u8], offset: u64) -> Answer<u32> {
    let (mut buffer, mut done) = (Memory::of(bytes), Memory::new(4));
    let mut list = vectors(&mut [&mut buffer]);
    answer(sys::fd_pwrite(fd, list.at(), 1, offset, done.at()))?;
    Ok(done.u32(0))
}

pub fn read(fd: u32, length: usize) -> Answer<Vec<u8>> {
    let (mut buffer, mut done) = (Memory::new(length), Memory::new(4));
    let mut list = vectors(&mut [&mut buffer]);
    answer(sys::fd_read(fd, list.at(), 1, done.at()))?;
    Ok(buffer.bytes()[..done.u32(0) as usize].to_vec())
}

pub fn pread(fd: u32, length: usize, offset: u64) -> Answer<Vec<u8>> {
    let (mut buffer, mut done) = (Memory::new(length), Memory::new(4));
    let mut list = vectors(&mut [&mut buffer]);
    answer(sys::fd_pread(fd, list.at(), 1, offset, done.at()))?;
    Ok(buffer.bytes()[..done.u32(0) as usize].to_vec())
}

/// All that is in a file.
pub fn contents(fd: u32, path: &str) -> Answer<Vec<u8>> {
    let opened = open(fd, path)?;
    let mut all = Vec::new();
    loop {
        let part = read(opened, 4096)?;
        if part.is_empty() {
            break;
        }
        all.extend(part);
    }
    close(opened)?;
    Ok(all)
}

pub fn seek(fd: u32, offset: i64, whence: u32) -> Answer<u64> {
    let mut position = Memory::new(8);
    answer(sys::fd_seek(fd, offset, whence, position.at()))?;
    Ok(position.u64(0))
}

pub fn tell(fd: u32) -> Answer<u64> {
    let mut position = Memory::new(8);
    answer(sys::fd_tell(fd, position.at()))?;
    Ok(position.u64(0))
}

/// What a file is, as far as the cases ask.
#[derive(Debug, PartialEq, Eq)]
pub struct Stat {
    pub device: u64,
    pub number: u64,
    pub kind: u8,
    pub links: u64,
    pub size: u64,
    pub access: u64,
    pub change: u64,
}

impl Stat {
    fn of(memory: &Memory) -> Self {
        Self {
            device: memory.u64(0),
            number: memory.u64(8),
            kind: memory.u8(16),
            links: memory.u64(24),
            size: memory.u64(32),
            access: memory.u64(40),
            change: memory.u64(48),
        }
    }
}

pub fn stat(fd: u32) -> Answer<Stat> {
    let mut memory = Memory::new(64);
    answer(sys::fd_filestat_get(fd, memory.at()))?;
    Ok(Stat::of(&memory))
}

pub fn stat_at(fd: u32, lookup: u32, path: &str) -> Answer<Stat> {
    let (mut path, mut memory) = (Memory::of(path.as_bytes()), Memory::new(64));
    answer(sys::path_filestat_get(
        fd,
        lookup,
        path.at(),
        path.len(),
        memory.at(),
    ))?;
    Ok(Stat::of(&memory))
}

/// Of a descriptor: what it is, its flags, and its rights.
pub fn fd_stat(fd: u32) -> Answer<(u8, u16, u64)> {
    let mut memory = Memory::new(24);
    answer(sys::fd_fdstat_get(fd, memory.at()))?;
    Ok((memory.u8(0), memory.u16(2), memory.u64(8)))
}

pub fn set_times_at(
    fd: u32,
    lookup: u32,
    path: &str,
    access: u64,
    change: u64,
    flags: u32,
) -> Answer<()> {
    let mut path = Memory::of(path.as_bytes());
    answer(sys::path_filestat_set_times(
        fd,
        lookup,
        path.at(),
        path.len(),
        access,
        change,
        flags,
    ))
}

pub fn make_folder(fd: u32, path: &str) -> Answer<()> {
    let mut path = Memory::of(path.as_bytes());
    answer(sys::path_create_directory(fd, path.at(), path.len()))
}

pub fn remove_folder(fd: u32, path: &str) -> Answer<()> {
    let mut path = Memory::of(path.as_bytes());
    answer(sys::path_remove_directory(fd, path.at(), path.len()))
}

pub fn unlink(fd: u32, path: &str) -> Answer<()> {
    let mut path = Memory::of(path.as_bytes());
    answer(sys::path_unlink_file(fd, path.at(), path.len()))
}

pub fn link(from: u32, lookup: u32, path: &str, to: u32, new: &str) -> Answer<()> {
    let (mut path, mut new) = (Memory::of(path.as_bytes()), Memory::of(new.as_bytes()));
    answer(sys::path_link(
        from,
        lookup,
        path.at(),
        path.len(),
        to,
        new.at(),
        new.len(),
    ))
}

pub fn rename(from: u32, path: &str, to: u32, new: &str) -> Answer<()> {
    let (mut path, mut new) = (Memory::of(path.as_bytes()), Memory::of(new.as_bytes()));
    answer(sys::path_rename(
        from,
        path.at(),
        path.len(),
        to,
        new.at(),
        new.len(),
    ))
}

pub fn symlink(target: &str, fd: u32, path: &str) -> Answer<()> {
    let (mut target, mut path) = (Memory::of(target.as_bytes()), Memory::of(path.as_bytes()));
    answer(sys::path_symlink(
        target.at(),
        target.len(),
        fd,
        path.at(),
        path.len(),
    ))
}

pub fn read_link(fd: u32, path: &str, length: usize) -> Answer<Vec<u8>> {
    let (mut path, mut buffer, mut used) = (
        Memory::of(path.as_bytes()),
        Memory::new(length),
        Memory::new(4),
    );
    answer(sys::path_readlink(
        fd,
        path.at(),
        path.len(),
        buffer.at(),
        buffer.len(),
        used.at(),
    ))?;
    Ok(buffer.bytes()[..used.u32(0) as usize].to_vec())
}

/// An entry of a directory.
#[derive(Debug)]
pub struct Entry {
    pub next: u64,
    pub kind: u8,
    pub name: String,
}

/// The whole entries of one answer, and how many bytes it had.
pub fn entries(fd: u32, length: usize, cookie: u64) -> Answer<(Vec<Entry>, usize)> {
    let (mut buffer, mut used) = (Memory::new(length), Memory::new(4));
    answer(sys::fd_readdir(fd, buffer.at(), length, cookie, used.at()))?;
    let (used, mut at, mut found) = (used.u32(0) as usize, 0, Vec::new());
    while at + 24 <= used {
        let name = at + 24..at + 24 + buffer.u32(at + 16) as usize;
        let end = name.end;
        if end > used {
            break;
        }
        let name = String::from_utf8_lossy(&buffer.bytes()[name]).into_owned();
        found.push(Entry {
            next: buffer.u64(at),
            kind: buffer.u8(at + 20),
            name,
        });
        at = end;
    }
    Ok((found, used))
}

pub fn clock(id: u32) -> Answer<u64> {
    let mut time = Memory::new(8);
    answer(sys::clock_time_get(id, 1, time.at()))?;
    Ok(time.u64(0))
}

/// That something was refused, with one of these errors.
pub fn refused<T: std::fmt::Debug>(answer: Answer<T>, errors: &[Errno]) -> Outcome {
    match answer {
        Err(error) if errors.contains(&error) => Ok(()),
        other => {
            let wanted: Vec<String> = errors.iter().map(Errno::to_string).collect();
            let seen = match other {
                Ok(value) => format!("{value:?}"),
                Err(error) => error.to_string(),
            };
            Err(format!(
                "the answer is {seen}, which had to be {}",
                wanted.join(" or ")
            ))
        }
    }
}

/// That something was done.
pub fn done<T>(what: &str, answer: Answer<T>) -> Result<T, String> {
    answer.map_err(|error| format!("{what}: {error}"))
}

/// That two are the same.
pub fn same<T: PartialEq + std::fmt::Debug>(what: &str, seen: T, wanted: T) -> Outcome {
    if seen == wanted {
        Ok(())
    } else {
        Err(format!("{what}: {seen:?}, which had to be {wanted:?}"))
    }
}

/// That it is so.
pub fn holds(what: &str, so: bool) -> Outcome {
    if so {
        Ok(())
    } else {
        Err(format!("it is not so that {what}"))
    }
}
