//! Which file of a node gets the handlers, and what it says then. Pure: texts go in, texts come out.
//!
//! A plan is a list of attempts. Each names one change of one file, and a candidate: a configuration that containerd
//! can be asked about before anything is changed. The first attempt whose candidate differs by our handlers alone is
//! carried out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::dump::Dump;
use crate::config::{self, Document, DocumentError, EditError, Handler, Schema, Wanted, template};
use crate::layout::{K0S_DROP_INS, Layout};

/// The name of a file that is all ours.
pub const DROP_IN: &str = "skiff.toml";
/// First line of such a file.
const DROP_IN_HEAD: &str =
    "# Runtime handlers of Skiff, kept by skiff-node; `skiff-node uninstall` removes this file.\n";

/// How a file holds our handlers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// Lines in a file of containerd's.
    Lines,
    /// Lines in a template that becomes a file of containerd's.
    Template,
    /// A file of its own, which is imported.
    DropIn,
}

/// What the node has.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Who writes the configuration.
    pub layout: Layout,
    /// 1 or 2.
    pub containerd_major: u32,
    /// The file that containerd reads.
    pub config: PathBuf,
    /// Texts of that file, of those it imports, and of those it is made from, as far as they exist.
    pub texts: BTreeMap<PathBuf, String>,
    /// The files that are imported, in the order in which containerd reads them.
    pub imported: Vec<PathBuf>,
    /// What containerd makes of it all now.
    pub dump: Dump,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The handlers.
    pub handlers: Vec<Handler>,
    /// Everything of ours lies below this folder.
    pub prefix: PathBuf,
    /// See [`Wanted::take_over`].
    pub take_over: bool,
    /// See [`Wanted::local_pull`].
    pub local_pull: bool,
}

/// A file's text before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which file.
    pub path: PathBuf,
    /// How it holds our handlers.
    pub form: Form,
    /// `None` if it does not exist.
    pub before: Option<String>,
    /// `None` if it is to be removed.
    pub after: Option<String>,
}

impl Change {
    /// Nothing changes.
    pub fn is_idle(&self) -> bool {
        self.before == self.after
    }
}

/// A configuration to ask containerd about: a root file, and one that it imports from [`Candidate::IMPORT`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The root file.
    pub root: String,
    /// The imported file.
    pub import: Option<String>,
}

impl Candidate {
    /// Where the root file is put for the time of the question.
    pub const ROOT: &str = "/run/skiff-node/candidate.toml";
    /// Where the imported file is put.
    pub const IMPORT: &str = "/run/skiff-node/import.toml";
}

/// One way to do it.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// What is changed.
    pub change: Change,
    /// What containerd is asked about.
    pub candidate: Candidate,
}

/// Why there is nothing to attempt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A file cannot be edited.
    #[error("{}, {source}", path.display())]
    Edit {
        /// Which.
        path: PathBuf,
        /// Why.
        source: EditError,
    },
    /// A handler is there, and not in a file that could be edited.
    #[error(
        "handler {name} ({runtime_type}) is there already, and no file of the operator's has it: the distribution found a shim of that name in its PATH and added it"
    )]
    Detected {
        /// Its name.
        name: String,
        /// What it runs.
        runtime_type: String,
    },
    /// The distribution's source file is missing.
    #[error("{} does not exist; is this node's distribution what it looks like?", .0.display())]
    NoSource(PathBuf),
}

/// The ways to give the node these handlers, the best first.
///
/// # Errors
/// See [`PlanError`].
pub fn install(node: &Snapshot, request: &Request) -> Result<Vec<Attempt>, PlanError> {
    if let Some(text) = node.text(&node.config) {
        let parsed = Document::parse(text).map_err(EditError::from);
        parsed.map_err(|source| edit_error(&node.config, source))?;
    }
    let foreign: Vec<&Handler> = request
        .handlers
        .iter()
        .filter(|handler| {
            node.dump.handler(&handler.name).is_some()
                && !node.dump.is_ours(&handler.name, &request.prefix)
        })
        .collect();
    if let Some(handler) = foreign.first() {
        return take_over(node, request, handler);
    }
    match node.layout {
        Layout::Plain => plain(node, request),
        Layout::Rancher => rancher(node, request),
        Layout::K0s => Ok(vec![k0s(node, request)]),
        Layout::Microk8s => Ok(vec![microk8s(node, request)?]),
    }
}

