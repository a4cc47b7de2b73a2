//! The page for Prometheus. Names end in their unit; labels of a container are those of its pod.

use std::fmt::Write as _;
use std::path::Path;

use skiff_image::containerd::CallError;

use crate::containerd::{Container, Containerd, Figures};

/// What the agent knows and counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Metrics {
    /// Everything is as it was installed, and the node object says so.
    pub(crate) ready: bool,
    /// The installed version.
    pub(crate) version: String,
    /// Proven handlers.
    pub(crate) proven: Vec<String>,
    /// Repairs that went well.
    pub(crate) repaired: u64,
    /// Repairs that did not.
    pub(crate) not_repaired: u64,
    /// Modules compiled ahead.
    pub(crate) compiled: u64,
    /// Modules that were compiled already.
    pub(crate) cached: u64,
    /// Images that could not be compiled.
    pub(crate) not_compiled: u64,
    /// Compiled code on the node; `None` before it was counted.
    pub(crate) cache: Option<Cache>,
    /// Entries that were evicted.
    pub(crate) evicted: u64,
}

/// The node's cache of compiled code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cache {
    pub(crate) entries: u64,
    pub(crate) in_use: u64,
    pub(crate) bytes: u64,
    pub(crate) limit: u64,
    pub(crate) quarantined: u64,
}

/// The Wasm containers of the node that run, and what they use.
pub(crate) async fn pods(socket: &Path) -> Result<Vec<(Container, Figures)>, CallError> {
    let containerd = Containerd::open(socket).await?;
    let containers = containerd.containers().await?;
    let ids: Vec<&str> = containers.iter().map(|found| found.id.as_str()).collect();
    let figures = if ids.is_empty() {
        Vec::new()
    } else {
        containerd.figures(&ids).await?
    };
    let mut pods: Vec<(Container, Figures)> = figures
        .into_iter()
        .filter_map(|(id, figures)| {
            let container = containers.iter().find(|container| container.id == id)?;
            Some((container.clone(), figures))
        })
        .collect();
    pods.sort_by(|(a, _), (b, _)| {
        (&a.namespace, &a.pod, &a.name).cmp(&(&b.namespace, &b.pod, &b.name))
    });
    // A container and the one that it restarts as have one name for a moment.
    pods.dedup_by(|(a, _), (b, _)| {
        (&a.namespace, &a.pod, &a.name) == (&b.namespace, &b.pod, &b.name)
    });
    Ok(pods)
}

/// The page. `pods` is `None` where containerd could not be asked.
pub(crate) fn page(metrics: &Metrics, pods: Option<&[(Container, Figures)]>) -> String {
    let mut page = Page::default();
    page.one(
        "skiff_node_ready",
        "gauge",
        "1 if everything is as it was installed.",
        f64::from(u8::from(metrics.ready)),
    );
    page.family(
        "skiff_node_info",
        "gauge",
        "The installed version.",
        [(&[("version", metrics.version.as_str())][..], 1.0)],
    );
    page.family(
        "skiff_handler_proven",
        "gauge",
        "1 for each runtime handler whose probe container ran.",
        metrics
            .proven
            .iter()
            .map(|name| ([("handler", name.as_str())], 1.0)),
    );
    page.family(
        "skiff_repairs_total",
        "counter",
        "Repairs of the installation since the agent started.",
        [
            ([("result", "done")], number(metrics.repaired)),
            ([("result", "failed")], number(metrics.not_repaired)),
        ],
    );
    page.family(
        "skiff_precompiled_modules_total",
        "counter",
        "Modules of images that were looked at before a pod needed them.",
        [
            ([("state", "compiled")], number(metrics.compiled)),
            ([("state", "cached")], number(metrics.cached)),
        ],
    );
    page.one(
        "skiff_precompile_failures_total",
        "counter",
        "Images that could not be compiled ahead.",
        number(metrics.not_compiled),
    );
    cache(&mut page, metrics);
    page.one(
        "skiff_containerd_up",
        "gauge",
        "1 if containerd answered for this page.",
        f64::from(u8::from(pods.is_some())),
    );
    containers(&mut page, pods.unwrap_or_default());
    page.text
}

fn cache(page: &mut Page, metrics: &Metrics) {
    page.one(
        "skiff_cache_evicted_entries_total",
        "counter",
        "Entries that the agent removed from the cache of compiled code.",
        number(metrics.evicted),
    );
    let Some(cache) = metrics.cache else { return };
    for (name, help, value) in [
        (
            "skiff_cache_entries",
            "Modules in the cache of compiled code.",
            cache.entries,
        ),
        (
            "skiff_cache_entries_in_use",
            "Those that running containers have mapped.",
            cache.in_use,
        ),
        (
            "skiff_cache_bytes",
            "Compiled code in the cache.",
            cache.bytes,
        ),
        (
            "skiff_cache_limit_bytes",
            "What the shims let it grow to.",
            cache.limit,
        ),
        (
            "skiff_cache_quarantined_files",
            "Entries set aside as damaged.",
            cache.quarantined,
        ),
    ] {
        page.one(name, "gauge", help, number(value));
    }
}

