//! Sets of completion indexes, as status and specs spell them: `1,3-5,7`.

use std::fmt;

/// Indexes as ordered intervals that neither touch nor overlap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Indexes(Vec<(u32, u32)>);

impl Indexes {
    /// Those below a bound; what is no number is passed over.
    pub(crate) fn parse(text: &str, below: u32) -> Self {
        let mut found = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) else {
                tracing::warn!(part, "an interval of indexes that is none is passed over");
                continue;
            };
            if first >= below {
                break;
            }
            found.push((first, last.min(below - 1)));
        }
        found
    }

    /// Both together.
    pub(crate) fn with(&self, other: &Self) -> Self {
        let mut all: Vec<_> = self.0.iter().chain(&other.0).copied().collect();
        all.sort_unstable();
        let mut sum = Self::default();
        all.into_iter().for_each(|interval| sum.push(interval));
        sum
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an index is among them.
    pub(crate) fn has(&self, index: u32) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < index);
        self.0.get(at).is_some_and(|(first, _)| *first <= index)
    }

    /// How many are in both.
    pub(crate) fn common(&self, other: &Self) -> u32 {
        let (mut mine, mut theirs) = (self.0.iter().peekable(), other.0.iter().peekable());
        let mut count = 0;
        while let (Some(&&(a, b)), Some(&&(c, d))) = (mine.peek(), theirs.peek()) {
            count += (b.min(d) + 1).saturating_sub(a.max(c));
            match b < d {
                true => drop(mine.next()),
                false => drop(theirs.next()),
            }
        }
        count
    }

    /// The first ones below a bound that are missing, at most so many.
    pub(crate) fn missing(&self, below: u32, most: usize) -> Vec<u32> {
        let mut found = Vec::new();
        let mut next = 0;
        for (first, last) in self.0.iter().copied().chain([(below, below)]) {
            found.extend((next..first.min(below)).take(most - found.len()));
            next = next.max(last + 1);
        }
        found
    }

    /// Appends an interval that does not begin before the last one.
    fn push(&mut self, (first, last): (u32, u32)) {
        match self.0.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => self.0.push((first, last)),
        }
    }
}

impl FromIterator<u32> for Indexes {
    fn from_iter<I: IntoIterator<Item = u32>>(from: I) -> Self {
        let mut all: Vec<u32> = from.into_iter().collect();
        all.sort_unstable();
        let mut set = Self::default();
        all.into_iter().for_each(|index| set.push((index, index)));
        set
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            match last - first {
                0 => write!(out, "{comma}{first}")?,
                1 => write!(out, "{comma}{first},{last}")?,
                _ => write!(out, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for (text, below, count, written) in [
            ("", 5, 0, ""),
            ("0", 5, 1, "0"),
            ("0,1", 5, 2, "0,1"),
            ("0-2", 5, 3, "0-2"),
            ("0,1,2", 5, 3, "0-2"),
            ("0-3,5,6-8", 9, 8, "0-3,5-8"),
            ("0-3,5,7-9,13", 20, 9, "0-3,5,7-9,13"),
            ("0-10", 5, 5, "0-4"),
            ("0,4,7", 5, 2, "0,4"),
            ("0,-4,6,1-2-3,x", 9, 2, "0,6"),
        ] {
            let set = Indexes::parse(text, below);
            assert_eq!(
                (set.count(), set.to_string()),
                (count, written.to_string()),
                "{text}"
            );
        }
    }

    #[test]
    fn the_first_missing_indexes_are_the_next() {
        let set = Indexes::parse("1,3-5", 10);
        assert_eq!(set.missing(10, 3), [0, 2, 6]);
        assert_eq!(set.missing(10, 9), [0, 2, 6, 7, 8, 9]);
        assert_eq!(set.missing(4, 9), [0, 2]);
        assert_eq!(set.missing(10, 0), [0; 0]);
        assert_eq!(Indexes::default().missing(2, 5), [0, 1]);
    }

    proptest! {
        #[test]
        fn sets_are_sets(one in prop::collection::btree_set(0u32..60, 0..30),
                         two in prop::collection::btree_set(0u32..60, 0..30)) {
            let (a, b): (Indexes, Indexes) = (one.iter().copied().collect(), two.iter().copied().collect());
            let sum = a.with(&b);
            prop_assert_eq!(&sum, &one.union(&two).copied().collect::<Indexes>());
            prop_assert_eq!(a.common(&b) as usize, one.intersection(&two).count());
            prop_assert_eq!(&Indexes::parse(&sum.to_string(), 60), &sum);
            for index in 0..60 {
                prop_assert_eq!(a.has(index), one.contains(&index));
            }
            let missing: Vec<u32> = (0..60).filter(|index| !one.contains(index)).take(7).collect();
            prop_assert_eq!(a.missing(60, 7), missing);
        }
    }
}
