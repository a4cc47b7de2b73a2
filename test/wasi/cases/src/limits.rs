//! Where a guest's world ends: outside of its directory, files of others, file systems that are full, read-only or other ones.
//!
//! The suite has put into `/data` what these cases meet: `secret`, a file of the node's root with mode 0600; `owned`, one that all may
//! read; `locked`, a folder of root's; `socket`; `out`, a link to `../../etc`; `absolute`, a link to `/data/owned`; and mounts at
//! `readonly` and `small`, a file system of a few pages. Cases run as user 1000.

use crate::Place;
use crate::api::*;
use crate::sys;

crate::cases!(
    leaving_by_dots,
    leaving_by_an_absolute_path,
    leaving_by_a_link,
    leaving_by_a_link_that_is_made_for_it,
    leaving_by_an_absolute_link,
    leaving_when_creating,
    leaving_when_renaming,
    leaving_when_linking,
    leaving_when_removing,
    leaving_when_asking,
    dots_above_the_root,
    an_absolute_link_leads_nowhere,
    a_file_of_another_user,
    a_folder_of_another_user,
    times_of_a_file_of_another_user,
    a_link_to_a_file_of_another_user_is_refused_or_made,
    a_socket_is_no_file,
    a_read_only_file_system,
    renaming_to_another_file_system,
    linking_to_another_file_system,
    a_full_file_system,
    a_mount_is_not_removed,
    many_open_files,
);

const DATA: &str = "data";
/// How engines call a way out of the directory.
const LEAVING: &[Errno] = &[PERM, NOTCAPABLE, ACCES];

fn leaving_by_dots(place: &Place) -> Outcome {
    refused(open(place.folder, "../../owned"), LEAVING)?;
    refused(open_folder(place.folder, ".."), LEAVING)?;
    refused(open(place.folder, "./../x"), LEAVING)
}

fn leaving_by_an_absolute_path(place: &Place) -> Outcome {
    refused(open(place.folder, "/data/owned"), LEAVING)?;
    refused(open(ROOT, "/data/owned"), LEAVING)
}

fn leaving_by_a_link(_: &Place) -> Outcome {
    let data = done("open", open_folder(ROOT, DATA))?;
    refused(open(data, "out/passwd"), LEAVING)?;
    refused(open(data, "out"), LEAVING)
}

fn leaving_by_a_link_that_is_made_for_it(place: &Place) -> Outcome {
    // Some engines make no such link, others do not follow it.
    match symlink("../../owned", place.folder, "link") {
        Ok(()) => refused(open(place.folder, "link"), LEAVING),
        other => refused(other, LEAVING),
    }
}

fn leaving_by_an_absolute_link(place: &Place) -> Outcome {
    match symlink("/data/owned", place.folder, "link") {
        Ok(()) => refused(open(place.folder, "link"), LEAVING),
        other => refused(other, LEAVING),
    }
}

fn leaving_when_creating(place: &Place) -> Outcome {
    refused(create(place.folder, "../made outside"), LEAVING)?;
    refused(make_folder(place.folder, "../made outside"), LEAVING)?;
    refused(symlink("x", place.folder, "../made outside"), LEAVING)
}

fn leaving_when_renaming(place: &Place) -> Outcome {
    done("file", file(place.folder, "file", b""))?;
    refused(
        rename(place.folder, "file", place.folder, "../made outside"),
        LEAVING,
    )?;
    refused(
        rename(place.folder, "../../owned", place.folder, "inside"),
        LEAVING,
    )
}

fn leaving_when_linking(place: &Place) -> Outcome {
    done("file", file(place.folder, "file", b""))?;
    refused(
        link(place.folder, 0, "../../owned", place.folder, "inside"),
        LEAVING,
    )?;
    refused(
        link(place.folder, 0, "file", place.folder, "../made outside"),
        LEAVING,
    )
}

fn leaving_when_removing(place: &Place) -> Outcome {
    refused(unlink(place.folder, "../../owned"), LEAVING)?;
    refused(remove_folder(place.folder, "../../locked"), LEAVING)
}

fn leaving_when_asking(place: &Place) -> Outcome {
    refused(stat_at(place.folder, 0, "../../owned"), LEAVING)?;
    refused(read_link(place.folder, "../../out", 100), LEAVING)?;
    refused(
        set_times_at(place.folder, 0, "../../owned", 1, 1, CHANGE),
        LEAVING,
    )
}

fn dots_above_the_root(_: &Place) -> Outcome {
    refused(open(ROOT, "../data/owned"), LEAVING)?;
    refused(open(ROOT, "data/../../data/owned"), LEAVING)
}

