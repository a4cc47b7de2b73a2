//! `test` and `[`.

use std::cmp::Ordering;
use std::fs::{self, File, Metadata};
use std::time::SystemTime;

use crate::failure::{Done, Stop, failed};
use crate::streams::Io;

pub(super) const HELP: &str = "test EXPRESSION, [ EXPRESSION ]: succeeds if the expression is true
  files:    -e -f -d -h -L -s -r -w -x FILE, ONE -nt OTHER, ONE -ot OTHER
  text:     -n TEXT, -z TEXT, TEXT, ONE = OTHER, ONE != OTHER, ONE < OTHER, ONE > OTHER
  numbers:  -eq -ne -lt -le -gt -ge
  -t 0 is true at a terminal; ! ( ) -a -o combine. WASI tells no permissions: -r and -w open the file to
  find out, -x is true of directories only";

pub(super) fn run(args: &[String], io: &mut Io) -> Done {
    let mut parser = Parser { words: args, io };
    let result = match args {
        // One to four words mean what POSIX says, whatever they look like.
        [] => false,
        [only] => !only.is_empty(),
        [not, word] if not == "!" => word.is_empty(),
        [one, operator, other] if is_binary(operator) => parser.binary(one, operator, other)?,
        [not, one, operator, other] if not == "!" && is_binary(operator) => {
            !parser.binary(one, operator, other)?
        }
        _ => {
            let result = parser.any()?;
            if let [word, ..] = parser.words {
                return Err(failed(format!("{word}: unknown operand")));
            }
            result
        }
    };
    Ok(u8::from(!result))
}

pub(super) fn bracket(args: &[String], io: &mut Io) -> Done {
    match args {
        [inner @ .., end] if end == "]" => run(inner, io),
        _ => Err(failed("missing ]")),
    }
}

struct Parser<'a> {
    words: &'a [String],
    io: &'a Io,
}

impl<'a> Parser<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        Some(first)
    }

    fn follows(&mut self, word: &str) -> bool {
        let follows = self.words.first().is_some_and(|next| next == word);
        if follows {
            self.words = &self.words[1..];
        }
        follows
    }

    fn any(&mut self) -> Result<bool, Stop> {
        let mut result = self.all()?;
        while self.follows("-o") {
            result |= self.all()?;
        }
        Ok(result)
    }

    fn all(&mut self) -> Result<bool, Stop> {
        let mut result = self.not()?;
        while self.follows("-a") {
            result &= self.not()?;
        }
        Ok(result)
    }

    fn not(&mut self) -> Result<bool, Stop> {
        if self.follows("!") {
            return Ok(!self.not()?);
        }
        if self.words.len() < 3 && self.follows("(")
            || self.words.get(1).is_none_or(|word| !is_binary(word)) && self.follows("(")
        {
            let result = self.any()?;
            return if self.follows(")") {
                Ok(result)
            } else {
                Err(failed("closing paren expected"))
            };
        }
        let word = self.next().ok_or_else(|| failed("argument expected"))?;
        if let [operator, other, ..] = self.words
            && is_binary(operator)
        {
            self.words = &self.words[2..];
            return self.binary(word, operator, other);
        }
        if is_unary(word)
            && let Some(operand) = self.next()
        {
            return self.unary(word, operand);
        }
        Ok(!word.is_empty())
    }

    fn unary(&self, operator: &str, operand: &str) -> Result<bool, Stop> {
        let is = |kind: fn(&Metadata) -> bool| {
            fs::metadata(operand).is_ok_and(|metadata| kind(&metadata))
        };
        Ok(match operator {
            "-n" => !operand.is_empty(),
            "-z" => operand.is_empty(),
            "-e" => is(|_| true),
            "-f" => is(Metadata::is_file),
            "-d" | "-x" => is(Metadata::is_dir),
            "-s" => is(|metadata| metadata.len() > 0),
            "-h" | "-L" => {
                fs::symlink_metadata(operand).is_ok_and(|metadata| metadata.is_symlink())
            }
            "-r" => {
                is(Metadata::is_dir) && fs::read_dir(operand).is_ok() || File::open(operand).is_ok()
            }
            "-w" => is(Metadata::is_dir) || File::options().append(true).open(operand).is_ok(),
            "-t" => match number(operand)? {
                0 => self.io.input.terminal,
                1 => self.io.output.terminal,
                _ => false,
            },
            // Devices, pipes and sockets are not to be seen.
            _ => false,
        })
    }

    fn binary(&self, one: &str, operator: &str, other: &str) -> Result<bool, Stop> {
        let ordering = |orderings: &[Ordering]| {
            Ok::<_, Stop>(orderings.contains(&number(one)?.cmp(&number(other)?)))
        };
        match operator {
            "=" | "==" => Ok(one == other),
            "!=" => Ok(one != other),
            "<" => Ok(one < other),
            ">" => Ok(one > other),
            "-eq" => ordering(&[Ordering::Equal]),
            "-ne" => ordering(&[Ordering::Less, Ordering::Greater]),
            "-lt" => ordering(&[Ordering::Less]),
            "-le" => ordering(&[Ordering::Less, Ordering::Equal]),
            "-gt" => ordering(&[Ordering::Greater]),
            "-ge" => ordering(&[Ordering::Greater, Ordering::Equal]),
            "-nt" => Ok(newer(one, other)),
            "-ot" => Ok(newer(other, one)),
            // With two words beside them they are operators of text.
            "-a" => Ok(!one.is_empty() && !other.is_empty()),
            _ => Ok(!one.is_empty() || !other.is_empty()),
        }
    }
}

fn is_binary(word: &str) -> bool {
    matches!(
        word,
        "=" | "=="
            | "!="
            | "<"
            | ">"
            | "-eq"
            | "-ne"
            | "-lt"
            | "-le"
            | "-gt"
            | "-ge"
            | "-nt"
            | "-ot"
    )
}

fn is_unary(word: &str) -> bool {
    matches!(
        word,
        "-n" | "-z"
            | "-e"
            | "-f"
            | "-d"
            | "-s"
            | "-h"
            | "-L"
            | "-r"
            | "-w"
            | "-x"
            | "-t"
            | "-b"
            | "-c"
            | "-p"
            | "-S"
            | "-u"
            | "-g"
            | "-k"
    )
}

fn number(text: &str) -> Result<i64, Stop> {
    text.trim()
        .parse()
        .map_err(|_| failed(format!("{text}: bad number")))
}

fn newer(one: &str, other: &str) -> bool {
    let modified = |path: &str| -> Option<SystemTime> { fs::metadata(path).ok()?.modified().ok() };
    match (modified(one), modified(other)) {
        (Some(one), Some(other)) => one > other,
        _ => false,
    }
}
