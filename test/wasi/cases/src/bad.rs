//! Every function with a descriptor that nobody has, with a file where a directory has to be, and with places in no memory.

use crate::api::*;
use crate::sys::{self, Memory, NOWHERE, vectors};
use crate::{Case, Ends, Place};

/// Each is one call, refused with one of these errors.
macro_rules! refusals {
    ($($name:ident: $call:expr => $($error:ident)|+;)*) => {
        pub const CASES: &[Case] = &[$(Case {
            name: stringify!($name),
            ends: Ends::Well,
            run: |place| {
                let call: fn(&Place) -> u32 = $call;
                refused(answer(call(place)), &[$($error),+])
            },
        }),*];
    };
}

/// Each is one call that is refused for a place, or ends in a trap.
macro_rules! faults {
    ($($name:ident: $call:expr;)*) => {
        pub const FAULTS: &[Case] = &[$(Case {
            name: stringify!($name),
            ends: Ends::WellOrTrapped,
            run: |place| {
                let call: fn(&Place) -> u32 = $call;
                refused(answer(call(place)), &[FAULT])
            },
        }),*];
    };
}

/// A path that is there in all cases' folders: the folder itself.
fn dot() -> Memory {
    Memory::of(b".")
}

/// A file, open.
fn a_file(place: &Place) -> u32 {
    create(place.folder, "file").unwrap_or(NO_FD)
}

