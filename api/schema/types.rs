//! Generates the table of types from `types.txt`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// A type as it stands in the text.
struct Type<'a> {
    package: &'a str,
    openapi: &'a str,
    proto: &'a str,
    role: &'a str,
    name: &'a str,
    words: Vec<&'a str>,
    fields: Vec<Field<'a>>,
    rules: Vec<&'a str>,
}

struct Field<'a> {
    line: usize,
    name: &'a str,
    tag: &'a str,
    shape: &'a str,
    words: Vec<&'a str>,
}

#[derive(Default)]
struct Tables<'a> {
    types: Vec<Type<'a>>,
    /// `package.Type` → index.
    index: BTreeMap<String, usize>,
    /// `package.Enum` → values as Rust source.
    enums: BTreeMap<String, String>,
}

pub(crate) fn generate(text: &str) -> String {
    let tables = parse(text);
    let mut out = String::new();
    let mut kinds = Vec::new();
    for (at, one) in tables.types.iter().enumerate() {
        tables.write_type(&mut out, at, one);
        if let Some(group) = one
            .words
            .iter()
            .find_map(|word| word.strip_prefix("group="))
        {
            let version = one.package.rsplit('/').next().unwrap();
            kinds.push((
                one.name,
                group,
                if group == "*" { "*" } else { version },
                at,
            ));
        }
    }
    kinds.sort_unstable();
    writeln!(out, "static KINDS: &[Kind] = &[").unwrap();
    for (kind, group, version, at) in kinds {
        writeln!(
            out,
            "Kind {{ group: {group:?}, version: {version:?}, kind: {kind:?}, schema: &T{at} }},"
        )
        .unwrap();
    }
    writeln!(out, "];\nstatic TYPES: &[(&str, &Type)] = &[").unwrap();
    for (name, at) in &tables.index {
        writeln!(out, "({name:?}, &T{at}),").unwrap();
    }
    out.push_str("];\n");
    out
}

fn parse(text: &str) -> Tables<'_> {
    let mut tables = Tables::default();
    let (mut package, mut openapi, mut proto) = ("", "", "");
    for (line, text) in crate::lines(text) {
        let words: Vec<&str> = text.split_whitespace().collect();
        match words[..] {
            ["package", go, prefix, message] => (package, openapi, proto) = (go, prefix, message),
            ["enum", name, ref values @ ..] if !text.starts_with(' ') => {
                let values: Vec<&str> = values.iter().map(|v| v.trim_matches('"')).collect();
                tables
                    .enums
                    .insert(format!("{package}.{name}"), format!("&{values:?}"));
            }
            [role @ ("object" | "list" | "struct"), name, ref words @ ..]
                if !text.starts_with(' ') =>
            {
                tables
                    .index
                    .insert(format!("{package}.{name}"), tables.types.len());
                tables.types.push(Type {
                    package,
                    openapi,
                    proto,
                    role,
                    name,
                    words: words.to_vec(),
                    fields: Vec::new(),
                    rules: Vec::new(),
                });
            }
            ["~", ..] => {
                let rule = text.trim_start().trim_start_matches("~ ");
                tables.types.last_mut().unwrap().rules.push(rule);
            }
            [name, tag, shape, ref words @ ..] if text.starts_with("  ") => {
                let words = words.to_vec();
                let field = Field {
                    line,
                    name,
                    tag,
                    shape,
                    words,
                };
                tables.types.last_mut().unwrap().fields.push(field);
            }
            _ => panic!("types.txt:{line}: what is this?"),
        }
    }
    tables
}

