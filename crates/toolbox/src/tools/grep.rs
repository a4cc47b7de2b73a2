//! `grep`.

use std::fs;
use std::io::Write;

use regex_lite::{Regex, RegexBuilder};

use super::tree;
use crate::failure::{Done, Stop, failed, usage, words};
use crate::options::Options;
use crate::streams::{Input, Io};
use crate::text::join;

pub(super) const HELP: &str = "grep [-EFcHhilLnoqrsvwx] [-m N] [-A N] [-B N] [-C N] [-e] PATTERN [-f FILE] [FILE]...: lines that match
  -E, -F      the pattern is an extended regular expression, is plain text
  -i -v -w -x in any case, lines that do not match, whole words, whole lines
  -c -l -L -q counts, names of files with and without a match, nothing but the exit code
  -n -o -H -h with line numbers, only what matches, with and without the file's name
  -r          files of directories too; -m stops after N lines; -A -B -C show lines around
  exit codes: 0 something matched, 1 nothing did, 2 an error; there are no back-references";

struct Search {
    pattern: Regex,
    inverted: bool,
    number: bool,
    only: bool,
    names: bool,
    count: bool,
    list: Option<bool>,
    quiet: bool,
    silent: bool,
    most: u64,
    before: usize,
    after: usize,
    found: bool,
    failed: bool,
}

pub(super) fn run(args: &[String], io: &mut Io) -> Done {
    let names = [
        ("extended-regexp", 'E'),
        ("fixed-strings", 'F'),
        ("ignore-case", 'i'),
        ("invert-match", 'v'),
        ("recursive", 'r'),
        ("line-number", 'n'),
        ("count", 'c'),
        ("files-with-matches", 'l'),
        ("quiet", 'q'),
        ("only-matching", 'o'),
        ("word-regexp", 'w'),
        ("line-regexp", 'x'),
        ("no-messages", 's'),
        ("regexp", 'e'),
    ];
    let mut options = Options::parse(args, "EFGHhcilLnoqrRsvwxam:e:f:A:B:C:", &names)?;
    let patterns = patterns(&mut options, io)?;
    let number = |letter| {
        options
            .value(letter)
            .map(|text| {
                text.parse::<usize>()
                    .map_err(|_| usage(format!("invalid number '{text}'")))
            })
            .transpose()
    };
    let around = number('C')?.unwrap_or(0);
    let recursive = options.has("rR");
    let mut files = options.operands.clone();
    if files.is_empty() {
        files.push(if recursive { "." } else { "-" }.to_owned());
    }
    let mut search = Search {
        pattern: compile(&patterns, &options)?,
        inverted: options.has("v"),
        number: options.has("n"),
        only: options.has("o") && !options.has("v"),
        names: options
            .last_of("Hh")
            .map_or(files.len() > 1 || recursive, |letter| letter == 'H'),
        count: options.has("c"),
        list: options.last_of("lL").map(|letter| letter == 'l'),
        quiet: options.has("q"),
        silent: options.has("s"),
        most: number('m')?.map_or(u64::MAX, |most| most as u64),
        before: number('B')?.unwrap_or(around),
        after: number('A')?.unwrap_or(around),
        found: false,
        failed: false,
    };
    for file in files {
        search.file(&file, recursive, io)?;
        if search.quiet && search.found {
            return Ok(0);
        }
    }
    Ok(match (search.found, search.failed) {
        (_, true) => 2,
        (found, false) => u8::from(!found),
    })
}

fn patterns(options: &mut Options, io: &Io) -> Result<Vec<String>, Stop> {
    let mut patterns: Vec<String> = options.values('e').map(str::to_owned).collect();
    for path in options.values('f') {
        let mut text = String::new();
        std::io::Read::read_to_string(
            &mut io
                .open(path)
                .map_err(|error| failed(format!("{path}: {}", words(&error))))?,
            &mut text,
        )
        .map_err(|error| failed(format!("{path}: {}", words(&error))))?;
        patterns.extend(text.lines().map(str::to_owned));
    }
    if patterns.is_empty() && !options.has("ef") {
        if options.operands.is_empty() {
            return Err(usage("there is no pattern"));
        }
        patterns.push(options.operands.remove(0));
    }
    // Each line is a pattern of its own.
    Ok(patterns
        .iter()
        .flat_map(|pattern| pattern.split('\n'))
        .map(str::to_owned)
        .collect())
}

