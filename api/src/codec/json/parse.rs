//! The parser. It is iterative: input nested deeply costs a stack of its own, not the thread's.

use std::borrow::Cow;
use std::fmt;

use crate::doc::{Cell, Doc, Id, Kind, Span};

/// How deeply values may be nested. Upstream allows 10 000, which no object comes near; walks over
/// documents recurse.
pub(crate) const MAX_DEPTH: usize = 1_000;

/// Why something is not JSON, in the words of Go's encoding/json.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyntaxError {
    /// A character that may not stand where it does.
    Unexpected {
        /// The character.
        found: char,
        /// Where: "looking for beginning of value".
        context: &'static str,
    },
    /// The input ends within a value.
    End,
    /// Nested too deeply.
    TooDeep,
    /// More than a document can address.
    TooLarge,
}

impl std::error::Error for SyntaxError {}

impl fmt::Display for SyntaxError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unexpected { found, context } => {
                let quoted = match found {
                    '\'' => r"'\''".to_string(),
                    '"' => "'\"'".to_string(),
                    '\0' => r"'\x00'".to_string(),
                    other if other.is_ascii_control() => match other {
                        '\n' | '\r' | '\t' => format!("'{}'", other.escape_default()),
                        _ => format!("'\\x{:02x}'", u32::from(*other)),
                    },
                    other => format!("'{other}'"),
                };
                write!(out, "invalid character {quoted} {context}")
            }
            Self::End => out.write_str("unexpected end of JSON input"),
            Self::TooDeep => out.write_str("exceeded max depth"),
            Self::TooLarge => out.write_str("document too large"),
        }
    }
}

/// Parses one JSON value. Bytes that are not UTF-8 become U+FFFD. Objects keep duplicate keys, so
/// that a strict decoder can report them.
///
/// # Errors
///
/// If the input is not exactly one JSON value, or nested more than 1 000 levels.
pub fn parse(input: Vec<u8>) -> Result<Doc, SyntaxError> {
    // Unescaped strings are appended to the text, which must stay addressable.
    if input.len() > (u32::MAX / 4) as usize {
        return Err(SyntaxError::TooLarge);
    }
    let text = match String::from_utf8(input) {
        Ok(text) => text,
        Err(error) => match String::from_utf8_lossy(error.as_bytes()) {
            Cow::Owned(text) => text,
            Cow::Borrowed(text) => text.to_string(),
        },
    };
    let cells = Vec::with_capacity(text.len() / 16 + 8);
    let mut parser = Parser {
        input: text,
        unescaped: String::new(),
        cells,
        at: 0,
        open: Vec::new(),
    };
    parser.document()?;
    let mut text = parser.input;
    text.push_str(&parser.unescaped);
    Ok(Doc {
        cells: parser.cells,
        text,
        root: Id(0),
    })
}

/// A list or object whose end has not been seen.
struct Open {
    id: Id,
    last: Id,
    is_object: bool,
}

struct Parser {
    input: String,
    /// Strings that had escapes; they come to stand behind the input.
    unescaped: String,
    cells: Vec<Cell>,
    at: usize,
    open: Vec<Open>,
}

