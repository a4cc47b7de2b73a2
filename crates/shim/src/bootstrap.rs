//! What containerd tells a shim at `start`, in either of its two protocols, and the answer to it.
//!
//! containerd 2.3 and later pipe a `BootstrapParams` message to standard input and take a
//! `BootstrapResult` from standard output. Older ones say the same by flags and environment, may pipe the
//! runtime's options as a protobuf `Any`, and take an address.

use std::io::Read;
use std::path::PathBuf;

use containerd_shim_protos::bootstrap_api::{BootstrapParams, BootstrapResult, LogLevel};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Enum, Message};
use containerd_shim_protos::shim::oci::Options as RuncOptions;

use crate::command_line::Flags;

/// More than this is not read from standard input.
pub const LARGEST_INPUT: u64 = 10 << 20;

/// The type of the options of containerd's own runtime.
const RUNC_OPTIONS: &str = "containerd.runc.v1.Options";

/// How containerd asked, which is how it wants the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Messages on standard input and output. The answer says version 3: containerd then connects all
    /// containers of a pod to this shim without asking again.
    Messages,
    /// Flags and environment. The answer is a bare address, which every containerd takes for version 2.
    Flags,
}

/// What a shim must know to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// How the answer must look.
    pub protocol: Protocol,
    /// containerd's own gRPC socket, a path.
    pub address: String,
    /// containerd's ttrpc socket for events, a path.
    pub events: String,
    /// Where containerd wants the shim's socket.
    pub socket_directory: Option<PathBuf>,
    /// Log more.
    pub debug: bool,
}

/// The parameters cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// Too much input.
    #[error("containerd's start parameters are longer than {} MiB", LARGEST_INPUT >> 20)]
    TooLong,
    /// Standard input failed.
    #[error("could not read containerd's start parameters")]
    Read(#[source] std::io::Error),
    /// A message for another shim.
    #[error(
        "containerd's start parameters are for container {namespace}/{id}, but the command line names {flag_namespace}/{flag_id}"
    )]
    Stranger {
        /// Id in the message.
        id: String,
        /// Namespace in the message.
        namespace: String,
        /// Id of the command line.
        flag_id: String,
        /// Namespace of the command line.
        flag_namespace: String,
    },
    /// Nowhere to send events.
    #[error("containerd did not say where events go: TTRPC_ADDRESS is not set")]
    NoEvents,
}

/// Reads all of standard input, which is empty for old containerds.
///
/// # Errors
/// [`BootstrapError::TooLong`], [`BootstrapError::Read`].
pub fn read_input(input: impl Read) -> Result<Vec<u8>, BootstrapError> {
    let mut bytes = Vec::new();
    input
        .take(LARGEST_INPUT + 1)
        .read_to_end(&mut bytes)
        .map_err(BootstrapError::Read)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > LARGEST_INPUT) {
        return Err(BootstrapError::TooLong);
    }
    Ok(bytes)
}

/// Makes one of the two protocols. `events` is `TTRPC_ADDRESS` of the environment.
///
/// # Errors
/// [`BootstrapError::Stranger`], [`BootstrapError::NoEvents`].
pub fn parameters(
    input: &[u8],
    flags: &Flags,
    events: Option<String>,
) -> Result<Parameters, BootstrapError> {
    let parameters = match message(input, flags)? {
        Some(message) => Parameters {
            protocol: Protocol::Messages,
            debug: flags.debug || message.log_level.value() <= LogLevel::LOG_LEVEL_DEBUG.value(),
            address: message.containerd_grpc_address,
            events: message.containerd_ttrpc_address,
            socket_directory: message
                .socket_dir
                .filter(|directory| !directory.is_empty())
                .map(PathBuf::from),
        },
        None => Parameters {
            protocol: Protocol::Flags,
            debug: flags.debug,
            address: flags.address.clone(),
            events: events.unwrap_or_default(),
            socket_directory: None,
        },
    };
    if parameters.events.is_empty() {
        return Err(BootstrapError::NoEvents);
    }
    Ok(parameters)
}

/// The message, if it is one. Nothing on the wire says which type was sent: an old containerd's `Any`
/// (1: type name, 2: value) parses as a message with id and namespace and nothing else, so the identity
/// that the flags repeat decides.
fn message(input: &[u8], flags: &Flags) -> Result<Option<BootstrapParams>, BootstrapError> {
    if input.is_empty() {
        return Ok(None);
    }
    let Ok(message) = BootstrapParams::parse_from_bytes(input) else {
        return Ok(None);
    };
    if message.instance_id == flags.id && message.namespace == flags.namespace {
        return Ok(Some(message));
    }
    let mut nothing_else = BootstrapParams::new();
    nothing_else.instance_id.clone_from(&message.instance_id);
    nothing_else.namespace.clone_from(&message.namespace);
    if message == nothing_else {
        return Ok(None);
    }
    Err(BootstrapError::Stranger {
        id: message.instance_id,
        namespace: message.namespace,
        flag_id: flags.id.clone(),
        flag_namespace: flags.namespace.clone(),
    })
}