fn compile(patterns: &[String], options: &Options) -> Result<Regex, Stop> {
    let translated: Vec<String> = patterns
        .iter()
        .map(|pattern| match options.last_of("EFG") {
            Some('F') => Ok(regex_lite::escape(pattern)),
            Some('E') => extended(pattern),
            _ => basic(pattern),
        })
        .map(|pattern| pattern.map(|pattern| format!("(?:{pattern})")))
        .collect::<Result<_, Stop>>()?;
    let mut whole = translated.join("|");
    if options.has("x") {
        whole = format!("^(?:{whole})$");
    } else if options.has("w") {
        whole = format!(r"(?:^|\b)(?:{whole})(?:\b|$)");
    }
    // Nothing to look for is never found.
    if patterns.is_empty() {
        whole = "[^\0-\u{10ffff}]".to_owned();
    }
    RegexBuilder::new(&whole)
        .case_insensitive(options.has("i"))
        .build()
        .map_err(|error| {
            failed(format!(
                "'{}' is no regular expression: {error}",
                patterns.join("|")
            ))
        })
}

/// POSIX's bracket expressions and literals as the crate's; what only the crate knows loses its meaning.
fn extended(pattern: &str) -> Result<String, Stop> {
    translate(pattern, true)
}

/// Basic expressions: `\( \) \{ \} \| \+ \?` are operators, bare ones are characters.
fn basic(pattern: &str) -> Result<String, Stop> {
    translate(pattern, false)
}

fn translate(pattern: &str, extended: bool) -> Result<String, Stop> {
    let mut text = String::new();
    let mut rest = pattern.chars().peekable();
    // At the start of an expression a star is a star.
    let mut start = true;
    while let Some(letter) = rest.next() {
        let was_start = std::mem::replace(&mut start, false);
        match letter {
            '\\' => match rest.next() {
                None => return Err(failed(format!("'{pattern}' ends with a backslash"))),
                Some(digit) if digit.is_ascii_digit() && digit != '0' => {
                    return Err(failed("back-references are not supported"));
                }
                Some(operator) if "(){}|+?".contains(operator) => {
                    if extended {
                        text.push_str(&regex_lite::escape(&operator.to_string()));
                    } else {
                        text.push(operator);
                        start = "(|".contains(operator);
                    }
                }
                Some(class) if "wWsSbB".contains(class) => text.extend(['\\', class]),
                Some('<' | '>') => text.push_str(r"\b"),
                Some(other) => text.push_str(&regex_lite::escape(&other.to_string())),
            },
            '[' => bracket(&mut rest, &mut text)
                .ok_or_else(|| failed("Unmatched [, [^, [:, [., or [="))?,
            '*' if was_start => text.push_str(r"\*"),
            '(' | ')' | '{' | '}' | '|' | '+' | '?' if !extended => {
                text.push_str(&regex_lite::escape(&letter.to_string()));
            }
            '(' | '|' => {
                text.push(letter);
                start = true;
            }
            // A brace that repeats nothing is a brace.
            '{' if !rest.peek().is_some_and(char::is_ascii_digit) => text.push_str(r"\{"),
            '^' if !extended && !was_start => text.push_str(r"\^"),
            '^' => {
                text.push('^');
                start = true;
            }
            '$' if !extended
                && rest.peek().is_some()
                && !rest.clone().collect::<String>().starts_with(r"\)")
                && !rest.clone().collect::<String>().starts_with(r"\|") =>
            {
                text.push_str(r"\$");
            }
            other => text.push(other),
        }
    }
    Ok(text)
}

/// A bracket expression, in which a backslash is a backslash.
fn bracket(rest: &mut std::iter::Peekable<std::str::Chars<'_>>, text: &mut String) -> Option<()> {
    text.push('[');
    if rest.next_if_eq(&'^').is_some() {
        text.push('^');
    }
    let mut first = true;
    loop {
        match rest.next()? {
            ']' if !first => {
                text.push(']');
                return Some(());
            }
            '[' if rest.peek() == Some(&':') => {
                text.push('[');
                loop {
                    let letter = rest.next()?;
                    text.push(letter);
                    if letter == ':' && rest.peek() == Some(&']') && !text.ends_with("[:") {
                        text.push(rest.next()?);
                        break;
                    }
                }
            }
            letter @ ('[' | ']' | '\\' | '&' | '~' | '^') => text.extend(['\\', letter]),
            '-' if first || rest.peek() == Some(&']') => text.push_str(r"\-"),
            letter => text.push(letter),
        }
        first = false;
    }
}

impl Search {
    fn file(&mut self, path: &str, recursive: bool, io: &mut Io) -> Result<(), Stop> {
        let is_directory =
            path != "-" && fs::metadata(path).is_ok_and(|metadata| metadata.is_dir());
        if is_directory && recursive {
            match tree::names(path) {
                Ok(names) => {
                    for name in names {
                        let inner = join(path, &name);
                        // Links that are met on the way are not followed.
                        if fs::symlink_metadata(&inner).is_ok_and(|metadata| !metadata.is_symlink())
                        {
                            self.file(&inner, true, io)?;
                        }
                    }
                    return Ok(());
                }
                Err(error) => return self.complain(path, &error, io),
            }
        }
        match io.open(path) {
            Ok(input) => self.lines(&input, path, io),
            Err(error) => self.complain(path, &error, io),
        }
    }

