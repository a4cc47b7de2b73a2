//! What `containerd config dump` prints: the configuration that containerd works with, made of its defaults, its file
//! and what that imports. Two dumps tell what an edit really does.

use std::path::Path;

use toml::{Table, Value};

use super::handler::{Handler, Schema, is_below, quoted};

/// A dump.
#[derive(Clone, Debug, PartialEq)]
pub struct Dump {
    table: Table,
    /// Where it keeps its handlers.
    pub schema: Schema,
}

/// A dump that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// It is no TOML.
    #[error("`containerd config dump` printed what is no TOML")]
    Toml(#[source] Box<toml::de::Error>),
    /// Kubernetes does not use this containerd.
    #[error(
        "containerd's CRI plugin is off (disabled_plugins, or not built in), and without it there are no handlers"
    )]
    NoCri,
}

/// What two dumps differ in that they should not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unexpected {
    /// Another part of the configuration.
    #[error("containerd would also read {0} differently")]
    Elsewhere(String),
    /// Images would still be pulled by the transfer service.
    #[error(
        "containerd would not have use_local_image_pull as asked: set it where the distribution takes such settings, and leave --local-pull out"
    )]
    LocalPull,
    /// A handler is not there, or not as it was written.
    #[error("containerd would not have the handler {0} as written")]
    Handler(String),
}

impl Dump {
    /// Reads a dump.
    ///
    /// # Errors
    /// If it is none, or has no CRI plugin.
    pub fn parse(text: &str) -> Result<Self, DumpError> {
        let table: Table = toml::from_str(text).map_err(|error| DumpError::Toml(error.into()))?;
        let disabled: Vec<&str> = table
            .get("disabled_plugins")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        for schema in [Schema::Split, Schema::Cri] {
            let off = ["cri", "io.containerd.grpc.v1.cri", schema.plugin()];
            let off = disabled.iter().any(|plugin| off.contains(plugin));
            if at(&table, &["plugins", schema.plugin()]).is_some() && !off {
                return Ok(Self { table, schema });
            }
        }
        Err(DumpError::NoCri)
    }

    /// Patterns and files that it imports.
    pub fn imports(&self) -> Vec<String> {
        let imports = self.table.get("imports").and_then(Value::as_array);
        let imports = imports.into_iter().flatten().filter_map(Value::as_str);
        imports.map(str::to_owned).collect()
    }

    /// The socket of containerd's services.
    pub fn address(&self) -> Option<&str> {
        let old = at(&self.table, &["grpc", "address"]);
        let new = at(
            &self.table,
            &["plugins", "io.containerd.server.v1.grpc", "address"],
        );
        new.or(old)?.as_str().filter(|address| !address.is_empty())
    }

    /// Whether cgroups are made by systemd: what the default handler says, or runc's.
    pub fn systemd_cgroup(&self) -> bool {
        let default = self.setting(&["containerd", "default_runtime_name"]);
        let default = default.and_then(Value::as_str).unwrap_or("runc");
        [default, "runc"].iter().any(|name| {
            self.handler(name)
                .and_then(|handler| handler.get("options")?.as_table())
                // containerd reads the keys of options whatever the size of their letters.
                .and_then(|options| {
                    options
                        .iter()
                        .find(|(key, _)| key.eq_ignore_ascii_case("SystemdCgroup"))
                })
                .is_some_and(|(_, value)| value.as_bool() == Some(true))
        })
    }

    /// A handler's table.
    pub fn handler(&self, name: &str) -> Option<&Table> {
        self.setting(&["containerd", "runtimes", name])?.as_table()
    }

    /// Whether images are pulled without the transfer service; `None` where containerd knows no other way.
    fn pulls_locally(&self) -> Option<bool> {
        let path = local_pull(self.schema);
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        at(&self.table, &path)?.as_bool()
    }

    /// Names of all handlers.
    pub fn handlers(&self) -> Vec<&str> {
        let runtimes = self.setting(&["containerd", "runtimes"]);
        let names = runtimes.and_then(Value::as_table).into_iter().flatten();
        names.map(|(name, _)| name.as_str()).collect()
    }

    /// A handler's tables as they would be written, under the name of another form's plugin.
    pub fn render(&self, name: &str, schema: Schema) -> Option<String> {
        let header = format!(
            "plugins.{}.containerd.runtimes.{}",
            quoted(schema.plugin()),
            quoted(name)
        );
        let mut text = format!("[{header}]");
        let mut below = String::new();
        for (key, value) in self.handler(name)? {
            match value {
                Value::Table(options) => {
                    below.push_str(&format!("\n\n  [{header}.{}]", quoted(key)));
                    for (key, value) in options {
                        below.push_str(&format!("\n    {} = {}", quoted(key), plain(value)?));
                    }
                }
                value => text.push_str(&format!("\n  {} = {}", quoted(key), plain(value)?)),
            }
        }
        Some(text + &below)
    }

    /// A handler's runtime type.
    pub fn runtime_type(&self, name: &str) -> Option<&str> {
        self.handler(name)?.get("runtime_type")?.as_str()
    }

    /// A handler's shim lies below this folder.
    pub fn is_ours(&self, name: &str, prefix: &Path) -> bool {
        let path = self
            .handler(name)
            .and_then(|handler| handler.get("runtime_path"));
        path.and_then(Value::as_str)
            .is_some_and(|path| is_below(path, prefix))
    }

