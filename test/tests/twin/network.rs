//! Networks, names, port-forward.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use skiff_test::command::{run, wait_for};
use skiff_test::node::Pod;

use crate::world::{World, has_line, namespace, own_namespace};

crate::specs!(
    network_of_the_node,
    network_of_the_pod,
    pod_has_an_address,
    host_name_of_the_pod,
    host_name_in_the_environment,
    resolver_of_the_pod,
    setting_of_the_pods_network,
    forwarded_port,
);

/// A bridge for pods, in this network namespace.
pub(crate) fn configure(directory: &Path) -> Result<()> {
    let configuration = json!({ "cniVersion": "1.0.0", "name": "pods", "plugins": [
        { "type": "bridge", "bridge": "pods0", "isGateway": true, "ipam": {
            "type": "host-local", "dataDir": directory.join("cni/addresses"),
            "ranges": [[{ "subnet": "10.89.0.0/16" }]], "routes": [{ "dst": "0.0.0.0/0" }] } },
    ] });
    fs::write(
        directory.join("cni/10-pods.conflist"),
        configuration.to_string(),
    )?;
    Ok(())
}

/// A pod with a network of its own, for `inspect`.
fn apart<T>(
    world: &World<'_>,
    more: &Value,
    inspect: impl FnOnce(&Pod<'_>) -> Result<T>,
) -> Result<T> {
    let mut config = json!({
        "hostname": "its-name",
        "linux": { "security_context": { "namespace_options": { "network": 0 } } },
    });
    for (field, value) in more.as_object().into_iter().flatten() {
        if field == "sysctls" {
            config["linux"]["sysctls"] = value.clone();
        } else {
            config[field] = value.clone();
        }
    }
    // CRI reads the network's configuration by itself, in its own time.
    wait_for("there is no network", Duration::from_secs(20), || {
        let info = world.cri.crictl(&["info"])?.ok()?;
        let info: Value = serde_json::from_str(&info)?;
        let ready = info["status"]["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|condition| condition["type"] == "NetworkReady" && condition["status"] == true);
        Ok(ready.then_some(()))
    })?;
    world.pod_with(&config, inspect)
}

fn network_of_the_node(world: &World<'_>) -> Result<()> {
    world.sleeping(&json!({}), |container| {
        ensure!(namespace(container, "net")? == own_namespace("net")?);
        Ok(())
    })
}

fn network_of_the_pod(world: &World<'_>) -> Result<()> {
    apart(world, &json!({}), |pod| {
        let (one, two) = (
            world.sleeper(pod, &json!({}))?,
            world.sleeper(pod, &json!({}))?,
        );
        let (one, two) = (namespace(&one, "net")?, namespace(&two, "net")?);
        ensure!(one != own_namespace("net")? && one == two, "{one}, {two}");
        Ok(())
    })
}

fn pod_has_an_address(world: &World<'_>) -> Result<()> {
    apart(world, &json!({}), |pod| {
        let text = world
            .cri
            .crictl(&["inspectp", "--output", "json", &pod.id])?
            .ok()?;
        let all: Value = serde_json::from_str(&text)?;
        let address = all["status"]["network"]["ip"].as_str().unwrap_or_default();
        ensure!(address.starts_with("10.89."), "{address}");
        Ok(())
    })
}

fn host_name_of_the_pod(world: &World<'_>) -> Result<()> {
    apart(world, &json!({}), |pod| {
        let container = world.sleeper(pod, &json!({}))?;
        let pid = container.pid()?.to_string();
        let name = run(Command::new("nsenter").args(["-t", &pid, "-u", "hostname"]))?.ok()?;
        ensure!(name.trim() == "its-name", "{name}");
        Ok(())
    })
}

fn host_name_in_the_environment(world: &World<'_>) -> Result<()> {
    apart(world, &json!({}), |pod| {
        let ended = world.end(pod, &json!({ "args": ["show"] }))?;
        has_line(&ended.out, "env HOSTNAME=its-name")
    })
}

fn resolver_of_the_pod(world: &World<'_>) -> Result<()> {
    let config = json!({ "dns_config": { "servers": ["10.10.10.10"], "searches": ["pods.test"] } });
    apart(world, &config, |pod| {
        let ended = world.end(pod, &json!({ "args": ["read", "/etc/resolv.conf"] }))?;
        has_line(&ended.out, "nameserver 10.10.10.10")?;
        has_line(&ended.out, "search pods.test")
    })
}

fn setting_of_the_pods_network(world: &World<'_>) -> Result<()> {
    let config = json!({ "sysctls": { "net.ipv4.ip_local_port_range": "2000 3000" } });
    apart(world, &config, |pod| {
        let container = world.sleeper(pod, &json!({}))?;
        let pid = container.pid()?.to_string();
        let setting = "/proc/sys/net/ipv4/ip_local_port_range";
        let seen = run(Command::new("nsenter").args(["-t", &pid, "-n", "cat", setting]))?.ok()?;
        ensure!(seen.split_whitespace().eq(["2000", "3000"]), "{seen}");
        Ok(())
    })
}

/// To a native server beside the guest: a stream into the pod's network is the same, whoever listens.
fn forwarded_port(world: &World<'_>) -> Result<()> {
    apart(world, &json!({}), |pod| {
        world.sleeper(pod, &json!({}))?;
        let words = ["/bin/busybox", "httpd", "-f", "-p", "8000", "-h", "/www"];
        pod.start(&world.images.native, &json!({ "command": words }))?;
        let mut forward = world
            .cri
            .crictl_command(&["port-forward", &pod.id, "18000:8000"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let page = wait_for(
            "the forwarded port does not answer",
            Duration::from_secs(15),
            || Ok(fetch().ok().filter(|page| !page.is_empty())),
        );
        forward.kill().ok();
        forward.wait()?;
        let page = page?;
        ensure!(page.contains("it works"), "{page}");
        Ok(())
    })
}

fn fetch() -> Result<String> {
    let mut stream = TcpStream::connect("127.0.0.1:18000").context("could not connect")?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}