fn an_absolute_link_leads_nowhere(_: &Place) -> Outcome {
    refused(open(ROOT, "data/absolute"), LEAVING)?;
    same(
        "kind",
        done("stat", stat_at(ROOT, 0, "data/absolute"))?.kind,
        KIND_LINK,
    )
}

fn a_file_of_another_user(_: &Place) -> Outcome {
    refused(open(ROOT, "data/secret"), &[ACCES])?;
    same(
        "contents",
        done("read", contents(ROOT, "data/owned"))?,
        b"for all\n".to_vec(),
    )?;
    refused(open_at(ROOT, 0, b"data/owned", 0, FILE, 0), &[ACCES])
}

fn a_folder_of_another_user(_: &Place) -> Outcome {
    refused(create(ROOT, "data/locked/file"), &[ACCES])?;
    refused(open_folder(ROOT, "data/locked"), &[ACCES])?;
    refused(stat_at(ROOT, 0, "data/locked/file"), &[ACCES])
}

fn times_of_a_file_of_another_user(_: &Place) -> Outcome {
    refused(set_times_at(ROOT, 0, "data/owned", 1, 1, CHANGE), &[PERM])
}

/// Whether one may is the node's setting, `fs.protected_hardlinks`.
fn a_link_to_a_file_of_another_user_is_refused_or_made(place: &Place) -> Outcome {
    match link(ROOT, 0, "data/owned", place.folder, "link") {
        Ok(()) => Ok(()),
        other => refused(other, &[PERM]),
    }
}

fn a_socket_is_no_file(_: &Place) -> Outcome {
    let seen = done("stat", stat_at(ROOT, 0, "data/socket"))?.kind;
    // Engines have no common word for it.
    holds(
        "it is neither a file, a directory nor a link",
        ![KIND_FILE, KIND_DIRECTORY, KIND_LINK].contains(&seen),
    )?;
    holds(
        "it is a socket, or unknown",
        [0, KIND_SOCKET, KIND_SOCKET - 1].contains(&seen),
    )?;
    refused(open(ROOT, "data/socket"), &[NXIO, IO, NOTSUP, INVAL])
}

fn a_read_only_file_system(_: &Place) -> Outcome {
    // wasmtime has no word of its own for it.
    let errors = &[ROFS, IO, ACCES, PERM];
    refused(create(ROOT, "data/readonly/file"), errors)?;
    refused(make_folder(ROOT, "data/readonly/folder"), errors)?;
    refused(symlink("x", ROOT, "data/readonly/link"), errors)?;
    same(
        "contents",
        done("read", contents(ROOT, "data/readonly/there"))?,
        b"there\n".to_vec(),
    )
}

fn renaming_to_another_file_system(place: &Place) -> Outcome {
    done("file", file(place.folder, "file", b"words"))?;
    refused(
        rename(place.folder, "file", ROOT, "data/small/file"),
        &[XDEV, IO],
    )?;
    same(
        "contents",
        done("read", contents(place.folder, "file"))?,
        b"words".to_vec(),
    )
}

fn linking_to_another_file_system(place: &Place) -> Outcome {
    done("file", file(place.folder, "file", b"words"))?;
    refused(
        link(place.folder, 0, "file", ROOT, "data/small/link"),
        &[XDEV, IO],
    )
}

fn a_full_file_system(_: &Place) -> Outcome {
    let fd = done("open", create(ROOT, "data/small/large"))?;
    let block = vec![7; 16 << 10];
    let mut written = 0;
    let end = loop {
        match write(fd, &block) {
            Ok(0) => return Err("nothing was written, and no error".to_owned()),
            Ok(bytes) => written += bytes,
            Err(error) => break error,
        }
        holds("it is full some day", written < 16 << 20)?;
    };
    // What an engine writes later on it tells by the next call.
    refused(Answer::<()>::Err(end), &[NOSPC, IO])?;
    done("close", close(fd))?;
    done("unlink", unlink(ROOT, "data/small/large"))
}

fn a_mount_is_not_removed(_: &Place) -> Outcome {
    refused(remove_folder(ROOT, "data/small"), &[BUSY, ACCES])
}

fn many_open_files(place: &Place) -> Outcome {
    let mut opened = Vec::new();
    let end = loop {
        match create(place.folder, "file") {
            Ok(fd) => opened.push(fd),
            Err(error) => break Some(error),
        }
        if opened.len() == 400 {
            break None;
        }
    };
    same("error", end, None)?;
    for fd in opened {
        done("close", answer(sys::fd_close(fd)))?;
    }
    Ok(())
}
