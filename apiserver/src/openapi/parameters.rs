//! The parameters of operations. Which there are follows from the options types in the schema table;
//! what they mean is said here, since these types have no definitions.

use api::schema::{self, Shape, Type};

/// Where a parameter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum In {
    /// In the path.
    Path,
    /// Behind the question mark.
    Query,
}

impl In {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Query => "query",
        }
    }
}

/// A parameter, but for bodies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    pub(crate) place: In,
    /// OpenAPI's type.
    pub(crate) kind: &'static str,
    pub(crate) description: String,
}

impl Parameter {
    fn query(name: &str, kind: &'static str, description: &str) -> Self {
        Self {
            name: name.to_string(),
            place: In::Query,
            kind,
            description: description.to_string(),
        }
    }

    /// Whether it must be given.
    pub(crate) fn is_required(&self) -> bool {
        self.place == In::Path
    }

    /// The name of an object of a kind.
    pub(crate) fn name_of(kind: &str) -> Self {
        Self {
            place: In::Path,
            ..Self::query("name", "string", &format!("name of the {kind}"))
        }
    }

    /// A part of the path that a proxied request goes on to.
    pub(crate) fn rest() -> Self {
        Self {
            place: In::Path,
            ..Self::query("path", "string", "path to the resource")
        }
    }

    /// The namespace in the path.
    pub(crate) fn namespace() -> Self {
        let description = "object name and auth scope, such as for teams and projects";
        Self {
            place: In::Path,
            ..Self::query("namespace", "string", description)
        }
    }

    /// Whether the answer is indented.
    pub(crate) fn pretty() -> Self {
        let description = "If 'true', JSON is indented. Without it only browsers, curl and wget are \
                           sent indented JSON.";
        Self::query("pretty", "string", description)
    }
}

/// The options of an action: those of some types, but for some.
pub(crate) fn options(action: &str) -> Vec<Parameter> {
    let (types, without): (&[&str], &[&str]) = match action {
        "post" => (&["CreateOptions"], &[]),
        "put" => (&["UpdateOptions"], &[]),
        "patch" => (&["PatchOptions"], &[]),
        "delete" => (&["DeleteOptions"], &[]),
        "deletecollection" => (
            &["DeleteOptions", "ListOptions"],
            &["watch", "allowWatchBookmarks"],
        ),
        "list" | "watch" | "watchlist" => (&["ListOptions"], &[]),
        _ => (&[], &[]),
    };
    let known = types.iter().filter_map(|name| schema::kind("", "v1", name));
    let mut all: Vec<Parameter> = known.flat_map(of_type).collect();
    all.retain(|parameter| !without.contains(&parameter.name.as_str()));
    for parameter in &mut all {
        if action == "patch" && parameter.name == "fieldManager" {
            parameter.description.push_str(APPLY_NEEDS_IT);
        }
    }
    all
}

/// The options of a subresource: those of the kind that it connects with, or of a log.
pub(crate) fn options_of(group: &str, version: &str, kind: &str) -> Vec<Parameter> {
    schema::kind(group, version, kind).map_or_else(Vec::new, of_type)
}

/// A parameter for each field that text can say.
fn of_type(known: &Type) -> Vec<Parameter> {
    let fields = known.fields.iter().filter_map(|field| {
        if matches!(&*field.name, "kind" | "apiVersion") {
            return None;
        }
        let shape = match &field.shape {
            Shape::List(list) => &list.item,
            other => other,
        };
        let kind = match shape {
            Shape::Bool => "boolean",
            Shape::Int32 | Shape::Int64 => "integer",
            Shape::String => "string",
            _ => return None,
        };
        let description = describe(&known.name, &field.name);
        Some(Parameter::query(&field.name, kind, description))
    });
    fields.collect()
}

const APPLY_NEEDS_IT: &str = " Server-side apply requires it; for other patches it is optional.";

/// What a parameter means; the row of its type comes before that of all types.
fn describe(owner: &str, name: &str) -> &'static str {
    let same = |row: &&(&str, &str, &str)| (row.0 == owner || row.0.is_empty()) && row.1 == name;
    MEANINGS.iter().find(same).map_or("", |row| row.2)
}

