//! Linux programs in a container of a guest: what they see, who they are, and what they cannot do.

use std::os::unix::fs::PermissionsExt;

use containerd_shim_protos::ttrpc::Code;

use crate::harness::{Containerd, Shim, Spec, eventually, reader, refusal};

/// As CRI writes them, with a volume and a secret.
fn mounts(volume: &str) -> String {
    format!(
        r#""mounts":[
        {{"destination":"/proc","type":"proc","source":"proc","options":["nosuid","noexec","nodev"]}},
        {{"destination":"/dev","type":"tmpfs","source":"tmpfs","options":["nosuid","strictatime","mode=755","size=65536k"]}},
        {{"destination":"/dev/pts","type":"devpts","source":"devpts","options":["nosuid","noexec","newinstance","ptmxmode=0666","mode=0620","gid=5"]}},
        {{"destination":"/dev/mqueue","type":"mqueue","source":"mqueue","options":["nosuid","noexec","nodev"]}},
        {{"destination":"/sys","type":"sysfs","source":"sysfs","options":["nosuid","noexec","nodev","ro"]}},
        {{"destination":"/sys/fs/cgroup","type":"cgroup","source":"cgroup","options":["nosuid","noexec","nodev","relatime","ro"]}},
        {{"destination":"/dev/shm","type":"tmpfs","source":"shm","options":["nosuid","noexec","nodev","mode=1777"]}},
        {{"destination":"/data","type":"bind","source":"{volume}","options":["rbind","rprivate","rw"]}},
        {{"destination":"/locked","type":"bind","source":"{volume}","options":["rbind","rprivate","ro","noexec"]}}],"#
    )
}

const LINUX: &str = r#""maskedPaths":["/proc/kcore","/proc/acpi","/sys/firmware"],"readonlyPaths":["/proc/sys","/proc/irq"],"#;

/// A container with busybox beside its module.
fn running(containerd: &Containerd) -> Shim {
    let volume = containerd.path("volume");
    std::fs::create_dir_all(&volume).unwrap();
    let spec = Spec {
        more: mounts(volume.to_str().unwrap()),
        linux: LINUX,
        ..Spec::guest("c", "run")
    };
    containerd.make(&spec);
    let root = containerd.bundle("c").join("rootfs");
    std::fs::create_dir_all(root.join("bin")).unwrap();
    std::fs::create_dir_all(root.join("etc")).unwrap();
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    std::os::unix::fs::symlink("busybox", root.join("bin/sh")).unwrap();
    std::fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
    std::fs::create_dir_all(root.join("root")).unwrap();
    std::fs::write(root.join("bin/script"), "#!/bin/sh\necho script $1\n").unwrap();
    std::fs::write(root.join("bin/broken"), b"#!/nowhere\n").unwrap();
    for name in ["script", "broken"] {
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(root.join("bin").join(name), mode).unwrap();
    }
    let shim = containerd.shim("c");
    shim.create(&containerd.request("c")).unwrap();
    shim.start("c").unwrap();
    shim
}

