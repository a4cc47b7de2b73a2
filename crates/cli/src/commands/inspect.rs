//! `skiff inspect`: what a module or an image holds.

use std::collections::HashSet;

use serde::Serialize;
use skiff_image::build::{self, EntryFacts, ImageFacts, LayerFacts, ModuleFacts};

use crate::Outcome;
use crate::arguments::Inspect;
use crate::compiled::Node;
use crate::output::{Colour, Output, visible};
use crate::quantity;
use crate::target::Target;

/// The JSON document: the image's facts, and of each module whether its code is here.
#[derive(Serialize)]
struct Document<'a> {
    name: Option<&'a str>,
    digest: &'a str,
    entries: Vec<EntryDocument<'a>>,
}

#[derive(Serialize)]
struct EntryDocument<'a> {
    platform: &'a str,
    digest: &'a str,
    config_type: &'a str,
    entrypoint: &'a [String],
    layers: &'a [LayerFacts],
    modules: Vec<ModuleDocument<'a>>,
}

#[derive(Serialize)]
struct ModuleDocument<'a> {
    #[serde(flatten)]
    facts: &'a ModuleFacts,
    /// Null when this node's cache cannot be asked.
    compiled: Option<bool>,
}

pub(crate) fn run(arguments: &Inspect, output: &Output) -> anyhow::Result<Outcome> {
    let target = Target::find(&arguments.target, &arguments.place)?;
    let facts = build::inspect_file(target.path())?;
    let node = Node::of_this_machine();
    if output.json() {
        output.document(&document(&facts, &node))?;
    } else {
        print(&facts, &node, output)?;
    }
    let mut modules = facts.entries.iter().flat_map(|entry| &entry.modules);
    if modules.any(|module| module.problem.is_some()) {
        return Ok(Outcome::Broken);
    }
    Ok(Outcome::Well)
}

fn document<'a>(facts: &'a ImageFacts, node: &Node) -> Document<'a> {
    let module = |facts: &'a ModuleFacts| ModuleDocument {
        facts,
        compiled: node.has(&facts.digest),
    };
    let entry = |entry: &'a EntryFacts| EntryDocument {
        platform: &entry.platform,
        digest: &entry.digest,
        config_type: &entry.config_type,
        entrypoint: &entry.entrypoint,
        layers: &entry.layers,
        modules: entry.modules.iter().map(module).collect(),
    };
    Document {
        name: facts.name.as_deref(),
        digest: &facts.digest,
        entries: facts.entries.iter().map(entry).collect(),
    }
}

fn print(facts: &ImageFacts, node: &Node, output: &Output) -> anyhow::Result<()> {
    if let Some(name) = &facts.name {
        output.text(&format!("{}  {}\n", visible(name), visible(&facts.digest)))?;
    }
    let mut shown: HashSet<&str> = HashSet::new();
    for entry in &facts.entries {
        if entry.config_type.is_empty() && entry.modules.is_empty() {
            let (platform, digest) = (visible(&entry.platform), visible(&entry.digest));
            output.text(&format!("{platform}  {digest}  (not here)"))?;
            continue;
        }
        if !entry.platform.is_empty() {
            output.text(&format!("{}  {}", visible(&entry.platform), entry.digest))?;
        }
        if !entry.entrypoint.is_empty() {
            let entrypoint = visible(&entry.entrypoint.join(" "));
            output.text(&format!("  runs       {entrypoint}"))?;
        }
        for layer in &entry.layers {
            let title = layer
                .title
                .as_deref()
                .map(|title| format!("  {}", visible(title)));
            output.text(&format!(
                "  layer      {}  {}{}",
                visible(&layer.media_type),
                quantity::bytes(layer.bytes),
                title.unwrap_or_default()
            ))?;
        }
        for module in &entry.modules {
            print_module(module, shown.insert(&module.digest), node, output)?;
        }
    }
    Ok(())
}

/// A module that lies in several entries is told once in full.
fn print_module(
    module: &ModuleFacts,
    in_full: bool,
    node: &Node,
    output: &Output,
) -> anyhow::Result<()> {
    let size = quantity::bytes(module.bytes);
    if let Some(problem) = &module.problem {
        let bad = output.paint("BAD", Colour::Red);
        return output.text(&format!(
            "  {bad}        {}  {size}\n    {}",
            visible(&module.name),
            visible(problem)
        ));
    }
    let again = if in_full { "" } else { "  (the same as above)" };
    output.text(&format!(
        "  {:<10} {}  {size}{again}",
        module.kind,
        visible(&module.name)
    ))?;
    if !in_full {
        return Ok(());
    }
    let line = |label: &str, text: &str| output.text(&format!("    {label:<9} {}", visible(text)));
    line("digest", &module.digest)?;
    line(
        "system",
        if module.os == "none" {
            "none (imports no WASI)"
        } else {
            &module.os
        },
    )?;
    if let Some(world) = &module.world {
        line("world", world)?;
    }
    for (label, names) in [("imports", &module.imports), ("exports", &module.exports)] {
        for (index, name) in names.iter().enumerate() {
            line(if index == 0 { label } else { "" }, name)?;
        }
    }
    let compiled = match node.has(&module.digest) {
        Some(true) => "on this node".to_owned(),
        Some(false) => {
            "not on this node; the first start compiles it, or `skiff cache warm` does".to_owned()
        }
        None => format!("not known: {}", node.reason()),
    };
    line("compiled", &compiled)
}
