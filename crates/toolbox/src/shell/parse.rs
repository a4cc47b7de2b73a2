//! Words and operators into commands.

use super::lex::{Part, Token, Word, lex, refused};

/// Why a text is no command yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Incomplete {
    /// It goes on in the next line.
    NeedsMore,
    /// It never will be.
    Wrong(String),
}

/// When a pipeline of a list is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    Always,
    /// `&&`
    AfterSuccess,
    /// `||`
    AfterFailure,
}

pub(super) type List = Vec<(When, Pipeline)>;

/// Commands with `|` between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pipeline {
    /// `!`
    pub(super) negated: bool,
    pub(super) commands: Vec<Command>,
}

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) kind: Kind,
    pub(super) redirects: Vec<Redirect>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Simple {
        assignments: Vec<(String, Word)>,
        words: Vec<Word>,
    },
    /// `{ … }`, or `( … )`, which changes nothing outside.
    Group { list: List, apart: bool },
}

/// `from operator target`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Redirect {
    pub(super) from: u8,
    pub(super) operator: &'static str,
    pub(super) target: Word,
}

const RESERVED: [&str; 17] = [
    "if", "then", "else", "elif", "fi", "for", "while", "until", "do", "done", "case", "esac",
    "function", "select", "[[", "time", "}",
];

/// The commands of a text.
pub(super) fn parse(text: &str) -> Result<List, Incomplete> {
    let tokens = lex(text)?;
    let mut parser = Parser { tokens: &tokens };
    let list = parser.list(None)?;
    match parser.tokens.first() {
        None => Ok(list),
        Some(token) => Err(unexpected(token)),
    }
}

struct Parser<'a> {
    tokens: &'a [Token],
}

fn unexpected(token: &Token) -> Incomplete {
    let shown = match token {
        Token::Operator(operator) | Token::Redirect { operator, .. } => (*operator).to_owned(),
        Token::Word(word) => bare(word).unwrap_or("a word").to_owned(),
    };
    Incomplete::Wrong(format!("syntax error: unexpected '{shown}'"))
}

/// A word without quotes and variables.
fn bare(word: &Word) -> Option<&str> {
    match word.as_slice() {
        [
            Part::Text {
                text,
                quoted: false,
            },
        ] => Some(text),
        _ => None,
    }
}

impl Parser<'_> {
    fn operator(&mut self, operator: &str) -> bool {
        let found = matches!(self.tokens.first(), Some(Token::Operator(next)) if *next == operator);
        if found {
            self.tokens = &self.tokens[1..];
        }
        found
    }

    fn bare(&self) -> Option<&str> {
        match self.tokens.first() {
            Some(Token::Word(word)) => bare(word),
            _ => None,
        }
    }

    /// Up to `end`, which is left standing.
    fn list(&mut self, end: Option<&str>) -> Result<List, Incomplete> {
        let mut list = List::new();
        let mut when = When::Always;
        loop {
            while self.operator(";") {
                if when != When::Always && self.tokens.is_empty() {
                    return Err(Incomplete::NeedsMore);
                }
            }
            let ends = match (end, self.tokens.first()) {
                (None, None) => true,
                (Some(_), None) => return Err(Incomplete::NeedsMore),
                (Some(")"), Some(Token::Operator(")"))) => true,
                (Some("}"), Some(_)) => self.bare() == Some("}"),
                _ => false,
            };
            if ends {
                return match (when, self.tokens.first()) {
                    (When::Always, _) => Ok(list),
                    (_, None) => Err(Incomplete::NeedsMore),
                    (_, Some(token)) => Err(unexpected(token)),
                };
            }
            list.push((when, self.pipeline()?));
            when = if self.operator("&&") {
                When::AfterSuccess
            } else if self.operator("||") {
                When::AfterFailure
            } else if self.operator(";") {
                When::Always
            } else {
                match (end, self.tokens.first()) {
                    (_, None) | (Some(")"), Some(Token::Operator(")"))) => When::Always,
                    (_, Some(token)) => return Err(unexpected(token)),
                }
            };
        }
    }

    fn pipeline(&mut self) -> Result<Pipeline, Incomplete> {
        let mut negated = false;
        while self.bare() == Some("!") {
            self.tokens = &self.tokens[1..];
            negated = !negated;
        }
        let mut commands = vec![self.command()?];
        while self.operator("|") {
            while self.operator(";") {}
            commands.push(self.command()?);
        }
        Ok(Pipeline { negated, commands })
    }

    fn command(&mut self) -> Result<Command, Incomplete> {
        if let Some(reserved) = self.bare().filter(|word| RESERVED.contains(word)) {
            return Err(refused(&format!("'{reserved}'")));
        }
        let mut redirects = Vec::new();
        let group = if self.operator("(") {
            Some(("(", ")"))
        } else if self.bare() == Some("{") {
            self.tokens = &self.tokens[1..];
            Some(("{", "}"))
        } else {
            None
        };
        if let Some((begin, end)) = group {
            let list = self.list(Some(end))?;
            self.tokens = &self.tokens[1..];
            while self.redirect(&mut redirects)? {}
            let apart = begin == "(";
            return Ok(Command {
                kind: Kind::Group { list, apart },
                redirects,
            });
        }
        let mut assignments = Vec::new();
        let mut words: Vec<Word> = Vec::new();
        loop {
            if self.redirect(&mut redirects)? {
                continue;
            }
            match self.tokens.first() {
                Some(Token::Word(word)) => {
                    self.tokens = &self.tokens[1..];
                    match assignment(word).filter(|_| words.is_empty()) {
                        Some(assignment) => assignments.push(assignment),
                        None => words.push(word.clone()),
                    }
                }
                Some(Token::Operator("(")) if words.len() == 1 => {
                    return Err(refused("a function"));
                }
                token => {
                    if words.is_empty() && assignments.is_empty() && redirects.is_empty() {
                        return Err(token.map_or(Incomplete::NeedsMore, unexpected));
                    }
                    return Ok(Command {
                        kind: Kind::Simple { assignments, words },
                        redirects,
                    });
                }
            }
        }
    }

    fn redirect(&mut self, redirects: &mut Vec<Redirect>) -> Result<bool, Incomplete> {
        let Some(Token::Redirect { from, operator }) = self.tokens.first() else {
            return Ok(false);
        };
        match self.tokens.get(1) {
            Some(Token::Word(target)) => redirects.push(Redirect {
                from: *from,
                operator,
                target: target.clone(),
            }),
            Some(token) => return Err(unexpected(token)),
            None => {
                return Err(Incomplete::Wrong(format!(
                    "syntax error: nothing follows '{operator}'"
                )));
            }
        }
        self.tokens = &self.tokens[2..];
        Ok(true)
    }
}

