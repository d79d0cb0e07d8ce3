//! Resource slices: devices that a driver offers, on a node or anywhere.

use api::field::FieldError;
use api::values::Quantity;

use super::{at_most, binding_conditions, device_name, distinct, pool_name, qualified_name, taint};
use crate::kinds::facts::{Facts, Generation, Raw, label, subdomain};
use crate::validation::pod::resources::is_native;
use crate::validation::pod::scheduling::node_selector;
use crate::validation::pod::volumes::csi_driver;
use crate::validation::pod::walk::quantity;
use crate::validation::{At, Errors, same};

const DEVICES_MAX: usize = 128;
/// With taints, counters or lists of attributes.
const RICH_DEVICES_MAX: usize = 64;
const COUNTER_SETS_MAX: usize = 8;
const COUNTERS_MAX: usize = 32;
const CONSUMPTIONS_MAX: usize = 2;
const ENTRIES_MAX: usize = 32;
const VALUES_MAX: usize = 48;
const TAINTS_MAX: usize = 16;
const VALUE_BYTES_MAX: usize = 64;
const OPTIONS_MAX: usize = 10;
const SET_TO_TRUE: &str = "must be either unset or set to true";
const LISTS: [&str; 4] = ["bools", "ints", "strings", "versions"];

/// What is particular about resource slices.
pub const SLICE: Facts = Facts {
    generation: Generation::Of(&["spec"]),
    create: |_, new, errors| spec(errors, new.get("spec"), None),
    update: |_, new, old, errors| spec(errors, new.get("spec"), Some(old.get("spec"))),
    warnings: |_, new, _, told| {
        let driver = new.path(&["spec", "driver"]).str();
        if driver != driver.to_lowercase() {
            told.push(format!(
                "spec.driver: driver names should be lowercase; {driver:?} contains uppercase \
                 characters"
            ));
        }
    },
    ..Facts::PLAIN
};

fn spec(errors: &mut Errors, spec: At<'_>, old: Option<At<'_>>) {
    csi_driver(errors, spec.get("driver"));
    let pool = spec.get("pool");
    pool_name(errors, pool.get("name"));
    errors.positive(pool.get("resourceSliceCount"));
    if pool.get("generation").int() < 0 {
        let detail = "must be greater than or equal to zero";
        errors.invalid(pool.get("generation"), detail);
    }
    if let Some(old) = old {
        errors.immutable(pool.get("name"), old.get("pool").get("name"));
        errors.immutable(spec.get("driver"), old.get("driver"));
        errors.immutable(spec.get("nodeName"), old.get("nodeName"));
    }
    let set = where_it_is(
        errors,
        spec,
        "must be either unset or set to a non-empty string",
    );
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, \
                       `perDeviceNodeSelection` is required";
    match set.len() {
        0 => errors.required(spec, ONE),
        1 => {}
        _ => {
            let shown = format!("{{{}}}", set.join(", "));
            let detail = format!("{ONE}, but multiple fields are set");
            errors.invalid_value(spec, shown.as_str(), detail);
        }
    }
    let terms = spec.path(&["nodeSelector", "nodeSelectorTerms"]);
    if spec.has("nodeSelector") && terms.len() != 1 {
        errors.invalid(terms, "must have exactly one node selector term");
    }
    if spec.has("sharedCounters") && spec.has("devices") {
        let detail = "only one of `sharedCounters` or `devices` is allowed";
        errors.invalid_value(spec, "", detail);
    }
    devices(errors, spec, old);
    counter_sets(errors, spec.get("sharedCounters"));
}