impl Parser {
    fn document(&mut self) -> Result<(), SyntaxError> {
        self.value(Span::default())?;
        while let Some(open) = self.open.last() {
            if open.is_object {
                self.next_key()?
            } else {
                self.next_element()?
            }
        }
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.unexpected("after top-level value")),
        }
    }

    /// In an object: the next key and its value, or the end.
    fn next_key(&mut self) -> Result<(), SyntaxError> {
        let is_first = self.is_first();
        let byte = self.peek();
        if byte == Some(b'}') {
            return self.close();
        }
        if !is_first {
            if byte != Some(b',') {
                return Err(self.unexpected("after object key:value pair"));
            }
            self.at += 1;
        }
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("looking for beginning of object key string"));
        }
        let key = self.string()?;
        if self.peek() != Some(b':') {
            return Err(self.unexpected("after object key"));
        }
        self.at += 1;
        self.value(key)
    }

    fn next_element(&mut self) -> Result<(), SyntaxError> {
        let is_first = self.is_first();
        match (self.peek(), is_first) {
            (Some(b']'), _) => return self.close(),
            (_, true) => {}
            (Some(b','), false) => self.at += 1,
            _ => return Err(self.unexpected("after array element")),
        }
        self.value(Span::default())
    }

    fn is_first(&self) -> bool {
        self.open.last().is_some_and(|open| open.last == Id::NONE)
    }

    fn close(&mut self) -> Result<(), SyntaxError> {
        self.at += 1;
        if let Some(open) = self.open.pop() {
            self.cells[open.id.index()].b = open.last.0;
        }
        Ok(())
    }

    #[expect(clippy::cast_possible_truncation, reason = "parse() bounds the input")]
    fn value(&mut self, key: Span) -> Result<(), SyntaxError> {
        let mut cell = match self.peek() {
            Some(b'{') => Cell::container(Kind::Object),
            Some(b'[') => Cell::container(Kind::List),
            Some(b'"') => {
                let span = self.string()?;
                Cell::text(Kind::String, span)
            }
            Some(b't') => self.word("true", Kind::True)?,
            Some(b'f') => self.word("false", Kind::False)?,
            Some(b'n') => self.word("null", Kind::Null)?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ => return Err(self.unexpected("looking for beginning of value")),
        };
        cell.key = key;
        let kind = cell.kind;
        let id = Id(self.cells.len() as u32);
        self.cells.push(cell);
        if let Some(open) = self.open.last_mut() {
            match open.last.some() {
                Some(last) => self.cells[last.index()].next = id,
                None => self.cells[open.id.index()].a = id.0,
            }
            open.last = id;
        }
        if matches!(kind, Kind::Object | Kind::List) {
            self.at += 1;
            if self.open.len() >= MAX_DEPTH {
                return Err(SyntaxError::TooDeep);
            }
            self.open.push(Open {
                id,
                last: Id::NONE,
                is_object: kind == Kind::Object,
            });
        }
        Ok(())
    }

    /// Skips blanks; the next byte stays.
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.input.as_bytes();
        while let Some(byte) = bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\t' | b'\r') {
                return Some(*byte);
            }
            self.at += 1;
        }
        None
    }

    /// An error about the character at the current place.
    fn unexpected(&self, context: &'static str) -> SyntaxError {
        match self
            .input
            .get(self.at..)
            .and_then(|rest| rest.chars().next())
        {
            Some(found) => SyntaxError::Unexpected { found, context },
            None => SyntaxError::End,
        }
    }

    fn word(&mut self, word: &'static str, kind: Kind) -> Result<Cell, SyntaxError> {
        let bytes = self.input.as_bytes();
        if bytes[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(Cell::plain(kind));
        }
        let same = bytes[self.at..]
            .iter()
            .zip(word.bytes())
            .take_while(|(a, b)| **a == *b)
            .count();
        self.at += same;
        Err(self.unexpected(match (word, same) {
            ("true", 1) => "in literal true (expecting 'r')",
            ("true", 2) => "in literal true (expecting 'u')",
            ("true", _) => "in literal true (expecting 'e')",
            ("false", 1) => "in literal false (expecting 'a')",
            ("false", 2) => "in literal false (expecting 'l')",
            ("false", 3) => "in literal false (expecting 's')",
            ("false", _) => "in literal false (expecting 'e')",
            (_, 1) => "in literal null (expecting 'u')",
            _ => "in literal null (expecting 'l')",
        }))
    }

    fn digits(&mut self) -> usize {
        let bytes = &self.input.as_bytes()[self.at..];
        let count = bytes
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        self.at += count;
        count
    }

    #[expect(clippy::cast_possible_truncation, reason = "parse() bounds the input")]
    fn number(&mut self) -> Result<Cell, SyntaxError> {
        let start = self.at;
        let byte = |parser: &Self| parser.input.as_bytes().get(parser.at).copied();
        if byte(self) == Some(b'-') {
            self.at += 1;
        }
        match byte(self) {
            Some(b'0') => self.at += 1,
            _ if self.digits() > 0 => {}
            _ => return Err(self.unexpected("in numeric literal")),
        }
        let mut is_integer = true;
        if byte(self) == Some(b'.') {
            is_integer = false;
            self.at += 1;
            if self.digits() == 0 {
                return Err(self.unexpected("after decimal point in numeric literal"));
            }
        }
        if matches!(byte(self), Some(b'e' | b'E')) {
            is_integer = false;
            self.at += 1;
            if matches!(byte(self), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if self.digits() == 0 {
                return Err(self.unexpected("in exponent of numeric literal"));
            }
        }
        let text = &self.input[start..self.at];
        // `-0` would lose its sign.
        if is_integer
            && text != "-0"
            && let Ok(value) = text.parse()
        {
            return Ok(Cell::int(value));
        }
        let span = Span {
            at: start as u32,
            len: (self.at - start) as u32,
        };
        Ok(Cell::text(Kind::Number, span))
    }

    /// A string whose opening quote is next: where it lies in the text, unescaped.
    #[expect(clippy::cast_possible_truncation, reason = "parse() bounds the input")]
    fn string(&mut self) -> Result<Span, SyntaxError> {
        self.at += 1;
        let start = self.at;
        self.at += plain_run(&self.input.as_bytes()[start..]);
        if self.input.as_bytes().get(self.at) == Some(&b'"') {
            self.at += 1;
            return Ok(Span {
                at: start as u32,
                len: (self.at - 1 - start) as u32,
            });
        }
        self.escaped(start)
    }

    /// The slow path for a string with escapes.
    #[expect(clippy::cast_possible_truncation, reason = "parse() bounds the input")]
    fn escaped(&mut self, start: usize) -> Result<Span, SyntaxError> {
        let from = self.unescaped.len();
        self.unescaped.push_str(&self.input[start..self.at]);
        loop {
            match self.input.as_bytes().get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    self.at += 1;
                    let unescaped = self.escape()?;
                    self.unescaped.push(unescaped);
                }
                Some(0..=0x1f) | None => return Err(self.unexpected("in string literal")),
                Some(_) => {
                    let run = plain_run(&self.input.as_bytes()[self.at..]);
                    self.unescaped.push_str(&self.input[self.at..self.at + run]);
                    self.at += run;
                }
            }
        }
        self.at += 1;
        let at = (self.input.len() + from) as u32;
        Ok(Span {
            at,
            len: (self.unescaped.len() - from) as u32,
        })
    }

    fn escape(&mut self) -> Result<char, SyntaxError> {
        let Some(byte) = self.input.as_bytes().get(self.at).copied() else {
            return Err(SyntaxError::End);
        };
        let plain = match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                self.at += 1;
                return self.unicode();
            }
            _ => return Err(self.unexpected("in string escape code")),
        };
        self.at += 1;
        Ok(plain)
    }

    /// Four hexadecimal digits, or twice four for a pair of surrogates; a lone one is U+FFFD.
    fn unicode(&mut self) -> Result<char, SyntaxError> {
        let first = self.hex()?;
        if !(0xd800..0xdc00).contains(&first) {
            return Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        let after = self.at;
        if self.input.as_bytes()[self.at..].starts_with(b"\\u") {
            self.at += 2;
            let second = self.hex()?;
            if (0xdc00..0xe000).contains(&second) {
                let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = after;
        }
        Ok(char::REPLACEMENT_CHARACTER)
    }

    fn hex(&mut self) -> Result<u32, SyntaxError> {
        let mut code = 0;
        for _ in 0..4 {
            let byte = self.input.as_bytes().get(self.at).copied();
            let digit = byte.and_then(|byte| char::from(byte).to_digit(16));
            let Some(digit) = digit else {
                return Err(self.unexpected("in \\u hexadecimal character escape"));
            };
            code = code << 4 | digit;
            self.at += 1;
        }
        Ok(code)
    }
}

/// How many bytes of a string need no attention: no quote, no backslash, no control character.
fn plain_run(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // The classic test for a zero byte; `x ^ pattern` is zero where the byte is the pattern's.
    let zero = |x: u64| x.wrapping_sub(ONES) & !x & HIGH;
    let mut at = 0;
    while let Some(chunk) = bytes.get(at..at + 8) {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        let word = u64::from_le_bytes(word);
        let quotes = zero(word ^ (ONES * u64::from(b'"')));
        let slashes = zero(word ^ (ONES * u64::from(b'\\')));
        let controls = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        let found = quotes | slashes | controls;
        if found != 0 {
            // Borrows may mark bytes above the first hit, never below it.
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = bytes[at..].iter();
    at + rest
        .take_while(|byte| !matches!(byte, b'"' | b'\\' | 0..=0x1f))
        .count()
}
