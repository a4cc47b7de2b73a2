//! What the tests' containers run: each argument is one thing to do, in order, with its result on standard output.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const HELP: &str = "show | exit N | trap | spin | sleep SECONDS | say TEXT | warn TEXT | open PATH | list PATH \
                    | read PATH | write PATH TEXT | watch PATH | echo | fill PATH MIB | lines N | grow MIB | lookup NAME | fetch ADDRESS PATH \
                    | serve PORT | random | clock";

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let Some(mut word) = words.next() else {
        println!("hello from a guest");
        return ExitCode::SUCCESS;
    };
    loop {
        let mut next = || words.next().unwrap_or_default();
        match word.as_str() {
            "show" => show(),
            "exit" => return ExitCode::from(next().parse::<u8>().unwrap_or(255)),
            "trap" => inner_function_that_traps(),
            "spin" => spin(),
            "sleep" => std::thread::sleep(Duration::from_secs_f64(next().parse().unwrap_or(1.0))),
            "say" => println!("{}", next()),
            "warn" => eprintln!("{}", next()),
            "open" => open(&next()),
            "list" => list(&next()),
            "read" => match fs::read_to_string(next()) {
                Ok(text) => print!("{text}"),
                Err(error) => println!("read failed: {}", error.kind()),
            },
            "write" => {
                let path = next();
                match fs::write(&path, next()) {
                    Ok(()) => println!("written {path}"),
                    Err(error) => println!("write failed: {}", error.kind()),
                }
            }
            "watch" => watch(&next()),
            "serve" => println!("serve failed: {:?}", serve(&next()).err()),
            "fetch" => match fetch(&next(), &next()) {
                Ok(answer) => println!("{answer}"),
                Err(error) => println!("fetch failed: {error}"),
            },
            "fill" => fill(&next(), next().parse().unwrap_or(0)),
            "echo" => {
                io::copy(&mut io::stdin(), &mut io::stdout()).ok();
            }
            "lines" => lines(next().parse().unwrap_or(0)),
            "grow" => grow(next().parse().unwrap_or(0)),
            "lookup" => lookup(&next()),
            "random" => println!("{:?}", std::collections::hash_map::RandomState::new()),
            "clock" => println!("{:?}", std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)),
            other => {
                eprintln!("unknown word {other}; known are: {HELP}");
                return ExitCode::from(64);
            }
        }
        match words.next() {
            Some(next) => word = next,
            None => return ExitCode::SUCCESS,
        }
    }
}

/// What an entrypoint `path#other` runs.
#[unsafe(no_mangle)]
pub extern "C" fn other() {
    println!("the other function");
}

fn show() {
    for (place, argument) in std::env::args().enumerate() {
        println!("arg {place} {argument}");
    }
    for (name, value) in std::env::vars() {
        println!("env {name}={value}");
    }
    println!("directory {}", std::env::current_dir().map_or("-".to_owned(), |path| path.display().to_string()));
}

#[inline(never)]
fn inner_function_that_traps() {
    std::process::abort();
}

fn spin() -> ! {
    println!("spinning");
    let mut number = 1u64;
    loop {
        number = std::hint::black_box(number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
}

/// Tries to open for reading, for writing, and as a directory; `OPEN` is what must not be seen.
fn open(path: &str) {
    let read = File::open(path).and_then(|mut file| file.read(&mut [0; 1]).or_else(|error| if is_directory(path) { Err(error) } else { Ok(0) }));
    let write = OpenOptions::new().write(true).open(path);
    let listed = fs::read_dir(path).map(|entries| entries.count());
    match (&read, &write, &listed) {
        (Err(error), Err(_), Err(_)) => println!("closed {path}: {}", error.kind()),
        _ => println!("OPEN {path}: read {} write {} list {:?}", read.is_ok(), write.is_ok(), listed.ok()),
    }
}

fn is_directory(path: &str) -> bool {
    fs::metadata(path).is_ok_and(|facts| facts.is_dir())
}

fn list(path: &str) {
    match fs::read_dir(path) {
        Ok(entries) => {
            let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            println!("list {path}: {}", names.join(" "));
        }
        Err(error) => println!("list {path} failed: {}", error.kind()),
    }
}

fn lookup(name: &str) {
    use std::net::ToSocketAddrs as _;
    match (name, 80).to_socket_addrs() {
        Ok(addresses) => println!("lookup {name}: {:?}", addresses.map(|address| address.ip()).collect::<Vec<_>>()),
        Err(error) => println!("lookup {name} failed: {error}"),
    }
}

fn lines(count: usize) {
    let mut out = io::stdout().lock();
    for number in 0..count {
        if writeln!(out, "line {number:08} of a guest that has much to say").is_err() {
            return;
        }
    }
}

/// Prints a file, and again whenever it holds something else.
fn watch(path: &str) -> ! {
    let mut last = None;
    loop {
        let now = fs::read_to_string(path).unwrap_or_else(|error| format!("read failed: {}", error.kind()));
        if last.as_ref() != Some(&now) {
            println!("{path}: {}", now.trim_end());
            last = Some(now);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Answers HTTP, one request after the other, for ever: with the path that was asked for and this machine's name, or with an
/// error while there is a file `/sick`.
fn serve(port: &str) -> io::Result<()> {
    let listener = std::net::TcpListener::bind(format!("0.0.0.0:{port}"))?;
    println!("serving on port {port}");
    loop {
        let (mut stream, _) = listener.accept()?;
        // Whoever goes away early is no reason to end.
        answer(&mut stream).ok();
    }
}

fn answer(stream: &mut std::net::TcpStream) -> io::Result<()> {
    let (mut request, mut bytes) = (Vec::new(), [0; 512]);
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut bytes)? {
            // A probe that only connects.
            0 => return Ok(()),
            count => request.extend_from_slice(&bytes[..count]),
        }
    }
    let request = String::from_utf8_lossy(&request);
    let path = request.split(' ').nth(1).unwrap_or("/");
    let status = if fs::metadata("/sick").is_ok() { "500 Internal Server Error" } else { "200 OK" };
    let host = std::env::var("HOSTNAME").unwrap_or_default();
    let body = format!("{host} was asked for {path}\n");
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

/// Asks for a page over plain TCP.
fn fetch(address: &str, path: &str) -> io::Result<String> {
    let mut stream = std::net::TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Writes a file of so many MiB.
fn fill(path: &str, mebibytes: usize) {
    let written = File::create(path).and_then(|mut file| (0..mebibytes).try_for_each(|_| file.write_all(&[1; 1 << 20])));
    println!("filled {path}: {}", written.is_ok());
}

fn grow(mebibytes: usize) {
    let mut kept = Vec::new();
    let begin = Instant::now();
    for _ in 0..mebibytes {
        kept.push(vec![1u8; 1 << 20]);
    }
    println!("grown to {} MiB in {:?}", kept.len(), begin.elapsed());
}
