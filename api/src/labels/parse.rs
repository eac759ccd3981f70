//! The grammar of label selector queries: comma-separated requirements.
//!
//! Words such as `in` are operators only where an operator may stand, so `in=1` selects by a label named `in`.

use super::{Operator, REQUIREMENTS_MAX, Requirement, VALUES_MAX, check_key};

/// Longest query that is read at all: ample for the bounds on requirements and values.
const TEXT_BYTES_MAX: usize = 1024 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Not,
    Equals,
    DoubleEquals,
    NotEquals,
    Greater,
    Less,
    Open,
    Close,
    Comma,
    End,
}

impl<'a> Token<'a> {
    fn text(self) -> &'a str {
        match self {
            Self::Word(word) => word,
            Self::Not => "!",
            Self::Equals => "=",
            Self::DoubleEquals => "==",
            Self::NotEquals => "!=",
            Self::Greater => ">",
            Self::Less => "<",
            Self::Open => "(",
            Self::Close => ")",
            Self::Comma => ",",
            Self::End => "",
        }
    }
}

/// Reads tokens off the front of the text.
struct Lexer<'a> {
    rest: &'a str,
}

impl<'a> Lexer<'a> {
    fn peek(&self) -> Token<'a> {
        Lexer { rest: self.rest }.next()
    }

    fn next(&mut self) -> Token<'a> {
        const SYMBOLS: [(&str, Token<'static>); 9] = [
            ("==", Token::DoubleEquals),
            ("!=", Token::NotEquals),
            ("=", Token::Equals),
            ("!", Token::Not),
            (">", Token::Greater),
            ("<", Token::Less),
            ("(", Token::Open),
            (")", Token::Close),
            (",", Token::Comma),
        ];
        let is_space = |letter: char| matches!(letter, ' ' | '\t' | '\r' | '\n');
        self.rest = self.rest.trim_start_matches(is_space);
        for (text, token) in SYMBOLS {
            if let Some(rest) = self.rest.strip_prefix(text) {
                self.rest = rest;
                return token;
            }
        }
        let end = self.rest.find(|letter: char| is_space(letter) || "=!><(),".contains(letter));
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        if word.is_empty() { Token::End } else { Token::Word(word) }
    }
}

/// Parses a query into its requirements.
pub(super) fn requirements(text: &str) -> Result<Vec<Requirement>, String> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(format!("label selector is too large: at most {TEXT_BYTES_MAX} bytes"));
    }
    let mut lexer = Lexer { rest: text };
    let mut found = Vec::new();
    loop {
        match lexer.peek() {
            Token::End => return Ok(found),
            Token::Word(_) | Token::Not => {}
            other => return Err(format!("found '{}', expected: !, identifier, or 'end of string'", other.text())),
        }
        found.push(requirement(&mut lexer).map_err(|error| format!("unable to parse requirement: {error}"))?);
        if found.len() > REQUIREMENTS_MAX {
            return Err(format!("label selector is too large: at most {REQUIREMENTS_MAX} requirements"));
        }
        match (lexer.next(), lexer.peek()) {
            (Token::End, _) => return Ok(found),
            (Token::Comma, Token::Word(_) | Token::Not) => {}
            (Token::Comma, other) => {
                return Err(format!("found '{}', expected: identifier after ','", other.text()));
            }
            (other, _) => return Err(format!("found '{}', expected: ',' or 'end of string'", other.text())),
        }
    }
}

fn requirement(lexer: &mut Lexer<'_>) -> Result<Requirement, String> {
    let mut token = lexer.next();
    let negated = token == Token::Not;
    if negated {
        token = lexer.next();
    }
    let Token::Word(key) = token else {
        return Err(format!("found '{}', expected: identifier", token.text()));
    };
    check_key(key)?;
    if negated {
        return Requirement::new(key, Operator::DoesNotExist, Vec::new());
    }
    if matches!(lexer.peek(), Token::End | Token::Comma) {
        return Requirement::new(key, Operator::Exists, Vec::new());
    }
    let operator = operator(lexer.next())?;
    let values = match operator {
        Operator::In | Operator::NotIn => value_set(lexer)?,
        _ => vec![exact_value(lexer)?],
    };
    Requirement::new(key, operator, values)
}

fn operator(token: Token<'_>) -> Result<Operator, String> {
    match token {
        Token::Equals | Token::DoubleEquals => Ok(Operator::Equals),
        Token::NotEquals => Ok(Operator::NotEquals),
        Token::Greater => Ok(Operator::GreaterThan),
        Token::Less => Ok(Operator::LessThan),
        Token::Word("in") => Ok(Operator::In),
        Token::Word("notin") => Ok(Operator::NotIn),
        other => Err(format!("found '{}', expected: in, notin, =, ==, !=, gt, lt", other.text())),
    }
}

fn exact_value(lexer: &mut Lexer<'_>) -> Result<String, String> {
    match lexer.peek() {
        Token::End | Token::Comma => Ok(String::new()),
        Token::Word(word) => {
            lexer.next();
            Ok(word.to_owned())
        }
        other => Err(format!("found '{}', expected: identifier", other.text())),
    }
}

/// Reads `(a,b,)`, where nothing between commas is the empty value.
fn value_set(lexer: &mut Lexer<'_>) -> Result<Vec<String>, String> {
    let open = lexer.next();
    if open != Token::Open {
        return Err(format!("found '{}' expected: '('", open.text()));
    }
    if lexer.peek() == Token::Close {
        lexer.next();
        return Ok(Vec::new());
    }
    let mut values = Vec::new();
    loop {
        let value = match lexer.peek() {
            Token::Word(word) => {
                lexer.next();
                word
            }
            Token::Comma | Token::Close => "",
            other => return Err(format!("found '{}', expected: ',', ')' or identifier", other.text())),
        };
        values.push(value.to_owned());
        if values.len() > VALUES_MAX {
            return Err(format!("label selector is too large: at most {VALUES_MAX} values"));
        }
        match lexer.next() {
            Token::Comma => {}
            Token::Close => return Ok(values),
            other => return Err(format!("found '{}', expected: ',' or ')'", other.text())),
        }
    }
}
