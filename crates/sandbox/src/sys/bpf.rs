//! Programs that decide about devices (cgroup v2): their instructions, and the calls that load and attach them.
//!
//! This is eBPF, which the kernel verifies and compiles; seccomp's classic BPF is another instruction set
//! ([`crate::filter`]). Only what [`crate::cgroup`] needs is here: loads, 32-bit arithmetic, jumps forward.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

/// `struct bpf_insn` of `linux/bpf.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// What it does (`BPF_*`).
    pub code: u8,
    /// The register that it changes or compares, and in the upper half the one that it reads.
    pub registers: u8,
    /// How many instructions a jump skips, or where a load reads.
    pub offset: i16,
    /// A constant.
    pub immediate: i32,
}

impl Instruction {
    /// `to = *(u32 *)(from + offset)`
    pub fn load(to: u8, from: u8, offset: i16) -> Self {
        Self::new(0x61, to | from << 4, offset, 0)
    }

    /// `to = from`
    pub fn copy(to: u8, from: u8) -> Self {
        Self::new(0xbc, to | from << 4, 0, 0)
    }

    /// `to = value`
    pub fn set(to: u8, value: i32) -> Self {
        Self::new(0xb4, to, 0, value)
    }

    /// `to &= mask`
    pub fn and(to: u8, mask: i32) -> Self {
        Self::new(0x54, to, 0, mask)
    }

    /// `to >>= bits`
    pub fn shift_right(to: u8, bits: i32) -> Self {
        Self::new(0x74, to, 0, bits)
    }

    /// Skips the next `count` instructions.
    pub fn skip(count: i16) -> Self {
        Self::new(0x05, 0, count, 0)
    }

    /// Skips the next `count` instructions if `register != value`.
    pub fn skip_unless_equal(register: u8, value: i32, count: i16) -> Self {
        Self::new(0x56, register, count, value)
    }

    /// Skips the next `count` instructions if `register & bits != 0`.
    pub fn skip_if_any(register: u8, bits: i32, count: i16) -> Self {
        Self::new(0x46, register, count, bits)
    }

    /// Ends with the answer in register 0.
    pub fn exit() -> Self {
        Self::new(0x95, 0, 0, 0)
    }

    fn new(code: u8, registers: u8, offset: i16, immediate: i32) -> Self {
        Self {
            code,
            registers,
            offset,
            immediate,
        }
    }
}

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const CGROUP_DEVICE: u32 = 6;
/// Programs of cgroups above and below are asked too, and those that systemd has attached beside it.
const F_ALLOW_MULTI: u32 = 2;

/// The beginning of `union bpf_attr`, for `BPF_PROG_LOAD`; the kernel takes what is not there as zero.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
}

/// The same, for `BPF_PROG_ATTACH`.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// Loads a program that decides about devices. It lives as long as something refers to it.
///
/// # Errors
/// `EPERM` without `CAP_BPF` (or `CAP_SYS_ADMIN`), `EINVAL` or `EACCES` for a program that the verifier refuses.
pub fn load_device_program(program: &[Instruction]) -> io::Result<OwnedFd> {
    let count =
        u32::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let address = |pointer: *const libc::c_void| pointer.addr() as u64;
    let attributes = Load {
        kind: PROG_TYPE_CGROUP_DEVICE,
        count,
        instructions: address(program.as_ptr().cast()),
        // Programs that call certain helpers of the kernel have to be under the GPL; these call none.
        license: address(c"Apache-2.0".as_ptr().cast()),
        log_level: 0,
        log_size: 0,
        log: 0,
    };
    // The verifier gives way to signals now and then.
    for _ in 0..32 {
        // SAFETY: the attributes are the first 40 bytes of `union bpf_attr`, and their size is given; the program and
        // the licence that they point to outlive the call, which only reads them.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                PROG_LOAD,
                &raw const attributes,
                size_of::<Load>(),
            )
        };
        match i32::try_from(result) {
            Ok(fd) if fd >= 0 => {
                // SAFETY: the kernel has made this descriptor for us just now, with `O_CLOEXEC`.
                return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
            }
            _ => {
                let error = io::Error::last_os_error();
                if error.raw_os_error() != Some(libc::EAGAIN) {
                    return Err(error);
                }
            }
        }
    }
    Err(io::Error::from_raw_os_error(libc::EAGAIN))
}

/// Attaches a program to a cgroup. It stays for as long as the cgroup does.
///
/// # Errors
/// `EPERM` without the right to do so, or below a cgroup whose program allows no others; `EINVAL` if the directory is
/// none of a cgroup of v2.
pub fn attach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let number = |fd: BorrowedFd<'_>| fd.as_raw_fd().cast_unsigned();
    let attributes = Attach {
        target: number(cgroup),
        program: number(program),
        kind: CGROUP_DEVICE,
        flags: F_ALLOW_MULTI,
    };
    // SAFETY: the attributes are the first 16 bytes of `union bpf_attr`, and their size is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            PROG_ATTACH,
            &raw const attributes,
            size_of::<Attach>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
