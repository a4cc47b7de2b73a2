//! What can be done with an open file.

use crate::Place;
use crate::api::*;
use crate::sys::{self, Memory, vectors};

crate::cases!(
    fd_advise_takes_every_advice,
    fd_allocate_makes_room_or_says_that_it_cannot,
    fd_close_twice,
    fd_datasync_of_a_file,
    fd_sync_of_a_file,
    fd_fdstat_get_of_a_file,
    fd_fdstat_get_tells_what_was_asked_for,
    fd_fdstat_get_without_the_right_to_write,
    fd_fdstat_set_flags_to_append,
    fd_fdstat_set_flags_to_none,
    fd_fdstat_set_rights_never_gives_rights,
    fd_filestat_get_of_a_file,
    fd_filestat_get_sees_another_link,
    fd_filestat_set_size_shorter,
    fd_filestat_set_size_longer,
    fd_filestat_set_size_beyond_all,
    fd_filestat_set_size_of_what_is_read_only,
    fd_filestat_set_times_to_given_ones,
    fd_filestat_set_times_to_now,
    fd_filestat_set_times_of_both_kinds,
    fd_filestat_set_times_leaves_the_other,
    fd_pread_leaves_the_position,
    fd_pread_behind_the_end,
    fd_pread_scatters,
    fd_pwrite_leaves_the_position,
    fd_pwrite_behind_the_end,
    fd_read_to_the_end,
    fd_read_without_the_right_to,
    fd_write_without_the_right_to,
    fd_write_appends,
    fd_write_over_what_is_there,
    fd_renumber_moves,
    fd_renumber_to_itself,
    fd_renumber_to_none,
    fd_seek_from_everywhere,
    fd_seek_before_the_begin,
    fd_seek_behind_the_end,
    fd_tell_follows,
    two_descriptors_have_two_positions,
    a_closed_number_is_used_again;
    or trapped:
    fd_advise_refuses_no_advice,
    fd_fdstat_set_flags_of_no_flag,
    fd_seek_from_nowhere,
);

fn with_words(place: &Place, words: &[u8]) -> Result<u32, String> {
    let fd = done("open", create(place.folder, "file"))?;
    done("write", write(fd, words))?;
    done("seek", seek(fd, 0, SET))?;
    Ok(fd)
}

