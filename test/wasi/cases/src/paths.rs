//! Paths: opening, linking, renaming, removing.

use crate::Place;
use crate::api::*;

crate::cases!(
    path_open_of_a_file,
    path_open_of_nothing,
    path_open_of_an_empty_path,
    path_open_below_a_file,
    path_open_of_a_folder_as_a_file,
    path_open_of_a_file_as_a_folder,
    path_open_to_write_a_folder,
    path_open_exclusively,
    path_open_exclusively_what_exists,
    path_open_truncates,
    path_open_creates_where_no_folder_is,
    path_open_of_a_dot,
    path_open_with_dots_inside,
    path_open_with_slashes_inside,
    path_open_of_a_file_with_a_slash_at_its_end,
    path_open_follows_a_link,
    path_open_of_a_link_that_is_not_followed,
    path_open_of_a_link_to_nothing,
    path_open_of_a_long_name,
    path_open_of_a_name_that_is_not_utf8,
    path_open_with_a_zero_inside,
    path_open_gives_no_number_twice,
    path_open_of_another_alphabet,
    path_filestat_get_of_a_file,
    path_filestat_get_of_a_folder,
    path_filestat_get_of_a_link,
    path_filestat_get_through_a_link,
    path_filestat_get_of_nothing,
    path_filestat_get_of_a_link_to_nothing,
    path_filestat_set_times_to_given_ones,
    path_filestat_set_times_of_a_link,
    path_filestat_set_times_of_nothing,
    path_filestat_set_times_of_both_kinds,
    path_link_makes_a_second_name,
    path_link_of_nothing,
    path_link_to_what_exists,
    path_link_of_a_folder,
    path_link_between_folders,
    path_readlink_of_a_link,
    path_readlink_in_little_room,
    path_readlink_of_a_file,
    path_readlink_of_nothing,
    path_rename_of_a_file,
    path_rename_over_a_file,
    path_rename_of_nothing,
    path_rename_of_a_folder,
    path_rename_of_a_folder_over_an_empty_one,
    path_rename_of_a_folder_over_a_full_one,
    path_rename_of_a_folder_over_a_file,
    path_rename_of_a_file_over_a_folder,
    path_rename_of_a_folder_into_itself,
    path_rename_between_folders,
    path_symlink_makes_a_link,
    path_symlink_where_something_is,
    path_symlink_of_an_empty_target,
    path_symlink_below_nothing,
    path_unlink_file_removes,
    path_unlink_file_of_nothing,
    path_unlink_file_of_a_link,
    path_unlink_file_of_an_open_file,
    path_unlink_file_with_a_slash_at_its_end,
    a_circle_of_links,
    a_chain_of_links;
    or trapped:
    path_open_of_no_flag,
    path_open_of_no_descriptor_flag,
);

