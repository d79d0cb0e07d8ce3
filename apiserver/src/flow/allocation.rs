//! How the server's seats are divided among priority levels: each has a nominal share, of which it
//! lends a part while it does not need it, and may borrow what others lend.

/// A level's wish: as close to its target as its bounds allow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wish {
    /// At least this.
    pub low: f64,
    /// At most this.
    pub high: f64,
    /// In proportion to this; not below `low`.
    pub target: f64,
}

/// Targets below this count as this.
const TARGET_MIN: f64 = 0.001;
/// Halvings of the interval in which the proportion is sought; far more than a seat needs.
const STEPS: u32 = 100;

/// Divides a sum: all get the same proportion of their targets, except where a bound stands against
/// it. None if the bounds do not allow the sum.
pub fn divide(sum: f64, wishes: &[Wish]) -> Option<Vec<f64>> {
    let given = |proportion: f64| -> Vec<f64> {
        let give = |wish: &Wish| {
            let wanted = proportion * wish.target.max(TARGET_MIN);
            wanted.clamp(wish.low, wish.high.max(wish.low))
        };
        wishes.iter().map(give).collect()
    };
    let total = |proportion: f64| given(proportion).iter().sum::<f64>();
    let (mut low, mut high) = (0.0, 1.0);
    while total(high) < sum {
        high *= 2.0;
        if high > 1e12 {
            return None;
        }
    }
    if total(low) > sum + 1e-7 {
        return None;
    }
    // The total only grows with the proportion.
    for _ in 0..STEPS {
        let middle = (low + high) / 2.0;
        if total(middle) < sum {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some(given(high))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sum: f64, wishes: &[(f64, f64, f64)], want: Option<&[f64]>) {
        let wishes: Vec<Wish> = wishes
            .iter()
            .map(|&(low, high, target)| Wish { low, high, target })
            .collect();
        let found = divide(sum, &wishes);
        match (&found, want) {
            (None, None) => {}
            (Some(found), Some(want)) => {
                for (one, other) in found.iter().zip(want) {
                    assert!((one - other).abs() < 1e-3, "{found:?} {want:?}");
                }
            }
            _ => panic!("{found:?} {want:?}"),
        }
    }

    #[test]
    fn everybody_gets_the_same_proportion_within_bounds() {
        check(
            30.0,
            &[(0.0, 90.0, 10.0), (0.0, 90.0, 20.0)],
            Some(&[10.0, 20.0]),
        );
        check(
            15.0,
            &[(0.0, 90.0, 10.0), (0.0, 90.0, 20.0)],
            Some(&[5.0, 10.0]),
        );
        check(
            30.0,
            &[(15.0, 90.0, 15.0), (0.0, 90.0, 45.0)],
            Some(&[15.0, 15.0]),
        );
        check(
            90.0,
            &[(0.0, 20.0, 10.0), (0.0, 90.0, 20.0)],
            Some(&[20.0, 70.0]),
        );
        check(10.0, &[(5.0, 5.0, 5.0), (5.0, 9.0, 7.0)], Some(&[5.0, 5.0]));
    }

    #[test]
    fn idle_levels_share_what_nobody_wants() {
        check(
            20.0,
            &[(0.0, 20.0, 0.0), (0.0, 20.0, 0.0)],
            Some(&[10.0, 10.0]),
        );
    }

    #[test]
    fn what_bounds_forbid_is_not_given() {
        check(9.0, &[(5.0, 9.0, 5.0), (5.0, 9.0, 5.0)], None);
        check(20.0, &[(5.0, 9.0, 5.0), (5.0, 9.0, 5.0)], None);
    }
}
