//! What an exec names, where it differs from an entrypoint: a layer only by its name. An entrypoint that names
//! nothing means the image's one module; a command of somebody who looks into a container does not.

use super::{Content, Refusal, distinct_layers, has_modules, list, matching, quoted};
use crate::view::{ImageView, Layer};

/// What a name means among an image's layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// This module.
    Layer(Layer),
    /// None of them. Their names, for a message; empty when there are none.
    None(String),
    /// Several of them.
    Several(Refusal),
}

/// The Wasm layer that `name` names: by its title, by the title's file name, or by the beginning of its digest.
pub fn layer_named(name: &str, image: &ImageView) -> Named {
    let layers = if has_modules(image) {
        distinct_layers(image)
    } else {
        Vec::new()
    };
    match matching(name, &layers).as_slice() {
        [] => Named::None(list(&layers)),
        [one] => Named::Layer((*one).clone()),
        several => Named::Several(Refusal(format!(
            "{} names {} Wasm layers of the image; name one by its digest: {}",
            quoted(name),
            several.len(),
            list(several)
        ))),
    }
}

/// Whether a file is called as modules are: what it holds is then meant to be one.
pub fn is_a_modules_name(path: &str) -> bool {
    [".wasm", ".cwasm", ".wat"]
        .iter()
        .any(|suffix| path.ends_with(suffix))
}

/// The sentence for a Linux program under the name of a module. `what` says what the path is of.
pub fn native_refusal(what: &str, path: &str, content: Content) -> Refusal {
    let shown = quoted(path);
    Refusal(match content {
        Content::Script => {
            format!("{what} {shown} is a script (#!) under the name of a module, not WebAssembly")
        }
        _ => format!(
            "{what} {shown} is native code (ELF) under the name of a module; only WebAssembly is taken from images, \
             and compiled on the node"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::{CONFIG_IMAGE, Digest, LAYER_WASM};

    fn image(architecture: &str, titles: &[&str]) -> ImageView {
        ImageView {
            architecture: architecture.to_owned(),
            config_type: CONFIG_IMAGE.to_owned(),
            layers: titles
                .iter()
                .enumerate()
                .map(|(index, title)| Layer {
                    media_type: LAYER_WASM.to_owned(),
                    digest: Digest::of(&[u8::try_from(index).unwrap()]),
                    size: 1,
                    title: Some((*title).to_owned()),
                })
                .collect(),
            ..ImageView::default()
        }
    }

    #[test]
    fn a_layer_is_meant_only_by_its_name() {
        let one = image("wasm", &["app.wasm"]);
        assert!(
            matches!(layer_named("sh", &one), Named::None(names) if names.contains("app.wasm"))
        );
        for name in ["app.wasm", "/app.wasm", "/elsewhere/app.wasm"] {
            let Named::Layer(layer) = layer_named(name, &one) else {
                panic!("{name}");
            };
            assert_eq!(layer.title.as_deref(), Some("app.wasm"));
        }
        let digest = Digest::of(&[0]).as_str()[..20].to_owned();
        assert!(matches!(layer_named(&digest, &one), Named::Layer(_)));
        assert_eq!(
            layer_named("x", &image("wasm", &[])),
            Named::None(String::new())
        );
        // In an image of another architecture layers are no modules.
        let other = image("amd64", &["app.wasm"]);
        assert_eq!(layer_named("app.wasm", &other), Named::None(String::new()));
        let two = image("wasm", &["a/x.wasm", "b/x.wasm"]);
        assert!(matches!(layer_named("x.wasm", &two), Named::Several(_)));
        assert!(matches!(layer_named("/b/x.wasm", &two), Named::Layer(_)));
    }
}
