//! From resources to paths: which operations there are, how they are called, what they take and give.

use super::{Body, Operation, Path, Payload, Produces, document, title, with_article, word};
use crate::catalog::{Group, Served, Sub, Text, Version, group_version, returns_deleted};
use crate::openapi::parameters::{Parameter, options, options_of};
use crate::openapi::schema::{Definitions, PATCH};

/// The paths of a version, sorted.
pub(crate) fn paths(
    group: &Group,
    version: &Version,
    definitions: &mut Definitions<'_>,
) -> Vec<Path> {
    let names = (&*group.name, &*version.name);
    let mut maker = Maker::new(names, definitions);
    let mut all = vec![maker.resource_list()];
    for served in &version.resources {
        all.extend(maker.resource(served));
        for sub in &served.subresources {
            all.extend(maker.subresource(served, sub));
        }
    }
    all.sort_by(|a, b| a.path.cmp(&b.path));
    all
}

struct Maker<'m, 'c> {
    group: &'m str,
    version: &'m str,
    root: String,
    tag: String,
    /// What stands between the verb and the kind in an operation's id.
    infix: String,
    definitions: &'m mut Definitions<'c>,
}

/// An operation of a resource before it is spelled out.
struct Sketch<'s> {
    method: &'static str,
    action: &'static str,
    verb: &'s str,
    /// What follows the group in the id.
    id: String,
    description: String,
    body: Option<Body>,
    payload: Payload,
    of: (&'s str, &'s str, &'s str),
}

impl<'m, 'c> Maker<'m, 'c> {
    fn new((group, version): (&'m str, &'m str), definitions: &'m mut Definitions<'c>) -> Self {
        let prefix = if group.is_empty() { "/api" } else { "/apis" };
        Self {
            group,
            version,
            root: format!("{prefix}/{}", group_version(group, version)),
            tag: format!("{}_{version}", word(group, false)),
            infix: format!("{}{}", word(group, true), title(version)),
            definitions,
        }
    }

    fn resource_list(&mut self) -> Path {
        let list = self.object("", "v1", "APIResourceList");
        document(
            &format!("{}/", self.root),
            (&format!("get{}APIResources", self.infix), &self.tag),
            "get available resources",
            (Produces::Objects, list),
        )
    }

    fn object(&mut self, group: &str, version: &str, kind: &str) -> Payload {
        let definition = self.definitions.kind(group, version, kind);
        definition.map_or(Payload::Text, Payload::Object)
    }

    fn status(&mut self) -> Payload {
        self.object("", "v1", "Status")
    }

    fn body(&mut self, of: (&str, &str, &str)) -> Option<Body> {
        let definition = self.definitions.kind(of.0, of.1, of.2)?;
        Some(Body {
            definition,
            required: true,
        })
    }

    fn delete_options(&mut self) -> Option<Body> {
        let definition = self.definitions.kind("", "v1", "DeleteOptions")?;
        Some(Body {
            definition,
            required: false,
        })
    }

    fn patch_body(&mut self) -> Option<Body> {
        Some(Body {
            definition: self.definitions.special(PATCH),
            required: true,
        })
    }

    /// Spells operations out and moves to the path what all of them take.
    fn path(&self, path: String, given: &[Parameter], sketches: Vec<Sketch<'_>>) -> Path {
        let operations = sketches.into_iter().map(|sketch| {
            let mut parameters = options(sketch.action);
            parameters.extend_from_slice(given);
            parameters.sort_by(|a, b| (&a.name, a.place).cmp(&(&b.name, b.place)));
            let (produces, responses): (_, &[u16]) = match sketch.action {
                "list" | "watch" | "watchlist" => (Produces::Events, &[200]),
                "connect" => (Produces::Anything, &[200]),
                "post" => (Produces::Objects, &[200, 201, 202]),
                "put" | "patch" => (Produces::Objects, &[200, 201]),
                "delete" => (Produces::Objects, &[200, 202]),
                _ if matches!(sketch.payload, Payload::Text) => (Produces::Log, &[200]),
                _ => (Produces::Objects, &[200]),
            };
            let (group, version, kind) = sketch.of;
            Operation {
                method: sketch.method,
                action: sketch.action,
                id: format!("{}{}{}", sketch.verb, self.infix, sketch.id),
                description: sketch.description,
                tag: self.tag.clone(),
                parameters,
                body: sketch.body,
                produces,
                responses,
                payload: sketch.payload,
                of: Some((group.to_string(), version.to_string(), kind.to_string())),
            }
        });
        let mut operations: Vec<Operation> = operations.collect();
        let shared = shared(&operations);
        for operation in &mut operations {
            let is_shared = |own: &Parameter| shared.iter().any(|one| same(one, own));
            operation.parameters.retain(|own| !is_shared(own));
        }
        Path {
            path,
            parameters: shared,
            operations,
        }
    }

