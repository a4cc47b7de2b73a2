//! Both engines, alone and inside.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use skiff_test::image::Image;
use skiff_test::node::{Node, Task, Version, WASMEDGE, WASMTIME};
use skiff_test::tools;

use crate::alone::{self, End};
use crate::surroundings::{ENVIRONMENT, SMALL, Surroundings, WORDS, module};

skiff_test::cases!(every_function_is_called, wasmtime, wasmedge);

const BEGIN: &str = "<!-- begin of the list: `make wasi-list` writes it -->\n";
const END: &str = "<!-- end of the list -->\n";

/// How a case ends that the alarm of `test/wasi/wasmedge.c` ends.
const TOOK_TOO_LONG: i32 = 128 + 14;

/// A case, and with which codes it may end.
struct Case {
    name: String,
    codes: Vec<i32>,
}

impl Case {
    fn passes(&self, end: Option<&End>) -> bool {
        end.is_some_and(|(code, _)| self.codes.contains(code))
    }
}

/// The guest imports all of WASI 0.1.
fn every_function_is_called() -> Result<()> {
    let bytes = fs::read(module()?)?;
    let source = fs::read_to_string(tools::checkout().join("test/wasi/cases/src/sys.rs"))?;
    let functions: Vec<&str> = source
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub safe fn ")?.split('(').next())
        .collect();
    assert_eq!(functions.len(), 46, "functions of WASI 0.1");
    for function in functions {
        let import = |module: &str| {
            let mut name = vec![u8::try_from(module.len()).unwrap_or_default()];
            name.extend(module.as_bytes());
            name
        };
        let mut wanted = import("wasi_snapshot_preview1");
        wanted.extend(import(function));
        ensure!(
            bytes.windows(wanted.len()).any(|bytes| bytes == wanted),
            "no case calls {function}"
        );
    }
    Ok(())
}

fn wasmtime() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let (cases, alone, inside) = both(&node, WASMTIME, &alone::wasmtime()?)?;
    let failing: Vec<String> = cases
        .iter()
        .filter(|case| !case.passes(alone.get(&case.name)))
        .map(|case| told(case, alone.get(&case.name)))
        .collect();
    ensure!(
        failing.is_empty(),
        "wasmtime alone fails:\n{}",
        failing.join("\n")
    );
    nothing_is_lost(&cases, &alone, &inside)
}

fn wasmedge() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let program = node.directory().join("tmp/wasmedge-alone");
    let engine = alone::wasmedge(&program)?;
    let (cases, alone, inside) = both(&node, WASMEDGE, &engine)?;
    fs::remove_file(program)?;
    nothing_is_lost(&cases, &alone, &inside)?;
    listed(&cases, &alone, &inside)
}

/// The cases, and how each ended on the engine alone and in a container.
type Both = (Vec<Case>, BTreeMap<String, End>, BTreeMap<String, End>);

fn both(node: &Node, runtime: &str, engine: &std::process::Command) -> Result<Both> {
    let image = Image::root_file("wasi", &fs::read(module()?)?);
    node.import(&image)?;
    let listed = node
        .run(&image)
        .runtime(runtime)
        .guest(&["list"])
        .output()?
        .ok()?;
    let cases: Vec<Case> = listed
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').map(str::to_owned);
            Some(Case {
                name: words.next()?,
                codes: words.filter_map(|code| code.parse().ok()).collect(),
            })
        })
        .collect();
    ensure!(cases.len() >= 70, "only {} cases: {listed}", cases.len());
    let names: Vec<String> = cases.iter().map(|case| case.name.clone()).collect();

    let tmp = node.directory().join("tmp");
    let surroundings = Surroundings::new(tmp.join("alone"))?;
    // Where all users may read it, whatever the checkout is in.
    let program = tmp.join("cases.wasm");
    fs::copy(module()?, &program)?;
    let alone = alone::run(engine, &program, &surroundings, &names)?;
    fs::remove_dir_all(surroundings.root())?;

    let surroundings = Surroundings::new(tmp.join("inside"))?;
    let task = start(node, &image, runtime, &surroundings)?;
    let mut inside = BTreeMap::new();
    for name in names {
        // What never ends on the engine alone would not end here either.
        if alone
            .get(&name)
            .is_some_and(|(code, _)| *code == TOOK_TOO_LONG)
        {
            continue;
        }
        let mut words = vec![
            "task",
            "exec",
            "--exec-id",
            &name,
            task.id(),
            "/app.wasm",
            &name,
        ];
        words.extend(WORDS);
        let ran = node.ctr(&words)?;
        inside.insert(name, (ran.code, said(&ran.stderr)));
    }
    task.remove()?;
    fs::remove_dir_all(surroundings.root())?;
    fs::remove_file(&program)?;
    Ok((cases, alone, inside))
}

