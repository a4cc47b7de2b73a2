//! From nothing to the first byte of a service's answer, beside the life of a command of the same size.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use containerd_shim_protos::api::{Empty, WaitResponse};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use skiff_test::http::PORT;
use skiff_test::{command, guest};

use super::alone::milliseconds;
use super::bundle::{Bundle, new_id};
use super::shim::{self, Shim, kill_request, start_command, wait_request};
use super::spec::{self, Identity, Namespaces};
use super::stage::{self, Stage};
use crate::measurement::{Bound, Measurement, Outcome, Promise, Unit, median};
use crate::node::guest::large_component;
use crate::runtime::Runtime;
use crate::settings::Settings;

/// Rounds before those that count.
const WARM_UP: usize = 3;
/// What does not answer within this time is a fault.
const PATIENCE: Duration = Duration::from_secs(30);

/// The scenario.
pub(crate) fn measure(settings: &Settings) -> Result<Outcome> {
    if !settings.wants(Runtime::Skiff) {
        return Ok(Outcome::default());
    }
    let stage = stage::stage(settings)?;
    let service = guest::service()?;
    let components = [
        ("service.wasm", service.clone()),
        ("command.wasm", large_component(service.len())),
    ];
    for (name, bytes) in components {
        let path = stage.root(Runtime::Skiff).join(name);
        fs::write(&path, bytes)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    let network = format!("--net={}", stage.network().display());
    let mut up = Command::new("nsenter");
    command::run(up.args([&network, "ip", "link", "set", "lo", "up"]))?.ok()?;
    let client = Client::start(stage)?;
    let (mut whole, mut created, mut lives) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..WARM_UP + settings.rounds.min(100) {
        let (from_start, from_create) = answered(stage, &client)?;
        let bundle = bundle(stage, "/command.wasm")?;
        let life = shim::live_silently(stage, Runtime::Skiff, &bundle)?;
        if round >= WARM_UP {
            whole.push(milliseconds(from_start));
            created.push(milliseconds(from_create));
            lives.push(milliseconds(life.whole()));
        }
    }
    let promise = Promise {
        text: "the start of a pod's service to the first byte of an answer, cached: share of the life of a command of the same size",
        measured: median(&whole) / median(&lives),
        bound: Bound::AtMost(1.5),
        unit: "x",
    };
    let series = [
        ("life of a command component of the same size", lives),
        ("from the shim's start command to the first byte", whole),
        ("from Create to the first byte", created),
    ];
    Ok(Outcome {
        measurements: series
            .into_iter()
            .map(|(what, samples)| Measurement {
                scenario: "http-start",
                runtime: Runtime::Skiff.name(),
                what,
                unit: Unit::Milliseconds,
                samples,
            })
            .collect(),
        promises: vec![promise],
        notes: vec![format!(
            "The service is examples/http ({} kB), the command a component of as many bytes that does nothing; both are \
             files of the root, with their code in the cache. A client in the container's network connects, again and again, \
             as soon as Start is answered, and asks.",
            service.len() / 1000
        )],
        skipped: None,
    })
}

fn bundle<'a>(stage: &'a Stage, program: &str) -> Result<Bundle<'a>> {
    let id = new_id(stage);
    let identity = Identity {
        id: &id,
        pod: &id,
        cgroup: &stage.cgroup(),
    };
    let text = spec::container(stage, identity, &[program], Namespaces::Own)?;
    Bundle::with_spec(stage, Runtime::Skiff, &id, &text)
}

/// The times from the shim's start, and from Create, to the first byte.
fn answered(stage: &Stage, client: &Client) -> Result<(Duration, Duration)> {
    let bundle = bundle(stage, "/service.wasm")?;
    let command = start_command(stage, Runtime::Skiff, &bundle)?;
    let begin = Instant::now();
    let mut shim = Shim::start(&command, Runtime::Skiff).with_context(|| bundle.complaints())?;
    let created = Instant::now();
    shim.create(&bundle).with_context(|| bundle.complaints())?;
    let exit = shim.client.send("Wait", &wait_request(&bundle.id))?;
    shim.run(&bundle.id)?;
    let byte = client.ask().with_context(|| bundle.complaints())?;
    let _: Empty = shim.client.call("Kill", &kill_request(&bundle.id))?;
    let _: WaitResponse = shim.client.receive(exit)?;
    shim.delete(&bundle.id)?;
    shim.shutdown(&bundle.id)?;
    Ok((byte - begin, byte - created))
}

/// A thread in the network of the containers.
struct Client {
    ask: Sender<()>,
    answer: Receiver<Result<Instant>>,
}

impl Client {
    fn start(stage: &Stage) -> Result<Self> {
        let network = File::open(stage.network())?;
        let (ask, asked) = channel::<()>();
        let (tell, answer) = channel();
        std::thread::spawn(move || {
            let entered =
                move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network));
            while asked.recv().is_ok() {
                let told = match entered {
                    Ok(()) => first_byte(),
                    Err(error) => Err(error.into()),
                };
                if tell.send(told).is_err() {
                    break;
                }
            }
        });
        Ok(Self { ask, answer })
    }

    /// When the first byte was there.
    fn ask(&self) -> Result<Instant> {
        self.ask.send(())?;
        self.answer.recv()?
    }
}

fn first_byte() -> Result<Instant> {
    let begin = Instant::now();
    let mut stream = loop {
        match TcpStream::connect((Ipv4Addr::LOCALHOST, PORT)) {
            Ok(stream) => break stream,
            Err(_) if begin.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_micros(50));
            }
            Err(error) => bail!("nobody listens: {error}"),
        }
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: bench\r\n\r\n")?;
    stream.read_exact(&mut [0])?;
    Ok(Instant::now())
}
