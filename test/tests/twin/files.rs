//! The root, volumes, and what is kept away.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use anyhow::{Result, ensure};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::{Value, json};
use skiff_test::node::CriContainer;

use crate::world::{World, has_line, says};

crate::specs!(
    root_is_the_images,
    root_can_be_written,
    next_container_has_a_fresh_root,
    read_only_root,
    volume_is_read,
    volume_is_written,
    read_only_volume,
    volume_of_one_file,
    volume_by_a_symbolic_link,
    volume_in_a_volume,
    volume_is_shared_in_a_pod,
    outside_of_a_volume_is_out_of_reach,
    link_out_of_a_volume_leads_nowhere,
    mount_of_the_node_propagates,
    mount_of_the_node_is_kept_out,
    kernel_files_are_closed,
    devices_are_closed,
    shared_memory_is_the_pods,
);

fn root_is_the_images(world: &World<'_>) -> Result<()> {
    has_line(&world.run(&["read", "/greeting"])?.out, "good morning")
}

fn root_can_be_written(world: &World<'_>) -> Result<()> {
    let ended = world.run(&["write", "/new", "fresh", "read", "/new"])?;
    has_line(&ended.out, "fresh")
}

fn next_container_has_a_fresh_root(world: &World<'_>) -> Result<()> {
    world.pod(|pod| {
        world.end(pod, &json!({ "args": ["write", "/new", "x"] }))?;
        let ended = world.end(pod, &json!({ "args": ["read", "/new"] }))?;
        ensure!(ended.out.starts_with("read failed"), "{}", ended.out);
        Ok(())
    })
}

fn read_only_root(world: &World<'_>) -> Result<()> {
    let context = json!({ "security_context": { "readonly_rootfs": true } });
    let ended = world.run_with(&json!({ "args": ["write", "/new", "x"], "linux": context }))?;
    ensure!(ended.out.starts_with("write failed"), "{}", ended.out);
    Ok(())
}

fn at_data(source: &Path, more: &Value) -> Value {
    let mut mount = json!({ "host_path": source, "container_path": "/data" });
    if let (Some(mount), Some(more)) = (mount.as_object_mut(), more.as_object()) {
        mount.extend(more.clone());
    }
    json!([mount])
}

fn volume_is_read(world: &World<'_>) -> Result<()> {
    let volume = world.directory()?;
    fs::write(volume.join("file"), "from the volume\n")?;
    let config = json!({ "args": ["read", "/data/file"], "mounts": at_data(&volume, &json!({})) });
    has_line(&world.run_with(&config)?.out, "from the volume")
}

fn volume_is_written(world: &World<'_>) -> Result<()> {
    let volume = world.directory()?;
    let config = json!({ "args": ["write", "/data/new", "by the guest"], "mounts": at_data(&volume, &json!({})) });
    world.run_with(&config)?;
    ensure!(fs::read_to_string(volume.join("new"))? == "by the guest");
    Ok(())
}

fn read_only_volume(world: &World<'_>) -> Result<()> {
    let volume = world.directory()?;
    let mounts = at_data(&volume, &json!({ "readonly": true }));
    let ended =
        world.run_with(&json!({ "args": ["write", "/data/new", "x"], "mounts": mounts }))?;
    ensure!(
        ended.out.starts_with("write failed") && !volume.join("new").exists(),
        "{}",
        ended.out
    );
    Ok(())
}

fn volume_of_one_file(world: &World<'_>) -> Result<()> {
    let file = world.directory()?.join("file");
    fs::write(&file, "one file\n")?;
    let mounts = json!([{ "host_path": file, "container_path": "/greeting" }]);
    let ended = world.run_with(&json!({ "args": ["read", "/greeting"], "mounts": mounts }))?;
    has_line(&ended.out, "one file")
}

fn volume_by_a_symbolic_link(world: &World<'_>) -> Result<()> {
    let place = world.directory()?;
    fs::create_dir(place.join("real"))?;
    fs::write(place.join("real/file"), "behind the link\n")?;
    symlink("real", place.join("link"))?;
    let mounts = at_data(&place.join("link"), &json!({}));
    let ended = world.run_with(&json!({ "args": ["read", "/data/file"], "mounts": mounts }))?;
    has_line(&ended.out, "behind the link")
}

fn volume_in_a_volume(world: &World<'_>) -> Result<()> {
    let (outer, inner) = (world.directory()?, world.directory()?);
    fs::create_dir(outer.join("in"))?;
    fs::write(inner.join("file"), "of the inner\n")?;
    let mounts = json!([
        { "host_path": outer, "container_path": "/data" },
        { "host_path": inner, "container_path": "/data/in" },
    ]);
    let ended = world.run_with(&json!({ "args": ["read", "/data/in/file"], "mounts": mounts }))?;
    has_line(&ended.out, "of the inner")
}

