//! Users and groups by name, as the image lists them.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};

/// Whom a container runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) additional: Vec<u32>,
}

/// `USER` or `USER:GROUP`, each a number or a name; empty is root.
pub(super) fn user(text: &str, root: &Path) -> anyhow::Result<User> {
    if text.is_empty() {
        return Ok(User::default());
    }
    // The image's links are followed nowhere: its lists are read where they are, or not at all.
    let list = |name: &str| {
        let path = root.join("etc").join(name);
        let is_file =
            |path: &Path| fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file());
        let is_plain =
            fs::symlink_metadata(root.join("etc")).is_ok_and(|metadata| metadata.is_dir());
        if is_plain && is_file(&path) {
            fs::read_to_string(path).unwrap_or_default()
        } else {
            String::new()
        }
    };
    from_lists(text, &list("passwd"), &list("group"))
}

fn from_lists(text: &str, passwd: &str, group: &str) -> anyhow::Result<User> {
    let (name, group_name) = match text.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (text, None),
    };
    let users: Vec<Vec<&str>> = passwd
        .lines()
        .map(|line| line.split(':').collect())
        .collect();
    let groups: Vec<Vec<&str>> = group
        .lines()
        .map(|line| line.split(':').collect())
        .collect();
    let number = name.parse::<u32>().ok();
    let known = users.iter().find(|fields| match number {
        Some(number) => fields.get(2).is_some_and(|uid| uid.parse() == Ok(number)),
        None => fields.first() == Some(&name),
    });
    let field = |index: usize| known.and_then(|fields| fields.get(index)?.parse::<u32>().ok());
    let uid = number.or_else(|| field(2));
    let uid = uid
        .with_context(|| format!("the image's /etc/passwd has no user {name:?}: give a number"))?;
    let gid = match group_name {
        None => field(3).unwrap_or(0),
        Some(group) => match group.parse() {
            Ok(number) => number,
            Err(_) => groups
                .iter()
                .find(|fields| fields.first() == Some(&group))
                .and_then(|fields| fields.get(2)?.parse().ok())
                .with_context(|| {
                    format!("the image's /etc/group has no group {group:?}: give a number")
                })?,
        },
    };
    let greatest = u32::try_from(i32::MAX).unwrap_or(u32::MAX);
    if uid > greatest || gid > greatest {
        bail!("numbers of users and groups lie between 0 and {greatest}");
    }
    let login = known.and_then(|fields| fields.first().copied());
    let mut additional: Vec<u32> = match (login, group_name) {
        (Some(login), None) => groups
            .iter()
            .filter(|fields| {
                fields
                    .get(3)
                    .is_some_and(|members| members.split(',').any(|member| member == login))
            })
            .filter_map(|fields| fields.get(2)?.parse().ok())
            .collect(),
        _ => Vec::new(),
    };
    additional.insert(0, gid);
    additional.dedup();
    Ok(User {
        uid,
        gid,
        additional,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        let read = |text| {
            from_lists(
                text,
                "root:x:0:0::/:\nweb:x:33:34::/:\n",
                "root:x:0:\nweb:x:34:\nlog:x:4:a,web\n",
            )
            .map(|user| (user.uid, user.gid, user.additional))
            .map_err(|error| error.to_string())
        };
        assert_eq!(read("web"), Ok((33, 34, vec![34, 4])));
        assert_eq!(read("33"), Ok((33, 34, vec![34, 4])));
        assert_eq!(read("web:log"), Ok((33, 4, vec![4])));
        assert_eq!(read("7"), Ok((7, 0, vec![0])));
        assert_eq!(read("7:8"), Ok((7, 8, vec![8])));
        assert!(read("nobody").unwrap_err().contains("no user"));
        assert!(read("7:nobody").unwrap_err().contains("no group"));
        assert!(read("4294967295").unwrap_err().contains("between"));
    }
}