/// Which of the fields that tell nodes are set.
fn where_it_is(errors: &mut Errors, at: At<'_>, empty: &str) -> Vec<&'static str> {
    let mut set = Vec::new();
    let node = at.get("nodeName");
    if node.is_set() {
        if node.is_empty() {
            errors.invalid(node, empty);
        } else {
            set.push("`nodeName`");
            errors.names(node, subdomain);
        }
    }
    if at.has("nodeSelector") {
        set.push("`nodeSelector`");
        node_selector(errors, at.get("nodeSelector"), false);
    }
    for (field, told) in [
        ("allNodes", "`allNodes`"),
        ("perDeviceNodeSelection", "`perDeviceNodeSelection`"),
    ] {
        match at.get(field).opt_flag() {
            Some(true) => set.push(told),
            Some(false) => errors.invalid(at.get(field), SET_TO_TRUE),
            None => {}
        }
    }
    set
}

fn devices(errors: &mut Errors, spec: At<'_>, old: Option<At<'_>>) {
    let list = spec.get("devices");
    let has_lists = |device: At<'_>| {
        let mut attributes = device.get("attributes").items();
        attributes.any(|attribute| LISTS.iter().any(|field| attribute.has(field)))
    };
    let is_rich = list.items().any(|device| {
        !device.get("taints").is_empty()
            || !device.get("consumesCounters").is_empty()
            || has_lists(device)
    });
    let most = if is_rich {
        RICH_DEVICES_MAX
    } else {
        DEVICES_MAX
    };
    if !at_most(errors, list, most) {
        return;
    }
    let is_per_device = spec.get("perDeviceNodeSelection").flag();
    for device in list.items() {
        let before = old.and_then(|old| old.get("devices").find("name", device.get("name").str()));
        one_device(errors, device, before, is_per_device);
    }
    distinct(errors, list, |device| device.get("name").str().to_string());
}

fn one_device(errors: &mut Errors, at: At<'_>, before: Option<At<'_>>, is_per_device: bool) {
    device_name(errors, at.get("name"));
    let (attributes, capacity) = (at.get("attributes"), at.get("capacity"));
    let entries = attributes.len() + capacity.len();
    let values = attributes.items().map(|attribute| {
        let listed: usize = LISTS.iter().map(|field| attribute.get(field).len()).sum();
        listed.max(1)
    });
    for (found, most, what) in [
        (entries, ENTRIES_MAX, "attributes and capacities"),
        (values.sum(), VALUES_MAX, "attribute values"),
    ] {
        if found > most {
            let detail = format!("the total number of {what} must not exceed {most}");
            errors.invalid_value(at, Raw(found.to_string()), detail);
        }
    }
    for entry in attributes.items() {
        qualified_name(errors, attributes, entry.key());
        attribute(errors, entry);
    }
    let is_shared = at.get("allowMultipleAllocations").flag();
    for entry in capacity.items() {
        qualified_name(errors, capacity, entry.key());
        let policy = entry.get("requestPolicy");
        if policy.is_set() && !is_shared {
            errors.forbidden(policy, "allowMultipleAllocations must be true");
        } else if policy.is_set() {
            request_policy(errors, policy, entry.get("value"));
        }
    }
    let taints = at.get("taints");
    let is_same = before.is_some_and(|before| same(before.get("taints"), taints));
    if !is_same && at_most(errors, taints, TAINTS_MAX) {
        for one in taints.items() {
            taint(errors, one);
        }
    }
    consumptions(errors, at.get("consumesCounters"));
    device_nodes(errors, at, is_per_device);
    binding_conditions(errors, at);
    for mapping in at.get("nodeAllocatableResourceMappings").items() {
        if !is_native(mapping.key()) {
            let detail = "must be a node allocatable resource name";
            errors.invalid_value(mapping, mapping.key(), detail);
        }
    }
}

fn device_nodes(errors: &mut Errors, at: At<'_>, is_per_device: bool) {
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when \
                       `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    if is_per_device {
        let set = where_it_is(errors, at, "must not be empty");
        match set.len() {
            0 => errors.required(at, ONE),
            1 => {}
            _ => {
                let shown = format!("{{{}}}", set.join(", "));
                errors.invalid_value(at, shown.as_str(), ONE);
            }
        }
    } else if ["nodeName", "nodeSelector", "allNodes"]
        .iter()
        .any(|field| at.has(field))
    {
        let detail = "`nodeName`, `nodeSelector` and `allNodes` can only be set if \
                      `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
        errors.invalid_value(at, Raw("null".to_string()), detail);
    }
}

fn attribute(errors: &mut Errors, at: At<'_>) {
    let plain = ["bool", "int", "string", "version"];
    let count = plain
        .iter()
        .chain(&LISTS)
        .filter(|field| at.has(field))
        .count();
    if at.has("string") {
        short(errors, at.get("string"));
    }
    if at.has("version") {
        version(errors, at.get("version"));
    }
    for item in at.get("strings").items() {
        short(errors, item);
    }
    for item in at.get("versions").items() {
        version(errors, item);
    }
    match count {
        0 => errors.invalid_value(at, "", "exactly one value must be specified"),
        1 => {}
        _ => errors.invalid(at, "exactly one value must be specified"),
    }
}

