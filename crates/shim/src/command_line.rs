//! What containerd writes on the shim's command line: Go's flag syntax, then an action.
//!
//! Read once by `main`; everything else gets [`Flags`].

use std::ffi::OsString;
use std::path::PathBuf;

/// What the process is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// `start`: make sure that a shim serves the pod, print its address.
    Start,
    /// `delete`: clean up after a shim that is gone, print how its task ended.
    Delete,
    /// No action: somebody has called it by hand.
    Nothing,
    /// `-info`: print what this runtime is.
    Info,
    /// `-v`: print the version for people.
    Version,
}

/// The command line of a shim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flags {
    /// What to do.
    pub action: Action,
    /// containerd's namespace (`k8s.io`, `default`).
    pub namespace: String,
    /// Id of the container for which the shim was called.
    pub id: String,
    /// Path of containerd's own gRPC socket.
    pub address: String,
    /// containerd's executable. Events go to containerd by ttrpc, so nothing runs it.
    pub publish_binary: String,
    /// The bundle, where it is not the working directory.
    pub bundle: Option<PathBuf>,
    /// Log more.
    pub debug: bool,
}

/// The command line is not one that containerd writes.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandLineError {
    /// A flag that is not in the shim protocol.
    #[error(
        "unknown flag -{0}: containerd calls this program, by the runtime type of a RuntimeClass; to use it by hand, try -v"
    )]
    UnknownFlag(String),
    /// A flag at the end that needs a value.
    #[error("flag -{0} needs a value")]
    NoValue(String),
    /// `-debug=perhaps`.
    #[error("flag -{name} is true or false, not {value:?}")]
    NotABool {
        /// The flag.
        name: String,
        /// What was given.
        value: String,
    },
    /// An action of no shim.
    #[error("unknown action {0:?}: containerd calls this program with start, delete or none")]
    UnknownAction(String),
    /// Text that is not Unicode.
    #[error("argument {0} is not valid UTF-8")]
    NotText(usize),
}

impl Flags {
    /// Reads the arguments after the program's name.
    ///
    /// # Errors
    /// See [`CommandLineError`].
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, CommandLineError> {
        let mut flags = Self {
            action: Action::Nothing,
            namespace: String::new(),
            id: String::new(),
            address: String::new(),
            publish_binary: String::new(),
            bundle: None,
            debug: false,
        };
        let (mut info, mut version) = (false, false);
        let mut arguments = arguments.into_iter().enumerate().map(|(index, argument)| {
            argument
                .into_string()
                .map_err(|_| CommandLineError::NotText(index + 1))
        });
        while let Some(argument) = arguments.next().transpose()? {
            // As in Go's flag package: one or two dashes, and the first other argument ends the flags.
            let Some(flag) = argument
                .strip_prefix("--")
                .or_else(|| argument.strip_prefix('-'))
                .filter(|f| !f.is_empty())
            else {
                flags.action = match argument.as_str() {
                    "start" => Action::Start,
                    "delete" => Action::Delete,
                    _ => return Err(CommandLineError::UnknownAction(argument)),
                };
                break;
            };
            let (name, inline) = match flag.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (flag.to_owned(), None),
            };
            if let Some(switch) = match name.as_str() {
                "debug" => Some(&mut flags.debug),
                "info" => Some(&mut info),
                "v" | "version" => Some(&mut version),
                _ => None,
            } {
                *switch = switch_value(name, inline.as_deref())?;
                continue;
            }
            if !["namespace", "id", "address", "publish-binary", "bundle"].contains(&name.as_str())
            {
                return Err(CommandLineError::UnknownFlag(name));
            }
            let value = match inline {
                Some(value) => value,
                None => arguments
                    .next()
                    .transpose()?
                    .ok_or_else(|| CommandLineError::NoValue(name.clone()))?,
            };
            match name.as_str() {
                "namespace" => flags.namespace = value,
                "id" => flags.id = value,
                "address" => flags.address = value,
                "publish-binary" => flags.publish_binary = value,
                _ => flags.bundle = Some(value.into()),
            }
        }
        if version {
            flags.action = Action::Version;
        } else if info {
            flags.action = Action::Info;
        }
        Ok(flags)
    }
}

fn switch_value(name: String, inline: Option<&str>) -> Result<bool, CommandLineError> {
    match inline {
        None | Some("true" | "1" | "t" | "T" | "TRUE" | "True") => Ok(true),
        Some("false" | "0" | "f" | "F" | "FALSE" | "False") => Ok(false),
        Some(value) => Err(CommandLineError::NotABool {
            name,
            value: value.to_owned(),
        }),
    }
}

/// The engine that the program's name asks for: `containerd-shim-<engine>-v1`. `skiff`, and any name of
/// another shape, means wasmtime.
pub fn engine_of(program: &str) -> &str {
    let name = program.rsplit('/').next().unwrap_or(program);
    let engine = name
        .strip_prefix("containerd-shim-")
        .and_then(|rest| rest.rsplit_once('-'))
        .map(|(engine, _)| engine);
    match engine {
        None | Some("" | "skiff") => "wasmtime",
        Some(engine) => engine,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Flags, CommandLineError> {
        Flags::parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn containerd_starts() {
        let flags = parse(&[
            "-namespace",
            "k8s.io",
            "-address",
            "/run/containerd/containerd.sock",
            "-publish-binary",
            "/usr/bin/containerd",
            "-id",
            "abc",
            "-debug",
            "start",
        ])
        .unwrap();
        assert_eq!(flags.action, Action::Start);
        assert_eq!(
            (flags.namespace.as_str(), flags.id.as_str()),
            ("k8s.io", "abc")
        );
        assert_eq!(flags.address, "/run/containerd/containerd.sock");
        assert!(flags.debug);
    }

    #[test]
    fn containerd_deletes() {
        let flags = parse(&[
            "--id=a-b.c",
            "-bundle",
            "/run/x",
            "-debug=false",
            "delete",
            "-info",
        ])
        .unwrap();
        assert_eq!(flags.action, Action::Delete);
        assert_eq!(
            (flags.id.as_str(), flags.bundle),
            ("a-b.c", Some("/run/x".into()))
        );
        assert!(!flags.debug);
    }

    #[test]
    fn info_and_version_come_before_all_else() {
        assert_eq!(parse(&["-info"]).unwrap().action, Action::Info);
        assert_eq!(
            parse(&["-info", "-v", "start"]).unwrap().action,
            Action::Version
        );
        assert_eq!(parse(&[]).unwrap().action, Action::Nothing);
    }

    #[test]
    fn mistakes_are_told() {
        assert_eq!(parse(&["-id"]), Err(CommandLineError::NoValue("id".into())));
        assert_eq!(
            parse(&["-x", "1"]),
            Err(CommandLineError::UnknownFlag("x".into()))
        );
        assert_eq!(
            parse(&["stop"]),
            Err(CommandLineError::UnknownAction("stop".into()))
        );
        assert!(matches!(
            parse(&["-debug=x"]),
            Err(CommandLineError::NotABool { .. })
        ));
    }

    #[test]
    fn the_name_chooses_the_engine() {
        for (program, engine) in [
            ("/usr/local/bin/containerd-shim-wasmtime-v1", "wasmtime"),
            ("containerd-shim-wasmedge-v1", "wasmedge"),
            ("./containerd-shim-skiff-v1", "wasmtime"),
            ("shim", "wasmtime"),
            ("containerd-shim-v1", "wasmtime"),
        ] {
            assert_eq!(engine_of(program), engine, "{program}");
        }
    }
}
