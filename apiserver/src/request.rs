//! What a request asks for, read from its method, path and query as upstream reads them.

use api::name::path_segment;
use api::selector::FieldSelector;
use http::Method;
use percent_encoding::percent_decode_str;

/// The parameters of a query. Of equal keys the first counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query without its question mark.
    pub fn parse(text: &str) -> Self {
        let pairs = form_urlencoded::parse(text.as_bytes());
        Self(pairs.into_owned().collect())
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == key);
        found.map(|(_, value)| &**value)
    }

    /// The value of a key, empty if there is none.
    pub fn text(&self, key: &str) -> &str {
        self.get(key).unwrap_or_default()
    }

    /// All values of a key.
    pub fn all<'q>(&'q self, key: &'q str) -> impl Iterator<Item = &'q str> {
        let found = self.0.iter().filter(move |(known, _)| known == key);
        found.map(|(_, value)| &**value)
    }

    /// Whether a flag is set: anything but `false` and `0`, as upstream converts it.
    pub fn flag(&self, key: &str) -> bool {
        self.get(key).is_some_and(is_true)
    }

    /// A flag that may be absent.
    pub fn maybe_flag(&self, key: &str) -> Option<bool> {
        self.get(key).map(is_true)
    }

    /// A number; what is none counts as absent.
    pub fn number(&self, key: &str) -> Option<i64> {
        self.get(key)?.parse().ok()
    }
}

fn is_true(value: &str) -> bool {
    !value.eq_ignore_ascii_case("false") && value != "0"
}

/// What a request is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// Whether it is about a resource; else only `path` and `verb` count.
    pub is_resource: bool,
    /// The path, decoded.
    pub path: String,
    /// `get`, `list`, `watch`, `create`, …; the method in lower case for paths.
    pub verb: String,
    /// API group, empty for the core group.
    pub group: String,
    /// Version.
    pub version: String,
    /// Empty for objects of the cluster and requests over all namespaces.
    pub namespace: String,
    /// Plural name.
    pub resource: String,
    /// Empty for the object itself.
    pub subresource: String,
    /// Empty for lists and creations. A selection of one name counts as that name.
    pub name: String,
    /// What follows the subresource, without a slash in front; the rest of proxied paths.
    pub rest: String,
}

/// Subresources of namespaces; anything else behind a namespace is a resource in it.
const OF_NAMESPACES: [&str; 2] = ["status", "finalize"];

impl RequestInfo {
    /// Reads method, path and query.
    pub fn new(method: &Method, path: &str, query: &Query) -> Self {
        let decoded = percent_decode_str(path).decode_utf8_lossy();
        let mut info = Self {
            path: decoded.to_string(),
            verb: method.as_str().to_ascii_lowercase(),
            ..Self::default()
        };
        // Escaped slashes are part of a name, so that parts are split before they are decoded.
        let decode = |part: &str| percent_decode_str(part).decode_utf8_lossy().into_owned();
        let parts: Vec<String> = path.trim_matches('/').split('/').map(decode).collect();
        let mut parts: &[String] = &parts;
        if parts.len() < 3 {
            return info;
        }
        match &*parts[0] {
            "api" => parts = &parts[1..],
            "apis" if parts.len() >= 4 => {
                info.group.clone_from(&parts[1]);
                parts = &parts[2..];
            }
            _ => return info,
        }
        info.version.clone_from(&parts[0]);
        parts = &parts[1..];
        info.is_resource = true;
        info.verb = match *method {
            Method::POST => "create",
            Method::GET | Method::HEAD => "get",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "",
        }
        .to_string();
        let mut is_old_watch = false;
        if parts[0] == "watch" && parts.len() >= 2 {
            is_old_watch = true;
            parts = &parts[1..];
        }
        if parts[0] == "namespaces" && parts.len() > 1 {
            info.namespace.clone_from(&parts[1]);
            if parts.len() > 2 && !OF_NAMESPACES.contains(&&*parts[2]) {
                parts = &parts[2..];
            }
        }
        let part = |at: usize| parts.get(at).cloned().unwrap_or_default();
        (info.resource, info.name, info.subresource) = (part(0), part(1), part(2));
        info.rest = parts.get(3..).unwrap_or_default().join("/");
        info.refine(query, is_old_watch);
        info
    }