    fn resource(&mut self, served: &Served) -> Vec<Path> {
        let mut all = Vec::new();
        let (scope, namespaced) = scope(served);
        let collection = format!("{}{scope}/{}", self.root, served.name);
        let named = [Parameter::name_of(&served.kind), Parameter::pretty()];
        let pretty = [Parameter::pretty()];
        let given = |more: &[Parameter]| -> Vec<Parameter> {
            let namespace = served.namespaced.then(Parameter::namespace);
            namespace.into_iter().chain(more.iter().cloned()).collect()
        };
        let sketches = self.collection(served, namespaced);
        if !sketches.is_empty() {
            all.push(self.path(collection.clone(), &given(&pretty), sketches));
        }
        let sketches = self.single(served, namespaced);
        if !sketches.is_empty() {
            let path = format!("{collection}/{{name}}");
            all.push(self.path(path, &given(&named), sketches));
        }
        if served.allows("list") && served.namespaced {
            let list = self.list(served, format!("{}ForAllNamespaces", served.kind));
            let path = format!("{}/{}", self.root, served.name);
            all.push(self.path(path, &pretty, vec![list]));
        }
        if served.allows("watch") {
            let watched = format!("{}/watch{scope}/{}", self.root, served.name);
            let one = self.watch(served, "watch", format!("{namespaced}{}", served.kind));
            let path = format!("{watched}/{{name}}");
            all.push(self.path(path, &given(&named), vec![one]));
            let list = self.watch(
                served,
                "watchlist",
                format!("{namespaced}{}List", served.kind),
            );
            all.push(self.path(watched, &given(&pretty), vec![list]));
            if served.namespaced {
                let id = format!("{}ListForAllNamespaces", served.kind);
                let list = self.watch(served, "watchlist", id);
                let path = format!("{}/watch/{}", self.root, served.name);
                all.push(self.path(path, &pretty, vec![list]));
            }
        }
        all
    }

