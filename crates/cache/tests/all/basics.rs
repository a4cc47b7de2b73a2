//! What works when nothing is wrong.

use std::io::Write;

use crate::*;

#[test]
fn what_is_published_is_found() {
    let fixture = Fixture::new();
    assert!(fixture.cache.lookup(&key(1)).unwrap().is_none());

    let publication = fixture.cache.begin(&key(1)).unwrap();
    let code = code(300_000);
    File::from(publication.output().unwrap())
        .write_all(&code)
        .unwrap();
    let entry = publication.publish(&about()).unwrap();
    assert_eq!((entry.length, &entry.about), (300_000, &about()));
    assert_eq!(bytes_of(entry), code);

    assert_eq!(
        bytes_of(fixture.cache.lookup(&key(1)).unwrap().unwrap()),
        code
    );
    // Another process.
    let other = Cache::open(&settings(fixture.directory.path(), 1 << 30)).unwrap();
    assert_eq!(bytes_of(other.lookup(&key(1)).unwrap().unwrap()), code);
    assert!(other.lookup(&key(2)).unwrap().is_none());
}

#[test]
fn a_publication_that_is_dropped_leaves_nothing() {
    let fixture = Fixture::new();
    let publication = fixture.cache.begin(&key(1)).unwrap();
    File::from(publication.output().unwrap())
        .write_all(&code(100_000))
        .unwrap();
    drop(publication);
    assert!(fixture.names("entries").is_empty());
}

#[test]
fn an_entry_cannot_be_reopened_for_writing() {
    let fixture = Fixture::new();
    let entry = fixture
        .cache
        .publish_bytes(&key(1), &about(), &code(5000))
        .unwrap();
    let path = format!(
        "/proc/self/fd/{}",
        std::os::fd::AsRawFd::as_raw_fd(&entry.file)
    );
    let error = File::options().write(true).open(&path).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    File::options()
        .write(true)
        .truncate(true)
        .open(path)
        .unwrap_err();
    (&File::from(entry.file)).write_all(b"x").unwrap_err();
}
