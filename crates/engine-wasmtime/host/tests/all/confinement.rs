//! What is left of the host's powers once its guest runs.

use crate::harness::Container;

fn status_of(pid: u32, field: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_once(':').unwrap().1.trim().to_owned()
}

#[test]
fn a_running_host_has_one_thread_and_a_filter() {
    let container = Container::new(r#"(module (func (export "_start") (loop br 0)))"#).start();
    std::thread::sleep(std::time::Duration::from_millis(200));
    let pid = container.launched.pid;
    assert_eq!(status_of(pid, "Threads"), "1");
    assert_eq!(status_of(pid, "Seccomp:"), "2");
    assert_eq!(status_of(pid, "NoNewPrivs"), "1");
    container.signal(15);
    assert_eq!(container.wait().code(), 143);
}
