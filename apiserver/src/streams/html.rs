//! Links in HTML: rewritten as the document passes, tag by tag.

/// Which attributes of which elements are links.
const LINKS: [(&str, &[&str]); 25] = [
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];
/// Elements whose content has no tags but the one that ends them.
const RAW: [&str; 9] = [
    "iframe",
    "noembed",
    "noframes",
    "plaintext",
    "script",
    "style",
    "textarea",
    "title",
    "xmp",
];
/// A tag that is longer is none.
const TAG_MAX: usize = 64 << 10;

/// What the document is in the middle of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inside {
    Text,
    /// One of [`RAW`].
    Element(&'static str),
    Comment,
}

/// Rewrites the links of a document that comes in pieces.
pub struct Rewriter<F> {
    rewrite: F,
    pending: Vec<u8>,
    inside: Inside,
}

impl<F: Fn(&str) -> String> Rewriter<F> {
    /// A rewriter that asks what becomes of a link.
    pub fn new(rewrite: F) -> Self {
        Self {
            rewrite,
            pending: Vec::new(),
            inside: Inside::Text,
        }
    }

    /// Takes a piece, and puts out what can be.
    pub fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        self.pending.extend_from_slice(piece);
        let pending = std::mem::take(&mut self.pending);
        let mut rest = &pending[..];
        while !rest.is_empty() {
            let Some(length) = self.token(rest, out) else {
                break;
            };
            rest = &rest[length..];
        }
        if rest.len() > TAG_MAX {
            out.extend_from_slice(rest);
            rest = &[];
        }
        self.pending = rest.to_vec();
    }

    /// Puts out what is left.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.pending);
    }

    /// Puts out text or one tag at the start of what is there; returns its length, or none if it is
    /// not complete.
    fn token(&mut self, text: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        if self.inside == Inside::Comment {
            return self.comment(text, out);
        }
        let start = text.iter().position(|byte| *byte == b'<');
        let start = start.unwrap_or(text.len());
        if start > 0 {
            out.extend_from_slice(&text[..start]);
            return Some(start);
        }
        let second = *text.get(1)?;
        let mut copy = |length: usize| {
            out.extend_from_slice(&text[..length]);
            Some(length)
        };
        if let Inside::Element(name) = self.inside {
            let end = name.len() + 2;
            if text.len() < end {
                return None;
            }
            let is_end = second == b'/' && text[2..end].eq_ignore_ascii_case(name.as_bytes());
            if !is_end {
                return copy(1);
            }
            self.inside = Inside::Text;
            return copy(end);
        }
        match second {
            b'!' if text.starts_with(b"<!--") => {
                self.inside = Inside::Comment;
                copy(4)
            }
            b'!' if text.len() < 4 && b"<!--".starts_with(text) => None,
            b'!' | b'?' | b'/' => {
                let end = text.iter().position(|byte| *byte == b'>')?;
                copy(end + 1)
            }
            letter if letter.is_ascii_alphabetic() => self.tag(text, out),
            _ => copy(1),
        }
    }

    /// Puts out a comment as far as it is there, up to its end.
    fn comment(&mut self, text: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        const END: &[u8] = b"-->";
        let length = match text.windows(END.len()).position(|window| window == END) {
            Some(end) => {
                self.inside = Inside::Text;
                end + END.len()
            }
            // The last two bytes may belong to the end.
            None => text.len().checked_sub(END.len() - 1).filter(|n| *n > 0)?,
        };
        out.extend_from_slice(&text[..length]);
        Some(length)
    }

    /// Puts out a tag that begins an element, its links rewritten.
    fn tag(&mut self, text: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        let tag = Tag::parse(text)?;
        let name = String::from_utf8_lossy(&text[1..tag.name_end]).to_ascii_lowercase();
        let links = LINKS.iter().find(|(element, _)| *element == name);
        let links = links.map_or(&[][..], |(_, links)| *links);
        let mut done = 0;
        for attribute in &tag.attributes {
            let key = text[attribute.name.clone()].to_ascii_lowercase();
            if !links.iter().any(|link| link.as_bytes() == key) {
                continue;
            }
            let link = String::from_utf8_lossy(&text[attribute.value.clone()]);
            let link = (self.rewrite)(&unescape(&link));
            out.extend_from_slice(&text[done..attribute.whole_value.start]);
            out.push(b'"');
            out.extend_from_slice(escape(&link).as_bytes());
            out.push(b'"');
            done = attribute.whole_value.end;
        }
        out.extend_from_slice(&text[done..tag.end]);
        let raw = RAW.into_iter().find(|raw| *raw == name);
        self.inside = raw.map_or(Inside::Text, Inside::Element);
        Some(tag.end)
    }
}

type Span = std::ops::Range<usize>;

