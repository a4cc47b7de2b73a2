//! Directories: open ones, their entries, and the one that every guest has.

use std::collections::BTreeSet;

use crate::Place;
use crate::api::*;
use crate::sys::{self, Memory};

crate::cases!(
    fd_prestat_get_of_the_root,
    fd_prestat_get_of_what_is_not_given,
    fd_prestat_get_of_an_opened_folder,
    fd_prestat_dir_name_of_the_root,
    fd_prestat_dir_name_in_too_little_room,
    fd_fdstat_get_of_a_folder,
    fd_filestat_get_of_a_folder,
    fd_read_of_a_folder,
    fd_pread_of_a_folder,
    fd_write_to_a_folder,
    fd_seek_of_a_folder,
    fd_filestat_set_size_of_a_folder,
    fd_allocate_of_a_folder,
    fd_readdir_of_an_empty_folder,
    fd_readdir_tells_names_and_kinds,
    fd_readdir_in_little_room,
    fd_readdir_from_a_cookie,
    fd_readdir_cuts_at_the_end_of_the_buffer,
    fd_readdir_of_no_room,
    fd_readdir_of_a_file,
    fd_readdir_of_many,
    path_create_directory_makes_one,
    path_create_directory_that_exists,
    path_create_directory_where_a_file_is,
    path_create_directory_below_nothing,
    path_create_directory_below_a_file,
    path_create_directory_with_a_slash_at_its_end,
    path_remove_directory_removes,
    path_remove_directory_that_is_not_empty,
    path_remove_directory_of_a_file,
    path_remove_directory_of_nothing,
    path_remove_directory_of_a_link,
    path_unlink_file_of_a_folder,
    a_removed_folder_is_empty,
);

fn fd_prestat_get_of_the_root(_: &Place) -> Outcome {
    let mut memory = Memory::new(8);
    done(
        "fd_prestat_get",
        answer(sys::fd_prestat_get(ROOT, memory.at())),
    )?;
    same(
        "kind and length of the name",
        (memory.u8(0), memory.u32(4)),
        (0, 1),
    )
}

fn fd_prestat_get_of_what_is_not_given(_: &Place) -> Outcome {
    let mut memory = Memory::new(8);
    refused(answer(sys::fd_prestat_get(ROOT + 5, memory.at())), &[BADF])
}

fn fd_prestat_get_of_an_opened_folder(place: &Place) -> Outcome {
    let mut memory = Memory::new(8);
    refused(
        answer(sys::fd_prestat_get(place.folder, memory.at())),
        &[BADF, INVAL, NOTSUP],
    )
}

fn fd_prestat_dir_name_of_the_root(_: &Place) -> Outcome {
    let mut name = Memory::new(1);
    done(
        "fd_prestat_dir_name",
        answer(sys::fd_prestat_dir_name(ROOT, name.at(), 1)),
    )?;
    same("name", name.u8(0), b'/')
}

fn fd_prestat_dir_name_in_too_little_room(_: &Place) -> Outcome {
    let mut name = Memory::new(1);
    refused(
        answer(sys::fd_prestat_dir_name(ROOT, name.at(), 0)),
        &[NAMETOOLONG, INVAL],
    )
}

fn fd_fdstat_get_of_a_folder(place: &Place) -> Outcome {
    same(
        "kind",
        done("fd_fdstat_get", fd_stat(place.folder))?.0,
        KIND_DIRECTORY,
    )?;
    same(
        "kind of the root",
        done("fd_fdstat_get", fd_stat(ROOT))?.0,
        KIND_DIRECTORY,
    )
}

fn fd_filestat_get_of_a_folder(place: &Place) -> Outcome {
    same(
        "kind",
        done("fd_filestat_get", stat(place.folder))?.kind,
        KIND_DIRECTORY,
    )?;
    same(
        "kind of the root",
        done("fd_filestat_get", stat(ROOT))?.kind,
        KIND_DIRECTORY,
    )
}

fn fd_read_of_a_folder(place: &Place) -> Outcome {
    refused(read(place.folder, 8), &[ISDIR, BADF, NOTCAPABLE])
}

