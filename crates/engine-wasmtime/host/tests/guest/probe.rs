//! A guest that uses what a Rust program uses. Built for wasm32-wasip1 and wasm32-wasip2 by the tests.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::{TcpStream, ToSocketAddrs, UdpSocket};
use std::time::{Duration, Instant, SystemTime};

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["files"] => files()?,
        ["clocks"] => clocks(),
        ["lookup", names @ ..] => names.iter().for_each(|name| lookup(name)),
        ["tcp", address] => tcp(address)?,
        ["udp", address] => udp(address)?,
        ["cat"] => drop(io::copy(&mut io::stdin(), &mut io::stdout())?),
        ["where"] => println!("{}", fs::canonicalize(".").map_or_else(|error| error.to_string(), |path| path.display().to_string())),
        ["list", path] => list(path)?,
        ["exit", code] => std::process::exit(code.parse().unwrap()),
        ["panic"] => panic!("on purpose"),
        other => panic!("unknown command {other:?}"),
    }
    Ok(())
}

fn files() -> io::Result<()> {
    fs::create_dir_all("/work/deep/er")?;
    let mut file = fs::File::options().create(true).read(true).write(true).open("/work/file")?;
    file.write_all(b"some text")?;
    file.seek(SeekFrom::Start(5))?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    assert_eq!(text, "text");
    file.set_len(4)?;
    file.sync_all()?;
    file.sync_data()?;
    file.set_times(fs::FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)))?;
    assert_eq!(file.metadata()?.len(), 4);
    fs::File::options().append(true).open("/work/file")?.write_all(b"!")?;
    fs::hard_link("/work/file", "/work/link")?;
    fs::rename("/work/link", "/work/deep/moved")?;
    assert_eq!(fs::read_to_string("/work/deep/moved")?, "some!");
    let big = vec![7; 3 << 20];
    fs::write("/work/big", &big)?;
    assert_eq!(fs::read("/work/big")?, big);
    let mut names: Vec<_> =
        fs::read_dir("/work")?.map(|entry| Ok(entry?.file_name().into_string().unwrap())).collect::<io::Result<_>>()?;
    names.sort();
    assert_eq!(names, ["big", "deep", "file"]);
    fs::remove_file("/work/file")?;
    assert_eq!(fs::metadata("/work/file").unwrap_err().kind(), io::ErrorKind::NotFound);
    fs::remove_dir_all("/work")?;
    println!("files are fine");
    Ok(())
}

fn clocks() {
    let start = Instant::now();
    std::thread::sleep(Duration::from_millis(20));
    assert!(start.elapsed() >= Duration::from_millis(20));
    assert!(SystemTime::now() > SystemTime::UNIX_EPOCH);
    // Two maps of one process have different keys: there is chance.
    use std::hash::{BuildHasher, RandomState};
    assert_ne!(RandomState::new().hash_one(1), 0);
    println!("clocks are fine");
}

fn lookup(name: &str) {
    match (name, 80).to_socket_addrs() {
        Ok(addresses) => {
            let addresses: Vec<String> = addresses.map(|address| address.ip().to_string()).collect();
            println!("{name}: {}", addresses.join(" "));
        }
        Err(error) => println!("{name}: {error}"),
    }
}

fn tcp(address: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"ping")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    println!("{answer}");
    Ok(())
}

fn udp(address: &str) -> io::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.send_to(b"ping", address)?;
    let mut buffer = [0; 16];
    let (length, _) = socket.recv_from(&mut buffer)?;
    println!("{}", String::from_utf8_lossy(&buffer[..length]));
    Ok(())
}

fn list(path: &str) -> io::Result<()> {
    let mut names: Vec<_> =
        fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().into_string().unwrap())).collect::<io::Result<_>>()?;
    names.sort();
    println!("{}", names.join(" "));
    Ok(())
}
