//! Classes, matchers, holders and topologies: how counts are kept ready.

use crate::intern::{FxMap, Interner, Labels, Symbol, label};
use crate::selector::Selector;

use super::NONE;

/// Numbers of things by node or by domain; what is not there is 0.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts(FxMap<u32, i64>);

impl Counts {
    /// Adds to one number. Without a domain nothing is counted.
    pub(crate) fn add(&mut self, at: u32, delta: i64) {
        if at == NONE || delta == 0 {
            return;
        }
        let count = self.0.entry(at).or_default();
        *count += delta;
        if *count == 0 {
            self.0.remove(&at);
        }
    }

    /// One number.
    pub(crate) fn get(&self, at: u32) -> i64 {
        self.0.get(&at).copied().unwrap_or(0)
    }

    /// Whether all are 0.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many are not 0.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// All that are not 0, in no order: whoever looks must not depend on one.
    pub(crate) fn each(&self, mut look: impl FnMut(u32, i64)) {
        self.0.iter().for_each(|(at, count)| look(*at, *count));
    }
}

/// What makes pods alike to every selector.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ClassKey {
    pub(crate) namespace: Symbol,
    pub(crate) labels: Labels,
    /// Spreading does not count pods on their way out.
    pub(crate) is_terminating: bool,
}

/// Pods that are alike to every selector.
#[derive(Debug)]
pub(crate) struct Class {
    pub(crate) key: ClassKey,
    pub(crate) per_node: Counts,
    /// The matchers that match them.
    pub(crate) matchers: Vec<u32>,
}

impl Class {
    pub(crate) fn new(key: ClassKey) -> Self {
        Class {
            key,
            per_node: Counts::default(),
            matchers: Vec::new(),
        }
    }
}

/// A selector of pods with its namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Part {
    /// Namespaces by name, sorted.
    pub(crate) namespaces: Box<[Symbol]>,
    /// And by label.
    pub(crate) namespace_selector: Selector,
    pub(crate) selector: Selector,
}

/// What a matcher matches: pods that all parts select.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct MatcherKey {
    pub(crate) parts: Box<[Part]>,
    /// Not pods on their way out.
    pub(crate) only_staying: bool,
}

impl MatcherKey {
    /// A label that all pods matched have.
    pub(crate) fn exact(&self) -> Option<(Symbol, Symbol)> {
        self.parts.iter().find_map(|part| part.selector.exact())
    }

    /// Whether labels of namespaces decide.
    pub(crate) fn looks_at_namespaces(&self) -> bool {
        self.parts
            .iter()
            .any(|part| part.namespace_selector != Selector::Nothing)
    }
}

/// A selector in use, with the pods it matches counted.
#[derive(Debug)]
pub(crate) struct Matcher {
    pub(crate) key: MatcherKey,
    pub(crate) per_node: Counts,
    /// By topology: counts by domain.
    pub(crate) per_domain: Vec<(u32, Counts)>,
    /// Terms of placed pods with this selector.
    pub(crate) holders: Vec<u32>,
}

impl Matcher {
    pub(crate) fn new(key: MatcherKey) -> Self {
        Matcher {
            key,
            per_node: Counts::default(),
            per_domain: Vec::new(),
            holders: Vec::new(),
        }
    }

    /// Whether pods of a class are matched.
    pub(crate) fn matches(
        &self,
        class: &ClassKey,
        namespaces: &FxMap<Symbol, Labels>,
        interner: &Interner,
    ) -> bool {
        if self.key.only_staying && class.is_terminating {
            return false;
        }
        let of_namespace = || {
            namespaces
                .get(&class.namespace)
                .map_or(&[][..], |labels| labels)
        };
        self.key.parts.iter().all(|part| {
            (part.namespaces.contains(&class.namespace)
                || part.namespace_selector.matches(of_namespace(), interner))
                && part.selector.matches(&class.labels, interner)
        })
    }
}

/// What a term of a placed pod means for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Hold {
    /// They must not come near: required anti-affinity. Counted once per pod.
    Repels,
    /// The placed pod must be near them: required affinity. Counted once per pod.
    Needs,
    /// It likes or dislikes them: preferred terms, counted by weight.
    Prefers,
}

/// A term that placed pods carry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct HolderKey {
    pub(crate) hold: Hold,
    pub(crate) matcher: u32,
    pub(crate) topology: u32,
}

/// A term that placed pods carry, counted by domain.
#[derive(Debug)]
pub(crate) struct Holder {
    pub(crate) key: HolderKey,
    pub(crate) counts: Counts,
}

impl Holder {
    pub(crate) fn new(key: HolderKey) -> Self {
        Holder {
            key,
            counts: Counts::default(),
        }
    }
}

/// A label that divides nodes into domains, such as zones.
#[derive(Debug)]
pub(crate) struct Topology {
    pub(crate) key: Symbol,
    domains: FxMap<Symbol, u32>,
    /// Nodes by domain.
    nodes: Vec<u32>,
    /// Domains with nodes.
    populated: usize,
    /// Nodes with the label.
    labelled: usize,
}

impl Topology {
    pub(crate) fn new(key: Symbol) -> Self {
        Topology {
            key,
            domains: FxMap::default(),
            nodes: Vec::new(),
            populated: 0,
            labelled: 0,
        }
    }

    /// The domain of a node with these labels, new if need be.
    pub(crate) fn domain(&mut self, labels: &[(Symbol, Symbol)]) -> u32 {
        let Some(value) = label(labels, self.key) else {
            return NONE;
        };
        let next = self.nodes.len() as u32;
        let domain = *self.domains.entry(value).or_insert(next);
        if domain == next {
            self.nodes.push(0);
        }
        domain
    }

    pub(crate) fn enter(&mut self, domain: u32) {
        if domain != NONE {
            let nodes = &mut self.nodes[domain as usize];
            *nodes += 1;
            self.populated += usize::from(*nodes == 1);
            self.labelled += 1;
        }
    }

    pub(crate) fn leave(&mut self, domain: u32) {
        if domain != NONE {
            let nodes = &mut self.nodes[domain as usize];
            *nodes -= 1;
            self.populated -= usize::from(*nodes == 0);
            self.labelled -= 1;
        }
    }

    /// How many domains have nodes.
    pub(crate) fn populated(&self) -> usize {
        self.populated
    }

    /// How many nodes have the label.
    pub(crate) fn labelled(&self) -> usize {
        self.labelled
    }

    /// How many domains there ever were: their numbers are below.
    pub(crate) fn size(&self) -> usize {
        self.nodes.len()
    }

    /// Whether a domain has nodes.
    pub(crate) fn is_populated(&self, domain: u32) -> bool {
        self.nodes[domain as usize] > 0
    }
}