/// Runs a command to its end. Gives its exit code and what it wrote.
fn run(
    containerd: &Containerd,
    shim: &Shim,
    name: &str,
    args: &[&str],
    more: &str,
) -> (u32, String) {
    let mut request = Containerd::exec_request("c", name, "x", more);
    let process = &mut request.spec.mut_or_insert_default().value;
    let text = String::from_utf8(process.clone()).unwrap();
    *process = text
        .replace(r#"["x"]"#, &serde_json::to_string(args).unwrap())
        .into_bytes();
    let fifo = containerd.fifo("c", name);
    request.stdout = fifo.display().to_string();
    request.stderr.clone_from(&request.stdout);
    shim.exec(&request).unwrap();
    let output = reader(&fifo);
    shim.start_exec("c", name).unwrap();
    let code = shim.wait_exec("c", name).unwrap();
    shim.delete_exec("c", name).unwrap();
    (code, output.join().unwrap())
}

fn end(shim: &Shim) {
    shim.kill("c", 9, false).unwrap();
    shim.wait("c").unwrap();
    shim.delete("c").unwrap();
    shim.shutdown();
}

const LOOK: &str = r#"
set -e
export PATH=/bin
busybox echo home $HOME, parent $PPID
busybox readlink /proc/self/exe
busybox cat /proc/1/comm
busybox grep -c . /proc/self/cgroup >/dev/null
for device in null zero full random urandom tty; do busybox test -c /dev/$device; done
busybox head -c 3 /dev/zero | busybox wc -c
busybox readlink /dev/fd
busybox readlink /dev/ptmx
busybox test -c /dev/pts/ptmx
busybox ls /sys/class >/dev/null
busybox test ! -w /sys/kernel || busybox touch /sys/x 2>&1 | busybox grep -o 'Read-only'
busybox ls /sys/firmware | busybox wc -l
(busybox echo 1 > /proc/sys/vm/drop_caches) 2>&1 | busybox grep -o 'Read-only'
busybox echo shared > /data/file
busybox cat /locked/file
(busybox echo no > /locked/file) 2>&1 | busybox grep -o 'Read-only'
busybox cp /bin/busybox /data/busybox
/data/busybox echo from the volume
busybox ls /sys/fs/cgroup | busybox grep -c .
"#;

#[test]
fn it_sees_what_a_linux_container_sees() {
    let containerd = Containerd::new();
    let shim = running(&containerd);
    let (code, text) = run(&containerd, &shim, "e", &["/bin/sh", "-c", LOOK], "");
    assert_eq!(code, 0, "{text}");
    let expected = [
        "home /root, parent 0",
        "/bin/busybox",
        "skiff-host-fake",
        "3",
        "/proc/self/fd",
        "pts/ptmx",
        "0",
        "Read-only",
        "shared",
        "Read-only",
        "from the volume",
    ];
    let mut lines = text.lines();
    for line in expected {
        assert!(
            lines.any(|found| found.starts_with(line)),
            "{line:?} is missing, or out of order: {text}"
        );
    }
    // The second one lives in the same mounts, and the guest's own are as they were.
    let (code, text) = run(
        &containerd,
        &shim,
        "f",
        &[
            "sh",
            "-c",
            "busybox readlink /proc/self/ns/mnt; busybox cat /data/file",
        ],
        "",
    );
    assert_eq!(code, 0, "{text}");
    let (_, again) = run(
        &containerd,
        &shim,
        "g",
        &["busybox", "readlink", "/proc/self/ns/mnt"],
        "",
    );
    assert!(text.starts_with(&again), "{text} {again}");
    let pid = shim.state("c").unwrap().pid;
    let guests = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    assert!(!guests.contains(" - proc "), "{guests}");
    end(&shim);
}

#[test]
fn it_is_who_the_client_says() {
    let containerd = Containerd::new();
    let shim = running(&containerd);
    let root = containerd.bundle("c").join("rootfs");
    let more = r#","user":{"uid":1000,"gid":100,"additionalGids":[20]},"noNewPrivileges":true,"cwd":"/data",
        "rlimits":[{"type":"RLIMIT_NOFILE","soft":77,"hard":99}],"oomScoreAdj":500"#;
    let script = "busybox id; busybox pwd; ulimit -n; busybox cat /proc/self/oom_score_adj; \
        busybox grep -E 'NoNewPrivs|CapEff|Seccomp:' /proc/self/status; busybox sleep 0";
    let mut request = Containerd::exec_request("c", "e", "x", "");
    let fifo = containerd.fifo("c", "e");
    let args = serde_json::to_string(&["/bin/sh", "-c", script]).unwrap();
    request.spec.mut_or_insert_default().value =
        format!(r#"{{"args":{args},"env":["PATH=/bin"]{more}}}"#).into_bytes();
    request.stdout = fifo.display().to_string();
    request.stderr.clone_from(&request.stdout);
    shim.exec(&request).unwrap();
    let output = reader(&fifo);
    shim.start_exec("c", "e").unwrap();
    assert_eq!(shim.wait_exec("c", "e").unwrap(), 0);
    let text = output.join().unwrap();
    for line in [
        "uid=1000 gid=100 groups=20",
        "/data\n77\n500\n",
        "NoNewPrivs:\t1",
        "CapEff:\t0000000000000000",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    drop(root);
    end(&shim);
}

#[test]
fn scripts_and_what_cannot_be_executed() {
    let containerd = Containerd::new();
    let shim = running(&containerd);
    assert_eq!(
        run(&containerd, &shim, "e", &["script", "one"], ""),
        (0, "script one\n".to_owned())
    );
    assert_eq!(
        run(&containerd, &shim, "f", &["sh", "-c", "exit 42"], "").0,
        42
    );
    assert_eq!(
        run(&containerd, &shim, "g", &["sh", "-c", "kill -9 $$"], "").0,
        137
    );
    for (name, command, part) in [
        ("h", "broken", "no such file or directory"),
        ("i", "/bin/sh#x", "no function"),
    ] {
        shim.exec(&Containerd::exec_request("c", name, command, ""))
            .unwrap();
        let (code, sentence) = refusal(shim.start_exec("c", name));
        assert_eq!(code, Code::UNKNOWN, "{sentence}");
        assert!(sentence.contains(part), "{sentence}");
        assert_eq!(shim.wait_exec("c", name).unwrap(), 126);
        shim.delete_exec("c", name).unwrap();
    }
    end(&shim);
}

/// What a program leaves behind becomes the child of an engine host, which waits for none.
#[test]
fn orphans_are_reaped() {
    let containerd = Containerd::new();
    let shim = running(&containerd);
    let script = "for n in 1 2 3 4 5; do (busybox sleep 0.2 &) ; done; busybox sleep 0";
    let (code, text) = run(&containerd, &shim, "e", &["sh", "-c", script], "");
    assert_eq!(code, 0, "{text}");
    let pids = || {
        let (_, text) = run(
            &containerd,
            &shim,
            "f",
            &["busybox", "ps", "-o", "pid,stat,comm"],
            "",
        );
        text
    };
    eventually(
        || !pids().contains("sleep"),
        || format!("zombies: {}", pids()),
    );
    end(&shim);
}

/// It may do to the container's processes what its rights allow; the node's files are not among them.
#[test]
fn executables_and_code_of_the_node_are_read_only() {
    let containerd = Containerd::new();
    let shim = running(&containerd);
    let caps = r#","capabilities":{"bounding":["CAP_SYS_PTRACE","CAP_DAC_OVERRIDE"],"effective":["CAP_SYS_PTRACE","CAP_DAC_OVERRIDE"],"permitted":["CAP_SYS_PTRACE","CAP_DAC_OVERRIDE"]}"#;
    let script = "busybox readlink /proc/1/exe; (busybox echo x > /proc/1/exe) 2>&1; \
        for fd in /proc/1/fd/*; do case $(busybox readlink $fd) in \
        *entries*|*code*|*memfd*) (busybox echo x > $fd) 2>&1 && busybox echo written $fd;; esac; done; \
        busybox true";
    let (code, text) = run(&containerd, &shim, "e", &["sh", "-c", script], caps);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("skiff-host-fake"), "{text}");
    assert!(
        text.contains("Read-only")
            || text.contains("Text file busy")
            || text.contains("ermission denied"),
        "{text}"
    );
    assert!(!text.contains("written"), "{text}");
    // A signal to all reaches nobody outside.
    run(&containerd, &shim, "f", &["sh", "-c", "kill -9 -1"], "");
    assert!(shim.is_alive());
    run(&containerd, &shim, "g", &["sh", "-c", "kill -9 0"], "");
    assert!(shim.is_alive());
    end(&shim);
}