/// The changes that take all of ours out of the node's files. A file whose backup is known gets that back, unless it
/// says something else by now.
pub fn uninstall(
    node: &BTreeMap<PathBuf, String>,
    forms: &BTreeMap<PathBuf, (Form, bool)>,
    prefix: &Path,
) -> Result<Vec<Change>, PlanError> {
    let mut changes = Vec::new();
    for (path, text) in node {
        let (form, made) = forms
            .get(path)
            .copied()
            .unwrap_or_else(|| (form_of(path, text), false));
        let after = match form {
            Form::DropIn => None,
            Form::Template => template::remove(text, made),
            Form::Lines => {
                let left =
                    config::remove(text, prefix).map_err(|error| edit_error(path, error.into()))?;
                (!(made && says_only_a_version(&left))).then_some(left)
            }
        };
        let change = Change {
            path: path.clone(),
            form,
            before: Some(text.clone()),
            after,
        };
        if !change.is_idle() {
            changes.push(change);
        }
    }
    Ok(changes)
}

fn has_ours(text: &str) -> bool {
    text.starts_with(DROP_IN_HEAD) || config::has_block(text)
}

/// What a file looks like that no record is kept of.
fn form_of(path: &Path, text: &str) -> Form {
    if text.starts_with(DROP_IN_HEAD) {
        Form::DropIn
    } else if path
        .extension()
        .is_some_and(|extension| extension == "tmpl")
    {
        Form::Template
    } else {
        Form::Lines
    }
}

fn says_only_a_version(text: &str) -> bool {
    Document::parse(text).is_ok_and(|document| document.value().keys().all(|key| key == "version"))
}

fn edit_error(path: &Path, source: EditError) -> PlanError {
    PlanError::Edit {
        path: path.to_owned(),
        source,
    }
}

impl Snapshot {
    fn text(&self, path: &Path) -> Option<&str> {
        self.texts.get(path).map(String::as_str)
    }

    fn root_text(&self) -> String {
        self.text(&self.config)
            .map_or_else(|| self.new_root(), str::to_owned)
    }

    /// What a root file has to say that was not there before.
    fn new_root(&self) -> String {
        let version = if self.containerd_major < 2 { 2 } else { 3 };
        format!("version = {version}\n")
    }

    fn version_of(&self, path: &Path) -> Option<i64> {
        Document::parse(self.text(path)?).ok()?.version()
    }

    /// Imports as they stand in the root file, each as an absolute path.
    fn root_imports(&self) -> Vec<String> {
        let root = self.root_text();
        let imports = Document::parse(&root)
            .ok()
            .and_then(|document| document.imports());
        let folder = self.config.parent().unwrap_or_else(|| Path::new("/"));
        let (imports, _) = imports.unwrap_or_default();
        let imports = imports.iter().map(|import| folder.join(import));
        imports
            .map(|path| path.to_string_lossy().into_owned())
            .collect()
    }

    /// The root file as it would be read from another folder, with other imports if any are given.
    fn root_elsewhere(&self, text: &str, imports: &[String]) -> String {
        let list: Vec<String> = imports.iter().map(|import| format!("{import:?}")).collect();
        let list = format!("[{}]", list.join(", "));
        match Document::parse(text)
            .ok()
            .and_then(|document| document.imports())
        {
            Some((_, place)) => format!("{}{list}{}", &text[..place.start], &text[place.end..]),
            None if imports.is_empty() => text.to_owned(),
            None => format!("imports = {list}\n{text}"),
        }
    }

    /// The candidate for a change of the root file itself.
    fn with_root(&self, text: &str) -> Candidate {
        Candidate {
            root: self.root_elsewhere(text, &self.root_imports()),
            import: None,
        }
    }

