//! Fetches a page over plain TCP: `tcp host:port [path]`. Looks the name up by the pod's resolver.
//!
//! Components only: WASI p1 has no way to connect, so the core module says that it is unsupported.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::{env, process::ExitCode};

fn main() -> ExitCode {
    let Some(host) = env::args().nth(1) else {
        eprintln!("usage: tcp host:port [path]");
        return ExitCode::from(2);
    };
    let path = env::args().nth(2).unwrap_or_else(|| "/".to_owned());
    match fetch(&host, &path) {
        Ok(answer) => {
            print!("{answer}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("could not fetch {path} from {host}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn fetch(host: &str, path: &str) -> io::Result<String> {
    let addresses: Vec<_> = host.to_socket_addrs()?.collect();
    println!("{host} is {addresses:?}");
    let mut stream = TcpStream::connect(addresses.as_slice())?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
