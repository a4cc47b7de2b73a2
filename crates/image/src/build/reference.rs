//! An image's name in full: `hello` is `docker.io/library/hello:latest`, as for the kubelet and `docker`.

use super::BuildError;

/// The full form of `name`.
pub(super) fn normalised(name: &str) -> Result<String, BuildError> {
    let refused = |why: &str| {
        Err(BuildError::Name {
            name: name.chars().take(200).collect(),
            why: why.to_owned(),
        })
    };
    if name.is_empty() {
        return refused("it is empty");
    }
    if name.contains('@') {
        return refused("a digest is what the image gets by being built; give a tag");
    }
    let (host, rest) = match name.split_once('/') {
        Some((host, rest)) if host == "localhost" || host.contains(['.', ':']) => (host, rest),
        _ => ("docker.io", name),
    };
    let (path, tag) = rest.rsplit_once(':').unwrap_or((rest, "latest"));
    let part_fits = |part: &str| {
        let edge =
            |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        edge(part.chars().next())
            && edge(part.chars().next_back())
            && part
                .chars()
                .all(|c| matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-'))
    };
    if !path.split('/').all(part_fits) {
        return refused(
            "a repository is made of a-z, 0-9 and, between them, '.', '_', '-' and '/'",
        );
    }
    let tag_fits = tag.len() <= 128
        && tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && tag
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    if !tag_fits {
        return refused("a tag is made of letters, digits, '.', '_' and '-', 128 at most");
    }
    let library = if host == "docker.io" && !path.contains('/') {
        "library/"
    } else {
        ""
    };
    Ok(format!("{host}/{library}{path}:{tag}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_as_the_kubelet_does() {
        for (name, full) in [
            ("hello", "docker.io/library/hello:latest"),
            ("me/hello:2", "docker.io/me/hello:2"),
            ("localhost/hello", "localhost/hello:latest"),
            ("localhost:5000/a/b:v1.2", "localhost:5000/a/b:v1.2"),
            ("ghcr.io/a/b-c", "ghcr.io/a/b-c:latest"),
        ] {
            assert_eq!(normalised(name).unwrap(), full);
        }
    }

    #[test]
    fn names_that_no_registry_takes_are_refused() {
        for name in [
            "",
            "Hello",
            "a b",
            "a/",
            "/a",
            "a:",
            "a:b c",
            "a@sha256:00",
            "a//b",
            "-a",
            "a\n",
        ] {
            let error = normalised(name).unwrap_err().to_string();
            assert!(error.starts_with("could not use the image name"), "{error}");
        }
    }
}
