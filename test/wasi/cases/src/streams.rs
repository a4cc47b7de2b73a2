//! The three streams that every guest has, and sockets, of which none has one.

use crate::Place;
use crate::api::*;
use crate::sys::{self, Memory, vectors};

crate::cases!(
    fd_write_to_standard_output,
    fd_write_to_standard_error,
    fd_write_of_nothing,
    fd_write_gathers_buffers,
    fd_write_to_standard_input,
    fd_seek_of_a_stream,
    fd_tell_of_a_stream,
    fd_pwrite_to_a_stream,
    fd_pread_of_a_stream,
    fd_fdstat_get_of_streams,
    fd_filestat_get_of_a_stream,
    fd_prestat_get_of_a_stream,
    fd_readdir_of_a_stream,
    path_open_in_a_stream,
    fd_close_of_standard_error,
    fd_renumber_of_standard_output,
    sock_accept_of_a_file,
    sock_recv_of_a_file,
    sock_send_to_a_file,
    sock_shutdown_of_a_file;
    or trapped:
    sock_shutdown_of_no_side,
);

fn fd_write_to_standard_output(_: &Place) -> Outcome {
    same("bytes", done("fd_write", write(1, b"to the output\n"))?, 14)
}

fn fd_write_to_standard_error(_: &Place) -> Outcome {
    same("bytes", done("fd_write", write(2, b"to the error\n"))?, 13)
}

fn fd_write_of_nothing(_: &Place) -> Outcome {
    let (mut list, mut count) = (Memory::new(8), Memory::new(4));
    done(
        "fd_write",
        answer(sys::fd_write(1, list.at(), 0, count.at())),
    )?;
    same("bytes", count.u32(0), 0)
}

fn fd_write_gathers_buffers(place: &Place) -> Outcome {
    let fd = done("open", create(place.folder, "file"))?;
    let (mut one, mut none, mut other) =
        (Memory::of(b"one, "), Memory::of(b""), Memory::of(b"two"));
    let (mut list, mut count) = (
        vectors(&mut [&mut one, &mut none, &mut other]),
        Memory::new(4),
    );
    done(
        "fd_write",
        answer(sys::fd_write(fd, list.at(), 3, count.at())),
    )?;
    // A part of them is an answer, too.
    let written = count.u32(0) as usize;
    holds("some of it was written", written > 0)?;
    same(
        "contents",
        done("read", contents(place.folder, "file"))?,
        b"one, two"[..written].to_vec(),
    )
}

fn fd_write_to_standard_input(_: &Place) -> Outcome {
    refused(write(0, b"words"), &[BADF, NOTCAPABLE])
}

fn fd_seek_of_a_stream(_: &Place) -> Outcome {
    refused(seek(1, 0, SET), &[SPIPE, NOTCAPABLE])
}

fn fd_tell_of_a_stream(_: &Place) -> Outcome {
    refused(tell(1), &[SPIPE, NOTCAPABLE])
}

fn fd_pwrite_to_a_stream(_: &Place) -> Outcome {
    refused(pwrite(1, b"words", 3), &[SPIPE, NOTCAPABLE])
}

fn fd_pread_of_a_stream(_: &Place) -> Outcome {
    refused(pread(0, 10, 3), &[SPIPE, NOTCAPABLE])
}

fn fd_fdstat_get_of_streams(_: &Place) -> Outcome {
    for fd in 0..3 {
        let (kind, _, rights) = done("fd_fdstat_get", fd_stat(fd))?;
        holds(
            "a stream is no directory, link or file",
            ![KIND_DIRECTORY, KIND_LINK].contains(&kind),
        )?;
        let right = if fd == 0 { RIGHT_READ } else { RIGHT_WRITE };
        holds("it may be used", rights & right != 0)?;
    }
    Ok(())
}

fn fd_filestat_get_of_a_stream(_: &Place) -> Outcome {
    let stat = done("fd_filestat_get", stat(1))?;
    holds("a stream is no directory", stat.kind != KIND_DIRECTORY)
}

fn fd_prestat_get_of_a_stream(_: &Place) -> Outcome {
    let mut memory = Memory::new(8);
    refused(
        answer(sys::fd_prestat_get(1, memory.at())),
        &[BADF, NOTSUP, INVAL],
    )
}

fn fd_readdir_of_a_stream(_: &Place) -> Outcome {
    refused(entries(1, 100, 0), &[BADF, NOTDIR, NOTCAPABLE])
}

fn path_open_in_a_stream(_: &Place) -> Outcome {
    refused(open(1, "file"), &[BADF, NOTDIR, NOTCAPABLE])
}

fn fd_close_of_standard_error(_: &Place) -> Outcome {
    done("fd_close", close(2))?;
    refused(write(2, b"words"), &[BADF])
}

fn fd_renumber_of_standard_output(place: &Place) -> Outcome {
    let fd = done("open", create(place.folder, "file"))?;
    done("fd_renumber", answer(sys::fd_renumber(fd, 1)))?;
    done("fd_write", write(1, b"into the file"))?;
    same(
        "contents",
        done("read", contents(place.folder, "file"))?,
        b"into the file".to_vec(),
    )
}

fn sock_accept_of_a_file(place: &Place) -> Outcome {
    let (fd, mut accepted) = (done("open", create(place.folder, "file"))?, Memory::new(4));
    refused(
        answer(sys::sock_accept(fd, 0, accepted.at())),
        &[NOTSOCK, NOTCAPABLE],
    )
}

fn sock_recv_of_a_file(place: &Place) -> Outcome {
    let fd = done("open", create(place.folder, "file"))?;
    let (mut buffer, mut count, mut flags) = (Memory::new(8), Memory::new(4), Memory::new(4));
    let mut list = vectors(&mut [&mut buffer]);
    refused(
        answer(sys::sock_recv(fd, list.at(), 1, 0, count.at(), flags.at())),
        &[NOTSOCK, NOTCAPABLE],
    )
}

fn sock_send_to_a_file(place: &Place) -> Outcome {
    let fd = done("open", create(place.folder, "file"))?;
    let (mut buffer, mut count) = (Memory::new(8), Memory::new(4));
    let mut list = vectors(&mut [&mut buffer]);
    refused(
        answer(sys::sock_send(fd, list.at(), 1, 0, count.at())),
        &[NOTSOCK, NOTCAPABLE],
    )
}

fn sock_shutdown_of_a_file(place: &Place) -> Outcome {
    let fd = done("open", create(place.folder, "file"))?;
    refused(answer(sys::sock_shutdown(fd, 3)), &[NOTSOCK, NOTCAPABLE])
}

fn sock_shutdown_of_no_side(place: &Place) -> Outcome {
    let fd = done("open", create(place.folder, "file"))?;
    refused(
        answer(sys::sock_shutdown(fd, 99)),
        &[NOTSOCK, INVAL, NOTCAPABLE],
    )
}