fn volume_is_shared_in_a_pod(world: &World<'_>) -> Result<()> {
    let volume = world.directory()?;
    let mounts = at_data(&volume, &json!({}));
    world.pod(|pod| {
        let words = ["write", "/data/note", "for the next"];
        world.end(pod, &json!({ "args": words, "mounts": mounts }))?;
        let ended = world.end(
            pod,
            &json!({ "args": ["read", "/data/note"], "mounts": mounts }),
        )?;
        ensure!(ended.out.trim_end() == "for the next", "{}", ended.out);
        Ok(())
    })
}

fn outside_of_a_volume_is_out_of_reach(world: &World<'_>) -> Result<()> {
    let place = world.directory()?;
    fs::create_dir(place.join("given"))?;
    fs::write(place.join("secret"), "secret")?;
    let mounts = at_data(&place.join("given"), &json!({}));
    let words = ["read", "/data/../secret", "read", "/../secret"];
    let ended = world.run_with(&json!({ "args": words, "mounts": mounts }))?;
    ensure!(!ended.out.contains("secret"), "{}", ended.out);
    Ok(())
}

fn link_out_of_a_volume_leads_nowhere(world: &World<'_>) -> Result<()> {
    let (volume, outside) = (world.directory()?, world.directory()?);
    fs::write(outside.join("file"), "secret")?;
    symlink(outside.join("file"), volume.join("link"))?;
    let mounts = at_data(&volume, &json!({}));
    let ended = world.run_with(&json!({ "args": ["read", "/data/link"], "mounts": mounts }))?;
    ensure!(ended.out.starts_with("read failed"), "{}", ended.out);
    Ok(())
}

/// Mounts a tmpfs with a file into a volume while a guest runs, and lets it look.
fn late_mount(world: &World<'_>, propagation: u32) -> Result<String> {
    let volume = world.directory()?;
    let late = volume.join("late");
    fs::create_dir(&late)?;
    let words = [
        "say",
        "up",
        "sleep",
        "2",
        "list",
        "/data/late",
        "say",
        "looked",
    ];
    let mounts = at_data(&volume, &json!({ "propagation": propagation }));
    world.pod(|pod| {
        let config = json!({ "args": words, "mounts": mounts });
        let container = pod.start(&world.images.guest, &config)?;
        says(&container, "up")?;
        mount("tmpfs", &late, "tmpfs", MountFlags::empty(), None)?;
        let seen = look(&container, &late);
        unmount(&late, UnmountFlags::DETACH)?;
        seen
    })
}

fn look(container: &CriContainer<'_>, late: &Path) -> Result<String> {
    fs::write(late.join("file"), "")?;
    says(container, "looked")?;
    Ok(container.logs()?.0)
}

fn mount_of_the_node_propagates(world: &World<'_>) -> Result<()> {
    has_line(&late_mount(world, 1)?, "list /data/late: file")
}

fn mount_of_the_node_is_kept_out(world: &World<'_>) -> Result<()> {
    has_line(&late_mount(world, 0)?, "list /data/late: ")
}

fn kernel_files_are_closed(world: &World<'_>) -> Result<()> {
    let paths = ["/proc/self/environ", "/proc/1/maps", "/sys/kernel/notes"];
    let words: Vec<&str> = paths.iter().flat_map(|path| ["open", path]).collect();
    let ended = world.run(&words)?;
    ensure!(
        ended.code == 0 && !ended.out.contains("OPEN"),
        "{}",
        ended.out
    );
    Ok(())
}

fn devices_are_closed(world: &World<'_>) -> Result<()> {
    let ended = world.run(&["open", "/dev/mem", "open", "/dev/kmsg", "open", "/dev/sda"])?;
    ensure!(
        ended.code == 0 && !ended.out.contains("OPEN"),
        "{}",
        ended.out
    );
    Ok(())
}

fn shared_memory_is_the_pods(world: &World<'_>) -> Result<()> {
    world.pod(|pod| {
        let written = world.end(
            pod,
            &json!({ "args": ["write", "/dev/shm/note", "shared"] }),
        )?;
        has_line(&written.out, "written /dev/shm/note")?;
        let read = world.end(pod, &json!({ "args": ["read", "/dev/shm/note"] }))?;
        ensure!(read.out.trim_end() == "shared", "{}", read.out);
        Ok(())
    })
}

/// A directory that any user may write to.
pub(crate) fn open_to_all(path: &Path) -> Result<()> {
    Ok(fs::set_permissions(
        path,
        fs::Permissions::from_mode(0o777),
    )?)
}
