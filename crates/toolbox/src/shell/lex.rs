//! Text into words and operators.

use super::parse::Incomplete;

/// A piece of a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Characters; quoted ones mean themselves.
    Text { text: String, quoted: bool },
    /// `$NAME` and its kin.
    Variable {
        name: String,
        change: Option<Change>,
        quoted: bool,
    },
}

/// What `${NAME…}` says besides the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// `${#NAME}`
    Length,
    /// `${NAME-word}` and the like.
    Other {
        /// `-`, `+`, `=` or `?`
        kind: char,
        /// With `:`, an empty value counts as none.
        empty_too: bool,
        word: Vec<Part>,
    },
}

/// The parts of a word.
pub(super) type Word = Vec<Part>;

/// A word or an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Word(Word),
    /// `;`, newline, `&&`, `||`, `|`, `(`, `)`
    Operator(&'static str),
    /// `<`, `>`, `>>`, `>&` and the descriptor before it.
    Redirect {
        from: u8,
        operator: &'static str,
    },
}

pub(super) struct Lexer<'a> {
    text: &'a [char],
    at: usize,
}

pub(super) fn refused(what: &str) -> Incomplete {
    Incomplete::Wrong(format!(
        "{what} is not understood: this is the small shell of the toolbox, not a full one (sh --help)"
    ))
}

/// All tokens of a text.
pub(super) fn lex(text: &str) -> Result<Vec<Token>, Incomplete> {
    let text: Vec<char> = text.chars().collect();
    let mut lexer = Lexer { text: &text, at: 0 };
    let mut tokens = Vec::new();
    while let Some(token) = lexer.token()? {
        tokens.push(token);
    }
    Ok(tokens)
}

