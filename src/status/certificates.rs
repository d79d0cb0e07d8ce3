//! How long certificates are good: as servers show them, and as files hold them.

use std::path::Path;
use std::time::SystemTime;

use anyhow::Result;
use client::remote::shown;
use deploy::pki::Validity;
use deploy::pki::ledger::Ledger;
use jiff::Timestamp;
use seams::Net;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::PATIENCE;
use super::masters::late;

/// A certificate and whose it is.
pub(super) struct Certificate {
    pub(super) of: String,
    pub(super) validity: Validity,
}

/// When the certificate is valid that a server shows.
pub(super) async fn shown(url: &str, net: &dyn Net) -> Result<Validity, String> {
    let address = url
        .strip_prefix("https://")
        .ok_or("it has no certificate")?;
    let address = address.trim_end_matches('/');
    let address = match address.rsplit_once(':') {
        Some((_, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => address.to_string(),
        _ => format!("{address}:443"),
    };
    match timeout(PATIENCE, shown::certificate(&address, net)).await {
        Err(_) => Err(late(PATIENCE)),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(der)) => Validity::of_der(&der),
    }
}

/// The certificates of this machine.
pub(super) fn of_machine(dir: &Path) -> Result<Vec<Certificate>> {
    let pki = dir.join("pki");
    let listed = Ledger::open(&pki)?.list()?;
    let own = listed.into_iter().map(|one| Certificate {
        of: pki.join(format!("{}.crt", one.name)).display().to_string(),
        validity: one.validity,
    });
    Ok(own.collect())
}

pub(super) const HEAD: [&str; 3] = ["CERTIFICATE OF", "EXPIRES", "DAYS LEFT"];

pub(super) fn row(one: &Certificate, now: SystemTime) -> Vec<String> {
    vec![one.of.clone(), until(one), days_left(one, now).to_string()]
}

pub(super) fn document(one: &Certificate, now: SystemTime) -> Value {
    json!({
        "of": one.of,
        "notAfter": until(one),
        "daysLeft": days_left(one, now),
    })
}

/// A certificate is renewed when a third of its life is left: with a tenth left nobody does that.
pub(super) fn troubles(one: &Certificate, now: SystemTime) -> Option<String> {
    if one.validity.until <= now {
        return Some(format!(
            "{}: the certificate expired at {}",
            one.of,
            until(one)
        ));
    }
    let is_overdue = one.validity.is_overdue(now);
    is_overdue.then(|| format!("{}: the certificate expires at {}", one.of, until(one)))
}

fn until(one: &Certificate) -> String {
    Timestamp::try_from(one.validity.until)
        .unwrap_or_default()
        .to_string()
}

fn days_left(one: &Certificate, now: SystemTime) -> u64 {
    let left = one.validity.until.duration_since(now).unwrap_or_default();
    left.as_secs() / 86_400
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_nobody_renewed_is_trouble() {
        let day = Duration::from_secs(86_400);
        let now = SystemTime::UNIX_EPOCH + 1000 * day;
        let of = |left: u32| Certificate {
            of: "x".into(),
            validity: Validity {
                from: now - 90 * day,
                until: now + left * day,
            },
        };
        assert_eq!(troubles(&of(30), now), None);
        assert!(troubles(&of(5), now).unwrap().contains("expires"));
        assert!(troubles(&of(0), now).unwrap().contains("expired"));
        assert_eq!(row(&of(30), now)[2], "30");
    }
}
