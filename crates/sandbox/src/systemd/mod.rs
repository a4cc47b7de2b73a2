//! The systemd cgroup driver: a container's cgroup is a transient scope, which systemd makes and knows about.
//!
//! On a node whose cgroups are systemd's, the kubelet and containerd say `slice:prefix:name` instead of a path. The
//! scope `prefix-name.scope` is delegated: systemd makes its cgroup, sets the limits that it knows ([`properties`]) and
//! keeps away from what is below. All other limits are written as with cgroupfs, by [`crate::cgroup`], which calls
//! this; a scope whose limits systemd did not know would have them undone by the next `systemctl daemon-reload`.
//!
//! A scope cannot begin empty. So it is made for a process that does nothing, the caller's, which is ended when the
//! container's own process has joined.

use std::io;

use bus::{Body, Bus, Reader};
pub use properties::Property;

mod bus;
mod properties;

/// What systemd did not do.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// No way to it.
    #[error(
        "could not connect to systemd, which is to make the cgroup (/run/systemd/private, /run/dbus/system_bus_socket): is it this node's first process? If not, set SystemdCgroup = false and cgroupDriver: cgroupfs"
    )]
    Connect(#[source] io::Error),
    /// The conversation broke off.
    #[error("lost the connection to systemd during {call}")]
    Talk {
        /// What was asked for.
        call: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It said no.
    #[error("systemd refused {call}: {message} ({name})")]
    Refused {
        /// What was asked for.
        call: String,
        /// The name of the error.
        name: String,
        /// Its words.
        message: String,
    },
    /// It tried.
    #[error(
        "systemd could not {operation} {unit}: the job ended as {result}; see `systemctl status {unit}`"
    )]
    Job {
        /// `start` or `stop`.
        operation: &'static str,
        /// The unit.
        unit: String,
        /// `failed`, `timeout`, `canceled` …
        result: String,
    },
}

impl SystemdError {
    fn is_named(&self, end: &str) -> bool {
        matches!(self, Self::Refused { name, .. } if name.ends_with(end))
    }

    /// There is no such unit (any more).
    fn is_unknown_unit(&self) -> bool {
        self.is_named(".NoSuchUnit")
    }
}

/// A container's scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// `kubepods-besteffort-pod1.slice`.
    pub slice: String,
    /// `cri-containerd-1234.scope`.
    pub unit: String,
}

