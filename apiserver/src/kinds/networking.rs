//! networking.k8s.io: ingresses and their classes, network policies, and the objects that record
//! which addresses services have.

mod ingress;
mod policy;

use api::field::FieldError;
use api::name;
use api::values::ip::Cidr;

pub use ingress::{INGRESS, INGRESS_CLASS};
pub use policy::NETWORK_POLICY;

use super::facts::{Facts, Status};
use super::ip::{canonical_ip_complaints, strict_cidr};
use crate::validation::errors::IMMUTABLE;
use crate::validation::{At, Errors};

/// What is particular about IP addresses: an object's name is the address.
pub const IP_ADDRESS: Facts = Facts {
    name: |name, _| canonical_ip_complaints(name),
    create: |_, new, errors| parent(errors, new),
    update: |_, new, old, errors| {
        parent(errors, new);
        let path = ["spec", "parentRef"];
        errors.immutable(new.path(&path), old.path(&path));
    },
    ..Facts::PLAIN
};

/// What is particular about service CIDRs.
pub const SERVICE_CIDR: Facts = Facts {
    status: Status::Own("{}"),
    status_keeps_metadata: true,
    create: |_, new, errors| blocks(errors, new.path(&["spec", "cidrs"])),
    update: |_, new, old, errors| changed_blocks(errors, new, old),
    ..Facts::PLAIN
};

fn parent(errors: &mut Errors, new: At<'_>) {
    let parent = new.path(&["spec", "parentRef"]);
    if !parent.is_set() {
        return errors.required(parent, "");
    }
    if !parent.get("group").is_empty() {
        errors.names(parent.get("group"), name::dns_1123_subdomain);
    }
    for field in ["resource", "name"] {
        if errors.need(parent.get(field), "") {
            errors.names(parent.get(field), name::path_segment);
        }
    }
    if !parent.get("namespace").is_empty() {
        errors.names(parent.get("namespace"), name::path_segment);
    }
}

fn blocks(errors: &mut Errors, list: At<'_>) {
    if !errors.need(list, "at least one CIDR required") {
        return;
    }
    if list.len() > 2 {
        let detail = "may only hold up to 2 values";
        let shown = super::facts::Raw(format!(
            r#"{{"CIDRs":{}}}"#,
            list.node().map(|node| node.to_string()).unwrap_or_default()
        ));
        return errors.invalid_value(list, shown, detail);
    }
    for block in list.items() {
        strict_cidr(errors, block);
    }
    let families: Vec<bool> = list
        .items()
        .filter_map(|block| Cidr::parse(block.str()))
        .map(|block| block.is_v6())
        .collect();
    if families.len() == 2 && families[0] == families[1] {
        let detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and \
                      2001:db8::/64";
        errors.invalid(list, detail);
    }
}

/// A second block may be added, nothing else.
fn changed_blocks(errors: &mut Errors, new: At<'_>, old: At<'_>) {
    let (now, was) = (new.path(&["spec", "cidrs"]), old.path(&["spec", "cidrs"]));
    let is_growing = was.len() == 1 && now.len() == 2;
    if now.len() != was.len() && !is_growing {
        return errors.invalid(now, IMMUTABLE);
    }
    for (block, before) in now.items().zip(was.items()) {
        if block.str() != before.str() {
            let path = errors.path(block);
            errors.push(FieldError::invalid(path, block.str(), IMMUTABLE));
        }
    }
    if is_growing {
        blocks(errors, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{Case, cases};

    #[test]
    fn wrong_addresses_are_told() {
        let good = r#"{"apiVersion":"networking.k8s.io/v1","kind":"IPAddress","metadata":{"name":"10.0.0.1"},
            "spec":{"parentRef":{"resource":"services","namespace":"a","name":"b"}}}"#;
        cases(
            &IP_ADDRESS,
            good,
            &[
                Case::create("spec parentRef", "-", &["spec.parentRef: Required value"]),
                Case::create(
                    "spec parentRef resource",
                    r#""""#,
                    &["spec.parentRef.resource: Required value"],
                ),
                Case::create(
                    "spec parentRef name",
                    r#""a/b""#,
                    &[r#"spec.parentRef.name: Invalid value: "a/b": may not contain '/'"#],
                ),
                Case::update(
                    "spec parentRef name",
                    r#""c""#,
                    &["spec.parentRef: Invalid value: …"],
                ),
            ],
        );
        assert_eq!(
            (IP_ADDRESS.name)("010.0.0.1", false),
            ["must not have leading 0s"]
        );
    }

    #[test]
    fn wrong_blocks_are_told() {
        let good = r#"{"apiVersion":"networking.k8s.io/v1","kind":"ServiceCIDR","metadata":{"name":"a"},"spec":{"cidrs":["10.0.0.0/16"]}}"#;
        cases(
            &SERVICE_CIDR,
            good,
            &[
                Case::create(
                    "spec cidrs",
                    "[]",
                    &["spec.cidrs: Required value: at least one CIDR required"],
                ),
                Case::create(
                    "spec cidrs 0",
                    r#""10.0.0.1/16""#,
                    &[
                        r#"spec.cidrs[0]: Invalid value: "10.0.0.1/16": must not have bits set beyond the prefix length"#,
                    ],
                ),
                Case::create(
                    "spec cidrs 1",
                    r#""10.1.0.0/16""#,
                    &[
                        r#"spec.cidrs: Invalid value: ["10.0.0.0/16","10.1.0.0/16"]: may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"#,
                    ],
                ),
                Case::update("spec cidrs 1", r#""2001:db8::/64""#, &[]),
                Case::update(
                    "spec cidrs 0",
                    r#""10.1.0.0/16""#,
                    &[r#"spec.cidrs[0]: Invalid value: "10.1.0.0/16": field is immutable"#],
                ),
                Case::update(
                    "spec cidrs",
                    "[]",
                    &["spec.cidrs: Invalid value: []: field is immutable"],
                ),
            ],
        );
    }
}
