//! Sheds load while the process needs more memory than it may: refuses what needs most of it, so that
//! what others depend on goes on.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use seams::Disk;

use crate::request::{Query, RequestInfo};
use crate::user::{MASTERS, User};

/// The kernel counts memory in these.
const PAGE_BYTES: u64 = 4096;
/// What is shed is taken again once this part of the limit is free.
const CALM_PART: u64 = 20;

/// What the process may need, and whether it needs more.
#[derive(Default)]
pub struct Memory {
    /// 0 is no limit.
    limit: u64,
    is_short: AtomicBool,
}

impl Memory {
    /// Bytes that the process may need; 0 is no limit.
    pub fn new(limit: u64) -> Self {
        Self {
            limit,
            is_short: AtomicBool::new(false),
        }
    }

    /// Looks at what the process needs now.
    pub fn look(&self, disk: &dyn Disk) {
        if self.limit == 0 {
            return;
        }
        let text = disk.read(Path::new("/proc/self/statm")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let pages = text.split(' ').nth(1).and_then(|pages| pages.parse().ok());
        self.take_in(pages.map_or(0, |pages: u64| pages * PAGE_BYTES));
    }

    fn take_in(&self, resident: u64) {
        let was_short = self.is_short.load(Ordering::Relaxed);
        let bound = match was_short {
            true => self.limit - self.limit / CALM_PART,
            false => self.limit,
        };
        let is_short = resident > bound;
        self.is_short.store(is_short, Ordering::Relaxed);
        if is_short != was_short {
            let limit = self.limit;
            match is_short {
                true => tracing::warn!(
                    resident,
                    limit,
                    "memory is short: lists, new watches and new objects are refused"
                ),
                false => tracing::info!(resident, limit, "memory is enough again"),
            }
        }
    }

    /// Whether a request has to wait until there is memory: what makes objects or reads many at once.
    /// Masters are let through, since somebody has to be able to help.
    pub fn refuses(&self, info: &RequestInfo, query: &Query, user: &User) -> bool {
        self.is_short.load(Ordering::Relaxed)
            && info.is_resource
            && !user.is_in(MASTERS)
            && match &*info.verb {
                "list" => info.name.is_empty(),
                "watch" => {
                    let starts_anew = matches!(query.text("resourceVersion"), "" | "0");
                    info.name.is_empty() && (starts_anew || query.flag("sendInitialEvents"))
                }
                "create" => info.subresource.is_empty(),
                _ => false,
            }
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn what_needs_memory_waits_until_there_is_some() {
        let memory = Memory::new(1000);
        let user = User::new("u", &[]);
        let is_refused = |method: Method, path: &str, query: &str| {
            let query = Query::parse(query);
            let info = RequestInfo::new(&method, path, &query);
            memory.refuses(&info, &query, &user)
        };
        let pods = "/api/v1/namespaces/a/pods";
        memory.take_in(1000);
        assert!(!is_refused(Method::GET, pods, ""));
        memory.take_in(1001);
        assert!(is_refused(Method::GET, pods, ""));
        assert!(is_refused(Method::POST, pods, ""));
        assert!(is_refused(Method::GET, pods, "watch=1&resourceVersion=0"));
        assert!(!is_refused(Method::GET, pods, "watch=1&resourceVersion=7"));
        assert!(!is_refused(Method::GET, "/api/v1/namespaces/a/pods/p", ""));
        assert!(!is_refused(
            Method::DELETE,
            "/api/v1/namespaces/a/pods/p",
            ""
        ));
        let info = RequestInfo::new(&Method::GET, pods, &Query::default());
        let master = User::new("m", &[MASTERS]);
        assert!(!memory.refuses(&info, &Query::default(), &master));
        // It does not turn back and forth at the limit.
        memory.take_in(960);
        assert!(is_refused(Method::GET, pods, ""));
        memory.take_in(950);
        assert!(!is_refused(Method::GET, pods, ""));
    }
}
