//! What the node object says of Skiff, and the patch that makes it say so. Pure.
//!
//! Labels below `handler.skiff.dev/` are what RuntimeClasses choose nodes by: only a handler that was proven on the
//! node has one. Annotations below `node.skiff.dev/` are for people. Nothing else of the object is ever changed, which
//! the chart's admission policy holds the agent to.

use serde_json::{Map, Value, json};

/// Labels of proven handlers.
pub(crate) const LABELS: &str = "handler.skiff.dev/";
/// Annotations.
pub(crate) const ANNOTATIONS: &str = "node.skiff.dev/";
/// A sentence of the node's is not longer.
const LONGEST_REASON: usize = 1024;

/// How the node is, for those who look at `kubectl describe node`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Everything is as it was installed.
    Ready,
    /// Handlers work, and something is not as it should be.
    Degraded,
    /// No new Wasm pod can run here.
    Failed,
    /// Skiff is being taken off.
    Removing,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
            Self::Removing => "removing",
        }
    }
}

/// What the node object is to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Handlers that get a label.
    pub(crate) handlers: Vec<String>,
    /// Annotations; those that are not named here go.
    pub(crate) annotations: Vec<(&'static str, String)>,
}

impl Wanted {
    /// Of an installation.
    pub(crate) fn of(
        state: State,
        handlers: &[String],
        version: Option<&str>,
        reason: Option<&str>,
    ) -> Self {
        let mut annotations = vec![("state", state.name().to_owned())];
        annotations.extend(version.map(|version| ("version", version.to_owned())));
        annotations.extend(reason.map(|reason| ("reason", cut(reason))));
        Self {
            handlers: handlers.to_vec(),
            annotations,
        }
    }
}

/// A sentence, cut where it gets too long for an object.
pub(crate) fn cut(sentence: &str) -> String {
    if sentence.len() <= LONGEST_REASON {
        return sentence.to_owned();
    }
    let end = sentence.floor_char_boundary(LONGEST_REASON - "…".len());
    format!("{}…", &sentence[..end])
}

/// The merge patch that takes a node object there; `None` if it says so already.
pub(crate) fn patch(node: &Value, wanted: &Wanted) -> Option<Value> {
    let labels: Vec<(String, String)> = wanted
        .handlers
        .iter()
        .map(|name| (format!("{LABELS}{name}"), "true".to_owned()))
        .collect();
    let annotations: Vec<(String, String)> = wanted
        .annotations
        .iter()
        .map(|(name, text)| (format!("{ANNOTATIONS}{name}"), text.clone()))
        .collect();
    let of = |kind: &str| node.get("metadata")?.get(kind)?.as_object();
    let labels = changes(of("labels"), LABELS, &labels);
    let annotations = changes(of("annotations"), ANNOTATIONS, &annotations);
    let mut metadata = Map::new();
    if !labels.is_empty() {
        metadata.insert("labels".to_owned(), labels.into());
    }
    if !annotations.is_empty() {
        metadata.insert("annotations".to_owned(), annotations.into());
    }
    (!metadata.is_empty()).then(|| json!({ "metadata": metadata }))
}

fn changes(
    there: Option<&Map<String, Value>>,
    prefix: &str,
    wanted: &[(String, String)],
) -> Map<String, Value> {
    let mut changes = Map::new();
    for (key, text) in wanted {
        let now = there.and_then(|there| there.get(key)?.as_str());
        if now != Some(text) {
            changes.insert(key.clone(), Value::String(text.clone()));
        }
    }
    let ours = there.into_iter().flat_map(Map::keys);
    let ours = ours.filter(|key| key.starts_with(prefix));
    for key in ours.filter(|key| !wanted.iter().any(|(wanted, _)| wanted == *key)) {
        changes.insert(key.clone(), Value::Null);
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_patched_and_only_ours() {
        let node = json!({ "metadata": {
            "labels": {
                "kubernetes.io/os": "linux",
                "handler.skiff.dev/wasmtime": "true",
                "handler.skiff.dev/wasmedge": "true",
            },
            "annotations": { "node.skiff.dev/state": "failed", "node.skiff.dev/reason": "x", "a": "b" },
        }});
        let wanted = Wanted::of(
            State::Ready,
            &["wasmtime".to_owned(), "skiff".to_owned()],
            Some("1"),
            None,
        );
        let expected = json!({ "metadata": {
            "labels": { "handler.skiff.dev/skiff": "true", "handler.skiff.dev/wasmedge": null },
            "annotations": {
                "node.skiff.dev/state": "ready",
                "node.skiff.dev/version": "1",
                "node.skiff.dev/reason": null,
            },
        }});
        assert_eq!(patch(&node, &wanted), Some(expected));
        let gone = json!({ "metadata": {
            "labels": { "handler.skiff.dev/wasmtime": null, "handler.skiff.dev/wasmedge": null },
            "annotations": { "node.skiff.dev/state": null, "node.skiff.dev/reason": null },
        }});
        assert_eq!(patch(&node, &Wanted::default()), Some(gone));
        assert_eq!(patch(&json!({ "metadata": {} }), &Wanted::default()), None);
    }

    #[test]
    fn long_reasons_are_cut_between_letters() {
        let long = "ä".repeat(1000);
        let cut = cut(&long);
        assert!(cut.len() <= LONGEST_REASON && cut.ends_with("ä…"), "{cut}");
        assert_eq!(super::cut("short"), "short");
    }
}
