//! CSI drivers, and which of them a node has.

use std::collections::HashSet;

use api::doc::Doc;
use api::field::FieldError;
use api::name;

use crate::kinds::facts::{Facts, Generation, remove_path};
use crate::validation::errors::IMMUTABLE;
use crate::validation::pod::volumes::csi_driver;
use crate::validation::{At, Errors, same};

const TOKENS: &str = "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set \
                      to true to prevent possible logging of tokens in volume attributes";
const NODE_ID_BYTES_MAX: usize = 256;
const SECONDS_MAX: i64 = 1 << 32;

/// What is particular about CSI drivers.
pub const CSI_DRIVER: Facts = Facts {
    unconditional: false,
    generation: Generation::Later(&["spec"]),
    prepare_create: |_, new| drop_alpha(new, None),
    prepare_update: |_, new, old| drop_alpha(new, Some(old)),
    create: |_, new, errors| driver(errors, new.get("spec")),
    update: |_, new, old, errors| {
        let (spec, before) = (new.get("spec"), old.get("spec"));
        driver(errors, spec);
        errors.renamed("spec.attachRequired", "spec.attachedRequired", |errors| {
            errors.immutable(spec.get("attachRequired"), before.get("attachRequired"));
        });
        let field = "volumeLifecycleModes";
        errors.immutable(spec.get(field), before.get(field));
    },
    warnings: |_, new, old, told| {
        let spec = new.get("spec");
        let requests = spec.get("tokenRequests");
        let is_new = old.is_none_or(|old| !same(old.path(&["spec", "tokenRequests"]), requests));
        if is_new && !requests.is_empty() && !spec.has("serviceAccountTokenInSecrets") {
            told.push(TOKENS.to_string());
        }
    },
    ..Facts::PLAIN
};

/// What is particular about the drivers of a node.
pub const CSI_NODE: Facts = Facts {
    unconditional: false,
    create: |_, new, errors| node_drivers(errors, new.path(&["spec", "drivers"])),
    update: |_, new, old, errors| {
        let list = new.path(&["spec", "drivers"]);
        node_drivers(errors, list);
        for before in old.path(&["spec", "drivers"]).items() {
            for driver in list.items() {
                if driver.get("name").str() == before.get("name").str() {
                    same_driver(errors, list, driver, before);
                }
            }
        }
    },
    ..Facts::PLAIN
};

fn drop_alpha(new: &mut Doc, old: Option<&Doc>) {
    let path = ["spec", "preventPodSchedulingIfMissing"];
    if !old.is_some_and(|old| At::root(old).path(&path).is_set()) {
        remove_path(new, &path);
    }
}

fn driver(errors: &mut Errors, spec: At<'_>) {
    let needed = |errors: &mut Errors, field| {
        if !spec.has(field) {
            errors.required(spec.get(field), "");
        }
    };
    errors.renamed("spec.attachRequired", "spec.attachedRequired", |errors| {
        needed(errors, "attachRequired");
    });
    needed(errors, "podInfoOnMount");
    needed(errors, "storageCapacity");
    let policy = spec.get("fsGroupPolicy");
    if policy.is_set() {
        errors.one_of(policy, &["File", "None", "ReadWriteOnceWithFSType"]);
    }
    token_requests(errors, spec.get("tokenRequests"));
    let modes = spec.get("volumeLifecycleModes");
    let known = ["Persistent", "Ephemeral"];
    for mode in modes.items().filter(|mode| !known.contains(&mode.str())) {
        let path = errors.path(modes);
        errors.push(FieldError::not_supported(path, mode.str(), &known));
    }
    needed(errors, "seLinuxMount");
    let period = spec.get("nodeAllocatableUpdatePeriodSeconds");
    if period.opt_int().is_some_and(|seconds| seconds < 10) {
        errors.invalid(period, "must be greater than or equal to 10 seconds");
    }
    let tokens = spec.get("serviceAccountTokenInSecrets");
    if tokens.is_set() && spec.get("tokenRequests").is_empty() {
        errors.invalid(
            tokens,
            "serviceAccountTokenInSecrets is set but no tokenRequests are specified",
        );
    }
}

fn token_requests(errors: &mut Errors, list: At<'_>) {
    let mut seen = HashSet::new();
    for request in list.items() {
        let audience = request.get("audience");
        if !seen.insert(audience.str()) {
            let path = errors.path(audience);
            errors.push(FieldError::duplicate(path, audience.str()));
            continue;
        }
        let expiration = request.get("expirationSeconds");
        if expiration.opt_int().is_some_and(|seconds| seconds < 600) {
            errors.invalid(
                expiration,
                "may not specify a duration less than 10 minutes",
            );
        }
        if expiration.int() > SECONDS_MAX {
            let detail = "may not specify a duration larger than 2^32 seconds";
            errors.invalid(expiration, detail);
        }
    }
}

