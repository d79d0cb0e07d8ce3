//! Generates the table of resources from `resources.txt`.

use std::fmt::Write;

const ALL: &str = "create,delete,deletecollection,get,list,patch,update,watch";

pub(crate) fn generate(text: &str) -> String {
    let mut blocks: Vec<Vec<(usize, &str)>> = Vec::new();
    for (number, line) in crate::lines(text) {
        if !line.starts_with(' ') {
            blocks.push(Vec::new());
        }
        blocks.last_mut().unwrap().push((number, line));
    }
    let mut out = String::from("static RESOURCES: &[Resource] = &[\n");
    let (resources, tables): (Vec<_>, Vec<_>) = blocks
        .iter()
        .partition(|block| block[0].1.starts_with("resource "));
    for block in resources {
        resource(&mut out, block);
    }
    out.push_str("];\nstatic TABLES: &[(&str, &str, &[Column])] = &[\n");
    for block in tables {
        let words: Vec<&str> = block[0].1.split(' ').collect();
        let ["table", version, kind] = words[..] else {
            panic!("resources.txt:{}: what is this?", block[0].0);
        };
        let columns: String = block[1..]
            .iter()
            .filter_map(|(_, line)| column(line))
            .collect();
        writeln!(out, "({version:?}, {kind:?}, &[{columns}]),").unwrap();
    }
    out.push_str("];\n");
    out
}

fn resource(out: &mut String, block: &[(usize, &str)]) {
    let words: Vec<&str> = block[0].1.split(' ').collect();
    let ["resource", name, version, kind, scope, verbs, ref rest @ ..] = words[..] else {
        panic!("resources.txt:{}: what is this?", block[0].0);
    };
    let value = |name: &str| {
        rest.iter()
            .find_map(|word| word.strip_prefix(name))
            .unwrap_or("")
    };
    let (group, plain) = version.rsplit_once('/').unwrap_or(("", version));
    let (mut columns, mut labels, mut subs) = (String::new(), String::new(), String::new());
    for (number, line) in &block[1..] {
        if let Some(text) = column(line) {
            columns += &text;
        } else if let Some(text) = label(line) {
            labels += &text;
        } else if let Some(text) = sub(line) {
            subs += &text;
        } else {
            panic!("resources.txt:{number}: what is this?");
        }
    }
    writeln!(
        out,
        "Resource {{ name: {name:?}, group: {group:?}, version: {plain:?}, kind: {kind:?}, \
         namespaced: {}, verbs: {}, singular: {:?}, short_names: {}, categories: {}, \
         storage_version: {:?}, columns: &[{columns}], labels: &[{labels}], \
         subresources: &[{subs}] }},",
        scope == "namespaced",
        verb_list(verbs),
        value("singular="),
        crate::list(value("short=")),
        crate::list(value("categories=")),
        value("storage="),
    )
    .unwrap();
}

fn verb_list(verbs: &str) -> String {
    crate::list(match verbs {
        "all" => ALL,
        "status" => "get,patch,update",
        other => other,
    })
}

fn column(line: &str) -> Option<String> {
    let parts: Vec<&str> = line.strip_prefix("  column ")?.split('|').collect();
    let [name, kind, format, priority] = parts[..] else {
        return None;
    };
    Some(format!(
        "Column {{ name: {name:?}, kind: {kind:?}, format: {format:?}, priority: {priority} }}, "
    ))
}

fn label(line: &str) -> Option<String> {
    let words: Vec<&str> = line.strip_prefix("  label ")?.split(' ').collect();
    let [label, path, form, ref rest @ ..] = words[..] else {
        return None;
    };
    let key = rest
        .iter()
        .find_map(|word| word.strip_prefix("key="))
        .unwrap_or(label);
    let paths = if path == "-" { "" } else { path };
    Some(format!(
        "Label {{ label: {label:?}, key: {key:?}, paths: {}, form: {form:?}, accepted: {}, indexed: {} }}, ",
        crate::list(&paths.replace('|', ",")),
        !rest.contains(&"rejected"),
        rest.contains(&"indexed"),
    ))
}

fn sub(line: &str) -> Option<String> {
    let words: Vec<&str> = line.strip_prefix("  sub ")?.split(' ').collect();
    let [name, kind, verbs, ref rest @ ..] = words[..] else {
        return None;
    };
    let (version, kind) = kind.rsplit_once('/')?;
    let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
    Some(format!(
        "Subresource {{ name: {name:?}, group: {group:?}, version: {version:?}, kind: {kind:?}, \
         verbs: {}, connect: {}, takes_path: {} }}, ",
        verb_list(verbs),
        rest.contains(&"connect"),
        rest.contains(&"path"),
    ))
}
