//! Stories of requests that compete for seats.

use std::collections::BTreeMap;

use super::*;

const ONE_QUEUE_EACH: Kind = Kind::Queue {
    queues: 64,
    hand: 1,
    length: 1000,
};

fn runs((offered, others): (Offered, Vec<(u64, Slot)>)) -> Slot {
    assert!(others.is_empty());
    match offered {
        Offered::Runs(slot) => slot,
        other => panic!("{other:?}"),
    }
}

#[test]
fn hands_are_upstreams() {
    assert_eq!(deal(0, 4, 3), [0, 1, 2]);
    assert_eq!(deal(5, 4, 2), [1, 2]);
    assert_eq!(deal(4 * 3 + 3, 4, 3), [3, 0, 2]);
    for hash in 0..1000u64 {
        let mut hand = deal(hash.wrapping_mul(0x9e37_79b9_7f4a_7c15), 64, 8);
        hand.sort_unstable();
        hand.dedup();
        assert!(hand.len() == 8 && hand[7] < 64);
    }
}

#[test]
fn without_queues_whoever_finds_no_seat_is_refused() {
    let mut set = QueueSet::new(Kind::Reject, 2, 0.0);
    let first = runs(set.offer(1, Work::seats(1), 0.0));
    let _second = runs(set.offer(1, Work::seats(1), 0.0));
    let refused = Offered::Refused(Refusal::ConcurrencyLimit);
    assert_eq!(set.offer(1, Work::seats(1), 0.0).0, refused);
    set.finish(&first, 1.0);
    assert!(set.release(&first, 1.0).is_empty());
    runs(set.offer(1, Work::seats(1), 1.0));
    let mut exempt = QueueSet::new(Kind::Exempt, 0, 0.0);
    for _ in 0..100 {
        runs(exempt.offer(1, Work::seats(10), 0.0));
    }
}

#[test]
fn a_full_queue_refuses_and_a_withdrawn_request_makes_room() {
    let kind = Kind::Queue {
        queues: 1,
        hand: 1,
        length: 1,
    };
    let mut set = QueueSet::new(kind, 1, 0.0);
    let running = runs(set.offer(1, Work::seats(1), 0.0));
    assert_eq!(set.offer(1, Work::seats(1), 0.0).0, Offered::Waits(2));
    let refused = Offered::Refused(Refusal::QueueFull);
    assert_eq!(set.offer(1, Work::seats(1), 0.0).0, refused);
    assert!(set.withdraw(2, 0.5) && !set.withdraw(2, 0.5));
    assert_eq!(set.offer(1, Work::seats(1), 0.5).0, Offered::Waits(3));
    set.finish(&running, 1.0);
    let next = set.release(&running, 1.0);
    assert_eq!(next.len(), 1);
    assert_eq!(next[0].0, 3);
    assert!(!set.withdraw(3, 1.0));
}

/// Flows that always want more, `clients` requests at once each, whose requests take some time and
/// seats. Yields the seat-seconds that each got in `seconds`.
fn compete(limit: u32, flows: &[(u64, usize, f64, u32)], seconds: f64) -> BTreeMap<u64, f64> {
    let mut set = QueueSet::new(ONE_QUEUE_EACH, limit, 0.0);
    let mut got = BTreeMap::new();
    let mut owner: BTreeMap<u64, usize> = BTreeMap::new();
    let mut running: Vec<(f64, usize, Slot)> = Vec::new();
    let mut wanting: Vec<usize> = Vec::new();
    for (at, flow) in flows.iter().enumerate() {
        wanting.extend(std::iter::repeat_n(at, flow.1));
    }
    let mut now = 0.0;
    while now < seconds {
        for at in wanting.drain(..) {
            let (flow, _, time, seats) = flows[at];
            let (offered, others) = set.offer(flow, Work::seats(seats), now);
            for (number, slot) in others {
                let at = owner.remove(&number).unwrap();
                running.push((now + flows[at].2, at, slot));
            }
            match offered {
                Offered::Runs(slot) => running.push((now + time, at, slot)),
                Offered::Waits(number) => {
                    owner.insert(number, at);
                }
                Offered::Refused(why) => panic!("{why:?}"),
            }
        }
        running.sort_by(|one, other| other.0.total_cmp(&one.0));
        let (end, at, slot) = running.pop().unwrap();
        now = end;
        let (flow, _, time, seats) = flows[at];
        *got.entry(flow).or_insert(0.0) += time * f64::from(seats);
        set.finish(&slot, now);
        for (number, slot) in set.release(&slot, now) {
            let at = owner.remove(&number).unwrap();
            running.push((now + flows[at].2, at, slot));
        }
        assert!(set.seats_in_use <= limit);
        wanting.push(at);
    }
    got
}