    fn collection<'s>(&mut self, served: &'s Served, namespaced: &str) -> Vec<Sketch<'s>>
    where
        'm: 's,
    {
        let kind = &*served.kind;
        let of = (self.group, self.version, kind);
        let mut all = Vec::new();
        if served.allows("deletecollection") {
            all.push(Sketch {
                method: "delete",
                action: "deletecollection",
                verb: "delete",
                id: format!("Collection{namespaced}{kind}"),
                description: format!("delete collection of {kind}"),
                body: self.delete_options(),
                payload: self.status(),
                of,
            });
        }
        if served.allows("list") {
            all.push(self.list(served, format!("{namespaced}{kind}")));
        }
        if served.allows("create") {
            all.push(Sketch {
                method: "post",
                action: "post",
                verb: "create",
                id: format!("{namespaced}{kind}"),
                description: format!("create {}", with_article(kind)),
                body: self.body(of),
                payload: self.object(of.0, of.1, of.2),
                of,
            });
        }
        all
    }

    fn single<'s>(&mut self, served: &'s Served, namespaced: &str) -> Vec<Sketch<'s>>
    where
        'm: 's,
    {
        let kind = &*served.kind;
        let of = (self.group, self.version, kind);
        let mut all = Vec::new();
        if served.allows("delete") {
            let payload = if returns_deleted(self.group, &served.name) {
                self.object(of.0, of.1, of.2)
            } else {
                self.status()
            };
            all.push(Sketch {
                method: "delete",
                action: "delete",
                verb: "delete",
                id: format!("{namespaced}{kind}"),
                description: format!("delete {}", with_article(kind)),
                body: self.delete_options(),
                payload,
                of,
            });
        }
        let id = format!("{namespaced}{kind}");
        all.extend(self.object_verbs(&served.verbs, (&id, &format!("the specified {kind}")), of));
        all
    }

    /// What objects and subresources have in common: read, change and replace.
    fn object_verbs<'s>(
        &mut self,
        verbs: &[Text],
        (id, what): (&str, &str),
        of: (&'s str, &'s str, &'s str),
    ) -> Vec<Sketch<'s>> {
        let rows = [
            ("get", "get", "get", "read", "read"),
            ("patch", "patch", "patch", "patch", "partially update"),
            ("update", "put", "put", "replace", "replace"),
        ];
        let allowed = rows
            .into_iter()
            .filter(|row| verbs.iter().any(|verb| verb == row.0));
        let sketches = allowed.map(|(_, method, action, verb, does)| Sketch {
            method,
            action,
            verb,
            id: id.to_string(),
            description: format!("{does} {what}"),
            body: match action {
                "patch" => self.patch_body(),
                "put" => self.body(of),
                _ => None,
            },
            payload: self.object(of.0, of.1, of.2),
            of,
        });
        sketches.collect()
    }

    fn list<'s>(&mut self, served: &'s Served, id: String) -> Sketch<'s>
    where
        'm: 's,
    {
        Sketch {
            method: "get",
            action: "list",
            verb: "list",
            id,
            description: format!("list or watch objects of kind {}", served.kind),
            body: None,
            payload: self.object(self.group, self.version, &served.list_kind),
            of: (self.group, self.version, &served.kind),
        }
    }

    fn watch<'s>(&mut self, served: &'s Served, action: &'static str, id: String) -> Sketch<'s>
    where
        'm: 's,
    {
        let instead = "deprecated: use the 'watch' parameter with a list operation instead";
        let kind = &*served.kind;
        let description = if action == "watch" {
            let filter = "filtered to a single item with the 'fieldSelector' parameter";
            format!("watch changes to an object of kind {kind}. {instead}, {filter}.")
        } else {
            format!("watch individual changes to a list of {kind}. {instead}.")
        };
        let event = self.definitions.named("meta/v1.WatchEvent");
        Sketch {
            method: "get",
            action,
            verb: "watch",
            id,
            description,
            body: None,
            payload: event.map_or(Payload::Text, Payload::Object),
            of: (self.group, self.version, kind),
        }
    }

    fn subresource(&mut self, served: &Served, sub: &Sub) -> Vec<Path> {
        let (scope, namespaced) = scope(served);
        let path = format!("{}{scope}/{}/{{name}}/{}", self.root, served.name, sub.name);
        let of = (&*sub.group, &*sub.version, &*sub.kind);
        let id = format!("{namespaced}{}{}", served.kind, title(&sub.name));
        let mut given: Vec<Parameter> = served
            .namespaced
            .then(Parameter::namespace)
            .into_iter()
            .collect();
        given.push(Parameter::name_of(&sub.kind));
        if sub.connect {
            given.extend(options_of(of.0, of.1, of.2));
            let mut all = vec![self.path(path.clone(), &given, connects(served, sub, &id, of))];
            if sub.takes_path {
                given.push(Parameter::rest());
                let id = format!("{id}WithPath");
                let sketches = connects(served, sub, &id, of);
                all.push(self.path(format!("{path}/{{path}}"), &given, sketches));
            }
            return all;
        }
        given.push(Parameter::pretty());
        let mut sketches = Vec::new();
        if sub.allows("create") {
            sketches.push(Sketch {
                method: "post",
                action: "post",
                verb: "create",
                id: id.clone(),
                description: format!("create {} of {}", sub.name, with_article(&served.kind)),
                body: self.body(of),
                payload: self.object(of.0, of.1, of.2),
                of,
            });
        }
        let what = format!("{} of the specified {}", sub.name, served.kind);
        sketches.extend(self.object_verbs(&sub.verbs, (&id, &what), of));
        if (self.group, &*served.name, &*sub.name) == ("", "pods", "log") {
            given.retain(|parameter| parameter.name != "pretty");
            given.extend(options_of("", "v1", "PodLogOptions"));
            given.push(Parameter::pretty());
            for sketch in &mut sketches {
                sketch.payload = Payload::Text;
            }
        }
        vec![self.path(path, &given, sketches)]
    }
}

/// Where objects of a resource stand, and how that shows in an operation's id.
fn scope(served: &Served) -> (&'static str, &'static str) {
    if served.namespaced {
        ("/namespaces/{namespace}", "Namespaced")
    } else {
        ("", "")
    }
}

/// A connection is asked for with many methods, proxied requests with all.
fn connects<'s>(
    served: &Served,
    sub: &Sub,
    id: &str,
    of: (&'s str, &'s str, &'s str),
) -> Vec<Sketch<'s>> {
    const ALL: [(&str, &str); 7] = [
        ("delete", "connect"),
        ("get", "connect"),
        ("head", "connect"),
        ("options", "connect"),
        ("patch", "connect"),
        ("post", "connect"),
        ("put", "connect"),
    ];
    let stream = ["get", "post"];
    let used = ALL
        .iter()
        .filter(|(method, _)| sub.takes_path || stream.contains(method));
    let sketches = used.map(|(method, action)| Sketch {
        method,
        action,
        verb: "connect",
        id: format!("{}{id}", title(method)),
        description: format!(
            "connect {} requests to {} of {}",
            method.to_ascii_uppercase(),
            sub.name,
            served.kind
        ),
        body: None,
        payload: Payload::Text,
        of,
    });
    sketches.collect()
}

fn same(a: &Parameter, b: &Parameter) -> bool {
    (&a.name, a.place) == (&b.name, b.place)
}

/// What all operations of a path take.
fn shared(operations: &[Operation]) -> Vec<Parameter> {
    let Some((first, others)) = operations.split_first() else {
        return Vec::new();
    };
    let everywhere = first.parameters.iter().filter(|one| {
        let has = |other: &Operation| other.parameters.iter().any(|own| same(one, own));
        others.iter().all(has)
    });
    everywhere.cloned().collect()
}
