//! A cache that is full, broken or missing never keeps a module from running.

use std::os::fd::{AsFd, AsRawFd};

use skiff_engine::compile::{CachePolicy, Origin};
use skiff_sandbox::sys::mount::{self, Context, attribute};

use super::*;

/// A small file system, detached: it goes with its descriptor.
fn small(bytes: &str, inodes: &str, attributes: u64) -> (OwnedFd, PathBuf) {
    let context = Context::open("tmpfs").unwrap();
    context.set("size", bytes).unwrap();
    context.set("nr_inodes", inodes).unwrap();
    let tree = context.mount(attributes).unwrap();
    let path = PathBuf::from(format!("/proc/self/fd/{}/cache", tree.as_raw_fd()));
    (tree, path)
}

/// A compiler whose cache lies on one.
fn fixture_on_small(bytes: &str, inodes: &str, attributes: u64) -> (Fixture, OwnedFd, PathBuf) {
    let mut place = None;
    let mut fixture = Fixture::with(|settings| {
        let (tree, path) = small(bytes, inodes, attributes);
        settings.cache.directory.clone_from(&path);
        place = Some((tree, path));
    });
    let (tree, path) = place.unwrap();
    fixture.open_files = open_files();
    (fixture, tree, path)
}

fn assert_uncached(code: &Code, module: &[u8], why: &str) {
    let Origin::Uncached { reason, .. } = &code.origin else {
        panic!("{:?}", code.origin)
    };
    assert!(reason.contains(why), "{reason:?} does not say {why:?}");
    assert_eq!(bytes_of(code), made(module));
    // Sealed: the guest's host cannot change it either.
    assert!(
        File::from(code.file.try_clone().unwrap())
            .write_all_at(b"x", 0)
            .is_err()
    );
}

#[test]
fn on_a_full_disk_code_is_kept_in_memory() {
    let (fixture, _tree, _) = fixture_on_small("1M", "100", 0);
    // Fits, and is kept.
    let module = text("large 262144");
    assert!(matches!(
        fixture.code(&module).unwrap().origin,
        Origin::Compiled { .. }
    ));
    assert_eq!(fixture.code(&module).unwrap().origin, Origin::Cached);
    // The worker runs into the end of the disk.
    let code = fixture.code(&text("large 2097152")).unwrap();
    assert_eq!(
        code.length,
        2_097_152 + u64::try_from(made(&text("large 2097152")).len()).unwrap()
    );
    assert!(
        matches!(&code.origin, Origin::Uncached { reason, .. } if reason.contains("full")),
        "{:?}",
        code.origin
    );
    assert!(File::from(code.file).write_all_at(b"x", 0).is_err());
    assert_eq!(fixture.entries(), 1);
    // What is there is still there.
    assert_eq!(fixture.code(&module).unwrap().origin, Origin::Cached);
}

#[test]
fn without_an_inode_left_code_is_kept_in_memory() {
    let (fixture, _tree, path) = fixture_on_small("16M", "20", 0);
    let module = text("code");
    fixture.code(&text("code 2")).unwrap();
    let mut number = 0;
    while std::fs::write(path.join(format!("filler-{number}")), b"").is_ok() {
        number += 1;
    }
    assert_uncached(
        &fixture.code(&module).unwrap(),
        &module,
        "the disk of the cache is full: could not make a file in",
    );
    for number in 0..number {
        std::fs::remove_file(path.join(format!("filler-{number}"))).unwrap();
    }
    assert!(matches!(
        fixture.code(&module).unwrap().origin,
        Origin::Compiled { .. }
    ));
}

#[test]
fn a_read_only_cache_serves_what_it_has() {
    let (fixture, tree, path) = fixture_on_small("16M", "100", 0);
    let (old, new) = (text("code 1"), text("code 2"));
    fixture.code(&old).unwrap();
    let begin = Instant::now();
    let read_only = || {
        let change = mount::Change::set(attribute::READ_ONLY);
        mount::change(tree.as_fd(), change, false)
    };
    // The compiler may have its lock file open still, to clean up.
    while read_only().is_err() && begin.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(5));
    }
    read_only().unwrap();
    let mut settings = settings(&fixture.directory);
    settings.cache.directory = path;
    for compiler in [&fixture.compiler, &Compiler::new(settings).unwrap()] {
        let code = |module: &[u8]| {
            run(compiler.code_for(Source::File(file(module)), "x", CompileOptions::default()))
                .unwrap()
        };
        assert_eq!(code(&old).origin, Origin::Cached);
        assert_uncached(&code(&new), &new, "the cache cannot be written");
    }
}

