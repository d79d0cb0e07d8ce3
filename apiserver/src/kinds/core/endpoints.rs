//! Endpoints: addresses of what answers for a service.

use api::name;

use crate::kinds::facts::{Facts, subdomain};
use crate::kinds::ip::{endpoint_ip, ip_warning, legacy_ip};
use crate::validation::{At, Errors, same};

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpoint-controller";

/// What is particular about endpoints.
pub const ENDPOINTS: Facts = Facts {
    creates_on_update: true,
    create: |_, new, errors| subsets(errors, new.get("subsets")),
    update: |_, new, old, errors| {
        // What was good once stays so until it is touched.
        if !same(new.get("subsets"), old.get("subsets")) {
            subsets(errors, new.get("subsets"));
        }
    },
    warnings: |_, new, _, warnings| warn(new, warnings),
    ..Facts::PLAIN
};

fn subsets(errors: &mut Errors, list: At<'_>) {
    for subset in list.items() {
        let (ready, other) = (subset.get("addresses"), subset.get("notReadyAddresses"));
        if ready.is_empty() && other.is_empty() {
            errors.required(subset, "must specify `addresses` or `notReadyAddresses`");
        }
        for address in ready.items().chain(other.items()) {
            legacy_ip(errors, address.get("ip"), &[]);
            if !address.get("hostname").is_empty() {
                errors.names(address.get("hostname"), name::dns_1123_label);
            }
            if address.has("nodeName") {
                errors.names(address.get("nodeName"), subdomain);
            }
            endpoint_ip(errors, address.get("ip"));
        }
        let ports = subset.get("ports");
        for port in ports.items() {
            if !port.get("name").is_empty() {
                errors.names(port.get("name"), name::dns_1123_label);
            } else if ports.len() > 1 {
                errors.required(port.get("name"), "");
            }
            errors.names(port.get("port"), |_| {
                name::port_number(port.get("port").int())
            });
            errors.need_one_of(port.get("protocol"), &["SCTP", "TCP", "UDP"]);
            if port.has("appProtocol") {
                errors.names(port.get("appProtocol"), name::label_key);
            }
        }
    }
}

fn warn(new: At<'_>, warnings: &mut Vec<String>) {
    let labels = new.path(&["metadata", "labels"]);
    if labels
        .entry(MANAGED_BY)
        .is_some_and(|by| by.str() == CONTROLLER)
    {
        return;
    }
    for (index, subset) in new.get("subsets").items().enumerate() {
        for list in ["addresses", "notReadyAddresses"] {
            for (at, address) in subset.get(list).items().enumerate() {
                let path = format!("subsets[{index}].{list}[{at}].ip");
                warnings.extend(ip_warning(&path, address.get("ip").str()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{Case, cases};

    #[test]
    fn wrong_fields_are_told() {
        let good = r#"{"apiVersion":"v1","kind":"Endpoints","metadata":{"name":"a"},"subsets":[{
            "addresses":[{"ip":"10.0.0.1","hostname":"h","nodeName":"n"}],
            "ports":[{"name":"a","port":80,"protocol":"TCP"},{"name":"b","port":81,"protocol":"UDP"}]}]}"#;
        cases(
            &ENDPOINTS,
            good,
            &[
                Case::create(
                    "subsets 0 addresses",
                    "-",
                    &[
                        "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`",
                    ],
                ),
                Case::create(
                    "subsets 0 addresses 0 ip",
                    r#""169.254.1.1""#,
                    &[
                        r#"subsets[0].addresses[0].ip: Invalid value: "169.254.1.1": may not be in the link-local range (169.254.0.0/16, fe80::/10)"#,
                    ],
                ),
                Case::create(
                    "subsets 0 addresses 0 ip",
                    r#""x""#,
                    &[
                        r#"subsets[0].addresses[0].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"#,
                        r#"subsets[0].addresses[0].ip: Invalid value: "x": must be a valid IP address"#,
                    ],
                ),
                Case::create(
                    "subsets 0 ports 0 name",
                    r#""""#,
                    &["subsets[0].ports[0].name: Required value"],
                ),
                Case::update(
                    "subsets 0 ports 0 port",
                    "0",
                    &[
                        "subsets[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                    ],
                ),
                Case::create(
                    "subsets 0 ports 0 protocol",
                    r#""x""#,
                    &[
                        r#"subsets[0].ports[0].protocol: Unsupported value: "x": supported values: "SCTP", "TCP", "UDP""#,
                    ],
                ),
            ],
        );
    }
}
