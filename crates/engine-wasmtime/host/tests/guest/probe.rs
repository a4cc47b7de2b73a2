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
        #[cfg(target_env = "p1")]
        ["poll"] => poll::poll()?,
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

#[cfg(target_env = "p1")]
mod poll {
    use std::fs::File;
    use std::io::{self, Seek, SeekFrom};
    use std::os::fd::AsRawFd;

    #[link(wasm_import_module = "wasi_snapshot_preview1")]
    unsafe extern "C" {
        fn poll_oneoff(subscriptions: *const u64, events: *mut u64, count: usize, told: *mut u32) -> u32;
    }

    /// Records of WASI 0.1 as words of 8 bytes: who asks, what for, and about what.
    type Subscription = [u64; 6];

    fn events(subscriptions: &[Subscription]) -> String {
        let mut events = [[u64::MAX; 4]; 8];
        let mut told = 0;
        let count = subscriptions.len();
        // SAFETY: the lists are as long as it is told, and as WASI lays them out.
        let errno = unsafe { poll_oneoff(subscriptions.as_ptr().cast(), events.as_mut_ptr().cast(), count, &raw mut told) };
        assert_eq!(events[told as usize], [u64::MAX; 4], "more than it says");
        let words = events[..told as usize].iter().map(|[owner, kind, bytes, flags]| {
            let (error, kind, flags) = (kind & 0xffff, kind >> 16 & 0xff, flags & 0xffff);
            format!(" {owner:x}:error={error},kind={kind},bytes={bytes},flags={flags}")
        });
        format!("{errno}:{}", words.collect::<String>())
    }

    pub fn poll() -> io::Result<()> {
        std::fs::write("/polled", "some text")?;
        let mut file = File::open("/polled")?;
        let write_only = File::options().write(true).open("/polled")?;
        let descriptor = |file: &File| file.as_raw_fd() as u64;
        let read = |owner, file| [owner, 1, file, 0, 0, 0];
        let write = |owner, file| [owner, 2, file, 0, 0, 0];
        let hour = [u64::MAX, 0, 1, 3_600_000_000_000, 0, 0];
        println!("alone {}", events(&[read(7, descriptor(&file))]));
        file.seek(SeekFrom::Start(5))?;
        println!("beside {}", events(&[hour, read(u64::MAX - 1, descriptor(&file)), write(9, 1), read(9, descriptor(&file))]));
        file.seek(SeekFrom::End(0))?;
        println!("at the end {}", events(&[read(7, descriptor(&file))]));
        println!("nobody {}", events(&[read(7, descriptor(&file)), read(8, 99)]));
        println!("not for reading {}", events(&[read(7, descriptor(&write_only))]));
        println!("a directory {}", events(&[read(7, 3)]));
        println!("input {}", events(&[read(7, 0)]));
        std::fs::remove_file("/polled")
    }
}