fn short(errors: &mut Errors, at: At<'_>) {
    if at.str().len() > VALUE_BYTES_MAX {
        errors.too_long(at, VALUE_BYTES_MAX);
    }
}

fn version(errors: &mut Errors, at: At<'_>) {
    if !is_semantic(at.str()) {
        let detail = "must be a string compatible with semver.org spec 2.0.0";
        errors.invalid(at, detail);
    }
    short(errors, at);
}

/// Three numbers, perhaps a pre-release after `-` and a build after `+`.
fn is_semantic(text: &str) -> bool {
    let (rest, build) = match text.split_once('+') {
        Some((rest, build)) => (rest, Some(build)),
        None => (text, None),
    };
    let (core, pre) = match rest.split_once('-') {
        Some((core, pre)) => (core, Some(pre)),
        None => (rest, None),
    };
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let is_number = |part: &str| is_digits(part) && (part == "0" || !part.starts_with('0'));
    let is_word = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let is_pre = |part: &str| is_word(part) && (!is_digits(part) || is_number(part));
    core.split('.').count() == 3
        && core.split('.').all(is_number)
        && pre.is_none_or(|pre| pre.split('.').all(is_pre))
        && build.is_none_or(|build| build.split('.').all(is_word))
}

fn consumptions(errors: &mut Errors, list: At<'_>) {
    if !at_most(errors, list, CONSUMPTIONS_MAX) {
        return;
    }
    for one in list.items() {
        named_counters(errors, one.get("counterSet"), one.get("counters"));
    }
    distinct(errors, list, |one| one.get("counterSet").str().to_string());
}

fn counter_sets(errors: &mut Errors, list: At<'_>) {
    if !at_most(errors, list, COUNTER_SETS_MAX) {
        return;
    }
    for one in list.items() {
        named_counters(errors, one.get("name"), one.get("counters"));
    }
    distinct(errors, list, |one| one.get("name").str().to_string());
}

fn named_counters(errors: &mut Errors, name: At<'_>, counters: At<'_>) {
    if errors.need(name, "") {
        errors.names(name, label);
    }
    if errors.need(counters, "") && at_most(errors, counters, COUNTERS_MAX) {
        for counter in counters.items() {
            for complaint in label(counter.key()) {
                errors.invalid_value(counters, counter.key(), complaint);
            }
        }
    }
}

/// How much of a capacity may be asked for.
fn request_policy(errors: &mut Errors, at: At<'_>, most: At<'_>) {
    let (values, range, default) = (
        at.get("validValues"),
        at.get("validRange"),
        at.get("default"),
    );
    if !values.is_empty() && range.is_set() {
        let detail = "exactly one policy can be specified, cannot specify \"validValues\" and \
                      \"validRange\" at the same time";
        return errors.forbidden(at, detail);
    }
    if !values.is_empty() {
        match default.is_set() {
            true => valid_values(errors, values, default, most),
            false => errors.required(default, "required when validValues is defined"),
        }
    } else if range.is_set() {
        match default.is_set() {
            true => valid_range(errors, range, default, most),
            false => errors.required(default, "required when validRange is defined"),
        }
    }
}

fn valid_values(errors: &mut Errors, values: At<'_>, default: At<'_>, most: At<'_>) {
    for (one, next) in values.items().zip(values.items().skip(1)) {
        if quantity(one) > quantity(next) {
            errors.invalid(next, "values must be sorted in ascending order");
        }
    }
    if at_most(errors, values, OPTIONS_MAX) {
        for one in values.items().filter(|one| quantity(*one) > quantity(most)) {
            let detail = format!("option is larger than capacity value: {}", most.str());
            errors.invalid(one, detail);
        }
        distinct(errors, values, |one| quantity(one).units().to_string());
    }
    if !values.items().any(|one| quantity(one) == quantity(default)) {
        let detail = "default value is not valid according to the requestPolicy";
        errors.invalid_value(values, default.str(), detail);
    }
}

