//! Documents to YAML, in the style of Go's yaml.v2: keys sorted, lists not indented, strings plain
//! where they stay strings, long lines folded.

use std::cmp::Ordering;

use super::scalar::{Resolved, resolve};
use crate::doc::{Kind, Node};

/// Columns from which on a line is folded at the next blank.
const WIDTH: usize = 80;

/// A document as YAML.
pub fn write(node: Node<'_>) -> String {
    let mut writer = Writer { out: String::new() };
    writer.value(node, 0, Position::Start);
    writer.out.push('\n');
    writer.out
}

/// What stands before a value on its line.
#[derive(Clone, Copy, PartialEq)]
enum Position {
    /// Nothing.
    Start,
    /// A key and a colon.
    Key,
    /// A dash and a blank.
    Dash,
}

struct Writer {
    out: String,
}

/// How a string is written.
#[derive(Clone, Copy, PartialEq)]
enum Style {
    Plain,
    Single,
    Double,
    Literal,
}

impl Writer {
    /// A value at an indentation; what follows the first line of a collection stands there.
    fn value(&mut self, node: Node<'_>, indent: usize, position: Position) {
        match node.kind() {
            Kind::Object if !node.is_empty() => self.mapping(node, indent, position),
            Kind::List if !node.is_empty() => self.list(node, indent, position),
            kind => {
                if position == Position::Key {
                    self.out.push(' ');
                }
                let text = match kind {
                    Kind::Object => "{}",
                    Kind::List => "[]",
                    Kind::Null => "null",
                    Kind::True => "true",
                    Kind::False => "false",
                    Kind::String => {
                        let text = node.as_str().unwrap_or_default();
                        return self.string(text, indent + 2, true);
                    }
                    Kind::Int | Kind::Number => {
                        self.out.push_str(&node.to_string());
                        return;
                    }
                };
                self.out.push_str(text);
            }
        }
    }

    fn mapping(&mut self, node: Node<'_>, indent: usize, position: Position) {
        let indent = if position == Position::Start {
            indent
        } else {
            indent + 2
        };
        let mut entries: Vec<Node<'_>> = node.children().collect();
        entries.sort_by(|a, b| natural(a.key(), b.key()));
        for (at, entry) in entries.into_iter().enumerate() {
            if at > 0 || position == Position::Key {
                self.line(indent);
            }
            self.string(entry.key(), indent, false);
            self.out.push(':');
            self.value(entry, indent, Position::Key);
        }
    }

    fn list(&mut self, node: Node<'_>, indent: usize, position: Position) {
        // A list under a key is not indented.
        let indent = if position == Position::Dash {
            indent + 2
        } else {
            indent
        };
        for (at, item) in node.children().enumerate() {
            if at > 0 || position == Position::Key {
                self.line(indent);
            }
            self.out.push_str("- ");
            self.value(item, indent, Position::Dash);
        }
    }

    fn line(&mut self, indent: usize) {
        self.out.push('\n');
        self.out.extend(std::iter::repeat_n(' ', indent));
    }

    fn column(&self) -> usize {
        self.out.chars().rev().take_while(|c| *c != '\n').count()
    }

    fn string(&mut self, text: &str, indent: usize, may_fold: bool) {
        match style(text, may_fold) {
            Style::Plain => self.folded(text, indent, may_fold, |c, out| out.push(c)),
            Style::Single => {
                self.out.push('\'');
                self.folded(text, indent, may_fold, |c, out| {
                    out.push(c);
                    if c == '\'' {
                        out.push(c);
                    }
                });
                self.out.push('\'');
            }
            Style::Double => self.double(text, indent, may_fold),
            Style::Literal => self.literal(text, indent),
        }
    }

