//! What must hold after every step, whatever happens: Raft's promises, seen from all members.

use std::collections::{BTreeMap, BTreeSet};

use chaos::checkers::certificate::EventLog;
use chaos::client::event_from_wire;
use chaos::history::Event;
use raft_store::LogPosition;
use raft_store::member::{Member, Standing};
use raft_store::watch::History;

use crate::cluster::Slots;
use crate::trace::Granted;

/// Revisions read from a member at a time.
const READ_BYTES: usize = 1 << 20;

/// Everything ever seen of all members.
#[derive(Default)]
pub struct Invariants {
    pub problems: Vec<String>,
    /// Who led in which term.
    leaders: BTreeMap<u64, u64>,
    /// The term of each entry that anybody knew to be committed.
    committed: BTreeMap<u64, u64>,
    /// The hash at each revision.
    hashes: BTreeMap<i64, u64>,
    /// The history: what members applied.
    events: BTreeMap<i64, Vec<Event>>,
    revision: i64,
    lives: BTreeMap<usize, Life>,
    /// For a member's ID: the highest term in which it led. Its vote for itself was durable.
    led: BTreeMap<u64, u64>,
    /// Whom a member gave its vote, by member and term.
    votes: BTreeMap<(u64, u64), u64>,
    /// Where the log of a member ended when its process did.
    ended: BTreeMap<u64, u64>,
    /// Terms that had a leader.
    pub leaders_seen: u64,
    /// Lives that began with a shorter log than the one before: what was not synced was lost.
    pub shortened_logs: u64,
    /// Histories that members could not be compared by, because a snapshot or a compaction took
    /// them away before they were looked at.
    pub jumps: u64,
}

/// What a member was seen at since its process began.
struct Life {
    id: u64,
    standing: Standing,
    revision: i64,
    /// Revisions compared up to here.
    compared: i64,
}

impl Invariants {
    /// Looks at all members that run.
    pub fn observe(&mut self, slots: &Slots) {
        let running: BTreeSet<usize> = slots.running().map(|(at, _)| at).collect();
        self.lives.retain(|at, _| running.contains(at));
        for (at, member) in slots.running() {
            self.look_at(at, member);
        }
    }

    /// A host's process ended.
    pub fn ended(&mut self, at: usize) {
        if let Some(life) = self.lives.remove(&at)
            && let Some(last) = life.standing.last_log
        {
            self.ended.insert(life.id, last);
        }
    }

    /// Votes that were given since the last step.
    pub fn votes(&mut self, granted: &[Granted]) {
        for vote in granted {
            let before = *self
                .votes
                .entry((vote.voter, vote.term))
                .or_insert(vote.candidate);
            if before != vote.candidate {
                self.problem(format!(
                    "vote: member {:x} voted for {before:x} and for {:x} in term {}",
                    vote.voter, vote.candidate, vote.term
                ));
            }
        }
    }

    fn problem(&mut self, problem: String) {
        if self.problems.len() < 20 {
            self.problems.push(format!("invariant {problem}"));
        }
    }

    fn look_at(&mut self, at: usize, member: &Member) {
        let standing = member.standing();
        let (id, revision) = (member.id(), member.mvcc().revision());
        if let Some(failure) = &standing.failure
            && self
                .lives
                .get(&at)
                .is_none_or(|life| life.standing.failure.is_none())
        {
            self.problem(format!("stopped: m{at} stopped by itself: {failure}"));
        }
        let before = self.lives.remove(&at).filter(|before| before.id == id);
        // A member that begins is compared from its oldest revision on.
        let compared = before
            .as_ref()
            .map_or(member.mvcc().compact_revision().max(1), |life| {
                life.compared
            });
        match before {
            None => self.begun(at, id, &standing),
            Some(before) => self.same_life(at, &before, &standing, revision),
        }
        if standing.leads {
            self.leads(at, id, &standing);
        }
        let applied = member.mvcc().applied();
        for position in [standing.committed, applied].into_iter().flatten() {
            self.commit(at, position);
        }
        if let (Some(applied), Some(committed)) = (standing.applied, standing.committed)
            && applied.index > committed.index
        {
            self.problem(format!(
                "applied: m{at} applied {applied} beyond its commit {committed}"
            ));
        }
        let compared = self.compare(at, member, revision, compared);
        let life = Life {
            id,
            standing,
            revision,
            compared,
        };
        self.lives.insert(at, life);
    }