impl Tables<'_> {
    fn write_type(&self, out: &mut String, at: usize, one: &Type<'_>) {
        let role = match one.role {
            "struct" => "Role::Struct",
            "object" => "Role::Object",
            _ => "Role::List",
        };
        let has = |word| one.words.contains(&word);
        let unions: Vec<&str> = one
            .words
            .iter()
            .filter_map(|word| word.strip_prefix("union="))
            .collect();
        let proto = if has("noproto") || one.proto == "-" {
            ""
        } else {
            one.proto
        };
        let mut fields = String::new();
        let mut lists = String::new();
        if one.role != "struct" {
            // Not in protobuf messages: the envelope carries them.
            fields.push_str("TYPE_KIND, TYPE_API_VERSION, ");
        }
        for (place, field) in one.fields.iter().enumerate() {
            self.write_field(
                &mut fields,
                &mut lists,
                &format!("T{at}_{place}"),
                one,
                field,
            );
        }
        let rules = self.rules(one);
        let names: Vec<&str> = match one.role {
            "struct" => Vec::new(),
            _ => vec!["kind", "apiVersion"],
        };
        let names: Vec<&str> = names
            .into_iter()
            .chain(one.fields.iter().map(|f| f.name))
            .collect();
        let mut by_name: Vec<usize> = (0..names.len()).collect();
        by_name.sort_unstable_by_key(|at| names[*at]);
        let skipped = names.len() - one.fields.len();
        let mut by_tag: Vec<usize> = (0..one.fields.len()).collect();
        by_tag.retain(|at| one.fields[*at].tag != "-");
        by_tag.sort_by_key(|at| tags(&one.fields[*at]));
        let by_tag: Vec<usize> = by_tag.into_iter().map(|at| at + skipped).collect();
        writeln!(
            out,
            "{lists}static T{at}: Type = Type {{ name: Cow::Borrowed({:?}), package: {:?}, \
             openapi: {:?}, proto: {proto:?}, role: {role}, atomic: {}, unions: &{unions:?}, \
             fields: Cow::Borrowed(&[{fields}]), by_name: Cow::Borrowed(&{by_name:?}), \
             by_tag: Cow::Borrowed(&{by_tag:?}), rules: &[{rules}] }};",
            one.name,
            one.package,
            one.openapi,
            has("atomic"),
        )
        .unwrap();
    }

    /// A type's own rules, then those of its fields.
    fn rules(&self, one: &Type<'_>) -> String {
        let mut rules: String = one
            .rules
            .iter()
            .filter_map(|text| crate::rules::rule(text))
            .collect();
        let skipped = if one.role == "struct" { 0 } else { 2 };
        for (at, field) in one.fields.iter().enumerate() {
            let at = at + skipped;
            if field.words.contains(&"milli") {
                rules += &format!("Rule::Round({at}), ");
            }
            let inner = self.type_of(one, field);
            if inner.is_some_and(|inner| self.has_rules(inner, &mut BTreeSet::new())) {
                rules += &format!("Rule::Visit({at}), ");
            }
        }
        rules
    }

    /// The type of a field's value or elements.
    fn type_of(&self, of: &Type<'_>, field: &Field<'_>) -> Option<usize> {
        let name = field.shape.trim_start_matches(['[', ']', '{', '}']);
        let name = name.trim_end_matches(['?', '!']);
        let full = match name.contains('/') {
            true => name.to_string(),
            false => format!("{}.{name}", of.package),
        };
        self.index.get(&full).copied()
    }

    /// Whether a type or something in it has default rules.
    fn has_rules(&self, at: usize, seen: &mut BTreeSet<usize>) -> bool {
        let one = &self.types[at];
        let is_milli = |field: &Field<'_>| field.words.contains(&"milli");
        let has_own = one
            .rules
            .iter()
            .any(|text| crate::rules::rule(text).is_some());
        seen.insert(at)
            && (has_own
                || one.fields.iter().any(is_milli)
                || one.fields.iter().any(|field| {
                    let inner = self.type_of(one, field);
                    inner.is_some_and(|inner| self.has_rules(inner, seen))
                }))
    }

    fn write_field(
        &self,
        out: &mut String,
        lists: &mut String,
        id: &str,
        of: &Type<'_>,
        field: &Field<'_>,
    ) {
        let (shape, presence) = [
            ("?!", "Presence::PointerNull"),
            ("?", "Presence::Pointer"),
            ("!", "Presence::Always"),
            ("", "Presence::NonZero"),
        ]
        .into_iter()
        .find_map(|(mark, presence)| Some((field.shape.strip_suffix(mark)?, presence)))
        .unwrap();
        let mut rest = Words {
            map: None,
            set: false,
            out: String::new(),
            topology: "Natural",
        };
        let mut zero = presence == "Presence::Always" && !shape.starts_with(['[', '{']);
        for word in &field.words {
            rest.take(word, field.line);
            zero = (zero || *word == "zero") && *word != "nozero";
        }
        let scalar = shape.trim_start_matches(['[', ']', '{', '}']);
        let alias = scalar
            .split_once('<')
            .map_or("", |(_, alias)| alias.trim_end_matches('>'));
        let alias = match alias.contains(['/', '.']) || alias.is_empty() {
            true => alias.to_string(),
            false => format!("{}.{alias}", of.package),
        };
        let values = self.enums.get(&alias).map_or("&[]", String::as_str);
        let shape = self.shape(lists, id, of, shape, &rest, field.line);
        let mut path = tags(field);
        let tag = path.pop().unwrap();
        path.resize(2, 0);
        write!(
            out,
            "Field {{ name: Cow::Borrowed({:?}), shape: {shape}, presence: {presence}, tag: {tag}, \
             hops: {path:?}, topology: Topology::{}, facts: Facts {{ alias: {alias:?}, \
             values: {values}, zero_default: {zero}, {} ..NO_FACTS }} }}, ",
            field.name, rest.topology, rest.out,
        )
        .unwrap();
    }

    /// The Rust source of a shape; lists and maps become statics of their own.
    fn shape(
        &self,
        lists: &mut String,
        id: &str,
        of: &Type<'_>,
        text: &str,
        words: &Words<'_>,
        line: usize,
    ) -> String {
        if let Some(item) = text.strip_prefix("[]") {
            let (item, wrapped) = item
                .split_once('@')
                .map_or((item, false), |(i, _)| (i, true));
            let item = self.shape(lists, &format!("{id}I"), of, item, words, line);
            let wrapped = wrapped || lists_inside_map(id);
            let keys = match (words.map, words.set) {
                (Some(keys), _) => {
                    format!("ListTopology::Map(Cow::Borrowed({}))", crate::list(keys))
                }
                (None, true) => "ListTopology::Set".to_string(),
                (None, false) => "ListTopology::Atomic".to_string(),
            };
            writeln!(
                lists,
                "static {id}: List = List {{ item: {item}, topology: {keys}, wrapped: {wrapped} }};"
            )
            .unwrap();
            return format!("Shape::List(Link::Static(&{id}))");
        }
        if let Some(item) = text.strip_prefix("{}") {
            let item = self.shape(lists, &format!("{id}M"), of, item, words, line);
            writeln!(lists, "static {id}: Map = Map {{ item: {item} }};").unwrap();
            return format!("Shape::Map(Link::Static(&{id}))");
        }
        let plain = text.split('<').next().unwrap();
        let props = self.index.get("apiextensions/v1.JSONSchemaProps");
        let alternative =
            |name: &str| format!("Shape::SchemaOr(SchemaOr::{name}, &T{})", props.unwrap());
        match plain {
            "string" | "bool" | "int32" | "int64" | "float" | "bytes" | "any" => {
                format!("Shape::{}{}", plain[..1].to_uppercase(), &plain[1..])
            }
            "Time" | "MicroTime" | "Duration" | "Quantity" | "IntOrString" | "FieldsV1" => {
                format!("Shape::{plain}")
            }
            "RawExtension" => "Shape::Raw".to_string(),
            "JSON" => "Shape::Json".to_string(),
            "JSONSchemaPropsOrArray" => alternative("Array"),
            "JSONSchemaPropsOrBool" => alternative("Bool"),
            "JSONSchemaPropsOrStringArray" => alternative("Strings"),
            name => {
                let full = match name.contains('/') {
                    true => name.to_string(),
                    false => format!("{}.{name}", of.package),
                };
                let Some(at) = self.index.get(&full) else {
                    panic!("types.txt:{line}: there is no type {full}");
                };
                format!("Shape::Struct(Link::Static(&T{at}))")
            }
        }
    }
}