fn assert_shares(got: &BTreeMap<u64, f64>, want: &[(u64, f64)]) {
    let total: f64 = got.values().sum();
    for (flow, share) in want {
        let found = got[flow] / total;
        assert!((found - share).abs() < 0.05, "{flow}: {found} of {got:?}");
    }
}

#[test]
fn greed_does_not_pay() {
    let got = compete(4, &[(1, 50, 0.01, 1), (2, 10, 0.01, 1)], 50.0);
    assert_shares(&got, &[(1, 0.5), (2, 0.5)]);
}

#[test]
fn long_requests_get_no_more_than_short_ones() {
    let got = compete(4, &[(1, 20, 0.1, 1), (2, 20, 0.01, 1)], 100.0);
    assert_shares(&got, &[(1, 0.5), (2, 0.5)]);
}

#[test]
fn wide_requests_get_no_more_than_narrow_ones() {
    let got = compete(8, &[(1, 20, 0.01, 4), (2, 20, 0.01, 1)], 100.0);
    assert_shares(&got, &[(1, 0.5), (2, 0.5)]);
}

#[test]
fn who_wants_little_gets_it_and_others_share_the_rest() {
    let got = compete(
        4,
        &[(1, 1, 0.01, 1), (2, 30, 0.01, 1), (3, 30, 0.01, 1)],
        50.0,
    );
    // One request at a time, which waits for a seat each time.
    assert_shares(&got, &[(1, 0.125), (2, 0.4375), (3, 0.4375)]);
}

#[test]
fn seats_stay_taken_while_watchers_are_told() {
    let mut set = QueueSet::new(ONE_QUEUE_EACH, 4, 0.0);
    let work = Work {
        seats: 1,
        final_seats: 8,
        after: Duration::from_millis(5),
    };
    let slot = runs(set.offer(1, work, 0.0));
    // As much work as before, in the seats that there are.
    assert_eq!((slot.seats(), slot.after()), (4, Duration::from_millis(10)));
    assert_eq!(set.offer(2, Work::seats(1), 0.0).0, Offered::Waits(2));
    set.finish(&slot, 0.01);
    assert!(!set.is_idle());
    let next = set.release(&slot, 0.02);
    assert_eq!(next[0].0, 2);
}

#[test]
fn more_seats_let_more_run_and_queues_go_when_they_are_empty() {
    let mut set = QueueSet::new(ONE_QUEUE_EACH, 1, 0.0);
    let first = runs(set.offer(63, Work::seats(1), 0.0));
    for _ in 0..3 {
        assert!(matches!(
            set.offer(63, Work::seats(1), 0.0).0,
            Offered::Waits(_)
        ));
    }
    let fewer = Kind::Queue {
        queues: 8,
        hand: 2,
        length: 10,
    };
    let next = set.configure(fewer, 3, 1.0);
    assert_eq!(next.iter().map(|one| one.0).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(set.queues.len(), 64);
    let mut slots = vec![first];
    slots.extend(next.into_iter().map(|one| one.1));
    while let Some(slot) = slots.pop() {
        set.finish(&slot, 2.0);
        slots.extend(set.release(&slot, 2.0).into_iter().map(|one| one.1));
    }
    assert!(set.is_idle());
    assert_eq!(set.queues.len(), 8);
}

#[test]
fn demand_is_what_runs_and_what_waits() {
    let mut set = QueueSet::new(ONE_QUEUE_EACH, 1, 0.0);
    let slot = runs(set.offer(1, Work::seats(1), 0.0));
    set.offer(1, Work::seats(1), 5.0);
    let demand = set.take_demand(10.0).unwrap();
    assert_eq!(
        (demand.max, demand.average, demand.deviation),
        (2.0, 1.5, 0.5)
    );
    set.finish(&slot, 10.0);
    set.release(&slot, 10.0);
    assert_eq!(set.take_demand(20.0).unwrap().average, 1.0);
}