    fn refine(&mut self, query: &Query, is_old_watch: bool) {
        if is_old_watch {
            self.verb = "watch".to_string();
        }
        if self.name.is_empty() && self.verb == "get" {
            let watches = query.flag("watch");
            self.verb = if watches { "watch" } else { "list" }.to_string();
        }
        if self.name.is_empty() && self.verb == "delete" {
            self.verb = "deletecollection".to_string();
        }
        if self.name.is_empty() && matches!(&*self.verb, "list" | "watch") {
            let selector = FieldSelector::parse(query.text("fieldSelector")).unwrap_or_default();
            if let Some(name) = selector.exact("metadata.name")
                && path_segment(name).is_empty()
            {
                self.name = name.to_string();
            }
        }
    }

    /// `resource` or `resource/subresource`, as rules name it.
    pub fn full_resource(&self) -> String {
        match &*self.subresource {
            "" => self.resource.clone(),
            subresource => format!("{}/{subresource}", self.resource),
        }
    }

    /// Somebody else answers: a node, a pod or a service.
    pub fn is_handed_on(&self) -> bool {
        const SUBRESOURCES: [&str; 5] = ["log", "exec", "attach", "portforward", "proxy"];
        let is_known = SUBRESOURCES.contains(&&*self.subresource);
        self.is_resource && self.group.is_empty() && is_known
    }

    /// Takes as long as the client likes: no deadline, no seat.
    pub fn is_long_running(&self) -> bool {
        self.is_resource && (self.verb == "watch" || self.is_handed_on())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(method: Method, uri: &str) -> RequestInfo {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        RequestInfo::new(&method, path, &Query::parse(query))
    }

    #[test]
    fn resources_are_told_from_paths() {
        for path in [
            "/",
            "/api",
            "/api/v1",
            "/apis/apps",
            "/apis/apps/v1",
            "/healthz/a/b",
        ] {
            let info = info(Method::GET, path);
            assert!(!info.is_resource, "{path}");
            assert_eq!((&*info.verb, &*info.path), ("get", path));
        }
    }

    #[test]
    fn verbs_and_parts() {
        let cases = [
            (Method::GET, "/api/v1/namespaces", "list||namespaces||"),
            (Method::GET, "/api/v1/namespaces/a", "get|a|namespaces|a|"),
            (
                Method::PUT,
                "/api/v1/namespaces/a/finalize",
                "update|a|namespaces|a|finalize",
            ),
            (Method::GET, "/api/v1/namespaces/a/pods", "list|a|pods||"),
            (Method::GET, "/api/v1/pods?watch=1", "watch||pods||"),
            (Method::GET, "/api/v1/pods?watch=false", "list||pods||"),
            (
                Method::GET,
                "/api/v1/watch/namespaces/a/pods",
                "watch|a|pods||",
            ),
            (
                Method::POST,
                "/apis/apps/v1/namespaces/a/deployments",
                "create|a|deployments||",
            ),
            (
                Method::DELETE,
                "/apis/apps/v1/namespaces/a/deployments",
                "deletecollection|a|deployments||",
            ),
            (
                Method::PATCH,
                "/apis/apps/v1/namespaces/a/deployments/d/scale",
                "patch|a|deployments|d|scale",
            ),
            (
                Method::GET,
                "/api/v1/nodes?fieldSelector=metadata.name%3Dm",
                "list||nodes|m|",
            ),
        ];
        for (method, uri, want) in cases {
            let i = info(method, uri);
            let found = [&i.verb, &i.namespace, &i.resource, &i.name, &i.subresource]
                .map(String::as_str)
                .join("|");
            assert_eq!(found, want, "{uri}");
        }
        let proxy = info(Method::GET, "/api/v1/namespaces/a/pods/p:80/proxy/x/y");
        assert_eq!((&*proxy.name, &*proxy.rest), ("p:80", "x/y"));
        assert!(proxy.is_long_running());
    }

    #[test]
    fn flags_are_lenient() {
        let query = Query::parse("a=true&b=0&c=FALSE&d=&e");
        assert!(query.flag("a") && !query.flag("b") && !query.flag("c"));
        assert!(query.flag("d") && query.flag("e") && !query.flag("f"));
    }
}