    /// The candidate for one more imported file.
    fn with_one_more(&self, text: String) -> Candidate {
        let mut imports = self.root_imports();
        imports.push(Candidate::IMPORT.to_owned());
        Candidate {
            root: self.root_elsewhere(&self.root_text(), &imports),
            import: Some(text),
        }
    }

    /// The candidate for a change of an imported file.
    fn with_import(&self, path: &Path, text: String) -> Candidate {
        let imports = self.imported.iter().map(|imported| {
            if imported == path {
                Candidate::IMPORT.to_owned()
            } else {
                imported.to_string_lossy().into_owned()
            }
        });
        let imports: Vec<String> = imports.collect();
        Candidate {
            root: self.root_elsewhere(&self.root_text(), &imports),
            import: Some(text),
        }
    }

    /// Handlers that containerd 1.x has by itself as long as no file names any: naming ours would take them away.
    fn forgotten(&self, text: &str, request: &Request, schema: Schema) -> Vec<(String, String)> {
        if self.containerd_major >= 2 {
            return Vec::new();
        }
        let bare = config::remove(text, &request.prefix).unwrap_or_default();
        let names_some =
            Document::parse(&bare).is_ok_and(|document| document.get(&schema.runtimes()).is_some());
        if names_some {
            return Vec::new();
        }
        let names = self.dump.handlers().into_iter();
        names
            .filter(|name| !self.dump.is_ours(name, &request.prefix))
            .filter(|name| !request.handlers.iter().any(|handler| handler.name == *name))
            .filter_map(|name| Some((name.to_owned(), self.dump.render(name, schema)?)))
            .collect()
    }

    /// Imported files that say something of the CRI plugin, the last one first.
    fn imported_with_cri(&self) -> Vec<&Path> {
        let says = |path: &&PathBuf| {
            let Some(document) = self.text(path).map(Document::parse) else {
                return false;
            };
            document.is_ok_and(|document| {
                [Schema::Split, Schema::Cri, Schema::Short]
                    .iter()
                    .any(|schema| document.get(&["plugins", schema.plugin()]).is_some())
            })
        };
        self.imported
            .iter()
            .rev()
            .filter(says)
            .map(PathBuf::as_path)
            .collect()
    }

    /// The folder of a pattern that is imported, if it takes whatever lies in it.
    fn drop_in_folder(&self) -> Option<PathBuf> {
        let folder = self.config.parent()?;
        // What the file itself says: containerd 2.4 prints a folder of its own among the imports, and reads it only
        // if the file names it.
        let patterns = self.root_imports();
        let folders = patterns.iter().filter_map(|pattern| {
            let path = folder.join(pattern.strip_suffix("/*.toml")?);
            (!path.to_string_lossy().contains(['*', '?', '['])).then_some(path)
        });
        let folders: Vec<PathBuf> = folders.collect();
        // The one beside the configuration is the operator's; others may belong to another program.
        let beside = folders.iter().find(|path| path.parent() == Some(folder));
        beside.or_else(|| folders.first()).cloned()
    }
}

fn wanted<'a>(
    request: &'a Request,
    schema: Schema,
    defaults: &'a [(String, String)],
) -> Wanted<'a> {
    Wanted {
        defaults,
        handlers: &request.handlers,
        schema,
        prefix: &request.prefix,
        take_over: request.take_over,
        local_pull: request.local_pull,
    }
}

/// A whole file of ours.
fn drop_in_text(request: &Request, schema: Schema, version: i64) -> String {
    let tables: Vec<String> = request
        .handlers
        .iter()
        .map(|handler| handler.render(schema))
        .collect();
    let pull = if request.local_pull && schema == Schema::Split {
        format!(
            "[plugins.\"{}\"]\n  use_local_image_pull = true\n\n",
            schema.images_plugin()
        )
    } else {
        String::new()
    };
    format!(
        "{DROP_IN_HEAD}version = {version}\n\n{pull}{}\n",
        tables.join("\n\n")
    )
}