fn fd_pread_of_a_folder(place: &Place) -> Outcome {
    refused(pread(place.folder, 8, 0), &[ISDIR, BADF, NOTCAPABLE])
}

fn fd_write_to_a_folder(place: &Place) -> Outcome {
    refused(write(place.folder, b"words"), &[ISDIR, BADF, NOTCAPABLE])
}

fn fd_seek_of_a_folder(place: &Place) -> Outcome {
    refused(seek(place.folder, 0, SET), &[ISDIR, BADF, NOTCAPABLE])
}

fn fd_filestat_set_size_of_a_folder(place: &Place) -> Outcome {
    refused(
        answer(sys::fd_filestat_set_size(place.folder, 1)),
        &[ISDIR, BADF, INVAL, NOTCAPABLE],
    )
}

fn fd_allocate_of_a_folder(place: &Place) -> Outcome {
    refused(
        answer(sys::fd_allocate(place.folder, 0, 1)),
        &[ISDIR, BADF, NOTCAPABLE],
    )
}

/// All entries, so many bytes at a time, without the two that every directory has.
fn names(fd: u32, length: usize) -> Result<BTreeSet<(String, u8)>, String> {
    let (mut cookie, mut found) = (0, BTreeSet::new());
    loop {
        let (part, used) = done("fd_readdir", entries(fd, length, cookie))?;
        let Some(last) = part.last() else {
            return if used < length {
                Ok(found)
            } else {
                Err("no entry fits into the buffer".to_owned())
            };
        };
        cookie = last.next;
        for entry in part {
            if entry.name != "." && entry.name != ".." {
                holds(
                    "no name comes twice",
                    found.insert((entry.name, entry.kind)),
                )?;
            }
        }
    }
}

fn fill(place: &Place) -> Result<BTreeSet<(String, u8)>, String> {
    done("file", file(place.folder, "a file", b"words"))?;
    done("folder", make_folder(place.folder, "folder"))?;
    done("link", symlink("a file", place.folder, "link"))?;
    let wanted = [
        ("a file", KIND_FILE),
        ("folder", KIND_DIRECTORY),
        ("link", KIND_LINK),
    ];
    Ok(wanted.map(|(name, kind)| (name.to_owned(), kind)).into())
}

fn fd_readdir_of_an_empty_folder(place: &Place) -> Outcome {
    same("entries", names(place.folder, 1000)?, BTreeSet::new())
}

fn fd_readdir_tells_names_and_kinds(place: &Place) -> Outcome {
    let wanted = fill(place)?;
    same("entries", names(place.folder, 1000)?, wanted)
}

fn fd_readdir_in_little_room(place: &Place) -> Outcome {
    let wanted = fill(place)?;
    same("entries", names(place.folder, 40)?, wanted)
}

fn fd_readdir_from_a_cookie(place: &Place) -> Outcome {
    fill(place)?;
    let (all, _) = done("fd_readdir", entries(place.folder, 1000, 0))?;
    for (number, entry) in all.iter().enumerate() {
        let (rest, _) = done("fd_readdir", entries(place.folder, 1000, entry.next))?;
        let rest: Vec<String> = rest.into_iter().map(|entry| entry.name).collect();
        let wanted: Vec<String> = all[number + 1..]
            .iter()
            .map(|entry| entry.name.clone())
            .collect();
        same("what follows", rest, wanted)?;
    }
    Ok(())
}

fn fd_readdir_cuts_at_the_end_of_the_buffer(place: &Place) -> Outcome {
    fill(place)?;
    same(
        "used bytes",
        done("fd_readdir", entries(place.folder, 26, 0))?.1,
        26,
    )
}

fn fd_readdir_of_no_room(place: &Place) -> Outcome {
    fill(place)?;
    same(
        "used bytes",
        done("fd_readdir", entries(place.folder, 0, 0))?.1,
        0,
    )
}

