//! What differs between two values, for people: a unified diff of their JSON.

use api::doc::{Kind, Node};

use crate::validation::At;

const CONTEXT: usize = 3;
/// Beyond this many lines on both sides a diff would cost more than it tells.
const LINES_MAX: usize = 4000;

/// The diff, empty if there is no difference.
pub(crate) fn diff(old: At<'_>, new: At<'_>) -> String {
    let (old, new) = (lines(old), lines(new));
    if old == new {
        return String::new();
    }
    let start = old
        .iter()
        .zip(&new)
        .take_while(|(one, other)| one == other)
        .count();
    let end = old[start..]
        .iter()
        .rev()
        .zip(new[start..].iter().rev())
        .take_while(|(one, other)| one == other)
        .count();
    let (gone, come) = (&old[start..old.len() - end], &new[start..new.len() - end]);
    let before = start.saturating_sub(CONTEXT);
    let after = end.min(CONTEXT);
    let mut text = String::new();
    text.push_str(&format!(
        "@@ -{},{} +{},{} @@\n",
        before + 1,
        start - before + gone.len() + after,
        before + 1,
        start - before + come.len() + after,
    ));
    let mut put = |sign: char, line: &str| text.push_str(&format!("{sign}{line}\n"));
    for line in &old[before..start] {
        put(' ', line);
    }
    for (sign, line) in edits(gone, come) {
        put(sign, line);
    }
    for line in &old[old.len() - end..old.len() - end + after] {
        put(' ', line);
    }
    text
}

fn lines(at: At<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    match at.node() {
        Some(node) => pretty(node, "", 0, "", &mut lines),
        None => lines.push("null".to_string()),
    }
    lines
}

fn pretty(node: Node<'_>, key: &str, depth: usize, comma: &str, lines: &mut Vec<String>) {
    let indent = " ".repeat(depth);
    let (open, close) = match node.kind() {
        Kind::List => ("[", "]"),
        Kind::Object => ("{", "}"),
        _ => {
            lines.push(format!("{indent}{key}{node}{comma}"));
            return;
        }
    };
    if node.is_empty() {
        lines.push(format!("{indent}{key}{open}{close}{comma}"));
        return;
    }
    lines.push(format!("{indent}{key}{open}"));
    let mut children = node.children().peekable();
    while let Some(child) = children.next() {
        let key = match node.kind() {
            Kind::Object => format!("{:?}: ", child.key()),
            _ => String::new(),
        };
        let comma = if children.peek().is_some() { "," } else { "" };
        pretty(child, &key, depth + 1, comma, lines);
    }
    lines.push(format!("{indent}{close}{comma}"));
}

/// Lines that go, come and stay, by the longest common subsequence.
fn edits<'l>(gone: &'l [String], come: &'l [String]) -> Vec<(char, &'l str)> {
    let mut edits: Vec<(char, &str)> = Vec::new();
    if gone.len() + come.len() > LINES_MAX {
        edits.extend(gone.iter().map(|line| ('-', line.as_str())));
        edits.extend(come.iter().map(|line| ('+', line.as_str())));
        return edits;
    }
    let width = come.len() + 1;
    let mut common = vec![0_u32; (gone.len() + 1) * width];
    for one in (0..gone.len()).rev() {
        for other in (0..come.len()).rev() {
            common[one * width + other] = match gone[one] == come[other] {
                true => common[(one + 1) * width + other + 1] + 1,
                false => common[(one + 1) * width + other].max(common[one * width + other + 1]),
            };
        }
    }
    let (mut one, mut other) = (0, 0);
    while one < gone.len() || other < come.len() {
        if one < gone.len() && other < come.len() && gone[one] == come[other] {
            edits.push((' ', &gone[one]));
            (one, other) = (one + 1, other + 1);
        } else if other == come.len()
            || (one < gone.len()
                && common[(one + 1) * width + other] >= common[one * width + other + 1])
        {
            edits.push(('-', &gone[one]));
            one += 1;
        } else {
            edits.push(('+', &come[other]));
            other += 1;
        }
    }
    edits
}

#[cfg(test)]
mod tests {
    use api::doc::Doc;

    use super::*;

    #[test]
    fn differences_stand_in_their_context() {
        let old = Doc::literal(r#"{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":[]}"#);
        let new = Doc::literal(r#"{"a":1,"b":2,"c":3,"d":4,"e":"x","f":6,"g":[]}"#);
        assert_eq!(
            diff(At::root(&old), At::root(&new)),
            "@@ -4,6 +4,6 @@\n  \"c\": 3,\n  \"d\": 4,\n- \"e\": 5,\n+ \"e\": \"x\",\n  \"f\": 6,\n  \"g\": []\n }\n"
                .replace("@@ -4,6 +4,6 @@\n", "@@ -3,7 +3,7 @@\n  \"b\": 2,\n")
        );
        assert_eq!(diff(At::root(&old), At::root(&old)), "");
    }
}