fn plain(node: &Snapshot, request: &Request) -> Result<Vec<Attempt>, PlanError> {
    let mut attempts = Vec::new();
    let root_has_ours = node.text(&node.config).is_some_and(config::has_block);
    // In containerd 1.x an imported plugin table takes the place of the whole one of the root file.
    if node.containerd_major >= 2
        && !root_has_ours
        && let Some(folder) = node.drop_in_folder()
    {
        let version = match node.text(&node.config) {
            Some(_) => node.version_of(&node.config),
            None => Some(3),
        };
        if let Some(version @ 2..) = version {
            for &schema in Schema::of_version(Some(version), node.containerd_major) {
                attempts.push(drop_in(node, request, &folder, schema, version));
            }
        }
    }
    let version = match node.text(&node.config) {
        Some(_) => node.version_of(&node.config),
        None => Document::parse(&node.new_root())
            .ok()
            .and_then(|document| document.version()),
    };
    for &schema in Schema::of_version(version, node.containerd_major) {
        match lines(node, request, &node.config, schema) {
            Ok(attempt) => attempts.push(attempt),
            // Another way to do it is better than none.
            Err(_) if !attempts.is_empty() => {}
            Err(error) => return Err(error),
        }
    }
    for path in node.imported_with_cri() {
        // Whoever writes a file there writes it anew at each start.
        if path.starts_with("/run") {
            continue;
        }
        for &schema in Schema::of_version(node.version_of(path), node.containerd_major) {
            attempts.extend(lines(node, request, path, schema));
        }
    }
    // What is installed stays where it is.
    attempts.sort_by_key(|attempt| !attempt.change.before.as_deref().is_some_and(has_ours));
    Ok(attempts)
}

fn drop_in(
    node: &Snapshot,
    request: &Request,
    folder: &Path,
    schema: Schema,
    version: i64,
) -> Attempt {
    let path = folder.join(DROP_IN);
    let text = drop_in_text(request, schema, version);
    let candidate = match node.text(&path) {
        Some(_) if node.imported.contains(&path) => node.with_import(&path, text.clone()),
        _ => node.with_one_more(text.clone()),
    };
    Attempt {
        change: Change {
            form: Form::DropIn,
            before: node.text(&path).map(str::to_owned),
            after: Some(text),
            path,
        },
        candidate,
    }
}

/// Lines in the root file, or in one that it imports.
fn lines(
    node: &Snapshot,
    request: &Request,
    path: &Path,
    schema: Schema,
) -> Result<Attempt, PlanError> {
    let before = node.text(path).map(str::to_owned);
    let text = before.clone().unwrap_or_else(|| node.new_root());
    let defaults = node.forgotten(&text, request, schema);
    let after = config::add(&text, wanted(request, schema, &defaults))
        .map_err(|source| edit_error(path, source))?;
    let candidate = if path == node.config {
        node.with_root(&after)
    } else {
        node.with_import(path, after.clone())
    };
    Ok(Attempt {
        change: Change {
            path: path.to_owned(),
            form: Form::Lines,
            before,
            after: Some(after),
        },
        candidate,
    })
}

/// The handler stands in one of the files, or in none that lasts.
fn take_over(
    node: &Snapshot,
    request: &Request,
    handler: &Handler,
) -> Result<Vec<Attempt>, PlanError> {
    let editable: Vec<PathBuf> = match node.layout {
        Layout::Plain => {
            let imported = node.imported_with_cri();
            let imported = imported.into_iter().map(Path::to_owned);
            imported.chain([node.config.clone()]).collect()
        }
        Layout::Microk8s => node.layout.sources(&node.config),
        Layout::Rancher | Layout::K0s => Vec::new(),
    };
    let mut attempts = Vec::new();
    for path in editable {
        let Some(document) = node.text(&path).map(Document::parse) else {
            continue;
        };
        let document = document.map_err(|error| edit_error(&path, error.into()))?;
        for schema in [Schema::Split, Schema::Cri, Schema::Short] {
            let [a, b, c, d] = schema.runtimes();
            if document.get(&[a, b, c, d, &handler.name]).is_some() {
                let mut attempt = lines(node, request, &path, schema)?;
                if node.layout == Layout::Microk8s {
                    attempt.candidate = Candidate {
                        root: attempt.change.after.clone().unwrap_or_default(),
                        import: None,
                    };
                }
                attempts.push(attempt);
            }
        }
    }
    if attempts.is_empty() {
        return Err(PlanError::Detected {
            name: handler.name.clone(),
            runtime_type: node
                .dump
                .runtime_type(&handler.name)
                .unwrap_or("none")
                .to_owned(),
        });
    }
    Ok(attempts)
}

