//! A tree as a value, to be compared.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Every file with its content, or where it leads. Archives differ in what they say of owners.
pub(crate) fn contents(root: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    add(root, root, &mut all);
    all
}

fn add(root: &Path, directory: &Path, all: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        let content = if kind.is_symlink() {
            format!("-> {}", fs::read_link(&path).unwrap().display())
        } else if kind.is_dir() {
            add(root, &path, all);
            "/".to_owned()
        } else {
            let bytes = fs::read(&path).unwrap();
            if bytes.get(257..262) == Some(b"ustar") {
                "an archive".to_owned()
            } else {
                String::from_utf8_lossy(&bytes).into_owned()
            }
        };
        all.insert(name, content);
    }
}