fn all_of_it(place: &Place) -> Result<String, String> {
    let bytes = done("reading the file", contents(place.folder, "file"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn fd_advise_takes_every_advice(place: &Place) -> Outcome {
    let fd = with_words(place, b"0123456789")?;
    for advice in 0..6 {
        done(
            &format!("advice {advice}"),
            answer(sys::fd_advise(fd, 0, 10, advice)),
        )?;
    }
    Ok(())
}

fn fd_advise_refuses_no_advice(place: &Place) -> Outcome {
    let fd = with_words(place, b"0123456789")?;
    refused(answer(sys::fd_advise(fd, 0, 10, 99)), &[INVAL])
}

fn fd_allocate_makes_room_or_says_that_it_cannot(place: &Place) -> Outcome {
    let fd = with_words(place, b"0123456789")?;
    match answer(sys::fd_allocate(fd, 0, 100)) {
        Ok(()) => same("size", done("stat", stat(fd))?.size, 100),
        other => refused(other, &[NOTSUP]),
    }
}

fn fd_close_twice(place: &Place) -> Outcome {
    let fd = with_words(place, b"")?;
    done("fd_close", close(fd))?;
    refused(close(fd), &[BADF])
}

fn fd_datasync_of_a_file(place: &Place) -> Outcome {
    let fd = with_words(place, b"words")?;
    done("fd_datasync", answer(sys::fd_datasync(fd)))
}

fn fd_sync_of_a_file(place: &Place) -> Outcome {
    let fd = with_words(place, b"words")?;
    done("fd_sync", answer(sys::fd_sync(fd)))
}

fn fd_fdstat_get_of_a_file(place: &Place) -> Outcome {
    let fd = with_words(place, b"words")?;
    let (kind, flags, rights) = done("fd_fdstat_get", fd_stat(fd))?;
    same("kind", kind, KIND_FILE)?;
    same("flags", flags, 0)?;
    let all = RIGHT_READ | RIGHT_WRITE | RIGHT_SEEK;
    same("rights", rights & all, all)
}

fn fd_fdstat_get_tells_what_was_asked_for(place: &Place) -> Outcome {
    let fd = done(
        "open",
        open_at(place.folder, 0, b"file", CREATE, FILE, APPEND | NONBLOCK),
    )?;
    let (_, flags, _) = done("fd_fdstat_get", fd_stat(fd))?;
    same("flags", u32::from(flags), APPEND | NONBLOCK)?;
    // An engine need not write at once, but must not say that it does.
    let fd = match open_at(place.folder, 0, b"file", 0, FILE, DSYNC | SYNC) {
        Ok(fd) => fd,
        other => return refused(other, &[NOTSUP]),
    };
    let (_, flags, _) = done("fd_fdstat_get", fd_stat(fd))?;
    holds(
        "it is written at once",
        u32::from(flags) & (DSYNC | SYNC) != 0,
    )
}

fn fd_fdstat_get_without_the_right_to_write(place: &Place) -> Outcome {
    with_words(place, b"words")?;
    let fd = done("open", open(place.folder, "file"))?;
    let (_, _, rights) = done("fd_fdstat_get", fd_stat(fd))?;
    same("rights", rights & (RIGHT_READ | RIGHT_WRITE), RIGHT_READ)
}

fn fd_fdstat_set_flags_to_append(place: &Place) -> Outcome {
    let fd = with_words(place, b"first")?;
    done(
        "fd_fdstat_set_flags",
        answer(sys::fd_fdstat_set_flags(fd, APPEND)),
    )?;
    done("write", write(fd, b", last"))?;
    same(
        "flags",
        u32::from(done("fd_fdstat_get", fd_stat(fd))?.1),
        APPEND,
    )?;
    same("contents", all_of_it(place)?, "first, last".to_owned())
}

fn fd_fdstat_set_flags_to_none(place: &Place) -> Outcome {
    let fd = done(
        "open",
        open_at(place.folder, 0, b"file", CREATE, FILE, APPEND),
    )?;
    done("write", write(fd, b"first"))?;
    done(
        "fd_fdstat_set_flags",
        answer(sys::fd_fdstat_set_flags(fd, 0)),
    )?;
    done("seek", seek(fd, 0, SET))?;
    done("write", write(fd, b"FIR"))?;
    same("contents", all_of_it(place)?, "FIRst".to_owned())
}

fn fd_fdstat_set_flags_of_no_flag(place: &Place) -> Outcome {
    let fd = with_words(place, b"words")?;
    refused(answer(sys::fd_fdstat_set_flags(fd, 0x4000)), &[INVAL])
}

/// Engines without rights refuse the call; those with rights refuse more of them.
fn fd_fdstat_set_rights_never_gives_rights(place: &Place) -> Outcome {
    with_words(place, b"words")?;
    let fd = done("open", open(place.folder, "file"))?;
    refused(
        answer(sys::fd_fdstat_set_rights(fd, FILE, FILE)),
        &[NOTCAPABLE, NOTSUP],
    )?;
    refused(write(fd, b"more"), &[BADF, NOTCAPABLE, PERM])
}

fn fd_filestat_get_of_a_file(place: &Place) -> Outcome {
    let fd = with_words(place, b"0123456789")?;
    let seen = done("fd_filestat_get", stat(fd))?;
    same("kind", seen.kind, KIND_FILE)?;
    same("size", seen.size, 10)?;
    same("links", seen.links, 1)?;
    holds(
        "it was changed after 2020",
        seen.change > 1_577_836_800_000_000_000,
    )?;
    same(
        "the same by its path",
        done("path_filestat_get", stat_at(place.folder, 0, "file"))?.number,
        seen.number,
    )
}

fn fd_filestat_get_sees_another_link(place: &Place) -> Outcome {
    let fd = with_words(place, b"")?;
    done(
        "path_link",
        link(place.folder, 0, "file", place.folder, "other"),
    )?;
    same("links", done("fd_filestat_get", stat(fd))?.links, 2)
}

fn fd_filestat_set_size_shorter(place: &Place) -> Outcome {
    let fd = with_words(place, b"0123456789")?;
    done(
        "fd_filestat_set_size",
        answer(sys::fd_filestat_set_size(fd, 4)),
    )?;
    same("contents", all_of_it(place)?, "0123".to_owned())
}

fn fd_filestat_set_size_longer(place: &Place) -> Outcome {
    let fd = with_words(place, b"01")?;
    done(
        "fd_filestat_set_size",
        answer(sys::fd_filestat_set_size(fd, 4)),
    )?;
    same("contents", all_of_it(place)?, "01\0\0".to_owned())
}

fn fd_filestat_set_size_beyond_all(place: &Place) -> Outcome {
    let fd = with_words(place, b"01")?;
    refused(
        answer(sys::fd_filestat_set_size(fd, u64::MAX / 2)),
        &[FBIG, INVAL, OVERFLOW],
    )?;
    refused(
        answer(sys::fd_filestat_set_size(fd, u64::MAX)),
        &[FBIG, INVAL, OVERFLOW],
    )
}

fn fd_filestat_set_size_of_what_is_read_only(place: &Place) -> Outcome {
    with_words(place, b"words")?;
    let fd = done("open", open(place.folder, "file"))?;
    refused(
        answer(sys::fd_filestat_set_size(fd, 1)),
        &[BADF, INVAL, NOTCAPABLE, PERM],
    )
}

fn set_times(fd: u32, access: u64, change: u64, flags: u32) -> Answer<()> {
    answer(sys::fd_filestat_set_times(fd, access, change, flags))
}

fn fd_filestat_set_times_to_given_ones(place: &Place) -> Outcome {
    let fd = with_words(place, b"words")?;
    done(
        "fd_filestat_set_times",
        set_times(fd, 1_000_000_123, 2_000_000_456, ACCESS | CHANGE),
    )?;
    let seen = done("stat", stat(fd))?;
    same(
        "times",
        (seen.access, seen.change),
        (1_000_000_123, 2_000_000_456),
    )
}

fn fd_filestat_set_times_to_now(place: &Place) -> Outcome {
    let fd = with_words(place, b"words")?;
    done(
        "fd_filestat_set_times",
        set_times(fd, 1, 1, ACCESS | CHANGE),
    )?;
    done(
        "fd_filestat_set_times",
        set_times(fd, 0, 0, ACCESS_NOW | CHANGE_NOW),
    )?;
    let seen = done("stat", stat(fd))?;
    let recent = 1_577_836_800_000_000_000;
    holds(
        "both times are now",
        seen.access > recent && seen.change > recent,
    )
}

fn fd_filestat_set_times_of_both_kinds(place: &Place) -> Outcome {
    let fd = with_words(place, b"words")?;
    refused(set_times(fd, 1, 1, ACCESS | ACCESS_NOW), &[INVAL])?;
    refused(set_times(fd, 1, 1, CHANGE | CHANGE_NOW), &[INVAL])
}

fn fd_filestat_set_times_leaves_the_other(place: &Place) -> Outcome {
    let fd = with_words(place, b"words")?;
    done(
        "fd_filestat_set_times",
        set_times(fd, 1_000_000_000, 2_000_000_000, ACCESS | CHANGE),
    )?;
    done(
        "fd_filestat_set_times",
        set_times(fd, 0, 3_000_000_000, CHANGE),
    )?;
    let seen = done("stat", stat(fd))?;
    same(
        "times",
        (seen.access, seen.change),
        (1_000_000_000, 3_000_000_000),
    )
}

fn fd_pread_leaves_the_position(place: &Place) -> Outcome {
    let fd = with_words(place, b"0123456789")?;
    same("bytes", done("fd_pread", pread(fd, 3, 4))?, b"456".to_vec())?;
    same("position", done("fd_tell", tell(fd))?, 0)
}

fn fd_pread_behind_the_end(place: &Place) -> Outcome {
    let fd = with_words(place, b"0123456789")?;
    same("bytes", done("fd_pread", pread(fd, 3, 100))?, Vec::new())
}

fn fd_pread_scatters(place: &Place) -> Outcome {
    let fd = with_words(place, b"0123456789")?;
    let (mut one, mut other, mut count) = (Memory::new(3), Memory::new(4), Memory::new(4));
    let mut list = vectors(&mut [&mut one, &mut other]);
    done(
        "fd_pread",
        answer(sys::fd_pread(fd, list.at(), 2, 1, count.at())),
    )?;
    same("first", one.bytes().to_vec(), b"123".to_vec())?;
    // An engine may fill the first only.
    match count.u32(0) {
        3 => Ok(()),
        7 => same("second", other.bytes().to_vec(), b"4567".to_vec()),
        other => Err(format!("{other} bytes were read, which had to be 3 or 7")),
    }
}

fn fd_pwrite_leaves_the_position(place: &Place) -> Outcome {
    let fd = with_words(place, b"0123456789")?;
    same("bytes", done("fd_pwrite", pwrite(fd, b"four", 4))?, 4)?;
    same("position", done("fd_tell", tell(fd))?, 0)?;
    same("contents", all_of_it(place)?, "0123four89".to_owned())
}

fn fd_pwrite_behind_the_end(place: &Place) -> Outcome {
    let fd = with_words(place, b"01")?;
    done("fd_pwrite", pwrite(fd, b"x", 4))?;
    same("contents", all_of_it(place)?, "01\0\0x".to_owned())
}

fn fd_read_to_the_end(place: &Place) -> Outcome {
    let fd = with_words(place, b"0123456789")?;
    same("bytes", done("fd_read", read(fd, 8))?, b"01234567".to_vec())?;
    same("bytes", done("fd_read", read(fd, 8))?, b"89".to_vec())?;
    same("bytes", done("fd_read", read(fd, 8))?, Vec::new())
}

fn fd_read_without_the_right_to(place: &Place) -> Outcome {
    let rights = FILE & !RIGHT_READ;
    let fd = done("open", open_at(place.folder, 0, b"file", CREATE, rights, 0))?;
    refused(read(fd, 8), &[BADF, NOTCAPABLE, PERM])
}

fn fd_write_without_the_right_to(place: &Place) -> Outcome {
    with_words(place, b"words")?;
    let fd = done("open", open(place.folder, "file"))?;
    refused(write(fd, b"more"), &[BADF, NOTCAPABLE, PERM])
}

fn fd_write_appends(place: &Place) -> Outcome {
    with_words(place, b"first")?;
    let fd = done("open", open_at(place.folder, 0, b"file", 0, FILE, APPEND))?;
    done("seek", seek(fd, 0, SET))?;
    done("write", write(fd, b", last"))?;
    same("contents", all_of_it(place)?, "first, last".to_owned())
}

fn fd_write_over_what_is_there(place: &Place) -> Outcome {
    let fd = with_words(place, b"0123456789")?;
    done("seek", seek(fd, 2, SET))?;
    done("write", write(fd, b"two"))?;
    same("position", done("fd_tell", tell(fd))?, 5)?;
    same("contents", all_of_it(place)?, "01two56789".to_owned())
}

fn fd_renumber_moves(place: &Place) -> Outcome {
    let one = with_words(place, b"one")?;
    done("writing another", file(place.folder, "other", b"two"))?;
    let other = done("open", open(place.folder, "other"))?;
    done("fd_renumber", answer(sys::fd_renumber(other, one)))?;
    same("bytes", done("fd_read", read(one, 8))?, b"two".to_vec())?;
    refused(read(other, 8), &[BADF])
}

fn fd_renumber_to_itself(place: &Place) -> Outcome {
    let fd = with_words(place, b"one")?;
    done("fd_renumber", answer(sys::fd_renumber(fd, fd)))?;
    same("bytes", done("fd_read", read(fd, 8))?, b"one".to_vec())
}

fn fd_renumber_to_none(place: &Place) -> Outcome {
    let fd = with_words(place, b"one")?;
    refused(answer(sys::fd_renumber(fd, NO_FD)), &[BADF])?;
    same("bytes", done("fd_read", read(fd, 8))?, b"one".to_vec())
}

fn fd_seek_from_everywhere(place: &Place) -> Outcome {
    let fd = with_words(place, b"0123456789")?;
    same("from the begin", done("fd_seek", seek(fd, 4, SET))?, 4)?;
    same("from there", done("fd_seek", seek(fd, -2, CURRENT))?, 2)?;
    same("from the end", done("fd_seek", seek(fd, -1, END))?, 9)?;
    same("bytes", done("fd_read", read(fd, 8))?, b"9".to_vec())
}

fn fd_seek_before_the_begin(place: &Place) -> Outcome {
    let fd = with_words(place, b"0123456789")?;
    refused(seek(fd, -1, SET), &[INVAL])?;
    refused(seek(fd, -1, CURRENT), &[INVAL])?;
    refused(seek(fd, -11, END), &[INVAL])
}

fn fd_seek_from_nowhere(place: &Place) -> Outcome {
    let fd = with_words(place, b"0123456789")?;
    refused(seek(fd, 0, 99), &[INVAL])
}

fn fd_seek_behind_the_end(place: &Place) -> Outcome {
    let fd = with_words(place, b"01")?;
    same("position", done("fd_seek", seek(fd, 4, SET))?, 4)?;
    same("bytes", done("fd_read", read(fd, 8))?, Vec::new())?;
    done("write", write(fd, b"x"))?;
    same("contents", all_of_it(place)?, "01\0\0x".to_owned())
}

fn fd_tell_follows(place: &Place) -> Outcome {
    let fd = with_words(place, b"0123456789")?;
    done("fd_read", read(fd, 3))?;
    same("position", done("fd_tell", tell(fd))?, 3)?;
    done("write", write(fd, b"xx"))?;
    same("position", done("fd_tell", tell(fd))?, 5)
}

fn two_descriptors_have_two_positions(place: &Place) -> Outcome {
    let one = with_words(place, b"0123456789")?;
    let other = done("open", open(place.folder, "file"))?;
    done("fd_read", read(one, 3))?;
    same("position", done("fd_tell", tell(other))?, 0)
}

fn a_closed_number_is_used_again(place: &Place) -> Outcome {
    for _ in 0..5000 {
        let fd = done("open", create(place.folder, "file"))?;
        done("close", close(fd))?;
    }
    Ok(())
}