fn valid_range(errors: &mut Errors, range: At<'_>, default: At<'_>, most: At<'_>) {
    let (low, high, step) = (range.get("min"), range.get("max"), range.get("step"));
    if !low.is_set() {
        return errors.required(low, "required when validRange is defined");
    }
    let mut above = |place: At<'_>, one: At<'_>, other: At<'_>, what: &str| {
        if quantity(one) > quantity(other) {
            let path = errors.path(place);
            errors.push(FieldError::invalid(path, one.str(), what));
        }
    };
    let capacity = most.str();
    above(
        low,
        low,
        most,
        &format!("min is larger than capacity value: {capacity}"),
    );
    if quantity(default) < quantity(low) {
        let path = errors.path(low);
        let detail = format!("default is less than min: {}", low.str());
        errors.push(FieldError::invalid(path, default.str(), detail));
    }
    if high.is_set() {
        let mut above = |one: At<'_>, other: At<'_>, what: String| {
            if quantity(one) > quantity(other) {
                errors.invalid_value(high, one.str(), what);
            }
        };
        above(low, high, format!("min is larger than max: {}", high.str()));
        above(
            high,
            most,
            format!("max is larger than capacity value: {capacity}"),
        );
        above(
            default,
            high,
            format!("default is more than max: {}", high.str()),
        );
    }
    if step.is_set() {
        steps(errors, step, [low, high, default], most);
    }
}

fn steps(errors: &mut Errors, step: At<'_>, [low, high, default]: [At<'_>; 3], most: At<'_>) {
    let units = |at: At<'_>| quantity(at).units();
    let added = units(low).saturating_add(units(step));
    if Quantity::from_units(added) > quantity(most) {
        let detail = format!(
            "one step {added} is larger than capacity value: {}",
            most.str()
        );
        errors.invalid(step, detail);
    }
    for value in [default, high].into_iter().filter(|value| value.is_set()) {
        let is_multiple = units(step) != 0 && (units(value) - units(low)) % units(step) == 0;
        if !is_multiple {
            let detail = format!(
                "value is not a multiple of a given step ({}) from ({})",
                step.str(),
                low.str()
            );
            errors.invalid_value(step, value.str(), detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{Case, cases, warnings};

    #[test]
    fn wrong_slices_are_told() {
        let good = r#"{"apiVersion":"resource.k8s.io/v1","kind":"ResourceSlice","metadata":{"name":"a"},"spec":{"driver":"x.y","nodeName":"n",
            "pool":{"name":"p","generation":1,"resourceSliceCount":1},"devices":[{"name":"d","attributes":{"a":{"string":"s"},"x.y/v":{"version":"1.2.3"}},
            "capacity":{"mem":{"value":"1Gi"}}}]}}"#;
        cases(
            &SLICE,
            good,
            &[
                Case::create("spec driver", r#""""#, &["spec.driver: Required value"]),
                Case::create(
                    "spec pool resourceSliceCount",
                    "0",
                    &["spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero"],
                ),
                Case::create(
                    "spec nodeName",
                    "-",
                    &[
                        "spec: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required",
                    ],
                ),
                Case::create(
                    "spec allNodes",
                    "true",
                    &[
                        "spec: Invalid value: \"{`nodeName`, `allNodes`}\": exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set",
                    ],
                ),
                Case::create(
                    "spec devices 0 attributes a int",
                    "1",
                    &["spec.devices[0].attributes[a]: Invalid value: …"],
                ),
                Case::create(
                    "spec devices 0 attributes x.y/v version",
                    r#""1.02.3""#,
                    &[
                        r#"spec.devices[0].attributes[x.y/v].version: Invalid value: "1.02.3": must be a string compatible with semver.org spec 2.0.0"#,
                    ],
                ),
                Case::create(
                    "spec devices 0 nodeName",
                    r#""n""#,
                    &["spec.devices[0]: Invalid value: null: `nodeName`, `nodeSelector` and…"],
                ),
                Case::create(
                    "spec devices 1",
                    r#"{"name":"d"}"#,
                    &[r#"spec.devices[1]: Duplicate value: "d""#],
                ),
                Case::create(
                    "spec devices 0 capacity mem requestPolicy",
                    "{}",
                    &[
                        "spec.devices[0].capacity[mem].requestPolicy: Forbidden: allowMultipleAllocations must be true",
                    ],
                ),
                Case::update(
                    "spec nodeName",
                    r#""m""#,
                    &[r#"spec.nodeName: Invalid value: "m": field is immutable"#],
                ),
            ],
        );
        assert_eq!(
            warnings(&SLICE, r#"{"spec":{"driver":"X"}}"#, None).len(),
            1
        );
    }
}