#[test]
fn without_a_cache_code_is_kept_in_memory() {
    let (fixture, _tree, _) = fixture_on_small("16M", "100", attribute::READ_ONLY);
    assert!(fixture.compiler.cache().is_none());
    let module = binary("code");
    assert_uncached(
        &fixture.code(&module).unwrap(),
        &module,
        "could not make directory",
    );
    let (_tree, path) = small("16M", "100", attribute::NO_EXEC);
    let mut settings = settings(&fixture.directory);
    settings.cache.directory = path;
    let compiler = Compiler::new(settings).unwrap();
    let code = run(compiler.code_for(Source::File(file(&module)), "x", CompileOptions::default()))
        .unwrap();
    assert_uncached(&code, &module, "mounted noexec");
}

#[test]
fn a_policy_says_what_the_cache_is_for() {
    let fixture = Fixture::new();
    let module = binary("code");
    let code = |cache| {
        let options = CompileOptions {
            cache,
            ..CompileOptions::default()
        };
        run(fixture
            .compiler
            .code_for(Source::File(file(&module)), "x", options))
    };
    let error = code(CachePolicy::Only).unwrap_err();
    assert!(matches!(error, CompileError::NotCached { .. }), "{error}");
    let reason = "CachePolicy is \"off\"";
    assert_uncached(&code(CachePolicy::Off).unwrap(), &module, reason);
    // Not even a note of the file.
    assert_eq!(fixture.entries(), 0);
    code(CachePolicy::Use).unwrap();
    assert_eq!(code(CachePolicy::Only).unwrap().origin, Origin::Cached);
    assert_uncached(&code(CachePolicy::Off).unwrap(), &module, reason);
}

#[test]
fn a_spoiled_entry_is_compiled_anew() {
    let fixture = Fixture::new();
    let module = text("code");
    fixture.code(&module).unwrap();
    let key = fixture.compiler.cache().unwrap().list().unwrap()[0].key;
    let path = fixture
        .directory
        .path()
        .join("cache/entries")
        .join(key.to_string());
    File::options()
        .write(true)
        .open(path)
        .unwrap()
        .write_all_at(b"X", 3)
        .unwrap();
    let code = fixture.code(&module).unwrap();
    assert!(matches!(code.origin, Origin::Compiled { .. }));
    assert_eq!(bytes_of(&code), made(&module));
    assert_eq!(fixture.compiler.cache().unwrap().quarantined().len(), 1);
    assert_eq!(fixture.code(&module).unwrap().origin, Origin::Cached);
}

#[test]
fn another_build_of_the_worker_is_another_key() {
    let fixture = Fixture::new();
    let programs = fixture.directory.path().join("programs");
    std::fs::create_dir(&programs).unwrap();
    let copy = programs.join("skiff-compile-fake");
    std::fs::copy(env!("CARGO_BIN_EXE_skiff-compile-fake"), &copy).unwrap();
    let with_copy = || {
        let mut settings = settings(&fixture.directory);
        settings.programs.clone_from(&programs);
        Compiler::new(settings).unwrap()
    };
    let key = |compiler: &Compiler| compiler.key(&[1; 32], CompileOptions::default());
    assert_eq!(key(&with_copy()), key(&fixture.compiler));
    // One bit of the build id.
    let mut bytes = std::fs::read(&copy).unwrap();
    let note = bytes
        .windows(8)
        .position(|window| window == b"\x03\0\0\0GNU\0")
        .unwrap();
    bytes[note + 8] ^= 1;
    std::fs::write(&copy, bytes).unwrap();
    assert_ne!(key(&with_copy()), key(&fixture.compiler));
    std::fs::remove_file(&copy).unwrap();
    let mut settings = settings(&fixture.directory);
    settings.programs.clone_from(&programs);
    let error = chain(&Compiler::new(settings).unwrap_err());
    assert!(
        error.starts_with(&format!(
            "could not open the compiler {}: it is installed",
            copy.display()
        )),
        "{error}"
    );
}

#[test]
fn a_file_is_found_by_its_fingerprint_and_without_it() {
    let fixture = Fixture::new();
    let (module, other) = (binary("code 1"), binary("code 2"));
    fixture.code(&module).unwrap();
    fixture.code(&other).unwrap();
    let files = || std::fs::read_dir(fixture.directory.path().join("cache/entries")).unwrap();
    assert_eq!((files().count(), fixture.entries()), (4, 2));
    // Without its note.
    for file in files()
        .flatten()
        .filter(|file| file.metadata().unwrap().len() < 200)
    {
        if std::fs::read(file.path()).unwrap().len() == 144 {
            std::fs::remove_file(file.path()).unwrap();
        }
    }
    assert_eq!(files().count(), 2);
    assert_eq!(fixture.code(&module).unwrap().origin, Origin::Cached);
    assert_eq!(files().count(), 3);
    // With nothing but its note.
    let cache = fixture.compiler.cache().unwrap();
    for entry in cache.list().unwrap() {
        cache.remove(&entry.key).unwrap();
    }
    assert_eq!(files().count(), 1);
    let code = fixture.code(&module).unwrap();
    assert!(matches!(code.origin, Origin::Compiled { .. }));
    assert_eq!(bytes_of(&code), made(&module));
}