    /// The handler is as it was asked for.
    pub fn has(&self, wanted: &Handler) -> bool {
        let Some(table) = self.handler(&wanted.name) else {
            return false;
        };
        let text = |key: &str| table.get(key).and_then(Value::as_str).unwrap_or_default();
        let options = table.get("options").and_then(Value::as_table);
        let systemd = options.and_then(|options| options.get("SystemdCgroup"));
        let annotations: Vec<&str> = table
            .get("pod_annotations")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        text("runtime_type") == wanted.engine.runtime_type()
            && Path::new(text("runtime_path")) == wanted.shim()
            && systemd.and_then(Value::as_bool).unwrap_or(false) == wanted.systemd_cgroup
            && super::ANNOTATIONS
                .iter()
                .all(|each| annotations.contains(each))
            && options.is_none_or(|options| options.keys().all(|key| key == "SystemdCgroup"))
    }

    /// Compares with the dump of an edited configuration.
    ///
    /// # Errors
    /// With the first thing that differs and should not, or that should and does not.
    pub fn differs_by(
        &self,
        after: &Self,
        wanted: &[Handler],
        prefix: &Path,
        local_pull: bool,
    ) -> Result<(), Unexpected> {
        if let Some(missing) = wanted.iter().find(|handler| !after.has(handler)) {
            return Err(Unexpected::Handler(missing.name.clone()));
        }
        let names: Vec<&str> = wanted.iter().map(|handler| handler.name.as_str()).collect();
        let pulls_locally = after.pulls_locally();
        if local_pull && pulls_locally == Some(false) {
            return Err(Unexpected::LocalPull);
        }
        let mut ignored = vec![];
        if local_pull {
            ignored.push(self::local_pull(self.schema));
        }
        self.equals_but(after, &names, prefix, &ignored)
    }

    /// Compares with the dump of a configuration that our handlers were taken out of.
    ///
    /// # Errors
    /// With the first other thing that differs.
    pub fn equals_but_ours(
        &self,
        after: &Self,
        names: &[&str],
        prefix: &Path,
    ) -> Result<(), Unexpected> {
        self.equals_but(after, names, prefix, &[self::local_pull(self.schema)])
    }

    fn equals_but(
        &self,
        after: &Self,
        names: &[&str],
        prefix: &Path,
        ignored: &[Vec<String>],
    ) -> Result<(), Unexpected> {
        let mut ours: Vec<Vec<String>> = names
            .iter()
            .map(|name| {
                let path = self.schema.runtimes().map(str::to_owned);
                path.into_iter().chain([(*name).to_owned()]).collect()
            })
            .collect();
        // containerd 1.7 lists the file itself there, under whatever name it was given.
        ours.push(vec!["imports".to_owned()]);
        ours.extend(ignored.iter().cloned());
        let strip = |dump: &Self| {
            let mut table = dump.table.clone();
            self::strip(&mut table, &ours);
            strip_below(&mut table, &dump.schema.runtimes(), prefix);
            table
        };
        match first_difference(&strip(self), &strip(after)) {
            None => Ok(()),
            Some(path) => Err(Unexpected::Elsewhere(path)),
        }
    }

    fn setting(&self, path: &[&str]) -> Option<&Value> {
        let path: Vec<&str> = ["plugins", self.schema.plugin()]
            .iter()
            .chain(path)
            .copied()
            .collect();
        at(&self.table, &path)
    }
}

/// A value that is no table.
fn plain(value: &Value) -> Option<String> {
    Some(match value {
        Value::String(text) => quoted(text),
        Value::Integer(number) => number.to_string(),
        Value::Boolean(flag) => flag.to_string(),
        Value::Array(values) => {
            let values: Option<Vec<String>> = values.iter().map(plain).collect();
            format!("[{}]", values?.join(", "))
        }
        Value::Float(_) | Value::Datetime(_) | Value::Table(_) => return None,
    })
}

/// Where a configuration says how images are pulled.
pub(super) fn local_pull(schema: Schema) -> Vec<String> {
    ["plugins", schema.images_plugin(), "use_local_image_pull"]
        .map(str::to_owned)
        .to_vec()
}

fn at<'a>(table: &'a Table, path: &[&str]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter()
        .try_fold(table.get(*first)?, |value, key| value.get(*key))
}

/// Takes entries out, and tables that hold nothing then.
pub(super) fn strip(table: &mut Table, paths: &[Vec<String>]) {
    for path in paths {
        strip_one(table, path);
    }
}

fn strip_one(table: &mut Table, path: &[String]) {
    let Some((first, rest)) = path.split_first() else {
        return;
    };
    if rest.is_empty() {
        table.remove(first);
        return;
    }
    if let Some(Value::Table(below)) = table.get_mut(first) {
        strip_one(below, rest);
        if below.is_empty() {
            table.remove(first);
        }
    }
}

/// Takes handlers out whose shim lies below a folder.
pub(super) fn strip_below(table: &mut Table, runtimes: &[&str], prefix: &Path) {
    let names: Vec<String> = at(table, runtimes)
        .and_then(Value::as_table)
        .into_iter()
        .flatten()
        .filter(|(_, handler)| {
            let path = handler.get("runtime_path").and_then(Value::as_str);
            path.is_some_and(|path| is_below(path, prefix))
        })
        .map(|(name, _)| name.clone())
        .collect();
    for name in names {
        let path: Vec<String> = runtimes
            .iter()
            .map(|key| (*key).to_owned())
            .chain([name])
            .collect();
        strip_one(table, &path);
    }
}

/// The path of the first thing that differs.
pub(super) fn first_difference(a: &Table, b: &Table) -> Option<String> {
    let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
    for key in keys {
        match (a.get(key), b.get(key)) {
            (Some(Value::Table(a)), Some(Value::Table(b))) => {
                if let Some(below) = first_difference(a, b) {
                    return Some(format!("{key}.{below}"));
                }
            }
            (a, b) if a == b => {}
            _ => return Some(key.clone()),
        }
    }
    None
}