/// Type (any if empty), parameter, meaning.
const MEANINGS: &[(&str, &str, &str)] = &[
    (
        "PodLogOptions",
        "container",
        "The container whose log is read. It may be left out if the pod has one container only.",
    ),
    (
        "PodLogOptions",
        "follow",
        "Keep the answer open and send what is logged from now on.",
    ),
    (
        "PodLogOptions",
        "insecureSkipTLSVerifyBackend",
        "Do not check the certificate of the node that the log comes from. Whoever is between the server and the node could then send another log; the node still checks the server.",
    ),
    (
        "PodLogOptions",
        "limitBytes",
        "End the log after so many bytes, give or take some. The last line may be incomplete.",
    ),
    (
        "PodLogOptions",
        "previous",
        "Read the log of the container's previous run.",
    ),
    (
        "PodLogOptions",
        "sinceSeconds",
        "Start at what was logged so many seconds ago. If the pod is younger, all of its log is sent.",
    ),
    (
        "PodLogOptions",
        "stream",
        "Which stream is read: All, Stdout or Stderr. All is the default; only All goes together with tailLines.",
    ),
    (
        "PodLogOptions",
        "tailLines",
        "Start so many lines before the end of the log. All is sent without it.",
    ),
    (
        "PodLogOptions",
        "timestamps",
        "Start every line with the time at which it was logged, in RFC 3339.",
    ),
    (
        "",
        "container",
        "The container to connect with. It may be left out if the pod has one container only.",
    ),
    (
        "",
        "command",
        "The command and its arguments, one a parameter. No shell interprets it.",
    ),
    ("", "stdin", "Send the standard input."),
    ("", "stdout", "Receive the standard output."),
    ("", "stderr", "Receive the standard error stream."),
    ("", "tty", "Allocate a terminal."),
    (
        "",
        "ports",
        "The ports to forward; required when forwarding over WebSocket.",
    ),
    ("", "path", "The path that the proxied request is for."),
    (
        "",
        "dryRun",
        "With 'All', the request passes through every stage, but nothing is stored. No other value is known.",
    ),
    (
        "",
        "gracePeriodSeconds",
        "Seconds that the object is given to end; not negative. Zero deletes it at once. Without it the kind's or the object's own period counts.",
    ),
    (
        "",
        "ignoreStoreReadErrorWithClusterBreakingPotential",
        "Delete the object even if what is stored cannot be read. Finalizers and preconditions are not looked at, and what the object stood for may be left behind.",
    ),
    (
        "",
        "orphanDependents",
        "Deprecated, use propagationPolicy. Whether objects that this one owns stay. Not both may be set.",
    ),
    (
        "",
        "propagationPolicy",
        "What becomes of the objects that this one owns: 'Orphan' leaves them, 'Background' has them deleted afterwards, 'Foreground' deletes this one after them. Without it finalizers and the kind decide.",
    ),
    (
        "",
        "fieldManager",
        "Who makes this change, as recorded in managedFields: at most 128 printable characters.",
    ),
    (
        "",
        "fieldValidation",
        "What happens if the request has fields that are not known or come twice. 'Ignore' drops them silently, 'Warn' drops them and sends a warning for each, 'Strict' fails the request and names them all. 'Warn' is the default.",
    ),
    (
        "",
        "force",
        "Take over fields that others own. For server-side apply only.",
    ),
    (
        "",
        "labelSelector",
        "Only objects with such labels. All without it.",
    ),
    (
        "",
        "fieldSelector",
        "Only objects with such fields. All without it.",
    ),
    (
        "",
        "watch",
        "Send what changes as a stream of events, from resourceVersion on.",
    ),
    (
        "",
        "allowWatchBookmarks",
        "Allow events of type BOOKMARK, which tell how far a watch has come. They come whenever the server sees fit. Without a watch this means nothing.",
    ),
    (
        "",
        "resourceVersion",
        "How fresh the answer must be, or where a watch starts. What it means depends on resourceVersionMatch. Without it the answer is the most recent.",
    ),
    (
        "",
        "resourceVersionMatch",
        "How resourceVersion is meant: 'Exact' or 'NotOlderThan'.",
    ),
    (
        "",
        "timeoutSeconds",
        "End the request after so many seconds, whether it is still active or not.",
    ),
    (
        "",
        "limit",
        "At most so many objects. If there are more, the answer has a token that goes into 'continue' of the next request. What all pages say together is as of the first request. A watch does not know it.",
    ),
    (
        "",
        "continue",
        "The token of the page before, with everything else as it was then. If it has expired, the answer is 410 with a token that goes on as of now: objects that changed in between may then be missed or come twice. A watch does not know it.",
    ),
    (
        "",
        "sendInitialEvents",
        "Start a watch with an event for every object, then a BOOKMARK with the annotation k8s.io/initial-events-end. It requires resourceVersionMatch 'NotOlderThan'.",
    ),
    (
        "",
        "shardSelector",
        "Only the objects of some shards, chosen by ranges of a hash. It depends on the feature ShardedListAndWatch.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_has_a_meaning() {
        let connects = [
            "NodeProxyOptions",
            "PodAttachOptions",
            "PodExecOptions",
            "PodPortForwardOptions",
            "ServiceProxyOptions",
            "PodLogOptions",
        ];
        let actions = ["post", "put", "patch", "delete", "deletecollection", "list"];
        let all = actions.iter().flat_map(|action| options(action));
        let all = all.chain(connects.iter().flat_map(|kind| options_of("", "v1", kind)));
        let all: Vec<Parameter> = all.collect();
        assert!(all.len() > 50, "{}", all.len());
        for parameter in all {
            assert!(!parameter.description.is_empty(), "{}", parameter.name);
        }
    }

    #[test]
    fn what_kubectl_looks_for_is_there() {
        let names = |action| -> Vec<String> {
            options(action)
                .into_iter()
                .map(|parameter| parameter.name)
                .collect()
        };
        assert_eq!(
            names("patch"),
            ["dryRun", "force", "fieldManager", "fieldValidation"]
        );
        assert!(!names("delete").contains(&"preconditions".to_string()));
        assert!(!names("deletecollection").contains(&"watch".to_string()));
        assert_eq!(names("list").len(), 11);
    }
}