    fn complain(&mut self, path: &str, error: &std::io::Error, io: &mut Io) -> Result<(), Stop> {
        if !self.silent {
            io.complain(&format!("grep: {path}: {}", words(error)));
        }
        self.failed = true;
        Ok(())
    }

    fn lines(&mut self, input: &Input, path: &str, io: &mut Io) -> Result<(), Stop> {
        let name = if path == "-" {
            "(standard input)"
        } else {
            path
        };
        let mut matched = 0_u64;
        let mut held: std::collections::VecDeque<(u64, String)> = std::collections::VecDeque::new();
        let mut shown_until = 0_u64;
        let mut trailing = 0;
        for number in 1_u64.. {
            let line = match input.line() {
                Ok(line) if line.is_empty() => break,
                Ok(line) => line,
                Err(error) => return self.complain(path, &error, io),
            };
            let text = String::from_utf8_lossy(&line);
            let text = text.strip_suffix('\n').unwrap_or(&text);
            let context = self.before > 0 || self.after > 0;
            if self.pattern.is_match(text) == self.inverted || matched >= self.most {
                if trailing > 0 {
                    trailing -= 1;
                    self.show(name, number, '-', text, io)?;
                    shown_until = number;
                } else if matched >= self.most {
                    break;
                } else if self.before > 0 {
                    held.push_back((number, text.to_owned()));
                    if held.len() > self.before {
                        held.pop_front();
                    }
                }
                continue;
            }
            matched += 1;
            self.found = true;
            if self.quiet || self.list.is_some() {
                break;
            }
            if self.count {
                continue;
            }
            let first = held.front().map_or(number, |(number, _)| *number);
            if context && shown_until > 0 && first > shown_until + 1 {
                writeln!(io.output, "--")?;
            }
            for (number, text) in held.drain(..) {
                self.show(name, number, '-', &text, io)?;
            }
            if self.only {
                for found in self
                    .pattern
                    .find_iter(text)
                    .filter(|found| !found.is_empty())
                {
                    self.show(name, number, ':', found.as_str(), io)?;
                }
            } else {
                self.show(name, number, ':', text, io)?;
            }
            shown_until = number;
            trailing = self.after;
            if path == "-" {
                io.output.flush()?;
            }
        }
        match self.list {
            Some(with) if !self.quiet && (matched > 0) == with => writeln!(io.output, "{name}")?,
            None if self.count && !self.quiet => {
                if self.names {
                    write!(io.output, "{name}:")?;
                }
                writeln!(io.output, "{matched}")?;
            }
            _ => {}
        }
        Ok(())
    }

    fn show(
        &self,
        name: &str,
        number: u64,
        mark: char,
        text: &str,
        io: &mut Io,
    ) -> std::io::Result<()> {
        if self.names {
            write!(io.output, "{name}{mark}")?;
        }
        if self.number {
            write!(io.output, "{number}{mark}")?;
        }
        writeln!(io.output, "{text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_match(pattern: &str, is_extended: bool, text: &str) -> bool {
        let pattern = translate(pattern, is_extended).unwrap();
        Regex::new(&pattern).unwrap().is_match(text)
    }

    #[test]
    fn basic_expressions() {
        for (pattern, text) in [
            (r"a\+b", "aab"),
            ("a+b", "a+b"),
            (r"\(ab\)*c", "ababc"),
            (r"a\{2\}", "aa"),
            ("a{2}", "a{2}"),
            ("*a", "*a"),
            (r"a\|b", "b"),
            ("[]]", "]"),
            (r"[\]", r"\"),
            ("[a-]", "-"),
            ("[[:digit:]x]", "7"),
            ("a$b", "a$b"),
            ("b$", "ab"),
            (r"\<ab\>", "x ab y"),
            ("a^b", "a^b"),
            ("[^]]", "x"),
            ("[[]", "["),
        ] {
            assert!(is_match(pattern, false, text), "{pattern} {text}");
        }
        assert!(!is_match("^a", false, "ba") && !is_match("[^]]", false, "]"));
    }

    #[test]
    fn extended_expressions() {
        for (pattern, text) in [
            ("a+b", "aab"),
            (r"a\+b", "a+b"),
            ("(a|b)c", "bc"),
            ("x{2,3}", "xx"),
            ("a{", "a{"),
            ("^(a|b)$", "a"),
        ] {
            assert!(is_match(pattern, true, text), "{pattern} {text}");
        }
        translate(r"\(a\)\1", false).unwrap_err();
    }
}
