//! Entries and secrets that are not as they were published: all are detected, none is handed out.

use std::os::unix::fs::{FileExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;

use super::*;

const MODE: u32 = 0o444;

/// Puts bytes under an entry's name as an entry's file would be.
fn place(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(MODE)).unwrap();
}

fn assert_detected(fixture: &Fixture, key: &Key, what: &str) {
    assert!(
        fixture.cache.lookup(key).unwrap().is_none(),
        "{what}: handed out"
    );
    assert!(!fixture.entry_path(key).exists(), "{what}: left in place");
    assert!(
        !fixture.cache.quarantined().is_empty(),
        "{what}: not in quarantine"
    );
}

#[test]
fn every_page_flipped_once_is_detected() {
    let fixture = Fixture::new();
    let code = code(1 << 20);
    fixture
        .cache
        .publish_bytes(&key(1), &about(), &code)
        .unwrap();
    let path = fixture.entry_path(&key(1));
    let good = std::fs::read(&path).unwrap();
    assert_eq!(
        bytes_of(fixture.cache.lookup(&key(1)).unwrap().unwrap()),
        code
    );
    std::fs::remove_file(&path).unwrap();
    let pages = good.len().div_ceil(4096);
    assert_eq!(pages, 257);
    for page in 0..pages {
        let mut bytes = good.clone();
        // Another place in each page, and another bit.
        let at = (page * 4096 + page * 61 % 4096).min(good.len() - 1 - page % 100);
        bytes[at] ^= 1 << (page % 8);
        place(&path, &bytes);
        assert_detected(&fixture, &key(1), &format!("byte {at}"));
    }
    // Every byte of the trailer, too.
    for at in good.len() - 144..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 0x80;
        place(&path, &bytes);
        assert_detected(&fixture, &key(1), &format!("byte {at}"));
    }
    place(&path, &good);
    assert_eq!(
        bytes_of(fixture.cache.lookup(&key(1)).unwrap().unwrap()),
        code
    );
}

#[test]
fn truncated_and_lengthened_entries_are_detected() {
    let fixture = Fixture::new();
    fixture
        .cache
        .publish_bytes(&key(1), &about(), &code(500_000))
        .unwrap();
    let path = fixture.entry_path(&key(1));
    let good = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let lengths = (0..98)
        .map(|index| index * good.len() / 98)
        .chain([good.len() - 1, good.len() - 144]);
    for length in lengths {
        place(&path, &good[..length]);
        assert_detected(&fixture, &key(1), &format!("{length} bytes"));
    }
    for more in [1, 144, 4096] {
        place(&path, &[good.as_slice(), &vec![0; more]].concat());
        assert_detected(&fixture, &key(1), &format!("{more} bytes more"));
        // The trailer moved with the end.
        let (code, trailer) = good.split_at(good.len() - 144);
        place(&path, &[code, &vec![0; more], trailer].concat());
        assert_detected(
            &fixture,
            &key(1),
            &format!("{more} bytes more before the trailer"),
        );
        place(&path, &[&code[..code.len() - more], trailer].concat());
        assert_detected(
            &fixture,
            &key(1),
            &format!("{more} bytes less before the trailer"),
        );
    }
}

#[test]
fn swapped_entries_are_detected() {
    let fixture = Fixture::new();
    for number in [1, 2] {
        fixture
            .cache
            .publish_bytes(&key(number), &about(), &[number; 5000])
            .unwrap();
    }
    let (one, two) = (fixture.entry_path(&key(1)), fixture.entry_path(&key(2)));
    let between = fixture.directory.path().join("between");
    std::fs::rename(&one, &between).unwrap();
    std::fs::rename(&two, &one).unwrap();
    std::fs::rename(&between, &two).unwrap();
    assert_detected(&fixture, &key(1), "the first");
    assert_detected(&fixture, &key(2), "the second");
    assert_eq!(fixture.cache.quarantined().len(), 2);
}

