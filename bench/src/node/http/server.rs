//! The servers: Skiff's and runwasi's as containers, the others as programs; each on the same processor.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use skiff_test::command::wait_for;
use skiff_test::image::Image;
use skiff_test::node::{RUNWASI, SKIFF, Task};
use skiff_test::{Node, guest, tools};

use super::workload::{BODY, Workload};
use super::{LOADING, SERVING};
use crate::runtime::Runtime;
use crate::settings::Settings;

/// Where the first of them listens.
const PORTS: u16 = 8101;
/// Where the service listens that others call.
const OTHER: u16 = 8100;
/// Requests of an instance that is used again.
const REUSE: u32 = 128;

/// One of those compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Server {
    /// Skiff without an option.
    SkiffFresh,
    /// The same, with instances that answer several requests.
    SkiffReuse,
    /// WASI 0.3.
    SkiffP3,
    /// `wasmtime serve` without an option.
    ServeFresh,
    /// The same, with instances that answer several requests.
    ServeReuse,
    /// WASI 0.3.
    ServeP3,
    /// A shim of runwasi.
    Runwasi,
    /// No Wasm: hyper.
    Native,
    /// No Wasm: nginx, with files.
    Nginx,
}

impl Server {
    /// In the order of their turns.
    pub(super) const ALL: [Self; 9] = [
        Self::SkiffFresh,
        Self::SkiffReuse,
        Self::SkiffP3,
        Self::ServeFresh,
        Self::ServeReuse,
        Self::ServeP3,
        Self::Runwasi,
        Self::Native,
        Self::Nginx,
    ];

    /// What reports call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::SkiffFresh => "skiff, 0.2",
            Self::SkiffReuse => "skiff, 0.2, reuse",
            Self::SkiffP3 => "skiff, 0.3",
            Self::ServeFresh => "wasmtime serve, 0.2",
            Self::ServeReuse => "wasmtime serve, 0.2, reuse",
            Self::ServeP3 => "wasmtime serve, 0.3",
            Self::Runwasi => "runwasi, 0.2",
            Self::Native => "hyper, native",
            Self::Nginx => "nginx, native",
        }
    }

    /// Whether it is Skiff.
    pub(super) fn is_ours(self) -> bool {
        matches!(self, Self::SkiffFresh | Self::SkiffReuse | Self::SkiffP3)
    }

    /// Whether the run was asked for it.
    pub(super) fn wanted(self, settings: &Settings) -> bool {
        if self.is_ours() {
            settings.wants(Runtime::Skiff)
        } else if self == Self::Runwasi {
            settings.wants(Runtime::Runwasi)
        } else {
            settings.runtimes.is_empty()
        }
    }

    /// Whether it can answer such a request: nginx hands nothing back, and the hyper server calls nobody.
    pub(super) fn knows(self, workload: Workload) -> bool {
        !matches!(
            (self, workload),
            (Self::Nginx, Workload::Echo) | (Self::Native, Workload::Fetch)
        )
    }
}

/// A server that answers.
pub(super) struct Running<'a> {
    pub(super) server: Server,
    pub(super) address: SocketAddr,
    process: Process<'a>,
}

enum Process<'a> {
    Container(Task<'a>, u32),
    Program(Program),
}

/// A program that serves until it is dropped.
pub(super) struct Program {
    child: Child,
    pub(super) address: SocketAddr,
}

impl Running<'_> {
    /// The processes that serve.
    pub(super) fn processes(&self) -> Vec<u32> {
        match &self.process {
            Process::Container(_, process) => vec![*process],
            Process::Program(program) => vec![program.child.id()],
        }
    }

    /// Ends it.
    pub(super) fn stop(self) -> Result<()> {
        match self.process {
            Process::Container(task, _) => task.remove().map(drop),
            Process::Program(program) => program.stop(),
        }
    }
}

impl Program {
    fn start(program: &mut Command, processor: &str, address: SocketAddr) -> Result<Self> {
        let mut bound = Command::new("taskset");
        bound.args(["-c", processor]).arg(program.get_program());
        bound.args(program.get_args());
        let child = bound
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("could not run taskset, which is of util-linux")?;
        let mut started = Self { child, address };
        let up = wait_for("it does not listen", Duration::from_secs(60), || {
            if let Some(status) = started.child.try_wait()? {
                anyhow::bail!("it ended with {status}");
            }
            Ok(TcpStream::connect(address).is_ok().then_some(()))
        });
        match up {
            Ok(()) => Ok(started),
            Err(error) => {
                started.stop()?;
                Err(error)
            }
        }
    }

    /// Ends it.
    pub(super) fn stop(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

/// The service that others call: a native one, beside the load.
pub(super) fn other(_: &Settings) -> Result<Program> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, OTHER));
    Program::start(&mut native(address)?, LOADING, address)
}

