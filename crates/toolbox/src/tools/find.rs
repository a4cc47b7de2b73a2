//! `find`.

use std::fs::{self, Metadata};
use std::io::Write;
use std::time::{Duration, SystemTime};

use super::tree;
use crate::failure::{Done, Stop, failed, usage, words};
use crate::streams::Io;
use crate::text::{base_name, join, matches, size};

pub(super) const HELP: &str = "find [-H] [-L] [PATH]... [EXPRESSION]: lists files below paths for which the expression is true
  tests:    -name -iname -path PATTERN, -type f|d|l, -size [+-]N[ckMG], -empty, -newer FILE,
            -mtime [+-]DAYS, -mmin [+-]MINUTES, -true, -false; ! -a -o ( ) combine
  actions:  -print -print0 -delete -prune -quit, -exec TOOL... {} ; (of the toolbox)
  others:   -maxdepth N, -mindepth N, -depth, -xdev (without an effect); -L follows links";

#[derive(Debug)]
enum Test {
    Not(Box<Test>),
    And(Vec<Test>),
    Or(Vec<Test>),
    Always(bool),
    Name { pattern: String, any_case: bool },
    Path(String),
    Type(char),
    Size { sign: Sign, units: u64, unit: u64 },
    Age { sign: Sign, units: u64, unit: u64 },
    Empty,
    Newer(SystemTime),
    Print(u8),
    Delete,
    Prune,
    Quit,
    Exec { command: Vec<String>, all: bool },
}

#[derive(Clone, Copy, Debug)]
enum Sign {
    More,
    Exactly,
    Less,
}

impl Sign {
    fn of(text: &str) -> (Self, &str) {
        match text.as_bytes().first() {
            Some(b'+') => (Self::More, &text[1..]),
            Some(b'-') => (Self::Less, &text[1..]),
            _ => (Self::Exactly, text),
        }
    }

    fn holds(self, value: u64, bound: u64) -> bool {
        match self {
            Self::More => value > bound,
            Self::Exactly => value == bound,
            Self::Less => value < bound,
        }
    }
}

#[derive(Default)]
struct Walk {
    min: usize,
    max: Option<usize>,
    below_first: bool,
    follow: bool,
    /// Something in the expression acts; else what it is true for is printed.
    acts: bool,
    prune: bool,
    quit: bool,
    code: u8,
    now: Option<SystemTime>,
    /// For `-exec … +`.
    collected: Vec<String>,
}

pub(super) fn run(args: &[String], io: &mut Io) -> Done {
    let mut walk = Walk {
        now: Some(SystemTime::now()),
        ..Walk::default()
    };
    let mut rest = args;
    while let [first, others @ ..] = rest {
        match first.as_str() {
            "-L" => walk.follow = true,
            "-H" | "-P" => walk.follow = false,
            _ => break,
        }
        rest = others;
    }
    let begins =
        |word: &String| word.starts_with('-') && word.len() > 1 || word == "!" || word == "(";
    let end = rest.iter().position(begins).unwrap_or(rest.len());
    let (paths, mut expression) = rest.split_at(end);
    let test = if expression.is_empty() {
        Test::Always(true)
    } else {
        any(&mut expression, &mut walk)?
    };
    if let [word, ..] = expression {
        return Err(usage(format!("unexpected '{word}'")));
    }
    let here = [".".to_owned()];
    for path in if paths.is_empty() { &here } else { paths } {
        walk.visit(path, 0, &test, io)?;
        if walk.quit {
            break;
        }
    }
    let collected = std::mem::take(&mut walk.collected);
    if !collected.is_empty()
        && let Some(command) = exec_all(&test)
    {
        let command: Vec<String> = command
            .iter()
            .flat_map(|word| {
                if word == "{}" {
                    collected.clone()
                } else {
                    vec![word.clone()]
                }
            })
            .collect();
        walk.code |= u8::from(execute(&command, io)? != 0);
    }
    Ok(walk.code)
}

fn exec_all(test: &Test) -> Option<&[String]> {
    match test {
        Test::Exec { command, all: true } => Some(command),
        Test::And(tests) | Test::Or(tests) => tests.iter().find_map(exec_all),
        Test::Not(test) => exec_all(test),
        _ => None,
    }
}

fn any(words: &mut &[String], walk: &mut Walk) -> Result<Test, Stop> {
    let mut tests = vec![all(words, walk)?];
    while take(words, &["-o", "-or"]) {
        tests.push(all(words, walk)?);
    }
    Ok(Test::Or(tests))
}

