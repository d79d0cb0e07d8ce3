//! The tree against `BTreeMap`.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn check(tree: &Tree<u64>, model: &BTreeMap<Vec<u8>, u64>) {
    assert_eq!(tree.len(), model.len());
    assert_eq!(tree.is_empty(), model.is_empty());
    let entries: Vec<_> = tree.iter().map(|(k, v)| (k.to_vec(), *v)).collect();
    let expected: Vec<_> = model.iter().map(|(k, v)| (k.clone(), *v)).collect();
    assert_eq!(entries, expected);
    if let Some(root) = tree.root.as_deref() {
        check_node(root, &[], None);
    }
}

/// Depth, counts, widths and separators; returns the depth.
fn check_node(node: &Node<u64>, low: &[u8], high: Option<&[u8]>) -> usize {
    assert!(node.width() > 0 && node.width() <= node.max());
    match node {
        Node::Leaf(leaf) => {
            assert_eq!(leaf.keys.len(), leaf.values.len());
            for at in 0..leaf.keys.len() {
                let key = leaf.keys.get(at);
                assert!(key >= low && high.is_none_or(|high| key < high));
            }
            1
        }
        Node::Inner(inner) => {
            assert_eq!(inner.children.len(), inner.counts.len());
            assert_eq!(inner.children.len(), inner.separators.len() + 1);
            let depths: Vec<_> = (0..inner.children.len())
                .map(|at| {
                    assert_eq!(inner.children[at].count(), inner.counts[at]);
                    let low = if at == 0 {
                        low
                    } else {
                        inner.separators.get(at - 1)
                    };
                    let high = match at == inner.separators.len() {
                        true => high,
                        false => Some(inner.separators.get(at)),
                    };
                    check_node(&inner.children[at], low, high)
                })
                .collect();
            assert!(depths.windows(2).all(|pair| pair[0] == pair[1]));
            depths[0] + 1
        }
    }
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    // Few letters and lengths, so that keys collide, nest and contain zeros.
    prop::collection::vec(prop::sample::select(vec![0u8, 1, b'a', b'b', 255]), 0..6)
}

#[derive(Debug, Clone)]
enum Step {
    Insert(Vec<u8>, u64),
    Remove(Vec<u8>),
    Publish,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (key(), any::<u64>()).prop_map(|(k, v)| Step::Insert(k, v)),
        4 => key().prop_map(Step::Remove),
        1 => Just(Step::Publish),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_tree_is_an_ordered_map(
        steps in prop::collection::vec(step(), 0..1500),
        probes in prop::collection::vec((key(), key()), 20),
    ) {
        let mut tree = Tree::default();
        let mut model = BTreeMap::new();
        let mut published = Vec::new();
        for step in steps {
            match step {
                Step::Insert(k, v) => {
                    prop_assert_eq!(tree.insert(&k, v), model.insert(k, v));
                }
                Step::Remove(k) => prop_assert_eq!(tree.remove(&k), model.remove(&k)),
                Step::Publish => published.push((tree.clone(), model.clone())),
            }
        }
        published.push((Tree::from_sorted(model.iter().map(|(k, v)| (k, *v))), model.clone()));
        published.push((tree, model));
        for (tree, model) in &published {
            check(tree, model);
        }
        let (tree, model) = &published[published.len() - 1];
        for (start, end) in probes {
            prop_assert_eq!(tree.get(&start), model.get(&start));
            prop_assert_eq!(tree.rank(&start), model.range(..start.clone()).count());
            let from = model.range(start.clone()..);
            prop_assert_eq!(tree.count(&start, None), from.clone().count());
            let got: Vec<_> = tree.range(&start, Some(&end)).map(|(k, _)| k.to_vec()).collect();
            let expected: Vec<_> = from
                .take_while(|(k, _)| **k < end)
                .map(|(k, _)| k.clone())
                .collect();
            prop_assert_eq!(tree.count(&start, Some(&end)), expected.len());
            prop_assert_eq!(got, expected);
        }
    }
}

#[test]
fn large_trees_stay_in_shape_in_any_order() {
    let number = |n: u64| n.to_be_bytes();
    for order in ["up", "down", "mixed"] {
        let mut tree = Tree::default();
        let mut model = BTreeMap::new();
        for n in 0..20_000u64 {
            let n = match order {
                "up" => n,
                "down" => 20_000 - n,
                _ => n.wrapping_mul(0x9E37_79B9_7F4A_7C15),
            };
            tree.insert(&number(n), n);
            model.insert(number(n).to_vec(), n);
            if n % 1000 == 0 {
                // A reader that holds the tree makes the next change copy its path.
                let held = tree.clone();
                tree.insert(&number(n), n);
                drop(held);
            }
        }
        check(&tree, &model);
        let removed: Vec<_> = model.keys().step_by(3).cloned().collect();
        for key in removed {
            assert_eq!(tree.remove(&key), model.remove(&key));
        }
        check(&tree, &model);
        for key in model.keys().cloned().collect::<Vec<_>>() {
            assert!(tree.remove(&key).is_some());
        }
        assert!(tree.is_empty());
    }
}