/// Starts a server.
pub(super) fn start<'a>(
    server: Server,
    node: &'a Node,
    settings: &Settings,
    other: SocketAddr,
) -> Result<Running<'a>> {
    let place = Server::ALL.iter().position(|one| *one == server);
    let port = PORTS + u16::try_from(place.unwrap_or_default())?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let process = match server {
        Server::SkiffFresh => container(node, SKIFF, address, &guest::service()?, "")?,
        Server::SkiffReuse => {
            let options = format!("[Http]\nInstanceRequests = {REUSE}\n");
            container(node, SKIFF, address, &guest::service()?, &options)?
        }
        Server::SkiffP3 => {
            let component = guest::service_p3()?;
            container(node, SKIFF, address, &component, "WasiP3 = true\n")?
        }
        Server::Runwasi => container(node, RUNWASI, address, &guest::service()?, "")?,
        Server::ServeFresh => {
            let mut program = serve(settings, address, &guest::service()?, &[])?;
            Process::Program(Program::start(&mut program, SERVING, address)?)
        }
        Server::ServeReuse => {
            let reuse = REUSE.to_string();
            let options = ["--max-instance-reuse-count", &reuse];
            let mut program = serve(settings, address, &guest::service()?, &options)?;
            Process::Program(Program::start(&mut program, SERVING, address)?)
        }
        Server::ServeP3 => {
            let options = ["-S", "p3", "-W", "component-model-async"];
            let mut program = serve(settings, address, &guest::service_p3()?, &options)?;
            Process::Program(Program::start(&mut program, SERVING, address)?)
        }
        Server::Native => {
            Process::Program(Program::start(&mut native(address)?, SERVING, address)?)
        }
        Server::Nginx => {
            let mut program = nginx(&settings.place, address, other)?;
            Process::Program(Program::start(&mut program, SERVING, address)?)
        }
    };
    Ok(Running {
        server,
        address,
        process,
    })
}

/// A container in the network of the bench, and on the processor of the servers.
fn container<'a>(
    node: &'a Node,
    runtime: &str,
    address: SocketAddr,
    component: &[u8],
    options: &str,
) -> Result<Process<'a>> {
    let image = Image::layer(&format!("http{}", address.port()), component);
    node.import(&image)?;
    let own = format!("WASMTIME_HTTP_PROXY_SOCKET_ADDR={address}");
    let mut run = node.run(&image).runtime(runtime).with(&[
        "--net-host",
        "--cpuset-cpus",
        SERVING,
        "--env",
        &own,
    ]);
    if !options.is_empty() {
        run = run.options(options)?;
    }
    let task = run.start()?;
    let up = wait_for("it does not listen", Duration::from_secs(60), || {
        if TcpStream::connect(address).is_ok() {
            return Ok(Some(()));
        }
        ensure!(task.state()?.0 != "STOPPED", "the container has ended");
        Ok(None)
    });
    match up.and_then(|()| Ok(task.state()?.1)) {
        Ok(process) => Ok(Process::Container(task, process)),
        Err(error) => {
            let output = task.output();
            task.remove()?;
            Err(error.context(format!("the container has said: {output}")))
        }
    }
}

/// `wasmtime serve`, of the version that Skiff has. It compiles by itself.
fn serve(
    settings: &Settings,
    address: SocketAddr,
    component: &[u8],
    options: &[&str],
) -> Result<Command> {
    let file = settings.place.join(format!("http{}.wasm", address.port()));
    fs::write(&file, component)?;
    let mut program = Command::new(tools::component("wasmtime")?.join("wasmtime"));
    program
        // Of WASI's command world, what the standard library imports.
        .args(["serve", "-S", "cli", "--addr", &address.to_string()])
        .args(options)
        .arg(file);
    Ok(program)
}

fn native(address: SocketAddr) -> Result<Command> {
    let mut program = Command::new(std::env::current_exe()?);
    program.arg(format!("--native-server={address}"));
    Ok(program)
}

/// nginx of the distribution, one process: files, and a call of the other service over kept connections.
fn nginx(place: &Path, address: SocketAddr, other: SocketAddr) -> Result<Command> {
    let program = tools::package("nginx")?.join("usr/sbin/nginx");
    let directory = place.join("nginx");
    let files = directory.join("files");
    fs::create_dir_all(&files)?;
    fs::write(files.join("hello"), "hello from a component\n")?;
    fs::write(files.join("body"), vec![b'x'; BODY])?;
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("{name}_temp_path {}/{name};\n", directory.display()))
        .collect();
    let text = format!(
        "user root;\ndaemon off;\nmaster_process off;\nworker_processes 1;\npid {directory}/pid;\n\
         error_log {directory}/errors;\nevents {{ worker_connections 2048; }}\n\
         http {{\naccess_log off;\nsendfile on;\ntcp_nopush on;\nkeepalive_requests 1000000000;\n\
         open_file_cache max=16;\n{temporary}\
         upstream other {{ server {other}; keepalive 256; keepalive_requests 1000000000; }}\n\
         server {{\nlisten {address} backlog=1024;\n\
         location = / {{ root {files}; try_files /hello =404; }}\n\
         location = /bytes {{ alias {files}/body; }}\n\
         location = /fetch {{ proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_pass http://other/; }}\n\
         }}\n}}\n",
        directory = directory.display(),
        files = files.display(),
    );
    let configuration: PathBuf = directory.join("nginx.conf");
    fs::write(&configuration, text)?;
    ensure!(program.exists(), "{} is missing", program.display());
    let mut command = Command::new(program);
    command
        .arg("-p")
        .arg(&directory)
        .arg("-c")
        .arg(configuration);
    command.arg("-e").arg(directory.join("errors"));
    Ok(command)
}
