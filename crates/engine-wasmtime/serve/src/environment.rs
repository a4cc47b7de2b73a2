//! Options in the container's environment, by the names that a runwasi shim knows. They are taken out of it: the component
//! does not see them.

use skiff_engine::order::Guest;
use skiff_engine::service::ServiceOptions;

use crate::failure::Failure;

/// The address with its port.
const ADDRESS: &str = "WASMTIME_HTTP_PROXY_SOCKET_ADDR";
/// The backlog: the name in runwasi's documentation, and the one in its code.
const BACKLOG: [&str; 2] = ["WASMTIME_HTTP_PROXY_BACKLOG", "WASMTIME_HTTP_BACKLOG"];
/// Where counters can be read.
const METRICS: &str = "SKIFF_HTTP_METRICS_ADDR";

/// Applies them.
///
/// # Errors
/// A value is not understood.
pub(crate) fn apply(guest: &mut Guest, options: &mut ServiceOptions) -> Result<(), Failure> {
    let address = "an address with a port is, such as 0.0.0.0:8080 or [::]:8080";
    if let Some(own) = take(guest, ADDRESS, address, |text| text.parse().ok())? {
        options.address = Some(own);
    }
    if let Some(own) = take(guest, METRICS, address, |text| text.parse().ok())? {
        options.metrics = Some(own);
    }
    for name in BACKLOG {
        let number = "a number of connections is";
        if let Some(own) = take(guest, name, number, |text| text.parse().ok())? {
            options.backlog = own;
        }
    }
    Ok(())
}

fn take<T>(
    guest: &mut Guest,
    name: &'static str,
    expected: &'static str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, Failure> {
    let is_it = |variable: &String| {
        variable
            .strip_prefix(name)
            .is_some_and(|rest| rest.starts_with('='))
    };
    let Some(index) = guest.env.iter().position(is_it) else {
        return Ok(None);
    };
    let variable = guest.env.remove(index);
    let value = &variable[name.len() + 1..];
    // As good as not there.
    if value.is_empty() {
        return Ok(None);
    }
    match read(value) {
        Some(value) => Ok(Some(value)),
        None => Err(Failure::Variable {
            name,
            value: value.to_owned(),
            expected,
        }),
    }
}

#[cfg(test)]
mod tests {
    use skiff_engine::options::GuestOptions;
    use skiff_engine::order::CodeKind;
    use skiff_sandbox::plan::Slot;

    use super::*;

    fn applied(env: &[&str]) -> Result<(Vec<String>, ServiceOptions), String> {
        let mut guest = Guest {
            kind: CodeKind::Service,
            code: Slot(0),
            name: "/app.wasm".to_owned(),
            function: None,
            args: Vec::new(),
            env: env.iter().map(ToString::to_string).collect(),
            working_directory: "/".to_owned(),
            exit_record: Slot(1),
            options: GuestOptions::default(),
        };
        let mut options = ServiceOptions::default();
        apply(&mut guest, &mut options).map_err(|failure| failure.to_string())?;
        Ok((guest.env, options))
    }

    #[test]
    fn runwasis_names_are_taken_out() {
        let (env, options) = applied(&[
            "A=1",
            "WASMTIME_HTTP_PROXY_SOCKET_ADDR=127.0.0.1:81",
            "WASMTIME_HTTP_PROXY_SOCKET_ADDRESS=kept",
            "WASMTIME_HTTP_BACKLOG=7",
            "SKIFF_HTTP_METRICS_ADDR=[::]:9090",
        ])
        .unwrap();
        assert_eq!(env, ["A=1", "WASMTIME_HTTP_PROXY_SOCKET_ADDRESS=kept"]);
        assert_eq!(options.address, Some("127.0.0.1:81".parse().unwrap()));
        assert_eq!(options.metrics, Some("[::]:9090".parse().unwrap()));
        assert_eq!(options.backlog, 7);
    }

    #[test]
    fn what_is_not_understood_is_a_sentence() {
        let told = applied(&["WASMTIME_HTTP_PROXY_SOCKET_ADDR=8080"]).unwrap_err();
        assert!(
            told.contains("=8080") && told.contains("0.0.0.0:8080"),
            "{told}"
        );
        assert_eq!(
            applied(&["WASMTIME_HTTP_BACKLOG="]).unwrap().1,
            ServiceOptions::default()
        );
    }
}
