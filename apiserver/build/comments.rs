//! What the comments of one generated file say of the type in it.

use std::collections::HashMap;

/// What the first line of a file starts with; the name in OpenAPI follows.
const HEADER: &str = "// Generated from definition ";

/// The type's record: its name, what it is, and the same of each of its fields, each ended by a zero
/// byte; a byte of one ends the record. None if the file has no type.
pub(crate) fn record(source: &str) -> Option<String> {
    let (header, body) = source.strip_prefix(HEADER)?.split_once('\n')?;
    let names = json_names(body);
    let mut record = String::new();
    let mut push = |text: &str| {
        record.push_str(text);
        record.push('\0');
    };
    let mut comment = String::new();
    let mut inside = false;
    for line in body.lines() {
        let line = line.trim_start();
        if let Some(text) = line.strip_prefix("///") {
            comment.push_str(text.strip_prefix(' ').unwrap_or(text));
            comment.push('\n');
        } else if !inside && (line.starts_with("pub struct ") || line.starts_with("pub enum ")) {
            push(header);
            push(&plain(&comment));
            comment.clear();
            inside = line.starts_with("pub struct ") && line.ends_with('{');
            if !inside {
                break;
            }
        } else if inside && line.starts_with('}') {
            break;
        } else if let Some(field) = line.strip_prefix("pub ").filter(|_| inside) {
            let field = field.split(':').next().unwrap_or_default();
            if let Some(name) = names.get(field) {
                push(name);
                push(&plain(&comment));
            }
            comment.clear();
        }
    }
    record.push('\x01');
    Some(record)
}

/// Names in JSON by those of Rust, from the decoder's table: `"hostIP" => Field::Key_host_ip,`.
fn json_names(body: &str) -> HashMap<&str, &str> {
    let rows = body.lines().filter_map(|line| {
        let (json, field) = line.trim().split_once(" => Field::Key_")?;
        Some((field.strip_suffix(',')?, json.trim_matches('"')))
    });
    rows.collect()
}

/// A comment without what keeps rustdoc from reading it as Markdown.
fn plain(comment: &str) -> String {
    let mut text = comment.trim_end().to_string();
    for special in ["[", "]", "<", ">"] {
        text = text.replace(&format!("\\{special}"), special);
    }
    text
}
