//! Options as `getopt` reads them: letters in clusters, values attached or apart, long names, operands in between.

use crate::failure::{Stop, usage};

/// A command line, taken apart.
#[derive(Debug, Default)]
pub(crate) struct Options {
    found: Vec<(char, String)>,
    /// What is no option.
    pub(crate) operands: Vec<String>,
}

impl Options {
    /// `short` are the letters, each with `:` after it if it takes a value; `long` are names for them.
    pub(crate) fn parse(args: &[String], short: &str, long: &[(&str, char)]) -> Result<Self, Stop> {
        let mut options = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            if arg == "--" {
                options.operands.extend(args.cloned());
                break;
            }
            if let Some(name) = arg.strip_prefix("--") {
                let (name, attached) = match name.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (name, None),
                };
                let (_, letter) = long
                    .iter()
                    .find(|(known, _)| *known == name)
                    .ok_or_else(|| usage(format!("unrecognized option '--{name}'")))?;
                let value = match (takes_value(short, *letter), attached) {
                    (Some(true), None) => args
                        .next()
                        .cloned()
                        .ok_or_else(|| usage(format!("option '--{name}' requires an argument")))?,
                    (Some(true), Some(value)) => value,
                    (_, Some(_)) => {
                        return Err(usage(format!(
                            "option '--{name}' doesn't allow an argument"
                        )));
                    }
                    (_, None) => String::new(),
                };
                options.found.push((*letter, value));
            } else if let Some(cluster) = arg.strip_prefix('-').filter(|rest| !rest.is_empty()) {
                options.cluster(cluster, short, &mut args)?;
            } else {
                options.operands.push(arg.clone());
            }
        }
        Ok(options)
    }

    fn cluster<'a>(
        &mut self,
        cluster: &str,
        short: &str,
        args: &mut impl Iterator<Item = &'a String>,
    ) -> Result<(), Stop> {
        for (at, letter) in cluster.char_indices() {
            match takes_value(short, letter) {
                None => return Err(usage(format!("invalid option -- '{letter}'"))),
                Some(false) => self.found.push((letter, String::new())),
                Some(true) => {
                    let attached = &cluster[at + letter.len_utf8()..];
                    let value = if attached.is_empty() {
                        args.next().cloned().ok_or_else(|| {
                            usage(format!("option requires an argument -- '{letter}'"))
                        })?
                    } else {
                        attached.to_owned()
                    };
                    self.found.push((letter, value));
                    break;
                }
            }
        }
        Ok(())
    }

    /// Whether one of these letters was given.
    pub(crate) fn has(&self, letters: &str) -> bool {
        self.found
            .iter()
            .any(|(letter, _)| letters.contains(*letter))
    }

    /// The last value that was given for a letter.
    pub(crate) fn value(&self, letter: char) -> Option<&str> {
        self.values(letter).last()
    }

    /// All values of a letter, in order.
    pub(crate) fn values(&self, letter: char) -> impl Iterator<Item = &str> {
        self.found
            .iter()
            .filter(move |(known, _)| *known == letter)
            .map(|(_, value)| value.as_str())
    }

    /// Which of these letters was given last.
    pub(crate) fn last_of(&self, letters: &str) -> Option<char> {
        self.found
            .iter()
            .map(|(letter, _)| *letter)
            .rfind(|letter| letters.contains(*letter))
    }
}

fn takes_value(short: &str, letter: char) -> Option<bool> {
    if letter == ':' {
        return None;
    }
    let at = short.find(letter)?;
    Some(short[at + letter.len_utf8()..].starts_with(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Options::parse(&args, "abn:", &[("all", 'a'), ("lines", 'n')])
            .map_err(|stop| stop.to_string())
    }

    #[test]
    fn clusters_values_and_operands_mix() {
        let options = parse("x -abn5 y --lines=6 -n 7 - --all -- -b").unwrap();
        assert!(options.has("a") && options.has("b") && !options.has("z"));
        assert_eq!(options.values('n').collect::<Vec<_>>(), ["5", "6", "7"]);
        assert_eq!(options.operands, ["x", "y", "-", "-b"]);
        assert_eq!(options.last_of("ab"), Some('a'));
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(parse("-az").unwrap_err(), "invalid option -- 'z'");
        assert_eq!(parse("--no").unwrap_err(), "unrecognized option '--no'");
        assert_eq!(
            parse("-n").unwrap_err(),
            "option requires an argument -- 'n'"
        );
        assert_eq!(
            parse("--all=1").unwrap_err(),
            "option '--all' doesn't allow an argument"
        );
    }
}
