//! The user of an image: what containerd refuses at a start is refused, or told, when the image is built.

use super::{BuildError, HostFile, Recipe};

/// Checks `USER` or `USER:GROUP`, each a number or a name.
pub(super) fn check(user: &str) -> Result<(), BuildError> {
    let refused = |why: &str| {
        Err(BuildError::Recipe(format!(
            "could not use the user {user:?}: {why}"
        )))
    };
    let parts: Vec<&str> = user.split(':').collect();
    if parts.len() > 2 {
        return refused("it is written USER or USER:GROUP");
    }
    for part in parts {
        let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '$');
        if part.is_empty() || !part.chars().all(fine) {
            return refused("a user or group is a number or a name without blanks");
        }
        let digits = part.strip_prefix('-').unwrap_or(part);
        if digits.bytes().all(|byte| byte.is_ascii_digit())
            && part.parse::<i32>().map_or(true, i32::is_negative)
        {
            return refused("numbers of users and groups lie between 0 and 2147483647");
        }
    }
    Ok(())
}

/// Whether the user or group is a name, and nothing of the image can be the list of names.
pub(super) fn is_unknown(recipe: &Recipe) -> bool {
    let mut parts = recipe.user.iter().flat_map(|user| user.split(':'));
    let has_list = |file: &HostFile| {
        let to = file.to.trim_end_matches('/');
        to.is_empty() || to == "/etc" || to.starts_with("/etc/")
    };
    parts.any(|part| part.parse::<u32>().is_err()) && !recipe.files.iter().any(has_list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names() {
        for user in [
            "0",
            "1000",
            "1000:0",
            "2147483647",
            "web",
            "www-data:web",
            "a$",
        ] {
            check(user).unwrap();
        }
        for user in [
            "",
            ":",
            "web:",
            ":0",
            "a b",
            "1:2:3",
            "-1",
            "0:-1",
            "2147483648",
            "99999999999999",
            "-",
            "a\n",
        ] {
            check(user).expect_err(user);
        }
    }

    #[test]
    fn names_need_a_list() {
        let recipe = |user: &str, to: &str| Recipe {
            user: Some(user.to_owned()),
            files: vec![HostFile {
                from: "x".into(),
                to: to.to_owned(),
            }],
            ..Recipe::default()
        };
        assert!(!is_unknown(&Recipe::default()));
        assert!(!is_unknown(&recipe("7:8", "/site")));
        assert!(is_unknown(&recipe("web", "/site")));
        assert!(is_unknown(&recipe("7:web", "/etcetera")));
        for to in ["/", "/etc", "/etc/", "/etc/passwd"] {
            assert!(!is_unknown(&recipe("web", to)), "{to}");
        }
    }
}
