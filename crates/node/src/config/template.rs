//! Templates that a distribution renders containerd's configuration from: k3s and rke2.
//!
//! A template is a text for Go's template engine and no TOML, so it is never parsed: our tables are a block at its
//! end. What comes of it is judged on the rendered file, to which the same block is added.

use super::block;
use super::handler::{Handler, Schema};

/// The whole of a template that was not there before: the distribution's own, and our block.
pub const BASE: &str = "{{ template \"base\" . }}\n";

/// Puts the handlers into a template, or brings them up to date.
pub fn add(text: Option<&str>, handlers: &[Handler], schema: Schema) -> String {
    let text = text.unwrap_or(BASE);
    let tables: Vec<String> = handlers
        .iter()
        .map(|handler| handler.render(schema))
        .collect();
    let lines = tables.join("\n\n");
    match block::find(text) {
        Some(found) => block::replace(text, &found, &lines),
        None => block::append(text, &lines),
    }
}

/// Takes them out again; `None` when nothing is left but the distribution's own template, if the file was ours.
pub fn remove(text: &str, file_was_ours: bool) -> Option<String> {
    let left = match block::find(text) {
        Some(found) => block::cut(text, &found),
        None => text.to_owned(),
    };
    let hollow = left.trim() == BASE.trim() || left.trim().is_empty();
    (!(file_was_ours && hollow)).then_some(left)
}

#[cfg(test)]
mod tests {
    use super::super::Engine;
    use super::*;

    fn handlers() -> Vec<Handler> {
        vec![Handler {
            name: "wasmtime".into(),
            engine: Engine::Wasmtime,
            folder: "/opt/skiff/current".into(),
            systemd_cgroup: true,
        }]
    }

    #[test]
    fn a_template_is_made_and_goes_again() {
        let made = add(None, &handlers(), Schema::Split);
        assert!(
            made.starts_with("{{ template \"base\" . }}\n\n# skiff-node"),
            "{made}"
        );
        assert_eq!(add(Some(&made), &handlers(), Schema::Split), made);
        assert_eq!(remove(&made, true), None);
        assert_eq!(remove(&made, false).as_deref(), Some(BASE));
    }

    #[test]
    fn a_template_of_the_operators_is_kept() {
        let own = "{{ template \"base\" . }}\n\n[plugins.'x']\n  y = {{ .Z }}";
        let edited = add(Some(own), &handlers(), Schema::Cri);
        assert_eq!(remove(&edited, false).as_deref(), Some(own));
        assert_eq!(remove(&edited, true).as_deref(), Some(own));
    }
}