fn text(place: &Place, path: &str) -> Result<String, String> {
    let bytes = done(&format!("reading {path}"), contents(place.folder, path))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn make(place: &Place, path: &str, words: &str) -> Outcome {
    done(
        &format!("writing {path}"),
        file(place.folder, path, words.as_bytes()),
    )
}

fn folder(place: &Place, path: &str) -> Outcome {
    done(&format!("making {path}"), make_folder(place.folder, path))
}

fn path_open_of_a_file(place: &Place) -> Outcome {
    make(place, "file", "words")?;
    same("contents", text(place, "file")?, "words".to_owned())
}

fn path_open_of_nothing(place: &Place) -> Outcome {
    refused(open(place.folder, "nothing"), &[NOENT])
}

fn path_open_of_an_empty_path(place: &Place) -> Outcome {
    refused(open(place.folder, ""), &[NOENT, INVAL])
}

fn path_open_below_a_file(place: &Place) -> Outcome {
    make(place, "file", "")?;
    refused(open(place.folder, "file/below"), &[NOTDIR])
}

fn path_open_of_a_folder_as_a_file(place: &Place) -> Outcome {
    folder(place, "folder")?;
    match open(place.folder, "folder") {
        // To open it is no error; to read from it is.
        Ok(fd) => refused(read(fd, 8), &[ISDIR, BADF, NOTCAPABLE]),
        other => refused(other, &[ISDIR]),
    }
}

fn path_open_of_a_file_as_a_folder(place: &Place) -> Outcome {
    make(place, "file", "")?;
    refused(open_folder(place.folder, "file"), &[NOTDIR])
}

fn path_open_to_write_a_folder(place: &Place) -> Outcome {
    folder(place, "folder")?;
    refused(open_at(place.folder, 0, b"folder", 0, FILE, 0), &[ISDIR])
}

fn path_open_exclusively(place: &Place) -> Outcome {
    done(
        "path_open",
        open_at(place.folder, 0, b"file", CREATE | EXCLUSIVE, FILE, 0),
    )
    .map(drop)
}

fn path_open_exclusively_what_exists(place: &Place) -> Outcome {
    make(place, "file", "")?;
    refused(
        open_at(place.folder, 0, b"file", CREATE | EXCLUSIVE, FILE, 0),
        &[EXIST],
    )?;
    done("link", symlink("nothing", place.folder, "link"))?;
    refused(
        open_at(place.folder, 0, b"link", CREATE | EXCLUSIVE, FILE, 0),
        &[EXIST],
    )
}

fn path_open_truncates(place: &Place) -> Outcome {
    make(place, "file", "words")?;
    done(
        "path_open",
        open_at(place.folder, 0, b"file", TRUNCATE, FILE, 0),
    )?;
    same("contents", text(place, "file")?, String::new())
}

fn path_open_creates_where_no_folder_is(place: &Place) -> Outcome {
    refused(create(place.folder, "nothing/file"), &[NOENT])
}

fn path_open_of_no_flag(place: &Place) -> Outcome {
    refused(
        open_at(place.folder, 0, b"file", CREATE | 0x4000, FILE, 0),
        &[INVAL],
    )
}

fn path_open_of_no_descriptor_flag(place: &Place) -> Outcome {
    refused(
        open_at(place.folder, 0, b"file", CREATE, FILE, 0x4000),
        &[INVAL],
    )
}

fn path_open_of_a_dot(place: &Place) -> Outcome {
    let fd = done("path_open", open_folder(place.folder, "."))?;
    same(
        "it is the folder",
        done("stat", stat(fd))?.number,
        done("stat", stat(place.folder))?.number,
    )
}

fn path_open_with_dots_inside(place: &Place) -> Outcome {
    folder(place, "folder")?;
    make(place, "file", "words")?;
    same(
        "contents",
        text(place, "./folder/.././folder/../file")?,
        "words".to_owned(),
    )
}

fn path_open_with_slashes_inside(place: &Place) -> Outcome {
    folder(place, "folder")?;
    make(place, "folder/file", "words")?;
    same("contents", text(place, "folder//file")?, "words".to_owned())
}

fn path_open_of_a_file_with_a_slash_at_its_end(place: &Place) -> Outcome {
    make(place, "file", "words")?;
    refused(open(place.folder, "file/"), &[NOTDIR])
}

fn path_open_follows_a_link(place: &Place) -> Outcome {
    folder(place, "folder")?;
    make(place, "folder/file", "words")?;
    done("link", symlink("folder/../folder", place.folder, "link"))?;
    same("contents", text(place, "link/file")?, "words".to_owned())
}

fn path_open_of_a_link_that_is_not_followed(place: &Place) -> Outcome {
    make(place, "file", "words")?;
    done("link", symlink("file", place.folder, "link"))?;
    refused(open_at(place.folder, 0, b"link", 0, READ_ONLY, 0), &[LOOP])
}

fn path_open_of_a_link_to_nothing(place: &Place) -> Outcome {
    done("link", symlink("nothing", place.folder, "link"))?;
    refused(open(place.folder, "link"), &[NOENT])
}

fn path_open_of_a_long_name(place: &Place) -> Outcome {
    let name = "n".repeat(255);
    make(place, &name, "words")?;
    same("contents", text(place, &name)?, "words".to_owned())?;
    refused(create(place.folder, &"n".repeat(256)), &[NAMETOOLONG])?;
    refused(
        create(place.folder, &"n/".repeat(4000)),
        &[NAMETOOLONG, NOENT],
    )
}

fn path_open_of_a_name_that_is_not_utf8(place: &Place) -> Outcome {
    refused(
        open_at(place.folder, 0, b"bytes \xff\xfe", CREATE, FILE, 0),
        &[ILSEQ, INVAL],
    )
}

fn path_open_with_a_zero_inside(place: &Place) -> Outcome {
    make(place, "file", "words")?;
    refused(
        open_at(place.folder, 0, b"file\0more", 0, READ_ONLY, 0),
        &[INVAL, ILSEQ, NOENT],
    )
}

fn path_open_gives_no_number_twice(place: &Place) -> Outcome {
    let mut given = std::collections::BTreeSet::new();
    for _ in 0..50 {
        holds(
            "the number is new",
            given.insert(done("path_open", create(place.folder, "file"))?),
        )?;
    }
    Ok(())
}

fn path_open_of_another_alphabet(place: &Place) -> Outcome {
    make(place, "\u{68ee}\u{1f333} caf\u{e9}", "words")?;
    same(
        "contents",
        text(place, "\u{68ee}\u{1f333} caf\u{e9}")?,
        "words".to_owned(),
    )
}

fn path_filestat_get_of_a_file(place: &Place) -> Outcome {
    make(place, "file", "words")?;
    let seen = done("path_filestat_get", stat_at(place.folder, 0, "file"))?;
    same(
        "kind, size and links",
        (seen.kind, seen.size, seen.links),
        (KIND_FILE, 5, 1),
    )
}

fn path_filestat_get_of_a_folder(place: &Place) -> Outcome {
    folder(place, "folder")?;
    same(
        "kind",
        done("path_filestat_get", stat_at(place.folder, 0, "folder"))?.kind,
        KIND_DIRECTORY,
    )
}

fn path_filestat_get_of_a_link(place: &Place) -> Outcome {
    make(place, "file", "words")?;
    done("link", symlink("file", place.folder, "link"))?;
    let seen = done("path_filestat_get", stat_at(place.folder, 0, "link"))?;
    same("kind and size", (seen.kind, seen.size), (KIND_LINK, 4))
}

fn path_filestat_get_through_a_link(place: &Place) -> Outcome {
    make(place, "file", "words")?;
    done("link", symlink("file", place.folder, "link"))?;
    let seen = done("path_filestat_get", stat_at(place.folder, FOLLOW, "link"))?;
    same("kind and size", (seen.kind, seen.size), (KIND_FILE, 5))
}

fn path_filestat_get_of_nothing(place: &Place) -> Outcome {
    refused(stat_at(place.folder, 0, "nothing"), &[NOENT])
}

fn path_filestat_get_of_a_link_to_nothing(place: &Place) -> Outcome {
    done("link", symlink("nothing", place.folder, "link"))?;
    refused(stat_at(place.folder, FOLLOW, "link"), &[NOENT])?;
    same(
        "kind",
        done("path_filestat_get", stat_at(place.folder, 0, "link"))?.kind,
        KIND_LINK,
    )
}

fn path_filestat_set_times_to_given_ones(place: &Place) -> Outcome {
    make(place, "file", "words")?;
    let (access, change) = (1_000_000_123, 2_000_000_456);
    done(
        "path_filestat_set_times",
        set_times_at(
            place.folder,
            FOLLOW,
            "file",
            access,
            change,
            ACCESS | CHANGE,
        ),
    )?;
    let seen = done("stat", stat_at(place.folder, 0, "file"))?;
    same("times", (seen.access, seen.change), (access, change))
}

fn path_filestat_set_times_of_a_link(place: &Place) -> Outcome {
    make(place, "file", "words")?;
    done("link", symlink("file", place.folder, "link"))?;
    let before = done("stat", stat_at(place.folder, 0, "file"))?.change;
    done(
        "path_filestat_set_times",
        set_times_at(place.folder, 0, "link", 0, 2_000_000_456, CHANGE),
    )?;
    same(
        "time of the link",
        done("stat", stat_at(place.folder, 0, "link"))?.change,
        2_000_000_456,
    )?;
    same(
        "time of the file",
        done("stat", stat_at(place.folder, 0, "file"))?.change,
        before,
    )
}

fn path_filestat_set_times_of_nothing(place: &Place) -> Outcome {
    refused(
        set_times_at(place.folder, 0, "nothing", 1, 1, ACCESS | CHANGE),
        &[NOENT],
    )
}

fn path_filestat_set_times_of_both_kinds(place: &Place) -> Outcome {
    make(place, "file", "words")?;
    refused(
        set_times_at(place.folder, 0, "file", 1, 1, CHANGE | CHANGE_NOW),
        &[INVAL],
    )
}

fn path_link_makes_a_second_name(place: &Place) -> Outcome {
    make(place, "file", "words")?;
    done(
        "path_link",
        link(place.folder, 0, "file", place.folder, "other"),
    )?;
    done("unlink", unlink(place.folder, "file"))?;
    same("contents", text(place, "other")?, "words".to_owned())
}

fn path_link_of_nothing(place: &Place) -> Outcome {
    refused(
        link(place.folder, 0, "nothing", place.folder, "other"),
        &[NOENT],
    )
}

fn path_link_to_what_exists(place: &Place) -> Outcome {
    make(place, "file", "words")?;
    make(place, "other", "")?;
    refused(
        link(place.folder, 0, "file", place.folder, "other"),
        &[EXIST],
    )
}

fn path_link_of_a_folder(place: &Place) -> Outcome {
    folder(place, "folder")?;
    refused(
        link(place.folder, 0, "folder", place.folder, "other"),
        &[PERM, ACCES, ISDIR],
    )
}

fn path_link_between_folders(place: &Place) -> Outcome {
    folder(place, "folder")?;
    let inner = done("open", open_folder(place.folder, "folder"))?;
    make(place, "file", "words")?;
    done("path_link", link(place.folder, 0, "file", inner, "other"))?;
    same("contents", text(place, "folder/other")?, "words".to_owned())
}

fn path_readlink_of_a_link(place: &Place) -> Outcome {
    done("link", symlink("a/long/way", place.folder, "link"))?;
    same(
        "target",
        done("path_readlink", read_link(place.folder, "link", 100))?,
        b"a/long/way".to_vec(),
    )
}

fn path_readlink_in_little_room(place: &Place) -> Outcome {
    done("link", symlink("a/long/way", place.folder, "link"))?;
    match read_link(place.folder, "link", 4) {
        Ok(target) => same("target", target, b"a/lo".to_vec()),
        other => refused(other, &[RANGE]),
    }
}

fn path_readlink_of_a_file(place: &Place) -> Outcome {
    make(place, "file", "words")?;
    refused(read_link(place.folder, "file", 100), &[INVAL])
}

fn path_readlink_of_nothing(place: &Place) -> Outcome {
    refused(read_link(place.folder, "nothing", 100), &[NOENT])
}

fn path_rename_of_a_file(place: &Place) -> Outcome {
    make(place, "file", "words")?;
    done(
        "path_rename",
        rename(place.folder, "file", place.folder, "other"),
    )?;
    refused(open(place.folder, "file"), &[NOENT])?;
    same("contents", text(place, "other")?, "words".to_owned())
}

fn path_rename_over_a_file(place: &Place) -> Outcome {
    make(place, "file", "words")?;
    make(place, "other", "old words")?;
    done(
        "path_rename",
        rename(place.folder, "file", place.folder, "other"),
    )?;
    same("contents", text(place, "other")?, "words".to_owned())
}

fn path_rename_of_nothing(place: &Place) -> Outcome {
    refused(
        rename(place.folder, "nothing", place.folder, "other"),
        &[NOENT],
    )
}

fn path_rename_of_a_folder(place: &Place) -> Outcome {
    folder(place, "folder")?;
    make(place, "folder/file", "words")?;
    done(
        "path_rename",
        rename(place.folder, "folder", place.folder, "other"),
    )?;
    same("contents", text(place, "other/file")?, "words".to_owned())
}

fn path_rename_of_a_folder_over_an_empty_one(place: &Place) -> Outcome {
    folder(place, "folder")?;
    make(place, "folder/file", "words")?;
    folder(place, "other")?;
    done(
        "path_rename",
        rename(place.folder, "folder", place.folder, "other"),
    )?;
    same("contents", text(place, "other/file")?, "words".to_owned())
}

fn path_rename_of_a_folder_over_a_full_one(place: &Place) -> Outcome {
    folder(place, "folder")?;
    folder(place, "other")?;
    make(place, "other/file", "words")?;
    refused(
        rename(place.folder, "folder", place.folder, "other"),
        &[NOTEMPTY, EXIST],
    )
}

fn path_rename_of_a_folder_over_a_file(place: &Place) -> Outcome {
    folder(place, "folder")?;
    make(place, "file", "words")?;
    refused(
        rename(place.folder, "folder", place.folder, "file"),
        &[NOTDIR],
    )
}

fn path_rename_of_a_file_over_a_folder(place: &Place) -> Outcome {
    folder(place, "folder")?;
    make(place, "file", "words")?;
    refused(
        rename(place.folder, "file", place.folder, "folder"),
        &[ISDIR],
    )
}

fn path_rename_of_a_folder_into_itself(place: &Place) -> Outcome {
    folder(place, "folder")?;
    refused(
        rename(place.folder, "folder", place.folder, "folder/inner"),
        &[INVAL],
    )
}

fn path_rename_between_folders(place: &Place) -> Outcome {
    folder(place, "folder")?;
    let inner = done("open", open_folder(place.folder, "folder"))?;
    make(place, "file", "words")?;
    done("path_rename", rename(place.folder, "file", inner, "other"))?;
    same("contents", text(place, "folder/other")?, "words".to_owned())
}

fn path_symlink_makes_a_link(place: &Place) -> Outcome {
    done("path_symlink", symlink("no where", place.folder, "link"))?;
    same(
        "kind",
        done("stat", stat_at(place.folder, 0, "link"))?.kind,
        KIND_LINK,
    )
}

fn path_symlink_where_something_is(place: &Place) -> Outcome {
    make(place, "file", "words")?;
    refused(symlink("anywhere", place.folder, "file"), &[EXIST])?;
    folder(place, "folder")?;
    refused(symlink("anywhere", place.folder, "folder"), &[EXIST])
}

fn path_symlink_of_an_empty_target(place: &Place) -> Outcome {
    refused(symlink("", place.folder, "link"), &[NOENT, INVAL])
}

fn path_symlink_below_nothing(place: &Place) -> Outcome {
    refused(symlink("anywhere", place.folder, "nothing/link"), &[NOENT])
}

fn path_unlink_file_removes(place: &Place) -> Outcome {
    make(place, "file", "words")?;
    done("path_unlink_file", unlink(place.folder, "file"))?;
    refused(open(place.folder, "file"), &[NOENT])
}

fn path_unlink_file_of_nothing(place: &Place) -> Outcome {
    refused(unlink(place.folder, "nothing"), &[NOENT])
}

fn path_unlink_file_of_a_link(place: &Place) -> Outcome {
    make(place, "file", "words")?;
    done("link", symlink("file", place.folder, "link"))?;
    done("path_unlink_file", unlink(place.folder, "link"))?;
    refused(stat_at(place.folder, 0, "link"), &[NOENT])?;
    same("contents", text(place, "file")?, "words".to_owned())
}

fn path_unlink_file_of_an_open_file(place: &Place) -> Outcome {
    make(place, "file", "words")?;
    let fd = done("open", open(place.folder, "file"))?;
    done("path_unlink_file", unlink(place.folder, "file"))?;
    same("bytes", done("fd_read", read(fd, 8))?, b"words".to_vec())?;
    same("links", done("fd_filestat_get", stat(fd))?.links, 0)
}

fn path_unlink_file_with_a_slash_at_its_end(place: &Place) -> Outcome {
    make(place, "file", "words")?;
    refused(unlink(place.folder, "file/"), &[NOTDIR, NOENT])
}

fn a_circle_of_links(place: &Place) -> Outcome {
    done("link", symlink("other", place.folder, "one"))?;
    done("link", symlink("one", place.folder, "other"))?;
    refused(open(place.folder, "one"), &[LOOP])?;
    refused(stat_at(place.folder, FOLLOW, "one/file"), &[LOOP])
}

fn a_chain_of_links(place: &Place) -> Outcome {
    make(place, "0", "words")?;
    for number in 0..20 {
        done(
            "link",
            symlink(&number.to_string(), place.folder, &(number + 1).to_string()),
        )?;
    }
    same("contents", text(place, "20")?, "words".to_owned())
}