#[test]
fn what_is_not_an_entrys_file_is_refused() {
    let fixture = Fixture::new();
    let path = fixture.entry_path(&key(1));
    let elsewhere = fixture.directory.path().join("elsewhere");
    let spoil: [(&str, &dyn Fn()); 12] = [
        ("mode 644", &|| {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        }),
        ("mode 446", &|| {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o446)).unwrap();
        }),
        ("mode 400", &|| {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o400)).unwrap();
        }),
        ("mode 4444", &|| {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o4444)).unwrap();
        }),
        ("another owner", &|| {
            chown(&path, Some(1000), None).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(MODE)).unwrap();
        }),
        ("a hard link", &|| {
            std::fs::hard_link(&path, &elsewhere).unwrap();
        }),
        ("a symlink", &|| {
            std::fs::rename(&path, &elsewhere).unwrap();
            symlink(&elsewhere, &path).unwrap();
        }),
        ("a directory", &|| {
            std::fs::remove_file(&path).unwrap();
            std::fs::create_dir(&path).unwrap();
        }),
        ("a FIFO", &|| {
            std::fs::remove_file(&path).unwrap();
            rustix::fs::mkfifoat(
                rustix::fs::CWD,
                &path,
                rustix::fs::Mode::from_raw_mode(MODE),
            )
            .unwrap();
        }),
        ("a socket", &|| {
            std::fs::remove_file(&path).unwrap();
            // The path is too long for an address.
            let short = tempfile::tempdir().unwrap();
            UnixListener::bind(short.path().join("s")).unwrap();
            std::fs::rename(short.path().join("s"), &path).unwrap();
        }),
        ("a device", &|| {
            std::fs::remove_file(&path).unwrap();
            let (kind, mode) = (
                rustix::fs::FileType::CharacterDevice,
                rustix::fs::Mode::from_raw_mode(MODE),
            );
            rustix::fs::mknodat(
                rustix::fs::CWD,
                &path,
                kind,
                mode,
                rustix::fs::makedev(1, 5),
            )
            .unwrap();
        }),
        ("an empty file", &|| place_empty(&path)),
    ];
    for (what, spoil) in spoil {
        fixture
            .cache
            .publish_bytes(&key(1), &about(), b"code")
            .unwrap();
        spoil();
        assert_detected(&fixture, &key(1), what);
        fixture
            .cache
            .publish_bytes(&key(1), &about(), b"code")
            .unwrap();
        assert_eq!(
            bytes_of(fixture.cache.lookup(&key(1)).unwrap().unwrap()),
            b"code",
            "{what}"
        );
        fixture.cache.remove(&key(1)).unwrap();
        std::fs::remove_file(&elsewhere).ok();
        fixture.cache.prune(&Default::default()).unwrap();
        assert!(fixture.cache.quarantined().is_empty(), "{what}");
    }
}

fn place_empty(path: &Path) {
    std::fs::remove_file(path).unwrap();
    place(path, b"");
}

#[test]
fn what_stands_in_the_way_of_a_publication_is_replaced() {
    let fixture = Fixture::new();
    let publication = fixture.cache.begin(&key(1)).unwrap();
    std::io::Write::write_all(&mut File::from(publication.output().unwrap()), b"code").unwrap();
    place(&fixture.entry_path(&key(1)), b"something else");
    assert_eq!(bytes_of(publication.publish(&about()).unwrap()), b"code");
    assert_eq!(fixture.cache.quarantined().len(), 1);
}

#[test]
fn an_entry_of_another_node_is_refused() {
    let (here, there) = (Fixture::new(), Fixture::new());
    there
        .cache
        .publish_bytes(&key(1), &about(), b"code")
        .unwrap();
    place(
        &here.entry_path(&key(1)),
        &std::fs::read(there.entry_path(&key(1))).unwrap(),
    );
    assert_detected(&here, &key(1), "made with another secret");
}