fn node_drivers(errors: &mut Errors, list: At<'_>) {
    let mut names = HashSet::new();
    for driver in list.items() {
        let (driver_name, id) = (driver.get("name"), driver.get("nodeID"));
        csi_driver(errors, driver_name);
        errors.need(id, "");
        if id.str().len() > NODE_ID_BYTES_MAX {
            let detail = format!("must be {NODE_ID_BYTES_MAX} characters or less");
            errors.invalid(id, detail);
        }
        errors.non_negative(driver.path(&["allocatable", "count"]));
        if !names.insert(driver_name.str()) {
            errors.duplicate(driver_name);
        }
        let mut keys = HashSet::new();
        for key in driver.get("topologyKeys").items().map(At::str) {
            if key.is_empty() {
                errors.required(driver, "");
            }
            if !keys.insert(key) {
                let path = errors.path(driver);
                errors.push(FieldError::duplicate(path, key));
            }
            for complaint in name::label_key(key) {
                errors.invalid_value(driver, key, complaint);
            }
        }
    }
}

/// How many volumes fit may change.
fn same_driver(errors: &mut Errors, list: At<'_>, driver: At<'_>, before: At<'_>) {
    let fields = ["name", "nodeID", "topologyKeys"];
    let is_same = fields
        .iter()
        .all(|field| same(driver.get(field), before.get(field)));
    if let Some(node) = driver.node()
        && !is_same
    {
        let path = errors.path(list);
        errors.push(FieldError::invalid(path, node, IMMUTABLE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{Case, cases, warnings};

    #[test]
    fn wrong_drivers_are_told() {
        let good = r#"{"apiVersion":"storage.k8s.io/v1","kind":"CSIDriver","metadata":{"name":"a"},"spec":{"attachRequired":true,
            "podInfoOnMount":false,"storageCapacity":false,"seLinuxMount":false,"fsGroupPolicy":"File","requiresRepublish":false,
            "volumeLifecycleModes":["Persistent"],"tokenRequests":[{"audience":"","expirationSeconds":600}],"serviceAccountTokenInSecrets":true}}"#;
        cases(
            &CSI_DRIVER,
            good,
            &[
                Case::create(
                    "spec attachRequired",
                    "-",
                    &["spec.attachedRequired: Required value"],
                ),
                Case::create(
                    "spec fsGroupPolicy",
                    r#""x""#,
                    &[
                        r#"spec.fsGroupPolicy: Unsupported value: "x": supported values: "File", "None", "ReadWriteOnceWithFSType""#,
                    ],
                ),
                Case::create(
                    "spec volumeLifecycleModes 0",
                    r#""x""#,
                    &[
                        r#"spec.volumeLifecycleModes: Unsupported value: "x": supported values: "Persistent", "Ephemeral""#,
                    ],
                ),
                Case::create(
                    "spec tokenRequests 0 expirationSeconds",
                    "1",
                    &[
                        "spec.tokenRequests[0].expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes",
                    ],
                ),
                Case::create(
                    "spec tokenRequests",
                    "[]",
                    &[
                        "spec.serviceAccountTokenInSecrets: Invalid value: true: serviceAccountTokenInSecrets is set but no tokenRequests are specified",
                    ],
                ),
                Case::update(
                    "spec attachRequired",
                    "false",
                    &["spec.attachedRequired: Invalid value: false: field is immutable"],
                ),
            ],
        );
        assert_eq!(
            warnings(
                &CSI_DRIVER,
                r#"{"spec":{"tokenRequests":[{"audience":""}]}}"#,
                None
            ),
            [TOKENS]
        );
    }

    #[test]
    fn wrong_nodes_are_told() {
        let good = r#"{"apiVersion":"storage.k8s.io/v1","kind":"CSINode","metadata":{"name":"a"},
            "spec":{"drivers":[{"name":"x.y","nodeID":"n","topologyKeys":["a"],"allocatable":{"count":1}}]}}"#;
        cases(
            &CSI_NODE,
            good,
            &[
                Case::create(
                    "spec drivers 0 nodeID",
                    r#""""#,
                    &["spec.drivers[0].nodeID: Required value"],
                ),
                Case::create(
                    "spec drivers 0 topologyKeys 1",
                    r#""a""#,
                    &[r#"spec.drivers[0]: Duplicate value: "a""#],
                ),
                Case::update(
                    "spec drivers 0 allocatable count",
                    "-1",
                    &[
                        "spec.drivers[0].allocatable.count: Invalid value: -1: must be greater than or equal to 0",
                    ],
                ),
                Case::update(
                    "spec drivers 0 nodeID",
                    r#""m""#,
                    &["spec.drivers: Invalid value: …"],
                ),
            ],
        );
    }
}