impl Scope {
    /// What a cgroup path in systemd's form names; the rest of a sentence about the path, if it names nothing.
    /// `None` for a path in another form.
    pub fn parse(path: &str) -> Option<Result<Self, String>> {
        let parts: Vec<&str> = path.split(':').collect();
        let [slice, prefix, name] = parts[..] else {
            return None;
        };
        if path.starts_with('/') {
            return None;
        }
        let slice = if slice.is_empty() {
            "system.slice"
        } else {
            slice
        };
        let unit = format!("{prefix}-{name}.scope");
        let fine = |text: &str| {
            text.len() < 256
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b":_.-@\\".contains(&byte))
        };
        Some(
            if slice.contains('/') || cgroup_of_slice(slice).is_none() || !fine(slice) {
                Err(format!(
                    "is {path:?}, and {slice:?} is no name of a slice of systemd"
                ))
            } else if name.is_empty() || !fine(&unit) {
                Err(format!(
                    "is {path:?}, and {unit:?} is no name of a scope of systemd"
                ))
            } else if name.ends_with(".slice") {
                Err(format!(
                    "is {path:?}, which names a slice: a container is a scope"
                ))
            } else {
                Ok(Self {
                    slice: slice.to_owned(),
                    unit,
                })
            },
        )
    }

    /// Its cgroup, from the root of each hierarchy.
    pub fn cgroup(&self) -> String {
        let slice = cgroup_of_slice(&self.slice).unwrap_or_default();
        format!("{slice}/{}", self.unit)
    }

    /// Has systemd make the scope, with a process in it.
    ///
    /// # Errors
    /// systemd cannot be reached, or does not make it.
    pub fn start(&self, process: u32, properties: &[Property]) -> Result<(), SystemdError> {
        let mut bus = Bus::connect()?;
        let mut all = vec![
            Property::text("Description", format!("Skiff container {}", self.unit)),
            Property::text("Slice", self.slice.clone()),
            Property::flag("Delegate", true),
            Property::flag("DefaultDependencies", false),
            Property::processes("PIDs", vec![process]),
        ];
        all.extend_from_slice(properties);
        let mut body = Body::default();
        body.string(&self.unit);
        body.string("fail");
        body.array(8, |body| properties::write(&all, body));
        // Units that belong to it, of which there are none.
        body.array(8, |_| ());
        let mut start = || bus.manager("StartTransientUnit", "ssa(sv)a(sa(sv))", &body.0);
        let answer = match start() {
            // A scope of that name has failed once, and is remembered. One that is in use is refused again.
            Err(error) if error.is_named(".UnitExists") => {
                self.forget(&mut bus);
                let mut again = || bus.manager("StartTransientUnit", "ssa(sv)a(sa(sv))", &body.0);
                again()?
            }
            answer => answer?,
        };
        match self.wait(&mut bus, &answer)? {
            result if result == "done" => Ok(()),
            result => {
                self.forget(&mut bus);
                Err(SystemdError::Job {
                    operation: "start",
                    unit: self.unit.clone(),
                    result,
                })
            }
        }
    }

    /// Tells systemd of other limits.
    ///
    /// # Errors
    /// systemd cannot be reached, or refuses one: then none has changed.
    pub fn set(&self, properties: &[Property]) -> Result<(), SystemdError> {
        if properties.is_empty() {
            return Ok(());
        }
        let mut body = Body::default();
        body.string(&self.unit);
        // For as long as the unit is there, and not for the next one of its name: runtime.
        body.number(1);
        body.array(8, |body| properties::write(properties, body));
        Bus::connect()?.manager("SetUnitProperties", "sba(sv)", &body.0)?;
        Ok(())
    }

    /// Has systemd stop the scope and forget it. One that is not there is no error: systemd notices when the last
    /// process is gone.
    ///
    /// # Errors
    /// systemd cannot be reached, or does not stop it.
    pub fn stop(&self) -> Result<(), SystemdError> {
        let mut bus = Bus::connect()?;
        let mut body = Body::default();
        body.string(&self.unit);
        body.string("replace");
        match bus.manager("StopUnit", "ss", &body.0) {
            Err(error) if error.is_unknown_unit() => return Ok(()),
            Err(error) => return Err(error),
            Ok(answer) => {
                let result = self.wait(&mut bus, &answer)?;
                if result != "done" {
                    log::warn!("systemd stopped {} with the result {result}", self.unit);
                }
            }
        }
        self.forget(&mut bus);
        Ok(())
    }

    fn wait(&self, bus: &mut Bus, answer: &[u8]) -> Result<String, SystemdError> {
        let job = Reader::new(answer).string().unwrap_or_default();
        bus.job(&job)
    }

    /// Has systemd forget that the unit has failed, if it has.
    fn forget(&self, bus: &mut Bus) {
        let mut body = Body::default();
        body.string(&self.unit);
        if let Err(error) = bus.manager("ResetFailedUnit", "s", &body.0)
            && !error.is_unknown_unit()
        {
            log::debug!("{error}");
        }
    }
}

/// `a-b.slice` lies in `a.slice`: `/a.slice/a-b.slice`. The root is `-.slice`. `None` for what is no slice.
fn cgroup_of_slice(slice: &str) -> Option<String> {
    let name = slice.strip_suffix(".slice")?;
    if name == "-" {
        return Some(String::new());
    }
    let mut path = String::new();
    for (place, _) in name.match_indices('-').chain([(name.len(), "")]) {
        let level = &name[..place];
        // Two in a row, or one at either end.
        if level.is_empty() || level.ends_with('-') {
            return None;
        }
        path.push_str(&format!("/{level}.slice"));
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_lie_in_slices() {
        for (slice, cgroup) in [
            ("system.slice", Some("/system.slice")),
            (
                "kubepods-burstable-pod1_2.slice",
                Some("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice"),
            ),
            ("-.slice", Some("")),
            ("a--b.slice", None),
            ("-a.slice", None),
            ("a-.slice", None),
            (".slice", None),
            ("a.scope", None),
        ] {
            assert_eq!(cgroup_of_slice(slice).as_deref(), cgroup, "{slice}");
        }
    }

    #[test]
    fn paths_in_systemds_form() {
        let scope = Scope::parse("kubepods-pod1.slice:cri-containerd:abc")
            .unwrap()
            .unwrap();
        assert_eq!(scope.unit, "cri-containerd-abc.scope");
        assert_eq!(
            scope.cgroup(),
            "/kubepods.slice/kubepods-pod1.slice/cri-containerd-abc.scope"
        );
        let scope = Scope::parse(":skiff:c1").unwrap().unwrap();
        assert_eq!(scope.cgroup(), "/system.slice/skiff-c1.scope");
        for path in ["/a/b", "a/b", "/a:b:c", "a:b", "a:b:c:d"] {
            assert!(Scope::parse(path).is_none(), "{path}");
        }
        for (path, part) in [
            ("a:b:c", "\"a\" is no name of a slice"),
            ("../x.slice:b:c", "is no name of a slice"),
            ("a.slice:b:", "is no name of a scope"),
            ("a.slice:b:c/d", "is no name of a scope"),
            ("a.slice:b:c.slice", "names a slice"),
        ] {
            let told = Scope::parse(path).unwrap().unwrap_err();
            assert!(told.contains(part), "{told}");
        }
    }
}
