//! Network policies: who may talk to whom.

use api::name;
use api::values::ip::Cidr;

use crate::kinds::facts::{Facts, Generation};
use crate::kinds::ip::{cidr_warnings, legacy_cidr};
use crate::validation::{At, Errors, labels};

/// A direction with the field that tells the peers.
const DIRECTIONS: [(&str, &str); 2] = [("ingress", "from"), ("egress", "to")];

/// What is particular about network policies.
pub const NETWORK_POLICY: Facts = Facts {
    generation: Generation::Of(&["spec"]),
    create: |_, new, errors| spec(errors, new.get("spec"), None),
    update: |_, new, old, errors| spec(errors, new.get("spec"), Some(old.get("spec"))),
    warnings: |_, new, _, told| warn(new.get("spec"), told),
    ..Facts::PLAIN
};

fn blocks_of<'d>(spec: At<'d>) -> Vec<&'d str> {
    let mut known = Vec::new();
    for (direction, peers) in DIRECTIONS {
        for rule in spec.get(direction).items() {
            for peer in rule.get(peers).items() {
                let block = peer.get("ipBlock");
                known.extend((!block.get("cidr").is_empty()).then(|| block.get("cidr").str()));
                known.extend(block.get("except").items().map(At::str));
            }
        }
    }
    known
}

fn spec(errors: &mut Errors, spec: At<'_>, old: Option<At<'_>>) {
    let any_value = old.is_some_and(|old| labels::has_bad_value(old.get("podSelector")));
    let known = old.map_or_else(Vec::new, blocks_of);
    labels::selector(errors, spec.get("podSelector"), any_value);
    for (direction, peers) in DIRECTIONS {
        for rule in spec.get(direction).items() {
            for port in rule.get("ports").items() {
                one_port(errors, port);
            }
            for peer in rule.get(peers).items() {
                one_peer(errors, peer, any_value, &known);
            }
        }
    }
    let types = spec.get("policyTypes");
    if types.len() > 2 {
        return errors.invalid(types, "may not specify more than two policyTypes");
    }
    for kind in types.items() {
        errors.one_of(kind, &["Ingress", "Egress"]);
    }
}

fn one_port(errors: &mut Errors, at: At<'_>) {
    let (protocol, port, end) = (at.get("protocol"), at.get("port"), at.get("endPort"));
    if protocol.is_set() {
        errors.one_of(protocol, &["TCP", "UDP", "SCTP"]);
    }
    if let Some(number) = port.opt_int() {
        errors.names(port, |_| name::port_number(number));
        if end.is_set() {
            if end.int() < number {
                let detail = "must be greater than or equal to `port`";
                errors.invalid_value(end, number, detail);
            }
            errors.names(end, |_| name::port_number(end.int()));
        }
        return;
    }
    if end.is_set() {
        let detail = match port.is_set() {
            true => "may not be specified when `port` is non-numeric",
            false => "may not be specified when `port` is not specified",
        };
        errors.invalid(end, detail);
    }
    if port.is_set() {
        errors.names(port, name::port_name);
    }
}

fn one_peer(errors: &mut Errors, peer: At<'_>, any_value: bool, known: &[&str]) {
    let mut count = 0;
    for selector in ["podSelector", "namespaceSelector"] {
        if peer.has(selector) {
            count += 1;
            labels::selector(errors, peer.get(selector), any_value);
        }
    }
    let block = peer.get("ipBlock");
    if block.is_set() {
        count += 1;
        ip_block(errors, block, known);
    }
    if count == 0 {
        errors.required(peer, "must specify a peer");
    } else if count > 1 && block.is_set() {
        errors.forbidden(peer, "may not specify both ipBlock and another peer");
    }
}

fn ip_block(errors: &mut Errors, at: At<'_>, known: &[&str]) {
    let cidr = at.get("cidr");
    if !errors.need(cidr, "") {
        return;
    }
    legacy_cidr(errors, cidr, known);
    let Some(block) = Cidr::parse(cidr.str()) else {
        return;
    };
    for except in at.get("except").items() {
        legacy_cidr(errors, except, known);
        let Some(inner) = Cidr::parse(except.str()) else {
            continue;
        };
        if !block.contains(inner.network()) || block.bits >= inner.bits {
            errors.invalid(except, "must be a strict subset of `cidr`");
        }
    }
}

fn warn(spec: At<'_>, told: &mut Vec<String>) {
    for (direction, peers) in DIRECTIONS {
        for (i, rule) in spec.get(direction).items().enumerate() {
            for (j, peer) in rule.get(peers).items().enumerate() {
                let path = format!("spec.{direction}[{i}].{peers}[{j}].ipBlock");
                let block = peer.get("ipBlock");
                told.extend(cidr_warnings(
                    &format!("{path}.cidr"),
                    block.get("cidr").str(),
                ));
                for (k, except) in block.get("except").items().enumerate() {
                    told.extend(cidr_warnings(&format!("{path}.except[{k}]"), except.str()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{Case, cases};

    #[test]
    fn wrong_policies_are_told() {
        let good = r#"{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"a"},"spec":{
            "podSelector":{"matchLabels":{"a":"b"}},"policyTypes":["Ingress","Egress"],
            "ingress":[{"ports":[{"protocol":"TCP","port":80,"endPort":90}],"from":[{"ipBlock":{"cidr":"10.0.0.0/8","except":["10.1.0.0/16"]}}]}],
            "egress":[{"ports":[{"port":"dns"}],"to":[{"podSelector":{}}]}]}}"#;
        cases(
            &NETWORK_POLICY,
            good,
            &[
                Case::create(
                    "spec ingress 0 ports 0 protocol",
                    r#""x""#,
                    &[
                        r#"spec.ingress[0].ports[0].protocol: Unsupported value: "x": supported values: "TCP", "UDP", "SCTP""#,
                    ],
                ),
                Case::create(
                    "spec ingress 0 ports 0 endPort",
                    "70",
                    &[
                        "spec.ingress[0].ports[0].endPort: Invalid value: 80: must be greater than or equal to `port`",
                    ],
                ),
                Case::create(
                    "spec egress 0 ports 0 endPort",
                    "70",
                    &[
                        "spec.egress[0].ports[0].endPort: Invalid value: 70: may not be specified when `port` is non-numeric",
                    ],
                ),
                Case::create(
                    "spec ingress 0 from 0",
                    "{}",
                    &["spec.ingress[0].from[0]: Required value: must specify a peer"],
                ),
                Case::create(
                    "spec ingress 0 from 0 podSelector",
                    "{}",
                    &[
                        "spec.ingress[0].from[0]: Forbidden: may not specify both ipBlock and another peer",
                    ],
                ),
                Case::create(
                    "spec ingress 0 from 0 ipBlock except 0",
                    r#""11.0.0.0/16""#,
                    &[
                        r#"spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: "11.0.0.0/16": must be a strict subset of `cidr`"#,
                    ],
                ),
                Case::create(
                    "spec policyTypes 0",
                    r#""x""#,
                    &[
                        r#"spec.policyTypes[0]: Unsupported value: "x": supported values: "Ingress", "Egress""#,
                    ],
                ),
                Case::create(
                    "spec policyTypes 2",
                    r#""x""#,
                    &[
                        r#"spec.policyTypes: Invalid value: ["Ingress","Egress","x"]: may not specify more than two policyTypes"#,
                    ],
                ),
            ],
        );
    }
}
