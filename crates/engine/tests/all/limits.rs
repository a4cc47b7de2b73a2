//! Workers that die, hang, lie and take too much.

use super::*;

#[test]
fn a_worker_that_fails_is_quoted() {
    let fixture = Fixture::new();
    let error = fixture.error(&text("fail function 3 is not valid (at offset 0x4a)"));
    assert_eq!(
        error,
        "could not compile module /app.wasm: function 3 is not valid (at offset 0x4a)"
    );
    assert_eq!(fixture.entries(), 0);
}

/// Its words neither hold it up, which would take a compile slot for as long as a compilation may take, nor
/// reach a log as they are.
#[test]
fn a_worker_that_says_too_much_is_cut_short() {
    let fixture = Fixture::with(|settings| settings.time = Duration::from_secs(30));
    let begin = Instant::now();
    let error = fixture.error(&text("shout"));
    assert!(
        begin.elapsed() < Duration::from_secs(20),
        "{:?}",
        begin.elapsed()
    );
    assert!(
        error.starts_with(
            "could not compile module /app.wasm: \\u{1b}[31mmany words \\u{1b}[31mmany"
        ),
        "{error}"
    );
    assert!(error.len() < 4200 && error.ends_with('…'), "{error}");
}

#[test]
fn a_worker_that_dies_is_said_to_have() {
    let fixture = Fixture::new();
    for (what, how) in [
        ("abort", "was ended by signal"),
        ("stack", "was ended by signal"),
        ("leave", "ended without an answer"),
        ("panic", "exited with 1 and without an answer"),
        ("ready", "ended without an answer"),
        ("garbage", "gave an answer that cannot be read"),
        ("empty", "gave no code"),
    ] {
        let error = fixture.error(&text(what));
        assert!(
            error.starts_with(&format!(
                "could not compile module /app.wasm: the compiler {how}"
            )),
            "{what}: {error}"
        );
        assert_eq!(fixture.entries(), 0);
    }
}

#[test]
fn the_worker_is_not_believed_what_the_bytes_say_otherwise() {
    let fixture = Fixture::new();
    let error = fixture.error(&binary("code component"));
    assert!(
        error.ends_with("the compiler took a module for a component, or a component for a module"),
        "{error}"
    );
    assert_eq!(fixture.entries(), 0);
}

#[test]
fn time_is_limited_and_the_node_remembers() {
    let fixture = Fixture::with(|settings| settings.time = Duration::from_millis(400));
    for what in ["hang", "spin"] {
        let begin = Instant::now();
        let error = fixture.error(&text(what));
        let sentence = "could not compile module /app.wasm: it took longer than 0.4 s, the limit of one compilation";
        assert_eq!(error, sentence);
        assert!(
            begin.elapsed() < Duration::from_secs(10),
            "{:?}",
            begin.elapsed()
        );
        // The second container of the image does not start it again.
        let error = fixture.error(&text(what));
        assert!(
            error.starts_with(&format!("{sentence} (tried 0 s ago; it is tried again ")),
            "{error}"
        );
    }
}

#[test]
fn a_failure_is_forgotten_in_time() {
    let fixture = Fixture::with(|settings| {
        settings.time = Duration::from_millis(200);
        settings.remember_failure = Duration::from_millis(1);
    });
    for _ in 0..2 {
        assert!(!fixture.error(&text("hang")).contains("tried"));
    }
    // Under another limit it is another matter.
    let mut settings = settings(&fixture.directory);
    settings.time = Duration::from_millis(300);
    let compiler = Compiler::new(settings).unwrap();
    let source = Source::File(file(&text("hang")));
    let error = run(compiler.code_for(source, "x", CompileOptions::default())).unwrap_err();
    assert!(matches!(error, CompileError::Time { .. }), "{error}");
}

#[test]
fn memory_is_limited() {
    let fixture = Fixture::with(|settings| settings.memory = 64 << 20);
    let sentence = "could not compile module /app.wasm: it needed more than 64 MiB of memory, the limit of one compilation";
    assert_eq!(fixture.error(&text("memory")), sentence);
    assert!(
        fixture
            .error(&text("memory"))
            .starts_with(&format!("{sentence} (tried "))
    );
    // Others go on as before.
    fixture.code(&text("code")).unwrap();
}

#[test]
fn output_is_limited() {
    let fixture = Fixture::with(|settings| settings.output = 1 << 20);
    let sentence = "could not compile module /app.wasm: its code is larger than 1 MiB, the limit of one module";
    assert_eq!(fixture.error(&text("large 2097152")), sentence);
    fixture.code(&text("large 524288")).unwrap();
}