fn rancher(node: &Snapshot, request: &Request) -> Result<Vec<Attempt>, PlanError> {
    let rendered = node.root_text();
    let version = node.version_of(&node.config);
    let schema = match version {
        Some(3..) => Schema::Split,
        _ => Schema::Cri,
    };
    let [newer, older] =
        ["config-v3.toml.tmpl", "config.toml.tmpl"].map(|name| node.config.with_file_name(name));
    let mut attempts = Vec::new();
    // Later releases import a folder that lasts; earlier ones have templates only.
    let folder = node
        .drop_in_folder()
        .filter(|folder| folder.parent() == node.config.parent());
    if let (Some(folder), Some(version @ 3..)) = (folder, version) {
        attempts.push(drop_in(node, request, &folder, schema, version));
    }
    // A node of containerd 2 still takes the older template when it has no newer one.
    let path = if schema == Schema::Split
        && (node.text(&newer).is_some() || node.text(&older).is_none())
    {
        newer
    } else {
        older
    };
    let before = node.text(&path).map(str::to_owned);
    let after = template::add(before.as_deref(), &request.handlers, schema);
    // The rendered file ends with our block already if the template does.
    let root = template::add(Some(&rendered), &request.handlers, schema);
    Document::parse(&root)
        .map_err(|error: DocumentError| edit_error(&node.config, error.into()))?;
    attempts.push(Attempt {
        candidate: node.with_root(&root),
        change: Change {
            path,
            form: Form::Template,
            before,
            after: Some(after),
        },
    });
    Ok(attempts)
}

/// k0s merges what the file in its folder says of the CRI plugin into a file that it renders, and imports that.
fn k0s(node: &Snapshot, request: &Request) -> Attempt {
    let (schema, version) = match node.dump.schema {
        Schema::Split if node.version_of(&node.config) != Some(2) => (Schema::Split, 3),
        _ => (Schema::Cri, 2),
    };
    let mut attempt = drop_in(node, request, Path::new(K0S_DROP_INS), schema, version);
    let rendered = node.imported_with_cri();
    let rendered = rendered.iter().find(|path| !path.starts_with(K0S_DROP_INS));
    if let Some(rendered) = rendered
        && let Ok(edited) = lines(node, request, rendered, schema)
    {
        attempt.candidate = edited.candidate;
    }
    attempt
}

fn microk8s(node: &Snapshot, request: &Request) -> Result<Attempt, PlanError> {
    let sources = node.layout.sources(&node.config);
    let path = sources.first().unwrap_or(&node.config);
    let text = node
        .text(path)
        .ok_or_else(|| PlanError::NoSource(path.clone()))?;
    let document = Document::parse(text).map_err(|error| edit_error(path, error.into()))?;
    let schemas = Schema::of_version(document.version(), node.containerd_major);
    let schema = schemas.first().copied().unwrap_or(Schema::Cri);
    let mut attempt = lines(node, request, path, schema)?;
    // What it is rendered to differs by names that stand in strings.
    let rendered = config::add(&node.root_text(), wanted(request, schema, &[]));
    let rendered = rendered.map_err(|source| edit_error(&node.config, source))?;
    attempt.candidate = node.with_root(&rendered);
    Ok(attempt)
}

#[cfg(test)]
mod tests;
