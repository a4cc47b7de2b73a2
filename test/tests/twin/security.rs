//! Who a guest is, and what its process may.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::files::open_to_all;
use crate::world::{World, namespace, own_namespace, status_of};

crate::specs!(
    files_are_the_users,
    files_are_the_groups,
    process_is_the_users,
    supplementary_groups,
    no_new_privileges,
    dropped_capabilities,
    filter_of_system_calls,
    pid_namespace_of_its_own,
    pid_namespace_of_the_pod,
    ipc_namespace_of_the_pod,
    mount_namespace_of_its_own,
    oom_score,
    cannot_see_the_nodes_root,
);

fn context(context: &Value) -> Value {
    json!({ "linux": { "security_context": context } })
}

/// Runs a guest as somebody who writes a file, and answers the file's owner and group.
fn writes_as(world: &World<'_>, who: &Value) -> Result<(u32, u32)> {
    let volume = world.directory()?;
    open_to_all(&volume)?;
    let mut config = context(who);
    config["args"] = json!(["write", "/data/file", "x"]);
    config["mounts"] = json!([{ "host_path": volume, "container_path": "/data" }]);
    world.run_with(&config)?;
    let facts = fs::metadata(volume.join("file"))?;
    Ok((facts.uid(), facts.gid()))
}

fn files_are_the_users(world: &World<'_>) -> Result<()> {
    let (user, _) = writes_as(world, &json!({ "run_as_user": { "value": 1234 } }))?;
    ensure!(user == 1234, "user {user}");
    Ok(())
}

fn files_are_the_groups(world: &World<'_>) -> Result<()> {
    let who = json!({ "run_as_user": { "value": 1234 }, "run_as_group": { "value": 4321 } });
    let (_, group) = writes_as(world, &who)?;
    ensure!(group == 4321, "group {group}");
    Ok(())
}

fn process_is_the_users(world: &World<'_>) -> Result<()> {
    let config = context(&json!({ "run_as_user": { "value": 1234 } }));
    world.sleeping(&config, |container| {
        let users = status_of(container, "Uid")?;
        ensure!(
            users.split_whitespace().all(|user| user == "1234"),
            "{users}"
        );
        Ok(())
    })
}

fn supplementary_groups(world: &World<'_>) -> Result<()> {
    let config = context(&json!({ "supplemental_groups": [777, 888] }));
    world.sleeping(&config, |container| {
        let groups = status_of(container, "Groups")?;
        let has = |group| groups.split_whitespace().any(|seen| seen == group);
        ensure!(has("777") && has("888"), "{groups}");
        Ok(())
    })
}

fn no_new_privileges(world: &World<'_>) -> Result<()> {
    world.sleeping(&context(&json!({ "no_new_privs": true })), |container| {
        ensure!(status_of(container, "NoNewPrivs")? == "1");
        Ok(())
    })
}

fn dropped_capabilities(world: &World<'_>) -> Result<()> {
    let config = context(&json!({ "capabilities": { "drop_capabilities": ["ALL"] } }));
    world.sleeping(&config, |container| {
        for set in ["CapEff", "CapPrm", "CapBnd"] {
            let bits = status_of(container, set)?;
            ensure!(bits.chars().all(|digit| digit == '0'), "{set} {bits}");
        }
        Ok(())
    })
}

fn filter_of_system_calls(world: &World<'_>) -> Result<()> {
    let config = context(&json!({ "seccomp": { "profile_type": 0 } }));
    world.sleeping(&config, |container| {
        ensure!(status_of(container, "Seccomp")? == "2");
        Ok(())
    })
}

fn pid_namespace_of_its_own(world: &World<'_>) -> Result<()> {
    let config = context(&json!({ "namespace_options": { "pid": 1, "network": 2 } }));
    world.pod(|pod| {
        let (one, two) = (world.sleeper(pod, &config)?, world.sleeper(pod, &config)?);
        let (one, two) = (namespace(&one, "pid")?, namespace(&two, "pid")?);
        ensure!(one != own_namespace("pid")? && one != two, "{one}, {two}");
        Ok(())
    })
}

fn pid_namespace_of_the_pod(world: &World<'_>) -> Result<()> {
    let options = json!({ "namespace_options": { "pid": 0, "network": 2 } });
    world.pod_with(
        &json!({ "linux": { "security_context": options } }),
        |pod| {
            let config = context(&options);
            let (one, two) = (world.sleeper(pod, &config)?, world.sleeper(pod, &config)?);
            let (one, two) = (namespace(&one, "pid")?, namespace(&two, "pid")?);
            ensure!(one != own_namespace("pid")? && one == two, "{one}, {two}");
            Ok(())
        },
    )
}

fn ipc_namespace_of_the_pod(world: &World<'_>) -> Result<()> {
    world.pod(|pod| {
        let config = json!({});
        let (one, two) = (world.sleeper(pod, &config)?, world.sleeper(pod, &config)?);
        let (one, two) = (namespace(&one, "ipc")?, namespace(&two, "ipc")?);
        ensure!(one != own_namespace("ipc")? && one == two, "{one}, {two}");
        Ok(())
    })
}

fn mount_namespace_of_its_own(world: &World<'_>) -> Result<()> {
    world.sleeping(&json!({}), |container| {
        ensure!(namespace(container, "mnt")? != own_namespace("mnt")?);
        Ok(())
    })
}

fn oom_score(world: &World<'_>) -> Result<()> {
    let config = json!({ "linux": { "resources": { "oom_score_adj": 500 } } });
    world.sleeping(&config, |container| {
        let score = fs::read_to_string(format!("/proc/{}/oom_score_adj", container.pid()?))?;
        ensure!(score.trim() == "500", "{score}");
        Ok(())
    })
}

fn cannot_see_the_nodes_root(world: &World<'_>) -> Result<()> {
    let place = world.directory()?;
    fs::write(place.join("file"), "of the node")?;
    let path = place.join("file").display().to_string();
    let ended = world.run(&["read", &path])?;
    ensure!(ended.out.starts_with("read failed"), "{}", ended.out);
    Ok(())
}