    /// Writes text that may be broken at single blanks once it has reached the width.
    fn folded(
        &mut self,
        text: &str,
        indent: usize,
        may_fold: bool,
        push: impl Fn(char, &mut String),
    ) {
        let mut chars = text.char_indices().peekable();
        let mut column = self.column();
        let mut after_blank = false;
        while let Some((at, c)) = chars.next() {
            let next_is_blank = chars.peek().is_some_and(|(_, next)| *next == ' ');
            let is_inside = at > 0 && chars.peek().is_some();
            let folds = c == ' ' && may_fold && !after_blank && column > WIDTH && is_inside;
            if folds && !next_is_blank {
                self.line(indent);
                column = indent;
            } else {
                push(c, &mut self.out);
                column += 1;
            }
            after_blank = c == ' ';
        }
    }

    fn double(&mut self, text: &str, indent: usize, may_fold: bool) {
        self.out.push('"');
        let mut column = self.column();
        let mut chars = text.char_indices().peekable();
        let mut after_blank = false;
        while let Some((at, c)) = chars.next() {
            let before = self.out.len();
            let is_inside = at > 0 && chars.peek().is_some();
            if c == ' ' && may_fold && !after_blank && column > WIDTH && is_inside {
                self.line(indent);
                column = indent;
                if chars.peek().is_some_and(|(_, next)| *next == ' ') {
                    self.out.push('\\');
                    column += 1;
                }
            } else {
                self.escape(c);
                column += self.out[before..].chars().count();
            }
            after_blank = c == ' ';
        }
        self.out.push('"');
    }

    fn escape(&mut self, c: char) {
        let short = match c {
            '"' | '\\' => c,
            '\0' => '0',
            '\u{7}' => 'a',
            '\u{8}' => 'b',
            '\t' => 't',
            '\n' => 'n',
            '\u{b}' => 'v',
            '\u{c}' => 'f',
            '\r' => 'r',
            '\u{1b}' => 'e',
            '\u{85}' => 'N',
            '\u{a0}' => '_',
            '\u{2028}' => 'L',
            '\u{2029}' => 'P',
            _ if is_printable(c) => {
                self.out.push(c);
                return;
            }
            _ => {
                let code = u32::from(c);
                let text = match code {
                    0..0x100 => format!("\\x{code:02X}"),
                    0x100..0x1_0000 => format!("\\u{code:04X}"),
                    _ => format!("\\U{code:08X}"),
                };
                self.out.push_str(&text);
                return;
            }
        };
        self.out.push('\\');
        self.out.push(short);
    }

    fn literal(&mut self, text: &str, indent: usize) {
        self.out.push('|');
        if text.starts_with([' ', '\n']) {
            self.out.push('2');
        }
        if !text.ends_with('\n') {
            self.out.push('-');
        } else if text == "\n" || text.ends_with("\n\n") {
            self.out.push('+');
        }
        let body = text.strip_suffix('\n').unwrap_or(text);
        for line in body.split('\n') {
            match line {
                "" => self.out.push('\n'),
                line => {
                    self.line(indent);
                    self.out.push_str(line);
                }
            }
        }
    }
}

fn style(text: &str, may_be_block: bool) -> Style {
    let facts = Facts::of(text);
    if text.contains('\n') {
        return if facts.block && may_be_block {
            Style::Literal
        } else {
            Style::Double
        };
    }
    let means_more = is_base_60(text) || is_timestamp(text) || is_merge(text);
    let stays_text = matches!(resolve(text), Resolved::Str(_)) && !means_more;
    match stays_text {
        true if facts.plain => Style::Plain,
        true if facts.single => Style::Single,
        _ => Style::Double,
    }
}

/// `<<` would be a merge key.
fn is_merge(text: &str) -> bool {
    text == "<<"
}