    fn begun(&mut self, at: usize, id: u64, standing: &Standing) {
        if let Some(before) = self.ended.remove(&id)
            && standing.last_log.is_none_or(|last| last < before)
        {
            self.shortened_logs += 1;
        }
        let led = self.led.get(&id).copied().unwrap_or(0);
        if standing.term < led {
            self.problem(format!(
                "vote-lost: m{at} began in term {} although it had led in term {led}",
                standing.term
            ));
        }
    }

    fn same_life(&mut self, at: usize, before: &Life, now: &Standing, revision: i64) {
        let was = &before.standing;
        if now.term < was.term {
            self.problem(format!(
                "term: m{at} fell from term {} to {}",
                was.term, now.term
            ));
        }
        if now.term == was.term && now.voted_for != was.voted_for && was.leads {
            self.problem(format!(
                "vote: m{at} led and follows another in term {}",
                now.term
            ));
        }
        if now.committed < was.committed {
            self.problem(format!(
                "commit: m{at} fell from {:?} to {:?}",
                was.committed, now.committed
            ));
        }
        if revision < before.revision {
            self.problem(format!(
                "revision: m{at} fell from {} to {revision}",
                before.revision
            ));
        }
    }

    fn leads(&mut self, at: usize, id: u64, standing: &Standing) {
        let known = self.leaders.contains_key(&standing.term);
        let leader = *self.leaders.entry(standing.term).or_insert(id);
        let led = self.led.entry(id).or_default();
        *led = (*led).max(standing.term);
        if leader != id {
            self.problem(format!(
                "two-leaders: {leader:x} and {id:x} (m{at}) both led term {}",
                standing.term
            ));
        }
        if known {
            return;
        }
        self.leaders_seen += 1;
        // What was committed in earlier terms is in the log of every later leader.
        let newest = self
            .committed
            .iter()
            .next_back()
            .map(|(index, term)| (*index, *term));
        if let Some((index, term)) = newest
            && term < standing.term
            && standing.last_log.is_none_or(|last| last < index)
        {
            self.problem(format!(
                "leader-completeness: m{at} leads term {} with a log up to {:?}, but {term}.{index} was committed",
                standing.term, standing.last_log
            ));
        }
    }

    fn commit(&mut self, at: usize, position: LogPosition) {
        let term = *self
            .committed
            .entry(position.index)
            .or_insert(position.term);
        if term != position.term {
            self.problem(format!(
                "log-matching: m{at} committed {position}, but entry {} was committed in term {term}",
                position.index
            ));
        }
    }

    /// Compares the history that a member applied since the last look with what others applied.
    fn compare(&mut self, at: usize, member: &Member, revision: i64, mut compared: i64) -> i64 {
        let mvcc = member.mvcc();
        if let Ok(hash) = mvcc.hash(0) {
            let known = *self.hashes.entry(hash.revision).or_insert(hash.hash);
            if known != hash.hash {
                self.problem(format!(
                    "hash: m{at} differs from others at revision {}",
                    hash.revision
                ));
            }
        }
        while compared < revision {
            let from = (compared + 1).max(mvcc.compact_revision());
            if from > compared + 1 {
                self.jumps += 1;
            }
            let Ok(revisions) = mvcc.revisions(from, READ_BYTES) else {
                self.problem(format!(
                    "history: m{at} cannot tell its history from {from} on"
                ));
                return revision;
            };
            let Some(last) = revisions.last().map(|last| last.revision) else {
                break;
            };
            for told in &revisions {
                let changes = told.changes.iter();
                let events = changes
                    .map(|change| event_from_wire(change.event.clone()))
                    .collect();
                self.told(at, told.revision, events);
            }
            compared = last;
        }
        revision
    }

    fn told(&mut self, at: usize, revision: i64, events: Vec<Event>) {
        self.revision = self.revision.max(revision);
        match self.events.get(&revision) {
            None => {
                self.events.insert(revision, events);
            }
            Some(known) if *known == events => {}
            Some(known) => {
                let problem = format!(
                    "history: at revision {revision} m{at} has {events:?}, another had {known:?}"
                );
                self.problem(problem);
            }
        }
    }

    /// The history that all members agreed on.
    pub fn log(&self) -> EventLog {
        EventLog::new(self.revision, self.events.values().flatten().cloned())
    }
}
