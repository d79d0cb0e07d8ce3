//! `/healthz`, `/livez` and `/readyz`: what works, and what does not.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::instance::Api;
use crate::request::Query;
use crate::respond::{self, Reply};

/// How long the store may take to answer.
const STORE_PATIENCE: Duration = Duration::from_secs(2);

/// What is looked at; the first two also say whether the process lives.
const CHECKS: [&str; 6] = ["ping", "log", "etcd", "watch-cache", BOOTSTRAP, "shutdown"];
/// As upstream calls it.
const BOOTSTRAP: &str = "poststarthook/rbac/bootstrap-roles";
const ALIVE: &[&str] = &["ping", "log"];

/// Answers the paths of health; none for others.
pub async fn answer(api: &Api, path: &str, query: &Query) -> Option<Reply> {
    let (kind, check) = match path.strip_prefix('/')?.split_once('/') {
        Some((kind, check)) => (kind, check),
        None => (path.strip_prefix('/')?, ""),
    };
    let checks = match kind {
        "healthz" | "readyz" => &CHECKS[..],
        "livez" => ALIVE,
        _ => return None,
    };
    if !check.is_empty() {
        let found = checks.iter().find(|known| **known == check)?;
        return Some(match look(api, found).await {
            Ok(()) => plain(200, "ok".to_string()),
            Err(why) => plain(500, format!("internal server error: {why}\n")),
        });
    }
    let excluded: Vec<&str> = query.all("exclude").collect();
    let (mut lines, mut is_well) = (String::new(), true);
    for name in checks {
        if excluded.contains(name) {
            lines.push_str(&format!("[+]{name} excluded: ok\n"));
            continue;
        }
        match look(api, name).await {
            Ok(()) => lines.push_str(&format!("[+]{name} ok\n")),
            Err(_) => {
                is_well = false;
                lines.push_str(&format!("[-]{name} failed: reason withheld\n"));
            }
        }
    }
    Some(match (is_well, query.get("verbose").is_some()) {
        (true, false) => plain(200, "ok".to_string()),
        (true, true) => plain(200, format!("{lines}{kind} check passed\n")),
        (false, _) => plain(500, format!("{lines}{kind} check failed\n")),
    })
}

fn plain(code: u16, text: String) -> Reply {
    respond::raw(code, "text/plain; charset=utf-8", text)
}

async fn look(api: &Api, check: &str) -> Result<(), String> {
    match check {
        "etcd" => {
            let deadline = Instant::now() + STORE_PATIENCE;
            let progress = timeout(STORE_PATIENCE, api.storage.cache.catch_up(deadline)).await;
            match progress {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(format!("{error:?}")),
                Err(_) => Err("the store does not answer".to_string()),
            }
        }
        "watch-cache" if api.storage.cache.applied() == 0 => {
            Err("the watch cache is not filled yet".to_string())
        }
        BOOTSTRAP if !api.is_bootstrapped.load(Ordering::Relaxed) => {
            Err("not finished".to_string())
        }
        "shutdown" if api.is_leaving() => Err("process is shutting down".to_string()),
        _ => Ok(()),
    }
}