/// What is done to a file, and how it is called.
type Spoil = (&'static str, fn(&Path));

#[test]
fn a_secret_that_others_could_know_is_replaced() {
    let spoil: [Spoil; 7] = [
        ("readable", |path| {
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o640)).unwrap();
        }),
        ("another's", |path| chown(path, Some(1000), None).unwrap()),
        ("hard linked", |path| {
            std::fs::hard_link(path, path.with_extension("copy")).unwrap();
        }),
        ("short", |path| {
            File::options()
                .write(true)
                .open(path)
                .unwrap()
                .set_len(31)
                .unwrap();
        }),
        ("long", |path| {
            File::options()
                .write(true)
                .open(path)
                .unwrap()
                .write_all_at(b"x", 32)
                .unwrap();
        }),
        ("a symlink", |path| {
            std::fs::rename(path, path.with_extension("copy")).unwrap();
            symlink(path.with_extension("copy"), path).unwrap();
        }),
        ("missing", |path| std::fs::remove_file(path).unwrap()),
    ];
    for (what, spoil) in spoil {
        let fixture = Fixture::new();
        let path = fixture.directory.path().join("secret");
        let before = std::fs::read(&path).unwrap();
        for number in [1, 2] {
            fixture
                .cache
                .publish_bytes(&key(number), &about(), b"code")
                .unwrap();
        }
        spoil(&path);

        let other = Cache::open(&settings(fixture.directory.path(), 1 << 30)).unwrap();
        let after = std::fs::read(&path).unwrap();
        assert_eq!(after.len(), 32, "{what}");
        assert_ne!(after, before, "{what}");
        assert_eq!(
            std::fs::symlink_metadata(&path)
                .unwrap()
                .permissions()
                .mode(),
            0o100_600,
            "{what}"
        );
        assert!(
            other.lookup(&key(1)).unwrap().is_none(),
            "{what}: made with the old secret"
        );
        other.publish_bytes(&key(1), &about(), b"code").unwrap();
        // A process that has had the cache open all the time goes on with the new secret.
        assert_eq!(
            bytes_of(fixture.cache.lookup(&key(1)).unwrap().unwrap()),
            b"code",
            "{what}"
        );
        fixture
            .cache
            .publish_bytes(&key(3), &about(), b"more")
            .unwrap();
        assert_eq!(
            bytes_of(other.lookup(&key(3)).unwrap().unwrap()),
            b"more",
            "{what}"
        );
    }
}

#[test]
fn directories_of_others_are_not_used_and_open_ones_are_closed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a/b/cache");
    let open = || Cache::open(&settings(&path, 1 << 30));
    open().unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(
        (
            mode(&path),
            mode(&path.join("entries")),
            mode(&path.join("secret"))
        ),
        (0o700, 0o700, 0o600)
    );
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o777)).unwrap();
    open().unwrap();
    assert_eq!(mode(&path), 0o700);
    chown(path.join("entries"), Some(1000), None).unwrap();
    let error = open().unwrap_err().to_string();
    assert!(
        error.ends_with("entries is not used: it belongs to user 1000"),
        "{error}"
    );
    std::fs::remove_dir(path.join("entries")).unwrap();
    symlink("/tmp", path.join("entries")).unwrap();
    open().unwrap_err();
}

#[test]
fn a_directory_that_others_use_stays_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shared");
    std::fs::create_dir(&path).unwrap();
    let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
    for (other, bits) in [("a file", 0o1777), ("\u{fffd}", 0o755)] {
        std::fs::write(path.join(other), "theirs").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(bits)).unwrap();
        let error = Cache::open(&settings(&path, 1 << 30))
            .unwrap_err()
            .to_string();
        assert!(
            error.ends_with(&format!(
                "shared is not used: it is not the cache's alone, it holds {other:?}"
            )),
            "{error}"
        );
        assert_eq!(mode(), bits);
        std::fs::remove_file(path.join(other)).unwrap();
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
    }
    // A disk of the cache's own.
    std::fs::create_dir(path.join("lost+found")).unwrap();
    Cache::open(&settings(&path, 1 << 30)).unwrap();
    assert_eq!(mode(), 0o700);
}

#[test]
fn the_quarantine_is_bounded() {
    let fixture = Fixture::new();
    for number in 0..40 {
        place(&fixture.entry_path(&key(number)), &[number; 1000]);
        assert!(fixture.cache.lookup(&key(number)).unwrap().is_none());
    }
    let kept = fixture.names("quarantine");
    assert_eq!(kept.len(), 16);
    // The newest.
    assert!(
        kept.iter()
            .any(|name| name.starts_with(&key(39).to_string()))
    );
    assert!(
        !kept
            .iter()
            .any(|name| name.starts_with(&key(0).to_string()))
    );
    let pruned = fixture.cache.prune(&Default::default()).unwrap();
    assert_eq!(pruned.bytes, 16 * 1000);
    assert!(fixture.names("quarantine").is_empty());
}