/// The cgroup that the options ask to put the shim in (`ShimCgroup` of containerd's options for runc).
pub fn shim_cgroup(input: &[u8], protocol: Protocol) -> Option<String> {
    let options: Vec<Any> = match protocol {
        Protocol::Messages => BootstrapParams::parse_from_bytes(input)
            .ok()?
            .extensions
            .into_iter()
            .filter_map(|extension| extension.value.into_option())
            .collect(),
        Protocol::Flags => vec![Any::parse_from_bytes(input).ok()?],
    };
    let name = |any: &Any| any.type_url.rsplit('/').next() == Some(RUNC_OPTIONS);
    let options = options.iter().find(|any| name(any))?;
    let options = RuncOptions::parse_from_bytes(&options.value).ok()?;
    Some(options.shim_cgroup).filter(|cgroup| !cgroup.is_empty())
}

/// What `start` prints, byte for byte.
pub fn answer(protocol: Protocol, address: &str) -> Vec<u8> {
    match protocol {
        Protocol::Flags => address.as_bytes().to_vec(),
        Protocol::Messages => {
            let mut result = BootstrapResult::new();
            result.version = 3;
            result.address = address.to_owned();
            result.protocol = "ttrpc".to_owned();
            result
                .write_to_bytes()
                .expect("a message without required fields can always be written")
        }
    }
}

#[cfg(test)]
mod tests {
    use containerd_shim_protos::bootstrap_api::Extension;
    use containerd_shim_protos::protobuf::{EnumOrUnknown, MessageField};

    use super::*;

    fn flags() -> Flags {
        let arguments = [
            "-namespace",
            "k8s.io",
            "-id",
            "abc",
            "-address",
            "/run/c.sock",
            "start",
        ];
        Flags::parse(arguments.iter().map(std::ffi::OsString::from)).unwrap()
    }

    fn params() -> BootstrapParams {
        let mut params = BootstrapParams::new();
        params.instance_id = "abc".into();
        params.namespace = "k8s.io".into();
        params.log_level = EnumOrUnknown::from_i32(-5);
        params.containerd_version = "v2.4.2".into();
        params.containerd_ttrpc_address = "/run/other.sock.ttrpc".into();
        params.containerd_grpc_address = "/run/other.sock".into();
        params.socket_dir = Some("/run/s".into());
        let mut extension = Extension::new();
        extension.value = MessageField::some(Any {
            type_url: "x.y".into(),
            value: vec![1],
            ..Any::default()
        });
        params.extensions.push(extension);
        params
    }

    #[test]
    fn messages_are_told_by_their_identity() {
        let parameters = parameters(&params().write_to_bytes().unwrap(), &flags(), None).unwrap();
        assert_eq!(
            parameters,
            Parameters {
                protocol: Protocol::Messages,
                address: "/run/other.sock".into(),
                events: "/run/other.sock.ttrpc".into(),
                socket_directory: Some("/run/s".into()),
                debug: true,
            }
        );
    }

    #[test]
    fn an_old_containerd_pipes_options_or_nothing() {
        let with_value = Any {
            type_url: "runtimeoptions.v1.Options".into(),
            value: vec![1, 2, 3],
            ..Any::default()
        };
        let without = Any {
            type_url: "containerd.runc.v1.Options".into(),
            ..Any::default()
        };
        for input in [
            Vec::new(),
            with_value.write_to_bytes().unwrap(),
            without.write_to_bytes().unwrap(),
            vec![0xff, 0xfe],
        ] {
            let parameters =
                parameters(&input, &flags(), Some("/run/c.sock.ttrpc".into())).unwrap();
            assert_eq!(parameters.protocol, Protocol::Flags, "{input:?}");
            assert_eq!(
                (parameters.address.as_str(), parameters.events.as_str()),
                ("/run/c.sock", "/run/c.sock.ttrpc")
            );
        }
    }

    #[test]
    fn a_message_for_another_shim_is_refused() {
        let mut other = params();
        other.instance_id = "def".into();
        let error = parameters(&other.write_to_bytes().unwrap(), &flags(), None).unwrap_err();
        assert!(error.to_string().contains("k8s.io/def"), "{error}");
    }

    #[test]
    fn events_must_go_somewhere() {
        assert!(matches!(
            parameters(&[], &flags(), None),
            Err(BootstrapError::NoEvents)
        ));
    }

    #[test]
    fn input_has_a_limit() {
        let endless = std::io::repeat(7);
        assert!(matches!(read_input(endless), Err(BootstrapError::TooLong)));
        assert_eq!(read_input(&[1, 2][..]).unwrap(), [1, 2]);
    }

    #[test]
    fn answers_byte_for_byte() {
        assert_eq!(answer(Protocol::Flags, "unix:///a"), b"unix:///a");
        assert_eq!(
            answer(Protocol::Messages, "unix:///a"),
            b"\x08\x03\x12\x09unix:///a\x1a\x05ttrpc"
        );
        // containerd 2.4 tries to read every answer as a message first: a bare address must not be one.
        BootstrapResult::parse_from_bytes(b"unix:///run/containerd/s/0123").unwrap_err();
    }
}