refusals! {
    fd_advise_of_no_descriptor: |_| sys::fd_advise(NO_FD, 0, 0, 0) => BADF;
    fd_allocate_of_no_descriptor: |_| sys::fd_allocate(NO_FD, 0, 1) => BADF;
    fd_close_of_no_descriptor: |_| sys::fd_close(NO_FD) => BADF;
    fd_datasync_of_no_descriptor: |_| sys::fd_datasync(NO_FD) => BADF;
    fd_fdstat_get_of_no_descriptor: |_| sys::fd_fdstat_get(NO_FD, Memory::new(24).at()) => BADF;
    fd_fdstat_set_flags_of_no_descriptor: |_| sys::fd_fdstat_set_flags(NO_FD, 0) => BADF;
    fd_fdstat_set_rights_of_no_descriptor: |_| sys::fd_fdstat_set_rights(NO_FD, 0, 0) => BADF;
    fd_filestat_get_of_no_descriptor: |_| sys::fd_filestat_get(NO_FD, Memory::new(64).at()) => BADF;
    fd_filestat_set_size_of_no_descriptor: |_| sys::fd_filestat_set_size(NO_FD, 0) => BADF;
    fd_filestat_set_times_of_no_descriptor: |_| sys::fd_filestat_set_times(NO_FD, 0, 0, CHANGE) => BADF;
    fd_pread_of_no_descriptor: |_| call_list(|list, done| sys::fd_pread(NO_FD, list, 1, 0, done)) => BADF;
    fd_prestat_get_of_no_descriptor: |_| sys::fd_prestat_get(NO_FD, Memory::new(8).at()) => BADF;
    fd_prestat_dir_name_of_no_descriptor: |_| sys::fd_prestat_dir_name(NO_FD, Memory::new(8).at(), 8) => BADF;
    fd_pwrite_of_no_descriptor: |_| call_list(|list, done| sys::fd_pwrite(NO_FD, list, 1, 0, done)) => BADF;
    fd_read_of_no_descriptor: |_| call_list(|list, done| sys::fd_read(NO_FD, list, 1, done)) => BADF;
    fd_readdir_of_no_descriptor: |_| sys::fd_readdir(NO_FD, Memory::new(64).at(), 64, 0, Memory::new(4).at()) => BADF;
    fd_renumber_of_no_descriptor: |place| sys::fd_renumber(NO_FD, a_file(place)) => BADF;
    fd_seek_of_no_descriptor: |_| sys::fd_seek(NO_FD, 0, SET, Memory::new(8).at()) => BADF;
    fd_sync_of_no_descriptor: |_| sys::fd_sync(NO_FD) => BADF;
    fd_tell_of_no_descriptor: |_| sys::fd_tell(NO_FD, Memory::new(8).at()) => BADF;
    fd_write_of_no_descriptor: |_| call_list(|list, done| sys::fd_write(NO_FD, list, 1, done)) => BADF;
    path_create_directory_in_no_descriptor: |_| sys::path_create_directory(NO_FD, dot().at(), 1) => BADF;
    path_filestat_get_in_no_descriptor: |_| sys::path_filestat_get(NO_FD, 0, dot().at(), 1, Memory::new(64).at()) => BADF;
    path_filestat_set_times_in_no_descriptor: |_| sys::path_filestat_set_times(NO_FD, 0, dot().at(), 1, 0, 0, CHANGE) => BADF;
    path_link_from_no_descriptor: |place| sys::path_link(NO_FD, 0, dot().at(), 1, place.folder, dot().at(), 1) => BADF;
    path_link_to_no_descriptor: |place| sys::path_link(place.folder, 0, dot().at(), 1, NO_FD, dot().at(), 1) => BADF;
    path_open_in_no_descriptor: |_| sys::path_open(NO_FD, 0, dot().at(), 1, 0, READ_ONLY, 0, 0, Memory::new(4).at()) => BADF;
    path_readlink_in_no_descriptor: |_| sys::path_readlink(NO_FD, dot().at(), 1, Memory::new(8).at(), 8, Memory::new(4).at()) => BADF;
    path_remove_directory_in_no_descriptor: |_| sys::path_remove_directory(NO_FD, dot().at(), 1) => BADF;
    path_rename_from_no_descriptor: |place| sys::path_rename(NO_FD, dot().at(), 1, place.folder, dot().at(), 1) => BADF;
    path_rename_to_no_descriptor: |place| sys::path_rename(place.folder, dot().at(), 1, NO_FD, dot().at(), 1) => BADF;
    path_symlink_in_no_descriptor: |_| sys::path_symlink(dot().at(), 1, NO_FD, dot().at(), 1) => BADF;
    path_unlink_file_in_no_descriptor: |_| sys::path_unlink_file(NO_FD, dot().at(), 1) => BADF;
    sock_accept_of_no_descriptor: |_| sys::sock_accept(NO_FD, 0, Memory::new(4).at()) => BADF;
    sock_recv_of_no_descriptor: |_| call_list(|list, done| sys::sock_recv(NO_FD, list, 1, 0, done, Memory::new(4).at())) => BADF;
    sock_send_of_no_descriptor: |_| call_list(|list, done| sys::sock_send(NO_FD, list, 1, 0, done)) => BADF;
    sock_shutdown_of_no_descriptor: |_| sys::sock_shutdown(NO_FD, 3) => BADF;

    path_create_directory_in_a_file: |place| sys::path_create_directory(a_file(place), dot().at(), 1) => NOTDIR | BADF | NOTCAPABLE;
    path_filestat_get_in_a_file: |place| sys::path_filestat_get(a_file(place), 0, dot().at(), 1, Memory::new(64).at()) => NOTDIR | BADF | NOTCAPABLE;
    path_filestat_set_times_in_a_file: |place| sys::path_filestat_set_times(a_file(place), 0, dot().at(), 1, 0, 0, CHANGE) => NOTDIR | BADF | NOTCAPABLE;
    path_link_from_a_file: |place| sys::path_link(a_file(place), 0, dot().at(), 1, place.folder, dot().at(), 1) => NOTDIR | BADF | NOTCAPABLE;
    path_open_in_a_file: |place| sys::path_open(a_file(place), 0, dot().at(), 1, 0, READ_ONLY, 0, 0, Memory::new(4).at()) => NOTDIR | NOTCAPABLE;
    path_readlink_in_a_file: |place| sys::path_readlink(a_file(place), dot().at(), 1, Memory::new(8).at(), 8, Memory::new(4).at()) => NOTDIR | BADF | NOTCAPABLE;
    path_remove_directory_in_a_file: |place| sys::path_remove_directory(a_file(place), dot().at(), 1) => NOTDIR | BADF | NOTCAPABLE;
    path_rename_from_a_file: |place| sys::path_rename(a_file(place), dot().at(), 1, place.folder, dot().at(), 1) => NOTDIR | BADF | NOTCAPABLE;
    path_symlink_in_a_file: |place| sys::path_symlink(dot().at(), 1, a_file(place), dot().at(), 1) => NOTDIR | BADF | NOTCAPABLE;
    path_unlink_file_in_a_file: |place| sys::path_unlink_file(a_file(place), dot().at(), 1) => NOTDIR | BADF | NOTCAPABLE;
}

/// A call with one buffer, of which nothing is known but that it is there.
fn call_list(call: impl FnOnce(usize, usize) -> u32) -> u32 {
    let (mut buffer, mut done) = (Memory::new(8), Memory::new(8));
    let mut list = vectors(&mut [&mut buffer]);
    call(list.at(), done.at())
}

/// A call with a list of one buffer, which is nowhere.
fn call_nowhere(call: impl FnOnce(usize, usize) -> u32) -> u32 {
    let (mut list, mut done) = (Memory::new(8), Memory::new(8));
    list.put(0, &(NOWHERE as u32).to_le_bytes());
    list.put(4, &8u32.to_le_bytes());
    call(list.at(), done.at())
}