fn fd_readdir_of_a_file(place: &Place) -> Outcome {
    let fd = done("open", create(place.folder, "file"))?;
    refused(entries(fd, 100, 0), &[NOTDIR, BADF, NOTCAPABLE])
}

fn fd_readdir_of_many(place: &Place) -> Outcome {
    let mut wanted = BTreeSet::new();
    for number in 0..300 {
        let name = format!(
            "a file with a rather long name, so that a page does not hold them all, {number}"
        );
        done("file", file(place.folder, &name, b""))?;
        wanted.insert((name, KIND_FILE));
    }
    same("entries", names(place.folder, 4096)?, wanted)
}

fn path_create_directory_makes_one(place: &Place) -> Outcome {
    done("path_create_directory", make_folder(place.folder, "new"))?;
    done(
        "path_create_directory",
        make_folder(place.folder, "new/inner"),
    )?;
    same(
        "kind",
        done("stat", stat_at(place.folder, 0, "new/inner"))?.kind,
        KIND_DIRECTORY,
    )
}

fn path_create_directory_that_exists(place: &Place) -> Outcome {
    done("path_create_directory", make_folder(place.folder, "new"))?;
    refused(make_folder(place.folder, "new"), &[EXIST])
}

fn path_create_directory_where_a_file_is(place: &Place) -> Outcome {
    done("file", file(place.folder, "file", b""))?;
    refused(make_folder(place.folder, "file"), &[EXIST])
}

fn path_create_directory_below_nothing(place: &Place) -> Outcome {
    refused(make_folder(place.folder, "nothing/new"), &[NOENT])
}

fn path_create_directory_below_a_file(place: &Place) -> Outcome {
    done("file", file(place.folder, "file", b""))?;
    refused(make_folder(place.folder, "file/new"), &[NOTDIR])
}

fn path_create_directory_with_a_slash_at_its_end(place: &Place) -> Outcome {
    done("path_create_directory", make_folder(place.folder, "new/"))?;
    same(
        "kind",
        done("stat", stat_at(place.folder, 0, "new"))?.kind,
        KIND_DIRECTORY,
    )
}

fn path_remove_directory_removes(place: &Place) -> Outcome {
    done("folder", make_folder(place.folder, "folder"))?;
    done(
        "path_remove_directory",
        remove_folder(place.folder, "folder"),
    )?;
    refused(stat_at(place.folder, 0, "folder"), &[NOENT])
}

fn path_remove_directory_that_is_not_empty(place: &Place) -> Outcome {
    done("folder", make_folder(place.folder, "folder"))?;
    done("file", file(place.folder, "folder/file", b""))?;
    refused(remove_folder(place.folder, "folder"), &[NOTEMPTY])
}

fn path_remove_directory_of_a_file(place: &Place) -> Outcome {
    done("file", file(place.folder, "file", b""))?;
    refused(remove_folder(place.folder, "file"), &[NOTDIR])
}

fn path_remove_directory_of_nothing(place: &Place) -> Outcome {
    refused(remove_folder(place.folder, "nothing"), &[NOENT])
}

fn path_remove_directory_of_a_link(place: &Place) -> Outcome {
    done("folder", make_folder(place.folder, "folder"))?;
    done("link", symlink("folder", place.folder, "link"))?;
    refused(remove_folder(place.folder, "link"), &[NOTDIR])
}

fn path_unlink_file_of_a_folder(place: &Place) -> Outcome {
    done("folder", make_folder(place.folder, "folder"))?;
    refused(unlink(place.folder, "folder"), &[ISDIR, PERM])?;
    same(
        "kind",
        done("stat", stat_at(place.folder, 0, "folder"))?.kind,
        KIND_DIRECTORY,
    )
}

fn a_removed_folder_is_empty(place: &Place) -> Outcome {
    done("folder", make_folder(place.folder, "folder"))?;
    let fd = done("open", open_folder(place.folder, "folder"))?;
    done(
        "path_remove_directory",
        remove_folder(place.folder, "folder"),
    )?;
    refused(create(fd, "file"), &[NOENT])?;
    refused(open(fd, "file"), &[NOENT])?;
    Ok(())
}