/// `NAME=…` as name and value.
fn assignment(word: &Word) -> Option<(String, Word)> {
    let [
        Part::Text {
            text,
            quoted: false,
        },
        rest @ ..,
    ] = word.as_slice()
    else {
        return None;
    };
    let (name, value) = text.split_once('=')?;
    if !is_name(name) {
        return None;
    }
    let mut word = vec![Part::Text {
        text: value.to_owned(),
        quoted: false,
    }];
    word.extend_from_slice(rest);
    Some((name.to_owned(), word))
}

/// Whether a variable can be called so.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|letter: char| letter.is_ascii_digit())
        && name
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_in_the_next_line() {
        for text in [
            "echo 'a\n",
            "echo \"a\n",
            "true &&\n",
            "true |\n",
            "( true\n",
            "{ true\n",
            "echo \\\n",
            "echo ${a:-b\n",
        ] {
            assert_eq!(parse(text), Err(Incomplete::NeedsMore), "{text}");
        }
    }

    #[test]
    fn what_is_not_understood() {
        for text in [
            "if true; then true; fi",
            "for a in b; do true; done",
            "while true",
            "f() { true; }",
            "a=$(true)",
            "echo `true`",
            "sleep 1 &",
            "cat <<EOF",
            "echo $((1+1))",
            "case a in a) ;; esac",
            "[[ a ]]",
            "echo ${a#b}",
            "true 3>x",
        ] {
            match parse(text) {
                Err(Incomplete::Wrong(sentence)) => {
                    assert!(sentence.contains("not a full one"), "{text}: {sentence}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
        for text in [
            "| cat",
            "true | | cat",
            ")",
            "true ;; true",
            "&& true",
            "echo >",
            "}",
        ] {
            assert!(matches!(parse(text), Err(Incomplete::Wrong(_))), "{text}");
        }
    }

    #[test]
    fn lists_and_pipelines() {
        let list = parse("a=1 b | c && ! d || (e; f) > g; { h\n} # i\n").unwrap();
        let whens: Vec<When> = list.iter().map(|(when, _)| *when).collect();
        assert_eq!(
            whens,
            [
                When::Always,
                When::AfterSuccess,
                When::AfterFailure,
                When::Always
            ]
        );
        assert_eq!(list[0].1.commands.len(), 2);
        assert!(list[1].1.negated);
        assert!(
            matches!(&list[2].1.commands[0].kind, Kind::Group { apart: true, list } if list.len() == 2)
        );
        assert!(matches!(
            &list[3].1.commands[0].kind,
            Kind::Group { apart: false, .. }
        ));
        assert_eq!(parse("# nothing\n\n").unwrap(), List::new());
    }
}