faults! {
    args_get_to_nowhere: |_| sys::args_get(NOWHERE, NOWHERE);
    args_sizes_get_to_nowhere: |_| sys::args_sizes_get(NOWHERE, NOWHERE);
    environ_get_to_nowhere: |_| sys::environ_get(NOWHERE, NOWHERE);
    environ_sizes_get_to_nowhere: |_| sys::environ_sizes_get(NOWHERE, NOWHERE);
    clock_res_get_to_nowhere: |_| sys::clock_res_get(0, NOWHERE);
    clock_time_get_to_nowhere: |_| sys::clock_time_get(0, 0, NOWHERE);
    fd_fdstat_get_to_nowhere: |place| sys::fd_fdstat_get(place.folder, NOWHERE);
    fd_filestat_get_to_nowhere: |place| sys::fd_filestat_get(place.folder, NOWHERE);
    fd_prestat_get_to_nowhere: |_| sys::fd_prestat_get(ROOT, NOWHERE);
    fd_prestat_dir_name_to_nowhere: |_| sys::fd_prestat_dir_name(ROOT, NOWHERE, 8);
    fd_read_by_a_list_that_is_nowhere: |place| sys::fd_read(a_file(place), NOWHERE, 1, Memory::new(4).at());
    fd_write_by_a_list_that_is_nowhere: |place| sys::fd_write(a_file(place), NOWHERE, 1, Memory::new(4).at());
    fd_write_of_a_buffer_that_is_nowhere: |place| call_nowhere(|list, done| sys::fd_write(a_file(place), list, 1, done));
    fd_pwrite_of_a_buffer_that_is_nowhere: |place| call_nowhere(|list, done| sys::fd_pwrite(a_file(place), list, 1, 0, done));
    fd_read_to_a_buffer_that_is_nowhere: |place| {
        let fd = a_file(place);
        pwrite(fd, b"words", 0).ok();
        call_nowhere(|list, done| sys::fd_read(fd, list, 1, done))
    };
    fd_pread_to_a_buffer_that_is_nowhere: |place| {
        let fd = a_file(place);
        pwrite(fd, b"words", 0).ok();
        call_nowhere(|list, done| sys::fd_pread(fd, list, 1, 0, done))
    };
    fd_readdir_to_nowhere: |place| sys::fd_readdir(place.folder, NOWHERE, 64, 0, Memory::new(4).at());
    fd_seek_to_nowhere: |place| sys::fd_seek(a_file(place), 0, SET, NOWHERE);
    fd_tell_to_nowhere: |place| sys::fd_tell(a_file(place), NOWHERE);
    path_create_directory_of_a_path_that_is_nowhere: |place| sys::path_create_directory(place.folder, NOWHERE, 8);
    path_filestat_get_of_a_path_that_is_nowhere: |place| sys::path_filestat_get(place.folder, 0, NOWHERE, 8, Memory::new(64).at());
    path_filestat_set_times_of_a_path_that_is_nowhere: |place| sys::path_filestat_set_times(place.folder, 0, NOWHERE, 8, 0, 0, CHANGE);
    path_link_of_a_path_that_is_nowhere: |place| sys::path_link(place.folder, 0, NOWHERE, 8, place.folder, dot().at(), 1);
    path_open_of_a_path_that_is_nowhere: |place| sys::path_open(place.folder, 0, NOWHERE, 8, 0, READ_ONLY, 0, 0, Memory::new(4).at());
    path_open_to_nowhere: |place| sys::path_open(place.folder, 0, dot().at(), 1, DIRECTORY, FOLDER, 0, 0, NOWHERE);
    path_readlink_of_a_path_that_is_nowhere: |place| sys::path_readlink(place.folder, NOWHERE, 8, Memory::new(8).at(), 8, Memory::new(4).at());
    path_remove_directory_of_a_path_that_is_nowhere: |place| sys::path_remove_directory(place.folder, NOWHERE, 8);
    path_rename_of_a_path_that_is_nowhere: |place| sys::path_rename(place.folder, NOWHERE, 8, place.folder, dot().at(), 1);
    path_symlink_of_a_path_that_is_nowhere: |place| sys::path_symlink(NOWHERE, 8, place.folder, dot().at(), 1);
    path_unlink_file_of_a_path_that_is_nowhere: |place| sys::path_unlink_file(place.folder, NOWHERE, 8);
    poll_oneoff_of_a_list_that_is_nowhere: |_| sys::poll_oneoff(NOWHERE, Memory::new(32).at(), 1, Memory::new(4).at());
    random_get_to_nowhere: |_| sys::random_get(NOWHERE, 64);
}