type Figure = fn(&Figures) -> Option<f64>;

fn containers(page: &mut Page, pods: &[(Container, Figures)]) {
    let families: [(&str, &str, &str, Figure); 7] = [
        (
            "skiff_container_cpu_usage_seconds_total",
            "counter",
            "Processor time of a Wasm container.",
            |figures| figures.cpu_seconds,
        ),
        (
            "skiff_container_cpu_throttled_seconds_total",
            "counter",
            "Time for which its processor limit kept it waiting.",
            |figures| figures.throttled_seconds,
        ),
        (
            "skiff_container_memory_usage_bytes",
            "gauge",
            "Memory charged to it, page cache too.",
            |figures| figures.memory.map(number),
        ),
        (
            "skiff_container_memory_working_set_bytes",
            "gauge",
            "The same without page cache that the kernel can take back.",
            |figures| {
                let memory = figures.memory?;
                Some(number(memory.saturating_sub(figures.inactive_file)))
            },
        ),
        (
            "skiff_container_memory_limit_bytes",
            "gauge",
            "Its memory limit, if it has one.",
            |figures| figures.memory_limit.map(number),
        ),
        (
            "skiff_container_processes",
            "gauge",
            "Its processes and threads.",
            |figures| figures.processes.map(number),
        ),
        (
            "skiff_container_oom_kills_total",
            "counter",
            "Processes of it that the kernel killed for want of memory.",
            |figures| figures.out_of_memory.map(number),
        ),
    ];
    for (name, kind, help, figure) in families {
        let samples = pods.iter().filter_map(|(container, figures)| {
            let labels = [
                ("namespace", container.namespace.as_str()),
                ("pod", container.pod.as_str()),
                ("container", container.name.as_str()),
                ("runtime", container.runtime.as_str()),
            ];
            Some((labels, figure(figures)?))
        });
        page.family(name, kind, help, samples);
    }
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus counts in doubles")]
fn number(count: u64) -> f64 {
    count as f64
}

/// Text in Prometheus' format, version 0.0.4.
#[derive(Debug, Default)]
struct Page {
    text: String,
}

impl Page {
    fn one(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.family(
            name,
            kind,
            help,
            [([], value)] as [([(&str, &str); 0], f64); 1],
        );
    }

    fn family<'a, L: AsRef<[(&'a str, &'a str)]>>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, f64)>,
    ) {
        let text = &mut self.text;
        let mut write = |line: std::fmt::Arguments<'_>| {
            text.write_fmt(line)
                .expect("a string takes all that is written");
        };
        write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        for (labels, value) in samples {
            let labels: Vec<String> = labels
                .as_ref()
                .iter()
                .map(|(key, value)| format!("{key}=\"{}\"", escaped(value)))
                .collect();
            if labels.is_empty() {
                write(format_args!("{name} {value}\n"));
            } else {
                write(format_args!("{name}{{{}}} {value}\n", labels.join(",")));
            }
        }
    }
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', r"\\")
        .replace('"', "\\\"")
        .replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_in_prometheus_format() {
        let metrics = Metrics {
            ready: true,
            version: "0.1.0-\"a\"".to_owned(),
            proven: vec!["wasmtime".to_owned()],
            cache: Some(Cache {
                entries: 3,
                bytes: 4096,
                ..Cache::default()
            }),
            ..Metrics::default()
        };
        let container = Container {
            id: "x".to_owned(),
            namespace: "shop".to_owned(),
            pod: "cart-1".to_owned(),
            name: "app".to_owned(),
            runtime: "io.containerd.wasmtime.v1".to_owned(),
        };
        let figures = Figures {
            cpu_seconds: Some(1.25),
            memory: Some(100),
            inactive_file: 30,
            ..Figures::default()
        };
        let page = page(&metrics, Some(&[(container, figures)]));
        let labels = r#"{namespace="shop",pod="cart-1",container="app",runtime="io.containerd.wasmtime.v1"}"#;
        for line in [
            "skiff_node_ready 1".to_owned(),
            r#"skiff_node_info{version="0.1.0-\"a\""} 1"#.to_owned(),
            r#"skiff_handler_proven{handler="wasmtime"} 1"#.to_owned(),
            "skiff_cache_bytes 4096".to_owned(),
            "skiff_containerd_up 1".to_owned(),
            format!("skiff_container_cpu_usage_seconds_total{labels} 1.25"),
            format!("skiff_container_memory_working_set_bytes{labels} 70"),
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
        assert!(!page.contains("memory_limit_bytes{"), "{page}");
        for line in page.lines() {
            let name = line
                .trim_start_matches("# HELP ")
                .trim_start_matches("# TYPE ");
            assert!(name.starts_with("skiff_"), "{line}");
        }
    }
}
