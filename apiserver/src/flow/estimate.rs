//! What a request costs, in seats: lists by the bytes that they read, writes by the watchers that
//! have to be told.

use std::time::Duration;

use super::queues::Work;
use crate::instance::Api;
use crate::metrics::request::is_mutating;
use crate::request::{Query, RequestInfo};
use crate::storage::collection;

/// Bytes that one seat pays for.
const BYTES_PER_SEAT: usize = 100_000;
/// Longer lists are streamed, and cost no more than this.
const STREAMED_BYTES: usize = 1_000_000;
/// The seats of a write, at most.
const WRITE_SEATS_MAX: u32 = 10;
/// Watchers that one seat pays for, and for how long.
const WATCHERS_PER_SEAT: usize = 10;
const EVENT_TIME: Duration = Duration::from_millis(5);

/// What a request costs on a level that grants at most so many seats to one request.
pub fn estimate(api: &Api, info: &RequestInfo, query: &Query, seats_max: u32) -> Work {
    if !info.is_resource {
        return Work::seats(1);
    }
    if is_mutating(info) {
        return write(api, info, seats_max);
    }
    let starts_fresh = match &*info.verb {
        "list" => true,
        "watch" => {
            query.flag("sendInitialEvents") || matches!(query.text("resourceVersion"), "" | "0")
        }
        _ => false,
    };
    if !starts_fresh || !info.name.is_empty() {
        return Work::seats(1);
    }
    let seats = bytes(api, info, query).div_ceil(BYTES_PER_SEAT);
    Work::seats(
        u32::try_from(seats)
            .unwrap_or(u32::MAX)
            .clamp(1, seats_max.max(1)),
    )
}

/// The bytes that a list reads, up to what one is charged for.
fn bytes(api: &Api, info: &RequestInfo, query: &Query) -> usize {
    let row = api.registry.get(&info.group, &info.version, &info.resource);
    let Some(stored) = row.and_then(|row| row.stored.as_ref()) else {
        return 0;
    };
    let limit = match query.number("limit") {
        Some(limit) if limit > 0 => usize::try_from(limit).unwrap_or(usize::MAX),
        _ => usize::MAX,
    };
    let tree = stored.collection.tree();
    let mut total = 0;
    for (_, object) in collection::within(&tree, &info.namespace).take(limit) {
        total += object.json.len();
        if total >= STREAMED_BYTES {
            return STREAMED_BYTES;
        }
    }
    total
}

fn write(api: &Api, info: &RequestInfo, seats_max: u32) -> Work {
    let row = api.registry.get(&info.group, &info.version, &info.resource);
    let stored = row.and_then(|row| row.stored.as_ref());
    let is_token = (&*info.resource, &*info.subresource) == ("serviceaccounts", "token");
    let watchers = stored.map_or(0, |stored| stored.collection.watchers());
    of_watchers(if is_token { 0 } else { watchers }, seats_max)
}

fn of_watchers(watchers: usize, seats_max: u32) -> Work {
    if watchers < WATCHERS_PER_SEAT {
        return Work::seats(1);
    }
    let wanted = u32::try_from(watchers.div_ceil(WATCHERS_PER_SEAT)).unwrap_or(u32::MAX);
    let seats = wanted.min(seats_max.clamp(1, WRITE_SEATS_MAX));
    Work {
        seats: 1,
        final_seats: seats,
        after: EVENT_TIME * wanted / seats,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watchers_cost_seats_for_a_while() {
        for (watchers, seats_max, seats, millis) in [
            (9, 10, 0, 0),
            (10, 10, 1, 5),
            (95, 10, 10, 5),
            (500, 10, 10, 25),
            (500, 100, 10, 25),
            (500, 5, 5, 50),
        ] {
            let work = of_watchers(watchers, seats_max);
            assert_eq!(work.final_seats, seats, "{watchers}");
            assert_eq!(work.after, Duration::from_millis(millis), "{watchers}");
        }
    }
}
