//! Ports of a pod that get in each other's way.

use std::collections::HashMap;

use super::Teller;
use crate::validation::At;
use crate::validation::pod::walk;

pub(super) fn overlaps(teller: &mut Teller, spec: At<'_>) {
    let ports = || walk::all_containers(spec).flat_map(|at| at.get("ports").items());
    let mut known: HashMap<(i64, &str), Vec<At<'_>>> = HashMap::new();
    for port in ports() {
        if !port.get("hostIP").is_empty() && port.get("hostPort").int() == 0 {
            let told = format!("hostIP set without hostPort: {}", go_struct(port));
            teller.tell(port, told);
        }
        let key = (port.get("containerPort").int(), port.get("protocol").str());
        for other in known.get(&key).into_iter().flatten() {
            if let Some(how) = conflict(port, *other) {
                let path = teller.paths.path(*other);
                teller.tell(port, format!("{how} port definition with {path}"));
            }
        }
        known.entry(key).or_default().push(port);
    }
    let mut names: HashMap<&str, At<'_>> = HashMap::new();
    for port in ports().filter(|port| !port.get("name").is_empty()) {
        let name = port.get("name").str();
        match names.get(name) {
            None => {
                names.insert(name, port);
            }
            Some(first) => {
                let path = teller.paths.path(*first);
                teller.tell(
                    port,
                    format!(
                        "duplicate port name {name:?} with {path}, services and probes that select \
                         ports by name will use {path}"
                    ),
                );
            }
        }
    }
}

fn conflict(one: At<'_>, other: At<'_>) -> Option<&'static str> {
    let of = |at: At<'_>| (at.get("hostPort").int(), at.get("hostIP").is_empty());
    let ((port, is_any), (other_port, is_other_any)) = (of(one), of(other));
    let is_same_ip = one.get("hostIP").str() == other.get("hostIP").str();
    if is_same_ip && port == other_port {
        return Some("duplicate");
    }
    if port == 0 || other_port == 0 {
        return Some("overlapping");
    }
    (port == other_port && is_any != is_other_any).then_some("dangerously ambiguous")
}

/// As Go prints it.
fn go_struct(port: At<'_>) -> String {
    format!(
        "{{Name:{} HostPort:{} ContainerPort:{} Protocol:{} HostIP:{}}}",
        port.get("name").str(),
        port.get("hostPort").int(),
        port.get("containerPort").int(),
        port.get("protocol").str(),
        port.get("hostIP").str(),
    )
}