#[test]
fn threads_are_limited() {
    let fixture = Fixture::with(|settings| settings.processes = 8);
    let error = fixture.error(&text("threads 100"));
    assert_eq!(error, "could not compile module /app.wasm: 7 threads");
}

#[test]
fn a_caller_that_goes_away_takes_the_worker_with_it() {
    let fixture = Fixture::new();
    let begin = Instant::now();
    run(async {
        let work = fixture.compiler.code_for(
            Source::File(file(&text("spin"))),
            "x",
            CompileOptions::default(),
        );
        tokio::time::timeout(Duration::from_millis(300), work)
            .await
            .unwrap_err();
    });
    assert!(
        begin.elapsed() < Duration::from_secs(10),
        "{:?}",
        begin.elapsed()
    );
    // Its slot and its key are free again.
    fixture.code(&text("code")).unwrap();
}

#[test]
fn a_hanging_module_does_not_keep_others_waiting() {
    let fixture = Fixture::with(|settings| settings.slots = 2);
    let begin = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut settings = settings(&fixture.directory);
            settings.time = Duration::from_secs(5);
            let compiler = Compiler::new(settings).unwrap();
            run(compiler.code_for(
                Source::File(file(&text("spin"))),
                "x",
                CompileOptions::default(),
            ))
            .unwrap_err();
        });
        std::thread::sleep(Duration::from_millis(100));
        for number in 0..5 {
            fixture.code(&text(&format!("code {number}"))).unwrap();
        }
        assert!(
            begin.elapsed() < Duration::from_millis(4500),
            "{:?}",
            begin.elapsed()
        );
    });
}

#[test]
fn waiting_for_a_slot_ends() {
    let fixture = Fixture::with(|settings| {
        settings.slots = 1;
        settings.waiting = Duration::from_millis(200);
    });
    let _slot = fixture
        .compiler
        .cache()
        .unwrap()
        .try_slot(1)
        .unwrap()
        .unwrap();
    let error = fixture.error(&text("code"));
    assert_eq!(
        error,
        "could not compile module /app.wasm: other compilations on this node left no room within 0 s"
    );
}

/// A driver in a process of its own, to be killed; does nothing when run as a test.
#[test]
fn child() {
    let Some(directory) = std::env::var_os("SKIFF_TEST_CHILD_CACHE") else {
        return;
    };
    // Within the cache's directory, with which it goes: this process is killed.
    let place = tempfile::tempdir_in(&directory).unwrap();
    let mut settings = settings(&place);
    settings.cache.directory = directory.into();
    let compiler = Compiler::new(settings).unwrap();
    let source = Source::File(file(&text("spin")));
    run(compiler.code_for(source, "x", CompileOptions::default())).unwrap_err();
}

#[test]
fn what_a_killed_shim_leaves_is_swept() {
    let fixture = Fixture::new();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "limits::child"])
        .env("SKIFF_TEST_CHILD_CACHE", &fixture.cache)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let begin = Instant::now();
    let tasks = || -> Vec<String> {
        let read =
            |path: PathBuf| std::fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
        cgroups(&fixture.cache).into_iter().map(read).collect()
    };
    while tasks().iter().all(String::is_empty) {
        assert!(
            begin.elapsed() < Duration::from_secs(10),
            "no worker was started"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    // It is in use: nothing happens.
    skiff_engine::compile::sweep(&settings_of(&fixture));
    assert!(tasks().iter().any(|tasks| !tasks.is_empty()));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!cgroups(&fixture.cache).is_empty());
    skiff_engine::compile::sweep(&settings_of(&fixture));
    assert_eq!(cgroups(&fixture.cache), Vec::<PathBuf>::new());
}

fn settings_of(fixture: &Fixture) -> skiff_cache::Settings {
    skiff_cache::Settings {
        directory: fixture.cache.clone(),
        limit: 1 << 30,
    }
}

#[test]
fn a_worker_that_is_killed_by_hand_is_said_to_have_been() {
    let fixture = Fixture::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let worker = loop {
                let find = |path: PathBuf| {
                    std::fs::read_to_string(path.join("cgroup.procs"))
                        .ok()?
                        .lines()
                        .next()?
                        .parse()
                        .ok()
                };
                match cgroups(&fixture.cache).into_iter().find_map(find) {
                    Some(pid) => break rustix::process::Pid::from_raw(pid).unwrap(),
                    None => std::thread::sleep(Duration::from_millis(5)),
                }
            };
            rustix::process::kill_process(worker, rustix::process::Signal::KILL).unwrap();
        });
        let error = fixture.error(&text("spin"));
        assert_eq!(
            error,
            "could not compile module /app.wasm: the compiler was ended by signal 9"
        );
    });
    // No limit of its own: it is tried again at once.
    fixture.code(&text("code")).unwrap();
}
