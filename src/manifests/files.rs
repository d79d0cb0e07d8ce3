//! What a directory of manifests says: all objects of its `*.yaml`, `*.yml` and `*.json`, in the order of
//! the files' names.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::Value;

use super::inventory::Item;

/// A manifest larger than this is none.
const FILE_MAX: u64 = 16 << 20;

/// Names, sizes and times of files; an error is one as well.
pub(super) type Stamp = Result<BTreeMap<PathBuf, (u64, Option<SystemTime>)>, String>;

/// An object and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Manifest {
    pub(super) file: String,
    pub(super) item: Item,
    pub(super) object: Value,
}

/// What was read.
#[derive(Debug)]
pub(super) struct Directory {
    /// In the order in which they are applied.
    pub(super) objects: Vec<Manifest>,
    pub(super) troubles: Vec<String>,
    /// Whether everything could be read.
    pub(super) is_complete: bool,
}

/// What tells whether a file has changed.
pub(super) fn stamp(dir: &Path) -> Stamp {
    let of = |path: PathBuf| {
        let metadata = fs::metadata(&path)?;
        io::Result::Ok((path, (metadata.len(), metadata.modified().ok())))
    };
    let files = list(dir).and_then(|files| files.into_iter().map(of).collect());
    files.map_err(|error| error.to_string())
}

fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_manifest = [".yaml", ".yml", ".json"]
            .iter()
            .any(|end| name.ends_with(end));
        if is_manifest && !name.starts_with('.') {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Reads all files.
pub(super) fn read(dir: &Path) -> Directory {
    let mut said = Directory {
        objects: Vec::new(),
        troubles: Vec::new(),
        is_complete: true,
    };
    let files = match list(dir) {
        Ok(files) => files,
        Err(error) => {
            said.refuse(format!("cannot read {}: {error}", dir.display()));
            return said;
        }
    };
    for path in files {
        let file = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let objects = text(&path).and_then(|text| objects(&text));
        match objects {
            Ok(objects) => said.add(&file, objects),
            Err(why) => said.refuse(format!("{file}: {why}")),
        }
    }
    said.objects.sort_by_key(|one| one.item.rank);
    said
}

impl Directory {
    fn refuse(&mut self, why: String) {
        self.troubles.push(why);
        self.is_complete = false;
    }

    fn add(&mut self, file: &str, objects: Vec<Value>) {
        for object in objects {
            let item = match Item::of(&object) {
                Ok(item) => item,
                Err(why) => {
                    self.refuse(format!("{file}: {why}"));
                    continue;
                }
            };
            match self.objects.iter().find(|known| known.item == item) {
                Some(known) => {
                    let known = &known.file;
                    self.troubles
                        .push(format!("{file}: {item} is in {known} already"));
                }
                None => self.objects.push(Manifest {
                    file: file.to_string(),
                    item,
                    object,
                }),
            }
        }
    }
}

fn text(path: &Path) -> Result<String, String> {
    let size = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > FILE_MAX {
        return Err(format!("{size} bytes are more than {FILE_MAX}"));
    }
    fs::read_to_string(path).map_err(|error| error.to_string())
}

/// The objects of some YAML or JSON; lists are what they hold.
fn objects(text: &str) -> Result<Vec<Value>, String> {
    let mut objects = Vec::new();
    for document in documents(text) {
        let parsed = api::codec::yaml::parse(document.as_bytes());
        let (doc, repeated) = parsed.map_err(|error| error.to_string())?;
        if let Some(repeated) = repeated {
            return Err(repeated.to_string());
        }
        let value = serde_json::from_str(&doc.root().to_string());
        let value: Value = value.map_err(|error| error.to_string())?;
        let is_list = value["kind"]
            .as_str()
            .is_some_and(|kind| kind.ends_with("List"));
        match value {
            Value::Null => {}
            Value::Object(mut list) if is_list && list.contains_key("items") => {
                match list.remove("items") {
                    Some(Value::Array(items)) => objects.extend(items),
                    _ => return Err("items is no list".into()),
                }
            }
            object => objects.push(object),
        }
    }
    Ok(objects)
}

/// The documents between lines `---`, each with the empty lines before it that keep line numbers right.
fn documents(text: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    for (at, line) in text.lines().enumerate() {
        let rest = line.strip_prefix("---").map(str::trim);
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('#')) {
            all.push("\n".repeat(at + 1));
        } else if let Some(last) = all.last_mut() {
            last.push_str(line);
            last.push('\n');
        }
    }
    all.retain(|one| !one.trim().is_empty());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, name: &str, text: &str) {
        fs::write(dir.join(name), text).unwrap();
    }

    const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: ns}\n";

    #[test]
    fn files_are_documents_and_lists_and_namespaces_come_first() {
        let dir = tempfile::tempdir().unwrap();
        let two = format!(
            "# first\n---\n{MAP}---  # second\nkind: Namespace\napiVersion: v1\nmetadata: {{name: ns}}\n---\n"
        );
        write(dir.path(), "a.yaml", &two);
        let list = r#"{"kind":"List","apiVersion":"v1","items":[{"kind":"Pod","apiVersion":"v1","metadata":{"name":"p"}}]}"#;
        write(dir.path(), "b.json", list);
        write(dir.path(), "c.yaml", "");
        write(dir.path(), ".d.yaml", "{");
        write(dir.path(), "readme", "{");
        let before = stamp(dir.path()).unwrap();
        let said = read(dir.path());
        assert_eq!(said.troubles, Vec::<String>::new());
        let items: Vec<String> = said
            .objects
            .iter()
            .map(|one| one.item.to_string())
            .collect();
        assert_eq!(items, ["Namespace ns", "ConfigMap ns/a", "Pod p"]);
        write(dir.path(), "c.yaml", "# changed\n");
        assert_ne!(stamp(dir.path()).unwrap(), before);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_file_and_line() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a.yaml", MAP);
        write(dir.path(), "b.yaml", MAP);
        let said = read(dir.path());
        assert_eq!(
            said.troubles,
            ["b.yaml: ConfigMap ns/a is in a.yaml already"]
        );
        assert_eq!((said.objects.len(), said.is_complete), (1, true));
        write(dir.path(), "b.yaml", &format!("{MAP}---\na: [\n"));
        let said = read(dir.path());
        assert!(
            said.troubles[0].starts_with("b.yaml: yaml: line"),
            "{said:?}"
        );
        assert!(!said.is_complete);
        write(dir.path(), "b.yaml", "kind: Pod\napiVersion: v1\n");
        assert_eq!(
            read(dir.path()).troubles,
            ["b.yaml: metadata.name is missing"]
        );
        // In YAML 1.1 this is no text.
        write(dir.path(), "b.yaml", &MAP.replace("ns", "n"));
        let said = read(dir.path());
        assert_eq!(said.troubles, ["b.yaml: metadata.namespace is no text"]);
        let nowhere = read(&dir.path().join("none"));
        assert!(!nowhere.is_complete);
        assert!(stamp(&dir.path().join("none")).is_err());
    }
}