/// Lists in maps are messages of their own: protobuf has no map of lists.
fn lists_inside_map(id: &str) -> bool {
    id.ends_with('M')
}

/// The words behind a field's type, as far as they are not part of its shape.
struct Words<'a> {
    map: Option<&'a str>,
    set: bool,
    topology: &'static str,
    out: String,
}

impl<'a> Words<'a> {
    fn take(&mut self, word: &'a str, line: usize) {
        match word.split_once('=').unwrap_or((word, "")) {
            ("zero" | "nozero", "") => {}
            ("set", "") => self.set = true,
            ("map", keys) => self.map = Some(keys),
            ("atomic", "") => self.topology = "Atomic",
            ("granular", "") => self.topology = "Granular",
            ("required" | "immutable" | "milli", "") => self.out += &format!("{word}: true, "),
            ("key", name) => self.out += &format!("key_alias: {name:?}, "),
            ("gate", gates) => {
                self.out += &format!("gates: {}, ", crate::list(&gates.replace('+', ",")));
            }
            ("default", json) => self.out += &format!("default: Some({json:?}), "),
            ("patch", rule) => {
                let (strategies, key) = rule.split_once(':').unwrap_or((rule, ""));
                let has = |name| strategies.split(',').any(|s| s == name);
                self.out += &format!(
                    "patch: Patch {{ merge: {}, replace: {}, retain_keys: {}, key: {key:?} }}, ",
                    has("merge"),
                    has("replace"),
                    has("retainKeys"),
                );
            }
            _ => panic!("types.txt:{line}: what is {word}?"),
        }
    }
}

/// `[2, 3]` of `2.3`; `[0]` where a field is not in protobuf.
fn tags(field: &Field<'_>) -> Vec<u8> {
    let parse = |tag: &str| match tag {
        "-" => 0,
        tag => tag
            .parse()
            .unwrap_or_else(|_| panic!("types.txt:{}: bad tag", field.line)),
    };
    field.tag.split('.').map(parse).collect()
}
