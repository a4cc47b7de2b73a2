//! Containers at a terminal, as somebody at a keyboard has them: `ctr` runs at a terminal of its own, which script(1)
//! makes.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use skiff_test::guest;
use skiff_test::image::Image;
use skiff_test::node::{Node, Version, WASMEDGE, WASMTIME, engine};

skiff_test::cases!(at_a_keyboard, attached_again, log_of_much_output, of_a_pod,);

/// Exits with 50 or 51 when its input or output is no terminal to it; else shows what it reads first, and exits with 7.
const GUEST: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_fdstat_get" (func $stat (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\40\00\00\00\0b\00\00\00")
  (data (i32.const 16) "\00\01\00\00\64\00\00\00")
  (data (i32.const 64) "a terminal\n")
  (func (export "_start")
    (drop (call $stat (i32.const 0) (i32.const 128)))
    (if (i32.ne (i32.load8_u (i32.const 128)) (i32.const 2)) (then (call $exit (i32.const 50))))
    (drop (call $stat (i32.const 1) (i32.const 128)))
    (if (i32.ne (i32.load8_u (i32.const 128)) (i32.const 2)) (then (call $exit (i32.const 51))))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))
    (drop (call $read (i32.const 0) (i32.const 16) (i32.const 1) (i32.const 20)))
    (drop (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 32)))
    (call $exit (i32.const 7))))"#;

/// A program at a terminal. Killed when dropped.
struct Console {
    child: Child,
    shown: Arc<Mutex<String>>,
}

impl Console {
    fn start(program: &Command) -> Result<Self> {
        // exec: what is killed is the program, and not a shell around it.
        let mut line = format!("exec {}", program.get_program().display());
        for word in program.get_args() {
            line.push_str(&format!(" '{}'", word.display()));
        }
        let mut script = Command::new("script");
        script.args(["-q", "-e", "-c", &line, "/dev/null"]);
        for (name, value) in program.get_envs() {
            if let Some(value) = value {
                script.env(name, value);
            }
        }
        let mut child = script
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("could not start script")?;
        let mut output = child.stdout.take().context("it was asked for")?;
        let shown = Arc::new(Mutex::new(String::new()));
        let all = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                if let Ok(mut all) = all.lock() {
                    all.push_str(&String::from_utf8_lossy(&buffer[..length]));
                }
            }
        });
        Ok(Self { child, shown })
    }

    /// Without the returns: how many there are depends on what `ctr` does to its own terminal.
    fn shown(&self) -> String {
        self.shown
            .lock()
            .map(|shown| shown.replace('\r', ""))
            .unwrap_or_default()
    }

    fn sees(&self, text: &str) -> Result<()> {
        let started = Instant::now();
        while !self.shown().contains(text) {
            if started.elapsed() > Duration::from_secs(30) {
                bail!("{text:?} is not in {:?}", self.shown());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn types(&mut self, keys: &str) -> Result<()> {
        let keyboard = self.child.stdin.as_mut().context("it was asked for")?;
        keyboard.write_all(keys.as_bytes())?;
        Ok(keyboard.flush()?)
    }

    fn ends(&mut self) -> Result<Option<i32>> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.code());
            }
            ensure!(
                started.elapsed() < Duration::from_secs(30),
                "it does not end: {:?}",
                self.shown()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn at_a_keyboard() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::root_file("terminal", &guest::text(GUEST)?);
    node.import(&image)?;
    let mut console = Console::start(&node.ctr_command(&run(&image, "typed", true)))?;
    console.sees("a terminal\n")?;
    console.types("typed\n")?;
    console.sees("typed\ntyped\n")?;
    ensure!(console.ends()? == Some(7), "{}", console.shown());
    Ok(())
}

/// Whoever had the terminal is gone without a word; the container is not, and somebody else takes over.
fn attached_again() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::root_file("terminal", &guest::text(GUEST)?);
    node.import(&image)?;
    let console = Console::start(&node.ctr_command(&run(&image, "again", false)))?;
    console.sees("a terminal\n")?;
    drop(console);
    let mut console = Console::start(&node.ctr_command(&["task", "attach", "again"]))?;
    std::thread::sleep(Duration::from_millis(500));
    console.types("later\n")?;
    console.sees("later\nlater\n")?;
    ensure!(console.ends()? == Some(7), "{}", console.shown());
    node.ctr(&["container", "rm", "again"])?.ok()?;
    Ok(())
}

/// All of it arrives, and the end after it.
fn log_of_much_output() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let image = Image::layer("layer", &guest::module()?);
    node.import(&image)?;
    let mut words = run(&image, "much", true);
    let guest = [
        "/app.wasm",
        "lines",
        "20000",
        "say",
        "the-last",
        "exit",
        "3",
    ];
    words.extend(guest.map(str::to_owned));
    let mut console = Console::start(&node.ctr_command(&words))?;
    ensure!(console.ends()? == Some(3), "{}", console.shown());
    console.sees("the-last\n")?;
    let lines = console.shown().lines().count();
    ensure!(lines >= 20_001, "{lines} lines");
    Ok(())
}

/// A container with `tty: true`, as `kubectl attach -it` comes to it; the kubelet's log has all of it too.
fn of_a_pod() -> Result<()> {
    let mut node = Node::start(Version::V2_4)?;
    let image = Image::root_file("terminal", &guest::text(GUEST)?);
    let reference = node.registry()?.push(&image, "terminal")?;
    let cri = node.cri()?;
    cri.pull(&reference)?;
    let pod = cri.pod("wasmtime", "pod")?;
    let config = json!({ "tty": true, "stdin": true });
    let container = pod.start(&reference, &config)?;
    let mut console = Console::start(&cri.crictl_command(&["attach", "-i", "-t", &container.id]))?;
    std::thread::sleep(Duration::from_secs(1));
    console.types("typed\n")?;
    console.sees("typed\ntyped\n")?;
    ensure!(container.wait()? == 7, "{}", console.shown());
    let (log, _) = container.logs()?;
    ensure!(log.contains("a terminal"), "{log}");
    drop(console);
    pod.remove()
}

fn run(image: &Image, id: &str, remove: bool) -> Vec<String> {
    // A type by its whole name under both engines.
    let runtime = match engine() {
        "wasmedge" => WASMEDGE,
        _ => WASMTIME,
    };
    let mut words = vec!["run", "--tty", "--runtime", runtime];
    if remove {
        words.push("--rm");
    }
    let platform = image.platform();
    if let Some(platform) = &platform {
        words.extend(["--platform", platform]);
    }
    words.extend([image.name(), id]);
    words.into_iter().map(str::to_owned).collect()
}