/// `2006-1-2`, `2006-1-2 15:4:5` or `2006-1-2T15:4:5.9Z`, which YAML 1.1 takes for a time.
fn is_timestamp(text: &str) -> bool {
    let number = |text: &str, digits: std::ops::RangeInclusive<usize>, most: u32| {
        let is_number = digits.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        is_number && text.parse().is_ok_and(|value: u32| value <= most)
    };
    let (date, time) = match text.find(['T', 't', ' ']) {
        Some(at) => (&text[..at], Some(&text[at..])),
        None => (text, None),
    };
    let is_date = match date.split('-').collect::<Vec<_>>()[..] {
        [year, month, day] => {
            number(year, 4..=4, 9_999) && number(month, 1..=2, 12) && number(day, 1..=2, 31)
        }
        _ => false,
    };
    let Some(time) = time.filter(|_| is_date) else {
        return is_date && time.is_none();
    };
    let (zoned, clock) = (!time.starts_with(' '), &time[1..]);
    let end = clock.find(['Z', '+', '-']).unwrap_or(clock.len());
    let (clock, zone) = clock.split_at(end);
    let is_zone = match zone.strip_prefix(['+', '-']) {
        Some(offset) => offset
            .split_once(':')
            .is_some_and(|(hours, minutes)| number(hours, 2..=2, 24) && number(minutes, 2..=2, 59)),
        None => zone == if zoned { "Z" } else { "" },
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let is_clock = match clock.split(':').collect::<Vec<_>>()[..] {
        [hour, minute, second] => {
            number(hour, 1..=2, 23) && number(minute, 1..=2, 59) && number(second, 1..=2, 59)
        }
        _ => false,
    };
    let is_fraction = !fraction.is_empty() && fraction.bytes().all(|b| b.is_ascii_digit());
    is_clock && is_fraction && is_zone && (zoned || zone.is_empty())
}

/// `1:30`, which YAML 1.1 takes for a number.
fn is_base_60(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_number = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_digit() || b == b'_' || b == b'.')
    };
    unsigned.contains(':')
        && unsigned.starts_with(|c: char| c.is_ascii_digit())
        && unsigned.split(':').all(is_number)
}

/// Which styles a text admits.
struct Facts {
    plain: bool,
    single: bool,
    block: bool,
}

impl Facts {
    fn of(text: &str) -> Self {
        let chars: Vec<char> = text.chars().collect();
        let is_special = chars.iter().any(|c| *c != '\n' && !is_printable(*c));
        let blank = |at: usize| chars.get(at).is_none_or(|c| matches!(c, ' ' | '\t' | '\n'));
        let mut indicators = text.starts_with("---") || text.starts_with("...");
        for (at, c) in chars.iter().enumerate() {
            indicators |= match c {
                ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%'
                | '@' | '`' => at == 0,
                '#' => at == 0 || blank(at - 1),
                '?' | '-' => at == 0 && blank(1),
                ':' => blank(at + 1),
                _ => false,
            };
        }
        let edge = |c: Option<&char>| matches!(c, Some(' ' | '\n'));
        let is_edged = edge(chars.first()) || edge(chars.last());
        let pair = |a: char, b: char| chars.windows(2).any(|two| two == [a, b]);
        let has_break = chars.contains(&'\n');
        let (break_space, space_break) = (pair('\n', ' '), pair(' ', '\n'));
        let is_hard = space_break || is_special;
        Self {
            plain: !(indicators || is_edged || has_break || is_hard || text.is_empty()),
            single: !(break_space || is_hard),
            block: !(is_hard || chars.last() == Some(&' ')),
        }
    }
}

fn is_printable(c: char) -> bool {
    matches!(c, ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}')
        && !matches!(c, '\u{2028}' | '\u{2029}')
}

/// The order of keys: letters after other signs, numbers by value.
fn natural(a: &str, b: &str) -> Ordering {
    let (one, other): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut in_digits = false;
    for at in 0..one.len().min(other.len()) {
        if one[at] == other[at] {
            in_digits = one[at].is_numeric();
            continue;
        }
        let (is_letter, other_letter) = (one[at].is_alphabetic(), other[at].is_alphabetic());
        if is_letter && other_letter {
            return one[at].cmp(&other[at]);
        }
        if is_letter || other_letter {
            let first = if in_digits { is_letter } else { other_letter };
            return if first {
                Ordering::Less
            } else {
                Ordering::Greater
            };
        }
        let number = |chars: &[char]| {
            let digits: String = chars[at..]
                .iter()
                .take_while(|c| c.is_ascii_digit())
                .collect();
            (digits.parse::<i64>().unwrap_or_default(), digits.len())
        };
        return number(&one)
            .cmp(&number(&other))
            .then(one[at].cmp(&other[at]));
    }
    one.len().cmp(&other.len())
}