fn all(words: &mut &[String], walk: &mut Walk) -> Result<Test, Stop> {
    let mut tests = vec![not(words, walk)?];
    loop {
        match words.first().map(String::as_str) {
            None | Some("-o" | "-or" | ")") => return Ok(Test::And(tests)),
            _ => {}
        }
        take(words, &["-a", "-and"]);
        tests.push(not(words, walk)?);
    }
}

fn take(words: &mut &[String], known: &[&str]) -> bool {
    let found = words
        .first()
        .is_some_and(|word| known.contains(&word.as_str()));
    if found {
        *words = &words[1..];
    }
    found
}

fn not(words: &mut &[String], walk: &mut Walk) -> Result<Test, Stop> {
    if take(words, &["!", "-not"]) {
        return Ok(Test::Not(Box::new(not(words, walk)?)));
    }
    if take(words, &["("]) {
        let inner = any(words, walk)?;
        return if take(words, &[")"]) {
            Ok(inner)
        } else {
            Err(usage("a ) is missing"))
        };
    }
    primary(words, walk)
}

fn primary(words: &mut &[String], walk: &mut Walk) -> Result<Test, Stop> {
    let Some((name, rest)) = words.split_first() else {
        return Err(usage("the expression ends too early"));
    };
    *words = rest;
    let mut value = || {
        let (value, rest) = words
            .split_first()
            .ok_or_else(|| usage(format!("{name} needs an argument")))?;
        *words = rest;
        Ok::<_, Stop>(value.as_str())
    };
    let count = |text: &str| {
        text.parse::<usize>()
            .map_err(|_| usage(format!("invalid number '{text}'")))
    };
    Ok(match name.as_str() {
        "-name" => Test::Name {
            pattern: value()?.to_owned(),
            any_case: false,
        },
        "-iname" => Test::Name {
            pattern: value()?.to_lowercase(),
            any_case: true,
        },
        "-path" | "-wholename" => Test::Path(value()?.to_owned()),
        "-type" => match value()? {
            kind @ ("f" | "d" | "l" | "b" | "c" | "p" | "s") => {
                Test::Type(kind.chars().next().unwrap_or('f'))
            }
            other => return Err(usage(format!("unknown type '{other}'"))),
        },
        "-size" => {
            let (sign, text) = Sign::of(value()?);
            let (digits, unit) = match text.chars().last() {
                Some('c') => (&text[..text.len() - 1], 1),
                Some('b') => (&text[..text.len() - 1], 512),
                Some(letter @ ('k' | 'K' | 'm' | 'M' | 'g' | 'G')) => {
                    (&text[..text.len() - 1], size(&format!("1{letter}"))?)
                }
                _ => (text, 512),
            };
            Test::Size {
                sign,
                units: size(digits)?,
                unit,
            }
        }
        "-mtime" | "-mmin" => {
            let (sign, text) = Sign::of(value()?);
            let unit = if name == "-mmin" { 60 } else { 86_400 };
            Test::Age {
                sign,
                units: size(text)?,
                unit,
            }
        }
        "-empty" => Test::Empty,
        "-newer" => {
            let path = value()?;
            let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
            Test::Newer(modified.map_err(|error| failed(format!("{path}: {}", words_of(&error))))?)
        }
        "-true" => Test::Always(true),
        "-false" => Test::Always(false),
        "-maxdepth" => {
            walk.max = Some(count(value()?)?);
            Test::Always(true)
        }
        "-mindepth" => {
            walk.min = count(value()?)?;
            Test::Always(true)
        }
        "-depth" => {
            walk.below_first = true;
            Test::Always(true)
        }
        "-xdev" | "-mount" => Test::Always(true),
        "-prune" => Test::Prune,
        action => {
            walk.acts = true;
            match action {
                "-print" => Test::Print(b'\n'),
                "-print0" => Test::Print(0),
                "-quit" => Test::Quit,
                "-delete" => {
                    walk.below_first = true;
                    Test::Delete
                }
                "-exec" => {
                    let end = words.iter().position(|word| word == ";" || word == "+");
                    let end = end.ok_or_else(|| usage("-exec needs a ; at its end"))?;
                    let (command, rest) = words.split_at(end);
                    *words = &rest[1..];
                    Test::Exec {
                        command: command.to_vec(),
                        all: rest[0] == "+",
                    }
                }
                other => return Err(usage(format!("unrecognized: {other}"))),
            }
        }
    })
}

fn words_of(error: &std::io::Error) -> String {
    words(error)
}

