//! The 46 functions of WASI 0.1 as the engine sees them: numbers, and places in memory. And what a case gives them as memory.
#![allow(
    clippy::too_many_arguments,
    reason = "that is what WASI's functions have"
)]

/// Bytes that an engine may write to.
pub struct Memory(Vec<u8>);

/// A place that no memory of 32 bits and ordinary size has.
pub const NOWHERE: usize = 0xffff_fff0;

impl Memory {
    /// So many bytes, none of which is 0: what was not written is seen.
    pub fn new(length: usize) -> Self {
        Self(vec![0xa5; length])
    }

    pub fn of(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// Where it is. The address is given away, so that an engine's writes count as everybody's.
    pub fn at(&mut self) -> usize {
        self.0.as_mut_ptr().expose_provenance()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn bytes(&self) -> &[u8] {
        // The engine has written behind the compiler's back.
        std::hint::black_box(&self.0)
    }

    pub fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub fn u8(&self, at: usize) -> u8 {
        self.bytes()[at]
    }

    pub fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.array(at))
    }

    pub fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.array(at))
    }

    pub fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.array(at))
    }

    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        self.bytes()[at..at + N]
            .try_into()
            .expect("the length is N")
    }
}

/// A list of buffers, as `readv` and `writev` have them.
pub fn vectors(buffers: &mut [&mut Memory]) -> Memory {
    let mut list = Memory::new(buffers.len() * 8);
    for (number, buffer) in buffers.iter_mut().enumerate() {
        let (at, length) = (buffer.at() as u32, buffer.len() as u32);
        list.put(number * 8, &at.to_le_bytes());
        list.put(number * 8 + 4, &length.to_le_bytes());
    }
    list
}

// SAFETY: an engine reads and writes where it is told. Cases name memory that is theirs (`Memory`) or that nobody has (`NOWHERE`).
#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    pub safe fn args_get(argv: usize, buffer: usize) -> u32;
    pub safe fn args_sizes_get(count: usize, size: usize) -> u32;
    pub safe fn environ_get(environ: usize, buffer: usize) -> u32;
    pub safe fn environ_sizes_get(count: usize, size: usize) -> u32;
    pub safe fn clock_res_get(id: u32, resolution: usize) -> u32;
    pub safe fn clock_time_get(id: u32, precision: u64, time: usize) -> u32;
    pub safe fn fd_advise(fd: u32, offset: u64, length: u64, advice: u32) -> u32;
    pub safe fn fd_allocate(fd: u32, offset: u64, length: u64) -> u32;
    pub safe fn fd_close(fd: u32) -> u32;
    pub safe fn fd_datasync(fd: u32) -> u32;
    pub safe fn fd_fdstat_get(fd: u32, stat: usize) -> u32;
    pub safe fn fd_fdstat_set_flags(fd: u32, flags: u32) -> u32;
    pub safe fn fd_fdstat_set_rights(fd: u32, base: u64, inheriting: u64) -> u32;
    pub safe fn fd_filestat_get(fd: u32, stat: usize) -> u32;
    pub safe fn fd_filestat_set_size(fd: u32, size: u64) -> u32;
    pub safe fn fd_filestat_set_times(fd: u32, access: u64, change: u64, flags: u32) -> u32;
    pub safe fn fd_pread(fd: u32, list: usize, count: usize, offset: u64, done: usize) -> u32;
    pub safe fn fd_prestat_get(fd: u32, stat: usize) -> u32;
    pub safe fn fd_prestat_dir_name(fd: u32, path: usize, length: usize) -> u32;
    pub safe fn fd_pwrite(fd: u32, list: usize, count: usize, offset: u64, done: usize) -> u32;
    pub safe fn fd_read(fd: u32, list: usize, count: usize, done: usize) -> u32;
    pub safe fn fd_readdir(fd: u32, buffer: usize, length: usize, cookie: u64, used: usize) -> u32;
    pub safe fn fd_renumber(fd: u32, to: u32) -> u32;
    pub safe fn fd_seek(fd: u32, offset: i64, whence: u32, position: usize) -> u32;
    pub safe fn fd_sync(fd: u32) -> u32;
    pub safe fn fd_tell(fd: u32, position: usize) -> u32;
    pub safe fn fd_write(fd: u32, list: usize, count: usize, done: usize) -> u32;
    pub safe fn path_create_directory(fd: u32, path: usize, length: usize) -> u32;
    pub safe fn path_filestat_get(
        fd: u32,
        lookup: u32,
        path: usize,
        length: usize,
        stat: usize,
    ) -> u32;
    pub safe fn path_filestat_set_times(
        fd: u32,
        lookup: u32,
        path: usize,
        length: usize,
        access: u64,
        change: u64,
        flags: u32,
    ) -> u32;
    pub safe fn path_link(
        from: u32,
        lookup: u32,
        path: usize,
        length: usize,
        to: u32,
        new: usize,
        new_length: usize,
    ) -> u32;
    pub safe fn path_open(
        fd: u32,
        lookup: u32,
        path: usize,
        length: usize,
        flags: u32,
        base: u64,
        inheriting: u64,
        fd_flags: u32,
        opened: usize,
    ) -> u32;
    pub safe fn path_readlink(
        fd: u32,
        path: usize,
        length: usize,
        buffer: usize,
        size: usize,
        used: usize,
    ) -> u32;
    pub safe fn path_remove_directory(fd: u32, path: usize, length: usize) -> u32;
    pub safe fn path_rename(
        from: u32,
        path: usize,
        length: usize,
        to: u32,
        new: usize,
        new_length: usize,
    ) -> u32;
    pub safe fn path_symlink(
        target: usize,
        target_length: usize,
        fd: u32,
        path: usize,
        length: usize,
    ) -> u32;
    pub safe fn path_unlink_file(fd: u32, path: usize, length: usize) -> u32;
    pub safe fn poll_oneoff(subscriptions: usize, events: usize, count: usize, done: usize) -> u32;
    pub safe fn proc_exit(code: u32) -> !;
    pub safe fn proc_raise(signal: u32) -> u32;
    pub safe fn sched_yield() -> u32;
    pub safe fn random_get(buffer: usize, length: usize) -> u32;
    pub safe fn sock_accept(fd: u32, flags: u32, accepted: usize) -> u32;
    pub safe fn sock_recv(
        fd: u32,
        list: usize,
        count: usize,
        flags: u32,
        done: usize,
        flags_out: usize,
    ) -> u32;
    pub safe fn sock_send(fd: u32, list: usize, count: usize, flags: u32, done: usize) -> u32;
    pub safe fn sock_shutdown(fd: u32, how: u32) -> u32;
}
