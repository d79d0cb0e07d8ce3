//! What a pod's containers need of each resource, for the defaults of the pod as a whole.

use std::collections::BTreeMap;

use crate::doc::Node;
use crate::values::Quantity;

type Amounts = BTreeMap<String, Quantity>;

pub(super) fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

pub(super) fn is_pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || is_huge_page(name)
}

pub(super) fn is_overcommitted(name: &str) -> bool {
    let is_native = !name.contains('/') || name.contains("kubernetes.io/");
    is_native && !is_huge_page(name)
}

/// The sum over the containers, or what the init containers need at most if that is more: each
/// together with the restartable ones before it, which also add to the sum.
pub(super) fn aggregate(spec: Node<'_>, kind: &str) -> Amounts {
    let of = |container: Node<'_>| amounts(container, kind);
    let containers = |name| spec.get(name).into_iter().flat_map(Node::children);
    let mut total = Amounts::new();
    for container in containers("containers") {
        add(&mut total, &of(container));
    }
    let (mut restartable, mut most) = (Amounts::new(), Amounts::new());
    for container in containers("initContainers") {
        let mut needed = of(container);
        if container.text(&["restartPolicy"]) == "Always" {
            add(&mut total, &needed);
            add(&mut restartable, &needed);
            needed.clone_from(&restartable);
        } else {
            add(&mut needed, &restartable);
        }
        raise(&mut most, &needed);
    }
    raise(&mut total, &most);
    total
}

fn amounts(container: Node<'_>, kind: &str) -> Amounts {
    let all = container.path(&["resources", kind]);
    let all = all.into_iter().flat_map(Node::children);
    let amount = |entry: Node<'_>| {
        let quantity = Quantity::parse(entry.as_str()?).ok()?;
        Some((entry.key().to_string(), quantity))
    };
    all.filter_map(amount).collect()
}

fn add(to: &mut Amounts, more: &Amounts) {
    for (name, quantity) in more {
        match to.get_mut(name) {
            Some(sum) => *sum = sum.clone() + quantity,
            None => drop(to.insert(name.clone(), quantity.clone())),
        }
    }
}

fn raise(to: &mut Amounts, least: &Amounts) {
    for (name, quantity) in least {
        if to.get(name).is_none_or(|known| known < quantity) {
            to.insert(name.clone(), quantity.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doc::Doc;

    #[test]
    fn restartable_init_containers_run_along() {
        let spec = |cpus: &[(&str, &str)]| {
            let init: Vec<String> = cpus
                .iter()
                .map(|(cpu, policy)| {
                    format!(r#"{{"restartPolicy":"{policy}","resources":{{"requests":{{"cpu":"{cpu}"}}}}}}"#)
                })
                .collect();
            Doc::literal(&format!(
                r#"{{"containers":[{{"resources":{{"requests":{{"cpu":"1"}}}}}},{{"resources":{{"requests":{{"cpu":"500m"}}}}}}],
                    "initContainers":[{}]}}"#,
                init.join(",")
            ))
        };
        for (init, want) in [
            (&[][..], "1500m"),
            (&[("1", "")], "1500m"),
            (&[("4", "")], "4"),
            (&[("200m", "Always")], "1700m"),
            (&[("2", "Always"), ("3", "")], "5"),
            (&[("3", ""), ("2", "Always")], "3500m"),
        ] {
            let total = aggregate(spec(init).root(), "requests");
            assert_eq!(total["cpu"].to_string(), want, "{init:?}");
        }
    }

    #[test]
    fn names_of_resources_say_what_they_are() {
        for (name, pod_level, overcommitted) in [
            ("cpu", true, true),
            ("memory", true, true),
            ("hugepages-2Mi", true, false),
            ("ephemeral-storage", false, true),
            ("example.com/gpu", false, false),
            ("requests.kubernetes.io/x", false, true),
        ] {
            assert_eq!(is_pod_level(name), pod_level, "{name}");
            assert_eq!(is_overcommitted(name), overcommitted, "{name}");
        }
    }
}