struct Attribute {
    name: Span,
    value: Span,
    /// With its quotes.
    whole_value: Span,
}

struct Tag {
    name_end: usize,
    attributes: Vec<Attribute>,
    end: usize,
}

impl Tag {
    /// The places of a tag's parts; none if its end is not there yet.
    fn parse(text: &[u8]) -> Option<Self> {
        let is_gap = |byte: u8| byte.is_ascii_whitespace() || byte == b'/';
        let skip = |mut at: usize, stays: &dyn Fn(u8) -> bool| {
            while stays(*text.get(at)?) {
                at += 1;
            }
            Some(at)
        };
        let name_end = skip(1, &|byte| !is_gap(byte) && byte != b'>')?;
        let mut attributes = Vec::new();
        let mut at = name_end;
        loop {
            at = skip(at, &is_gap)?;
            if text[at] == b'>' {
                let end = at + 1;
                return Some(Self {
                    name_end,
                    attributes,
                    end,
                });
            }
            let start = at;
            // An equals sign at the start belongs to the name.
            at = skip(at + 1, &|byte| {
                !is_gap(byte) && !matches!(byte, b'=' | b'>')
            })?;
            let name = start..at;
            let sign = skip(at, &|byte| byte.is_ascii_whitespace())?;
            if text[sign] != b'=' {
                continue;
            }
            let start = skip(sign + 1, &|byte| byte.is_ascii_whitespace())?;
            let (value, whole_value) = match text[start] {
                b'>' => (start..start, start..start),
                quote @ (b'"' | b'\'') => {
                    let end = skip(start + 1, &|byte| byte != quote)?;
                    (start + 1..end, start..end + 1)
                }
                _ => {
                    let end = skip(start, &|byte| !byte.is_ascii_whitespace() && byte != b'>')?;
                    (start..end, start..end)
                }
            };
            at = whole_value.end;
            attributes.push(Attribute {
                name,
                value,
                whole_value,
            });
        }
    }
}

/// What stands for what in attributes; links have no others.
const ENTITIES: [(&str, char); 5] = [
    ("amp", '&'),
    ("lt", '<'),
    ("gt", '>'),
    ("quot", '"'),
    ("apos", '\''),
];

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let entity = rest.find(';').and_then(|end| {
            let name = &rest[1..end];
            Some((character(name)?, end + 1))
        });
        let (character, length) = entity.unwrap_or(('&', 1));
        out.push(character);
        rest = &rest[length..];
    }
    out + rest
}

fn character(name: &str) -> Option<char> {
    let Some(number) = name.strip_prefix('#') else {
        let found = ENTITIES.iter().find(|(entity, _)| *entity == name);
        return found.map(|(_, character)| *character);
    };
    let number = match number.strip_prefix(['x', 'X']) {
        Some(hex) => u32::from_str_radix(hex, 16).ok()?,
        None => number.parse().ok()?,
    };
    char::from_u32(number)
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '\'' => out.push_str("&#39;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_rewritten_whatever_the_pieces() {
        let document = r#"<!DOCTYPE html><html><head><link href='/a.css'><script src="/s.js">if (a<b) "<a href='/no'>"</script>
<!-- <a href="/no"> --><title><img src="/no"></title></head>
<body background=/b.png class="c"><a HREF = "/x?a=1&amp;b=2" data-href="/no">1 < 2 &amp; </a><br/><img alt src="/i"/><p href="/no"></body></html>"#;
        let want = r#"<!DOCTYPE html><html><head><link href="[/a.css]"><script src="[/s.js]">if (a<b) "<a href='/no'>"</script>
<!-- <a href="/no"> --><title><img src="/no"></title></head>
<body background="[/b.png]" class="c"><a HREF = "[/x?a=1&amp;b=2]" data-href="/no">1 < 2 &amp; </a><br/><img alt src="[/i]"/><p href="/no"></body></html>"#;
        for size in [1, 2, 7, 4096] {
            let mut rewriter = Rewriter::new(|link: &str| format!("[{link}]"));
            let mut out = Vec::new();
            for piece in document.as_bytes().chunks(size) {
                rewriter.push(piece, &mut out);
            }
            rewriter.finish(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), want, "{size}");
        }
    }

    #[test]
    fn what_never_ends_passes() {
        let mut rewriter = Rewriter::new(|_: &str| String::new());
        let mut out = Vec::new();
        let text = [b"<a href=\"".to_vec(), vec![b'x'; TAG_MAX]].concat();
        rewriter.push(&text, &mut out);
        assert!(out == text && rewriter.pending.is_empty());
        rewriter.push(b"<a hr", &mut out);
        rewriter.finish(&mut out);
        assert_eq!(&out[text.len()..], b"<a hr");
    }
}