impl Lexer<'_> {
    fn peek(&self) -> Option<char> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let letter = self.peek()?;
        self.at += 1;
        Some(letter)
    }

    fn follows(&mut self, text: &str) -> bool {
        let follows = self.text[self.at..]
            .iter()
            .copied()
            .take(text.len())
            .eq(text.chars());
        if follows {
            self.at += text.len();
        }
        follows
    }

    fn token(&mut self) -> Result<Option<Token>, Incomplete> {
        loop {
            match self.peek() {
                Some(' ' | '\t' | '\r') => self.at += 1,
                Some('\\') if self.text.get(self.at + 1) == Some(&'\n') => {
                    self.at += 2;
                    if self.at == self.text.len() {
                        return Err(Incomplete::NeedsMore);
                    }
                }
                Some('#') => {
                    while self.peek().is_some_and(|letter| letter != '\n') {
                        self.at += 1;
                    }
                }
                _ => break,
            }
        }
        if self.peek().is_none() {
            return Ok(None);
        }
        for operator in [
            "\n", ";;", ";", "&&", "&>", "&", "||", "|", "(", ")", "<<", "<&", "<", ">>", ">&",
            ">|", ">",
        ] {
            if self.follows(operator) {
                return match operator {
                    ";;" => Err(refused("case")),
                    "&>" => Err(refused("&>")),
                    "&" => Err(refused("& (work in the background)")),
                    "<<" => Err(refused("<< (text in the script)")),
                    "<&" => Err(refused("<&")),
                    "<" => Ok(Token::Redirect { from: 0, operator }),
                    ">|" => Ok(Token::Redirect {
                        from: 1,
                        operator: ">",
                    }),
                    ">" | ">>" | ">&" => Ok(Token::Redirect { from: 1, operator }),
                    "\n" => Ok(Token::Operator(";")),
                    _ => Ok(Token::Operator(operator)),
                }
                .map(Some);
            }
        }
        if let Some(digit) = self.peek().and_then(|letter| letter.to_digit(10))
            && matches!(self.text.get(self.at + 1), Some('<' | '>'))
        {
            self.at += 1;
            let from = u8::try_from(digit).unwrap_or(u8::MAX);
            return match self.token()? {
                Some(Token::Redirect { operator, .. })
                    if from <= 2 && (operator == "<") == (from == 0) =>
                {
                    Ok(Some(Token::Redirect { from, operator }))
                }
                _ => Err(refused(&format!("a redirection of {digit}"))),
            };
        }
        let mut word = Word::new();
        self.word(&mut word, |letter| " \t\r\n;&|()<>".contains(letter))?;
        Ok(Some(Token::Word(word)))
    }

    /// The parts up to an unquoted character that ends them.
    fn word(&mut self, word: &mut Word, ends: fn(char) -> bool) -> Result<(), Incomplete> {
        while let Some(letter) = self.peek() {
            if ends(letter) {
                break;
            }
            self.at += 1;
            match letter {
                '\\' => match self.next() {
                    Some('\n') => {
                        if self.at == self.text.len() {
                            return Err(Incomplete::NeedsMore);
                        }
                    }
                    Some(literal) => push(word, literal, true),
                    None => push(word, '\\', true),
                },
                '\'' => {
                    // Also if there is nothing in it.
                    word.push(Part::Text {
                        text: String::new(),
                        quoted: true,
                    });
                    loop {
                        match self.next().ok_or(Incomplete::NeedsMore)? {
                            '\'' => break,
                            literal => push(word, literal, true),
                        }
                    }
                }
                '"' => {
                    word.push(Part::Text {
                        text: String::new(),
                        quoted: true,
                    });
                    self.quoted(word)?;
                }
                '$' => self.variable(word, false)?,
                '`' => return Err(refused("`command`")),
                literal => push(word, literal, false),
            }
        }
        Ok(())
    }

    /// Up to the second `"`.
    fn quoted(&mut self, word: &mut Word) -> Result<(), Incomplete> {
        loop {
            match self.next().ok_or(Incomplete::NeedsMore)? {
                '"' => return Ok(()),
                '\\' => match self.next().ok_or(Incomplete::NeedsMore)? {
                    '\n' => {}
                    literal @ ('$' | '`' | '"' | '\\') => push(word, literal, true),
                    other => {
                        push(word, '\\', true);
                        push(word, other, true);
                    }
                },
                '$' => self.variable(word, true)?,
                '`' => return Err(refused("`command`")),
                literal => push(word, literal, true),
            }
        }
    }

    /// What stands after a `$`.
    fn variable(&mut self, word: &mut Word, quoted: bool) -> Result<(), Incomplete> {
        let mut change = None;
        let name = match self.peek() {
            Some('(') if self.text.get(self.at + 1) == Some(&'(') => {
                return Err(refused("$((sum))"));
            }
            Some('(') => return Err(refused("$(command)")),
            Some('{') => {
                self.at += 1;
                let (name, found) = self.braced()?;
                change = found;
                name
            }
            Some(letter) if letter.is_ascii_alphabetic() || letter == '_' => self.name(),
            Some(letter) if letter.is_ascii_digit() || "?#@*$!-".contains(letter) => {
                self.at += 1;
                letter.to_string()
            }
            _ => {
                push(word, '$', quoted);
                return Ok(());
            }
        };
        word.push(Part::Variable {
            name,
            change,
            quoted,
        });
        Ok(())
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(letter) = self
            .peek()
            .filter(|letter| letter.is_ascii_alphanumeric() || *letter == '_')
        {
            name.push(letter);
            self.at += 1;
        }
        name
    }

    fn braced(&mut self) -> Result<(String, Option<Change>), Incomplete> {
        if self.peek() == Some('#') && self.text.get(self.at + 1) != Some(&'}') {
            self.at += 1;
            let name = self.name();
            return match self.next() {
                Some('}') if !name.is_empty() => Ok((name, Some(Change::Length))),
                Some(_) => Err(refused("${#…}")),
                None => Err(Incomplete::NeedsMore),
            };
        }
        let name = match self.peek() {
            Some(special) if "?#@*$!".contains(special) => {
                self.at += 1;
                special.to_string()
            }
            _ => self.name(),
        };
        let empty_too = self.follows(":");
        let kind = match self.next() {
            Some('}') if !empty_too && !name.is_empty() => return Ok((name, None)),
            Some(kind @ ('-' | '+' | '=' | '?')) if !name.is_empty() => kind,
            Some(_) => return Err(refused(&format!("${{{name}…}} in this form"))),
            None => return Err(Incomplete::NeedsMore),
        };
        let mut word = Word::new();
        self.word(&mut word, |letter| letter == '}')?;
        if self.next().is_none() {
            return Err(Incomplete::NeedsMore);
        }
        let change = Change::Other {
            kind,
            empty_too,
            word,
        };
        Ok((name, Some(change)))
    }
}

fn push(word: &mut Word, letter: char, is_quoted: bool) {
    match word.last_mut() {
        Some(Part::Text { text, quoted }) if *quoted == is_quoted => text.push(letter),
        _ => word.push(Part::Text {
            text: letter.to_string(),
            quoted: is_quoted,
        }),
    }
}
