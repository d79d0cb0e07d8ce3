//! NodeResourcesBalancedAllocation: nodes whose resources would be used more evenly.

use crate::framework::MAX_SCORE;
use crate::snapshot::NodeInfo;
use crate::views::Pod;

use super::Rated;
use super::node_resources_fit::Rating;

pub(crate) fn score(rated: &Rated<'_>) -> Option<Vec<i64>> {
    let amount = |pod: &Pod, name: &str| pod.requests.get(name);
    let resources = &rated.state.profile.balanced;
    let ratings: Vec<_> = resources
        .iter()
        .filter_map(|name| Rating::new(name, 1, rated, amount))
        .collect();
    // Pods that ask for nothing would all go to the one node that looks most even.
    if ratings.iter().all(|rating| rating.wanted() == 0) {
        return None;
    }
    Some(
        rated
            .nodes
            .iter()
            .map(|node| rate(node, &ratings))
            .collect(),
    )
}

/// How much more even the node would be: 50 to 100, about 75 for no change.
fn rate(node: &NodeInfo, ratings: &[Rating]) -> i64 {
    let with = evenness(ratings.iter().map(|rating| rating.of(node, false)));
    let without = evenness(ratings.iter().map(|rating| {
        let (has, taken) = rating.of(node, false);
        (has, taken - rating.wanted())
    }));
    MAX_SCORE / 2 + (MAX_SCORE / 2 + with - without) / 2
}

/// 100 less the standard deviation of the shares in use.
fn evenness(amounts: impl Iterator<Item = (i64, i64)> + Clone) -> i64 {
    let shares = amounts
        .filter(|(has, _)| *has != 0)
        .map(|(has, taken)| (taken as f64 / has as f64).min(1.0));
    let (mut count, mut sum) = (0, 0.0);
    let mut first_two = [0.0; 2];
    for share in shares.clone() {
        if count < 2 {
            first_two[count] = share;
        }
        count += 1;
        sum += share;
    }
    let deviation = match count {
        0 | 1 => 0.0,
        2 => ((first_two[0] - first_two[1]) / 2.0).abs(),
        _ => {
            let mean = sum / count as f64;
            let squares: f64 = shares.map(|share| (share - mean) * (share - mean)).sum();
            (squares / count as f64).sqrt()
        }
    };
    ((1.0 - deviation) * MAX_SCORE as f64) as i64
}