/// A container that waits, which cases are executed in.
fn start<'a>(
    node: &'a Node,
    image: &Image,
    runtime: &str,
    surroundings: &Surroundings,
) -> Result<Task<'a>> {
    let small = format!("type=tmpfs,src=tmpfs,dst=/data/small,options=rw:{SMALL}:mode=1777");
    let mut run = node
        .run(image)
        .runtime(runtime)
        .with(&["--user", "1000:1000"])
        .bind(&surroundings.path("data"), "/data", "rw")
        .bind(&surroundings.path("readonly"), "/data/readonly", "ro")
        .with(&["--mount", &small]);
    for variable in ENVIRONMENT {
        run = run.with(&["--env", variable]);
    }
    let task = run.guest(&["wait"]).start()?;
    task.wait_for_output("waiting")?;
    Ok(task)
}

fn nothing_is_lost(
    cases: &[Case],
    alone: &BTreeMap<String, End>,
    inside: &BTreeMap<String, End>,
) -> Result<()> {
    let lost: Vec<String> = cases
        .iter()
        .filter(|case| case.passes(alone.get(&case.name)) && !case.passes(inside.get(&case.name)))
        .map(|case| told(case, inside.get(&case.name)))
        .collect();
    ensure!(
        lost.is_empty(),
        "these pass on the engine alone, and fail inside:\n{}",
        lost.join("\n")
    );
    Ok(())
}

/// What the guest has said, without what `ctr` logs beside.
fn said(stderr: &str) -> String {
    let lines: Vec<&str> = stderr
        .lines()
        .filter(|line| !(line.starts_with("time=\"") && line.contains(" level=")))
        .collect();
    lines.join(" ")
}

fn told(case: &Case, end: Option<&End>) -> String {
    match end {
        Some((TOOK_TOO_LONG, _)) => format!("{}: never ended", case.name),
        Some((code, said)) if said.is_empty() => format!("{}: ended with {code}", case.name),
        Some((_, said)) => said.clone(),
        None => format!("{}: was not run", case.name),
    }
}

/// docs/wasi.md names the cases that the engine fails alone, and no others.
fn listed(
    cases: &[Case],
    alone: &BTreeMap<String, End>,
    inside: &BTreeMap<String, End>,
) -> Result<()> {
    let path = tools::checkout().join("docs/wasi.md");
    let text = fs::read_to_string(&path)?;
    let (before, rest) = text
        .split_once(BEGIN)
        .context("docs/wasi.md has no place for the list")?;
    let (committed, after) = rest
        .split_once(END)
        .context("the list in docs/wasi.md has no end")?;
    let mut list = "| case | seen on WasmEdge alone | in a container |\n|--|--|--|\n".to_owned();
    for case in cases {
        let end = alone.get(&case.name);
        if case.passes(end) {
            continue;
        }
        let said = told(case, end);
        let said = said
            .strip_prefix(&format!("{}: ", case.name))
            .unwrap_or(&said);
        let inside = inside.get(&case.name);
        let here = match inside {
            None => "not tried",
            Some(_) if case.passes(inside) => "passes",
            Some(_) => "fails",
        };
        writeln!(
            list,
            "| `{}` | {} | {here} |",
            case.name,
            said.replace('|', "\\|")
        )?;
    }
    if std::env::var_os("SKIFF_WRITE_TABLE").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{list}{END}{after}"))?;
        return Ok(());
    }
    ensure!(
        names(committed) == names(&list),
        "docs/wasi.md lists other cases than those that WasmEdge fails; `make wasi-list` writes it anew:\n{list}"
    );
    Ok(())
}

/// What cases saw may differ from kernel to kernel; their names do not.
fn names(list: &str) -> BTreeSet<&str> {
    list.lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect()
}
