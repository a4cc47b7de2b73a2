//! Loading of compiled seccomp programs.

use std::io;

use crate::plan::SeccompFilter;

/// Bytes of one instruction, `struct sock_filter`.
const INSTRUCTION: usize = 8;
const SET_MODE_FILTER: libc::c_uint = 1;

/// Adds `filter` to the calling thread's filters (with the `TSYNC` flag: to the process's).
///
/// Needs `no_new_privs`, or `CAP_SYS_ADMIN` in force.
///
/// # Errors
/// `EACCES` without either, `EINVAL` for a program that the kernel does not accept.
pub fn load(filter: &SeccompFilter) -> io::Result<()> {
    let instructions: Vec<libc::sock_filter> = filter
        .program
        .chunks_exact(INSTRUCTION)
        .map(|bytes| libc::sock_filter {
            code: u16::from_ne_bytes([bytes[0], bytes[1]]),
            jt: bytes[2],
            jf: bytes[3],
            k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        })
        .collect();
    let length = u16::try_from(instructions.len())
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    if !filter.program.len().is_multiple_of(INSTRUCTION) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let program = libc::sock_fprog {
        len: length,
        filter: instructions.as_ptr().cast_mut(),
    };
    // SAFETY: the program's length and pointer describe `instructions`; the kernel copies both within the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            SET_MODE_FILTER,
            filter.flags,
            &raw const program,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