impl Walk {
    fn visit(&mut self, path: &str, depth: usize, test: &Test, io: &mut Io) -> Result<(), Stop> {
        let metadata = if self.follow {
            fs::metadata(path).or_else(|_| fs::symlink_metadata(path))
        } else {
            fs::symlink_metadata(path)
        };
        let metadata = match metadata {
            Ok(metadata) => metadata,
            Err(error) => {
                io.complain(&format!("find: {path}: {}", words(&error)));
                self.code = 1;
                return Ok(());
            }
        };
        self.prune = false;
        if depth >= self.min && !self.below_first {
            self.judge(path, &metadata, test, io)?;
        }
        let below = metadata.is_dir() && !self.prune && self.max.is_none_or(|max| depth < max);
        if below && !self.quit {
            match tree::names(path) {
                Ok(names) => {
                    for name in names {
                        self.visit(&join(path, &name), depth + 1, test, io)?;
                        if self.quit {
                            return Ok(());
                        }
                    }
                }
                Err(error) => {
                    io.complain(&format!("find: {path}: {}", words(&error)));
                    self.code = 1;
                }
            }
        }
        if depth >= self.min && self.below_first && !self.quit {
            self.judge(path, &metadata, test, io)?;
        }
        Ok(())
    }

    fn judge(
        &mut self,
        path: &str,
        metadata: &Metadata,
        test: &Test,
        io: &mut Io,
    ) -> Result<(), Stop> {
        if self.holds(path, metadata, test, io)? && !self.acts {
            writeln!(io.output, "{path}")?;
        }
        Ok(())
    }

    fn holds(
        &mut self,
        path: &str,
        metadata: &Metadata,
        test: &Test,
        io: &mut Io,
    ) -> Result<bool, Stop> {
        Ok(match test {
            Test::Not(inner) => !self.holds(path, metadata, inner, io)?,
            Test::And(tests) => {
                for test in tests {
                    if !self.holds(path, metadata, test, io)? {
                        return Ok(false);
                    }
                }
                true
            }
            Test::Or(tests) => {
                for test in tests {
                    if self.holds(path, metadata, test, io)? {
                        return Ok(true);
                    }
                }
                false
            }
            Test::Always(value) => *value,
            Test::Name {
                pattern,
                any_case: false,
            } => matches(pattern, base_name(path)),
            Test::Name {
                pattern,
                any_case: true,
            } => matches(pattern, &base_name(path).to_lowercase()),
            Test::Path(pattern) => matches(pattern, path),
            Test::Type(kind) => match kind {
                'f' => metadata.is_file(),
                'd' => metadata.is_dir(),
                'l' => metadata.is_symlink(),
                _ => false,
            },
            Test::Size { sign, units, unit } => sign.holds(metadata.len().div_ceil(*unit), *units),
            Test::Age { sign, units, unit } => {
                let age = self
                    .now
                    .zip(metadata.modified().ok())
                    .and_then(|(now, then)| now.duration_since(then).ok())
                    .unwrap_or(Duration::ZERO);
                sign.holds(age.as_secs() / unit, *units)
            }
            Test::Empty if metadata.is_dir() => {
                tree::names(path).is_ok_and(|names| names.is_empty())
            }
            Test::Empty => metadata.is_file() && metadata.len() == 0,
            Test::Newer(time) => metadata.modified().is_ok_and(|modified| modified > *time),
            Test::Print(end) => {
                io.output.write_all(path.as_bytes())?;
                io.output.write_all(&[*end])?;
                true
            }
            Test::Prune => {
                self.prune = true;
                true
            }
            Test::Quit => {
                self.quit = true;
                true
            }
            Test::Delete if path == "." => true,
            Test::Delete => {
                let removed = if metadata.is_dir() {
                    fs::remove_dir(path)
                } else {
                    fs::remove_file(path)
                };
                if let Err(error) = &removed {
                    io.complain(&format!("find: {path}: {}", words(error)));
                    self.code = 1;
                }
                removed.is_ok()
            }
            Test::Exec { all: true, .. } => {
                self.collected.push(path.to_owned());
                true
            }
            Test::Exec {
                command,
                all: false,
            } => {
                let command: Vec<String> = command
                    .iter()
                    .map(|word| word.replace("{}", path))
                    .collect();
                execute(&command, io)? == 0
            }
        })
    }
}

fn execute(command: &[String], io: &mut Io) -> Result<u8, Stop> {
    let [name, args @ ..] = command else {
        return Err(usage("-exec needs a tool"));
    };
    let tool = super::find(base_name(name))
        .ok_or_else(|| failed(format!("{name}: it is no tool of the toolbox")))?;
    Ok(super::run(tool, args, io))
}
