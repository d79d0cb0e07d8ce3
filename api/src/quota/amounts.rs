//! Amounts of resources: sums and bounds, and what a pod needs as a whole.

use std::collections::BTreeMap;

use crate::values::quantity::Quantity;

use super::walk::{CPU_AND_MEMORY, is_sidecar, quantity};
use crate::at::At;

/// Amounts by the names of their resources.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Amounts(
    /// By their names.
    pub BTreeMap<String, Quantity>,
);

impl Amounts {
    /// A list of a document.
    pub fn read(list: At<'_>) -> Self {
        let entries = list.items();
        Self(
            entries
                .map(|at| (at.key().to_string(), quantity(at)))
                .collect(),
        )
    }

    /// The amount of one resource.
    pub fn get(&self, name: &str) -> Option<&Quantity> {
        self.0.get(name)
    }

    /// Sets the amount of one resource.
    pub fn set(&mut self, name: impl Into<String>, amount: Quantity) {
        self.0.insert(name.into(), amount);
    }

    /// Sums, resource by resource.
    pub fn add(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let sum = match self.0.remove(name) {
                Some(known) => known + amount,
                None => amount.clone(),
            };
            self.0.insert(name.clone(), sum);
        }
    }

    /// The larger ones, resource by resource.
    pub fn raise(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            if self.0.get(name).is_none_or(|known| amount > known) {
                self.0.insert(name.clone(), amount.clone());
            }
        }
    }

    /// Those that are kept.
    pub fn only(&self, keeps: impl Fn(&str) -> bool) -> Self {
        let kept = self.0.iter().filter(|(name, _)| keeps(name));
        Self(
            kept.map(|(name, amount)| (name.clone(), amount.clone()))
                .collect(),
        )
    }

    /// `a=1,b=2`.
    pub fn shown(&self) -> String {
        let parts: Vec<String> = self
            .0
            .iter()
            .map(|(name, amount)| format!("{name}={amount}"))
            .collect();
        parts.join(",")
    }
}

/// What a pod's containers need at once: `requests` or `limits` of all of them, and of those that run
/// before. What the pod says of itself counts instead.
pub fn of_pod(spec: At<'_>, which: &'static str) -> Amounts {
    let of = |container: At<'_>| Amounts::read(container.path(&["resources", which]));
    let mut total = Amounts::default();
    for container in spec.get("containers").items() {
        total.add(&of(container));
    }
    let (mut sidecars, mut start) = (Amounts::default(), Amounts::default());
    for container in spec.get("initContainers").items() {
        let mut needs = of(container);
        if is_sidecar(container) {
            total.add(&needs);
            sidecars.add(&needs);
            needs = sidecars.clone();
        } else {
            needs.add(&sidecars);
        }
        start.raise(&needs);
    }
    total.raise(&start);
    for (name, amount) in Amounts::read(spec.path(&["resources", which])).0 {
        if is_of_pods(&name) {
            total.set(name, amount);
        }
    }
    total
}

/// Resources that a pod as a whole can ask for.
pub fn is_of_pods(name: &str) -> bool {
    CPU_AND_MEMORY.contains(&name) || name.starts_with("hugepages-")
}

#[cfg(test)]
mod tests {
    use crate::doc::Doc;

    use super::*;

    #[test]
    fn what_starts_first_counts_as_far_as_it_is_more() {
        let container = |cpu: &str, more: &str| {
            format!(r#"{{"resources":{{"requests":{{"cpu":"{cpu}"}}}}{more}}}"#)
        };
        let sidecar = r#","restartPolicy":"Always""#;
        for (init, want) in [
            (String::new(), "cpu=3"),
            (container("2", ""), "cpu=3"),
            (container("5", ""), "cpu=5"),
            (container("1", sidecar), "cpu=4"),
            (
                format!("{},{}", container("1", sidecar), container("5", "")),
                "cpu=6",
            ),
        ] {
            let (one, two) = (container("1", ""), container("2", ""));
            let spec = format!(r#"{{"containers":[{one},{two}],"initContainers":[{init}]}}"#);
            let doc = Doc::literal(&spec);
            assert_eq!(of_pod(At::root(&doc), "requests").shown(), want, "{init}");
        }
    }
}
