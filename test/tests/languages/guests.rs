//! The guests, and what each can do.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use skiff_test::image::Image;
use skiff_test::node::{Node, Version, WASMEDGE, WASMTIME};
use skiff_test::tools;

use crate::steps::{self, INPUT, Place, STEPS, Seen, WORDS};

skiff_test::cases!(
    rust_p1,
    rust_p2,
    c,
    cpp,
    go,
    assemblyscript,
    javascript,
    python
);

/// The largest guests take a minute to compile on a machine that has nothing else to do.
const LIMIT: Duration = Duration::from_secs(300);

/// A program of `test/languages`.
#[derive(Debug)]
pub(crate) struct Guest {
    /// Its name for `build.sh`.
    pub(crate) name: &'static str,
    pub(crate) language: &'static str,
    /// Core modules run on all engines, components on wasmtime.
    pub(crate) component: bool,
    /// The code that it ends with. Rust's library ends a component well, with 0, or badly, with 1.
    pub(crate) code: i32,
}

/// The order of the table.
pub(crate) const GUESTS: [Guest; 8] = [
    Guest::module("rust-p1", "Rust"),
    Guest::component("rust-p2", "Rust", 1),
    Guest::module("c", "C"),
    Guest::module("cpp", "C++"),
    Guest::module("go", "Go"),
    Guest::module("assemblyscript", "AssemblyScript"),
    Guest::component("javascript", "JavaScript", 7),
    Guest::component("python", "Python", 7),
];

/// The engines, and their runtime types.
pub(crate) const ENGINES: [(&str, &str); 2] = [("wasmtime", WASMTIME), ("WasmEdge", WASMEDGE)];

impl Guest {
    const fn module(name: &'static str, language: &'static str) -> Self {
        Self {
            name,
            language,
            component: false,
            code: 7,
        }
    }

    const fn component(name: &'static str, language: &'static str, code: i32) -> Self {
        Self {
            name,
            language,
            component: true,
            code,
        }
    }

    /// What it is written against.
    pub(crate) fn interface(&self) -> &'static str {
        if self.component {
            "component, WASI 0.2"
        } else {
            "module, WASI 0.1"
        }
    }

    /// Whether the engine runs it.
    pub(crate) fn runs_on(&self, runtime: &str) -> bool {
        !self.component || runtime == WASMTIME
    }

    /// What works, in the words of the table.
    pub(crate) fn works(&self, runtime: &str) -> String {
        if !self.runs_on(runtime) {
            return "refused: it is a component".to_owned();
        }
        if self.code == 7 {
            return "all".to_owned();
        }
        format!("all, but its code 7 becomes {}", self.code)
    }

    /// Its bytes, or why they cannot be had on this machine.
    pub(crate) fn bytes(&self) -> Result<std::result::Result<Vec<u8>, String>> {
        let built = tools::cache().join("languages");
        if let Ok(reason) = fs::read_to_string(built.join(format!("{}.missing", self.name))) {
            return Ok(Err(reason.trim().to_owned()));
        }
        let path = built.join(self.name).join("guest.wasm");
        let bytes = fs::read(&path).with_context(|| {
            format!(
                "{} is not there; `test/languages/build.sh {}` builds it",
                path.display(),
                self.name
            )
        })?;
        Ok(Ok(bytes))
    }
}

fn rust_p1() -> Result<()> {
    in_containers("rust-p1")
}

fn rust_p2() -> Result<()> {
    in_containers("rust-p2")
}

fn c() -> Result<()> {
    in_containers("c")
}

fn cpp() -> Result<()> {
    in_containers("cpp")
}

fn go() -> Result<()> {
    in_containers("go")
}

fn assemblyscript() -> Result<()> {
    in_containers("assemblyscript")
}

fn javascript() -> Result<()> {
    in_containers("javascript")
}

fn python() -> Result<()> {
    in_containers("python")
}

fn in_containers(name: &str) -> Result<()> {
    let guest = GUESTS.iter().find(|guest| guest.name == name);
    let guest = guest.context("no such guest")?;
    let bytes = match guest.bytes()? {
        Ok(bytes) => bytes,
        Err(reason) => skiff_test::skip!("{reason}"),
    };
    let node = Node::start(Version::V2_4)?;
    let image = Image::root_file(name, &bytes);
    node.import(&image)?;
    for (engine, runtime) in ENGINES {
        if runtime == WASMEDGE && !tools::skiff_dir().join("engines/wasmedge").is_dir() {
            skiff_test::skip!(
                "it does all on wasmtime; there is no WasmEdge in {}",
                tools::skiff_dir().display()
            );
        }
        // Of a guest of Go WasmEdge's compiler makes fast code in more than a minute, and a node gives it two: too near
        // to that for a machine that has other work. The figures are those of fast code.
        let options = match (name, runtime) {
            ("go", WASMEDGE) => "OptLevel = \"none\"\n",
            _ => "",
        };
        run(&node, &image, guest, runtime, options).with_context(|| format!("on {engine}"))?;
    }
    Ok(())
}

/// Runs it to its end in a container with these options of the handler, and asserts what it does.
pub(crate) fn run(
    node: &Node,
    image: &Image,
    guest: &Guest,
    runtime: &str,
    options: &str,
) -> Result<()> {
    let place = Place::new(node)?;
    let ran = node
        .run(image)
        .runtime(runtime)
        .bind(&place.path(), "/data", "rw")
        .with(&["--env", "COLOUR=dark blue"])
        .guest(&WORDS)
        .input(INPUT.as_bytes())
        .within(LIMIT)
        .options(options)?
        .output()?;
    if !guest.runs_on(runtime) {
        let said = ran.fails_with(&["component", "wasmtime"])?.stderr;
        ensure!(place.remove()?.is_none(), "it was refused, and ran: {said}");
        return Ok(());
    }
    let seen = Seen {
        written: place.remove()?,
        ran,
    };
    let failed: Vec<&str> = STEPS
        .iter()
        .filter(|step| !(step.done)(&seen))
        .map(|step| step.name)
        .collect();
    ensure!(
        failed.is_empty(),
        "these do not work: {}\n{seen:?}",
        failed.join(", ")
    );
    ensure!(
        seen.ran.code == guest.code,
        "it ended with {}, not with {}\n{seen:?}",
        seen.ran.code,
        guest.code
    );
    ensure!(
        seen.ran.stdout == steps::output(),
        "it said other things than all guests say\n{seen:?}"
    );
    Ok(())
}
