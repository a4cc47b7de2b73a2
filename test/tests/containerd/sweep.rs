//! What a killed run leaves is swept by the next one, and nothing else is.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use skiff_test::command::wait_for;
use skiff_test::residue::cgroup_trees;
use skiff_test::sweep;

skiff_test::cases!(what_a_dead_run_left_goes, what_a_living_run_has_stays);

/// A process that has just ended; as long as it is not waited for, its id is nobody else's.
fn dead() -> Result<Child> {
    let child = Command::new("true").spawn()?;
    wait_for("`true` does not end", Duration::from_secs(10), || {
        let program = fs::read_link(format!("/proc/{}/exe", child.id()));
        Ok(program.is_err().then_some(()))
    })?;
    Ok(child)
}

fn what_a_dead_run_left_goes() -> Result<()> {
    let mut ended = dead()?;
    let run = ended.id();
    let name = format!("skt{run}x3");
    let directory = Path::new("/tmp").join(&name);
    let cache = Path::new("/tmp").join(format!("skt{run}-cache"));
    fs::create_dir_all(directory.join("root/deep"))?;
    fs::create_dir_all(&cache)?;
    rustix::mount::mount(
        "none",
        directory.join("root"),
        "tmpfs",
        rustix::mount::MountFlags::empty(),
        None,
    )?;
    let tree = cgroup_trees().pop().context("no cgroups here")?;
    let cgroup = tree.join(&name).join("container");
    fs::create_dir_all(&cgroup)?;
    // One process is known by its cgroup, the other by its environment.
    let mut inside = Command::new("sleep").arg("1000").spawn()?;
    fs::write(cgroup.join("cgroup.procs"), inside.id().to_string())?;
    let mut outside = Command::new("sleep")
        .arg("1000")
        .env("SKIFF_RUN_DIR", directory.join("run"))
        .spawn()?;
    // They are reaped by their parent, which is this process.
    let reaper = std::thread::spawn(move || (inside.wait(), outside.wait()));

    let said = sweep::dead_runs().context("nothing was swept")?;
    ended.wait()?;
    let (inside, outside) = reaper
        .join()
        .map_err(|_| anyhow::anyhow!("could not wait for the processes"))?;
    ensure!(
        inside?.signal() == Some(9) && outside?.signal() == Some(9),
        "a process was not killed"
    );
    ensure!(
        said.contains(&run.to_string())
            && said.contains("2 processes, 1 mounts, 1 cgroups, 0 sockets, 2 directories"),
        "it said: {said}"
    );
    for path in [directory, cache, tree.join(name)] {
        ensure!(!path.exists(), "{} is still there", path.display());
    }
    Ok(())
}

fn what_a_living_run_has_stays() -> Result<()> {
    let directory = Path::new("/tmp").join(format!("skt{}x999999", std::process::id()));
    let mut ended = dead()?;
    let other = Path::new("/tmp").join(format!("skt{}y1", ended.id()));
    fs::create_dir(&directory)?;
    fs::create_dir(&other)?;
    let said = sweep::dead_runs();
    ended.wait()?;
    let stayed = directory.exists() && other.exists();
    fs::remove_dir(&directory)?;
    fs::remove_dir(&other)?;
    ensure!(stayed, "what belongs to others was swept: {said:?}");
    Ok(())
}
