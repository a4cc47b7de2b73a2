//! Who makes a container's cgroup: this shim, or systemd for it.

use std::fs::File;
use std::os::fd::AsFd;

use oci_spec::runtime::Spec;
use skiff_engine::order::{Command, ProgramOrder};
use skiff_sandbox::cgroup::{Cgroup, CgroupPlan, Layout};
use skiff_sandbox::plan::{NewNamespaces, Plan, Slot};
use skiff_sandbox::systemd::Scope;

use super::CreateError;
use super::guards::CgroupGuard;
use crate::launching::{ProcessGuard, Start, open_init, ready, start_process};
use crate::options::Options;
use crate::pod::Pod;

/// The cgroup's path says who makes it: `slice:prefix:name` is systemd's way. containerd and the kubelet have to agree
/// on it, which is all that the option `SystemdCgroup` is still good for; and without a path it decides.
pub(super) fn choose(
    options: &Options,
    plan: &mut CgroupPlan,
    spec: &Spec,
    id: &str,
) -> Result<(), CreateError> {
    if !options.systemd_cgroup || Scope::parse(&plan.path).is_some() {
        return Ok(());
    }
    let named = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.cgroups_path().as_ref());
    if named.is_some_and(|path| !path.as_os_str().is_empty()) {
        return Err(CreateError::Driver {
            path: plan.path.clone(),
        });
    }
    plan.path = format!("system.slice:skiff:{id}");
    Ok(())
}

/// A cgroup to start the container's process in. The process that comes with it holds a scope of systemd open, and is
/// dropped when the container's is there.
pub(super) async fn make(
    pod: &Pod,
    plan: &CgroupPlan,
    layout: &Layout,
    spec: &Spec,
) -> Result<(CgroupGuard, Option<ProcessGuard>), CreateError> {
    if Scope::parse(&plan.path).is_none() {
        return Ok((CgroupGuard::create(plan, layout, None)?, None));
    }
    let first = waiting(pod, plan, layout, spec).await?;
    let (plan, layout, pid) = (plan.clone(), layout.clone(), first.launched().pid);
    // systemd takes its time. If nobody waits for it any more, the guard takes away what it has made.
    let made = tokio::task::spawn_blocking(move || CgroupGuard::create(&plan, &layout, Some(pid)));
    let made = made
        .await
        .map_err(|error| CreateError::Thread(error.into()))?;
    Ok((made?, Some(first)))
}

/// A process that does nothing: an init program that is never told to go on. It ends with this shim.
async fn waiting(
    pod: &Pod,
    plan: &CgroupPlan,
    layout: &Layout,
    spec: &Spec,
) -> Result<ProcessGuard, CreateError> {
    let (name, program) = open_init(pod)?;
    let null = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(|source| CreateError::Program {
            path: "/dev/null".into(),
            source,
        })?;
    let order = ProgramOrder {
        plan: Plan {
            working_directory: "/".to_owned(),
            ..Plan::default()
        },
        program: Command::Slot(Slot(0)),
        args: vec!["skiff-init".to_owned()],
        env: Vec::new(),
    };
    let order =
        postcard::to_stdvec(&order).map_err(|error| CreateError::Order(error.to_string()))?;
    let process = start_process(&Start {
        name: &name,
        id: "scope",
        program: &program,
        new: NewNamespaces::default(),
        inside: None,
        pid_namespace: None,
        cgroup: None,
        stdio: [null.as_fd(); 3],
        at_terminal: false,
        order: &order,
        slots: &[null.as_fd()],
    })?;
    // Not in the cgroup, which is there only to say what became of a process that does not answer.
    let cgroup = Cgroup::open(&plan.path, layout).map_err(CreateError::Cgroup)?;
    ready(process.launched(), &cgroup, spec).await?;
    Ok(process)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(systemd_cgroup: bool, path: &str) -> Result<String, String> {
        let mut options = Options::default();
        options.systemd_cgroup = systemd_cgroup;
        let spec = format!(r#"{{"ociVersion":"1.0.0","linux":{{"cgroupsPath":"{path}"}}}}"#);
        let spec = skiff_sandbox::spec::read(spec.as_bytes()).unwrap();
        // Without a path the plan has the container's id.
        let mut plan = CgroupPlan::new(if path.is_empty() { "c1" } else { path });
        choose(&options, &mut plan, &spec, "c1").map_err(|error| error.to_string())?;
        Ok(plan.path)
    }

    #[test]
    fn the_path_decides() {
        assert_eq!(chosen(false, "/a/b").unwrap(), "/a/b");
        assert_eq!(chosen(false, "a.slice:b:c").unwrap(), "a.slice:b:c");
        assert_eq!(chosen(true, "a.slice:b:c").unwrap(), "a.slice:b:c");
        assert_eq!(chosen(false, "").unwrap(), "c1");
        assert_eq!(chosen(true, "").unwrap(), "system.slice:skiff:c1");
        let told = chosen(true, "/a/b").unwrap_err();
        assert!(
            told.contains("SystemdCgroup = true") && told.contains("\"/a/b\""),
            "{told}"
        );
    }
}
