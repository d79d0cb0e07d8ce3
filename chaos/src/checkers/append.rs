//! Cycles between list-append transactions, in the manner of Elle, blind to revisions.
//!
//! Since every element is unique and lists only grow, reads reveal the order of writes. Edges:
//! a write before the next write of the same key, a write before the read that saw it, a read
//! before the write it did not see, and real time. A cycle is a violation of strict
//! serializability.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Report;
use super::set::is_final;
use crate::history::{Operation, Outcome};
use crate::ops::{Call, Micro, Reply, parse_list};

/// Keys of lists start with this.
pub const PREFIX: &str = "list/";

/// Checks the append transactions of a history.
pub fn check(operations: &[Operation]) -> Report {
    let mut report = Report::new("append");
    let transactions: Vec<&Operation> = operations
        .iter()
        .filter(|operation| matches!(operation.call, Call::Append { .. }))
        .collect();
    if !transactions
        .iter()
        .any(|transaction| transaction.outcome == Outcome::Ok)
    {
        report.unknown("no transaction succeeded");
        return report;
    }
    let writers = writers(&transactions, &mut report);
    let reads = reads(&transactions);
    let finals = finals(operations);
    let orders = orders(&transactions, &reads, &finals, &writers, &mut report);
    if finals.is_empty() {
        report.unknown("the lists were not read at the end");
    } else {
        lost(&transactions, &orders, &mut report);
    }
    let mut graph = Graph::new(&transactions);
    graph.add_data(&orders, &writers, &reads);
    graph.add_real_time(&transactions);
    for component in graph.cycles() {
        let members: Vec<&&Operation> = component
            .iter()
            .filter_map(|node| transactions.get(*node))
            .collect();
        let records: Vec<u64> = members.iter().map(|operation| operation.start).collect();
        let shown: Vec<_> = members
            .iter()
            .take(4)
            .map(|operation| (&operation.call, &operation.reply))
            .collect();
        let message = format!(
            "{} transactions precede each other: {shown:?}",
            members.len()
        );
        report.invalid("cycle", &records[..records.len().min(8)], message);
    }
    report.count(
        "transactions",
        i64::try_from(transactions.len()).unwrap_or(i64::MAX),
    );
    report
}

type Element<'a> = (&'a str, u64);

fn writers<'a>(transactions: &[&'a Operation], report: &mut Report) -> HashMap<Element<'a>, usize> {
    let mut writers = HashMap::new();
    for (id, transaction) in transactions.iter().enumerate() {
        let Call::Append { steps } = &transaction.call else {
            continue;
        };
        for step in steps {
            if let Micro::Append(key, element) = step
                && writers.insert((key.as_str(), *element), id).is_some()
            {
                report.unknown(format!("the workload appended {element} to {key} twice"));
            }
        }
    }
    writers
}

/// What one transaction saw of a key before its own appends.
struct Read<'a> {
    transaction: usize,
    key: &'a str,
    list: Vec<u64>,
}

fn reads<'a>(transactions: &[&'a Operation]) -> Vec<Read<'a>> {
    let mut reads = Vec::new();
    for (id, transaction) in transactions.iter().enumerate() {
        let (Call::Append { steps }, Some(Reply::Lists(lists))) =
            (&transaction.call, &transaction.reply)
        else {
            continue;
        };
        let mut own: HashMap<&str, usize> = HashMap::new();
        for (step, list) in steps.iter().zip(lists) {
            match (step, list) {
                (Micro::Append(key, _), _) => *own.entry(key).or_default() += 1,
                (Micro::Read(key), Some(list)) => {
                    let own = own.get(key.as_str()).copied().unwrap_or(0);
                    let list = list[..list.len().saturating_sub(own)].to_vec();
                    reads.push(Read {
                        transaction: id,
                        key,
                        list,
                    });
                }
                (Micro::Read(_), None) => {}
            }
        }
    }
    reads
}

fn finals(operations: &[Operation]) -> Vec<(String, Vec<u64>)> {
    operations
        .iter()
        .filter(|operation| is_final(&operation.process))
        .filter_map(|operation| match &operation.reply {
            Some(Reply::Items(items)) => Some(items),
            _ => None,
        })
        .flatten()
        .filter(|item| item.key.starts_with(PREFIX))
        .map(|item| (item.key.clone(), parse_list(&item.value)))
        .collect()
}

/// The order of each key's elements: the longest list anyone saw. All others must be prefixes.
fn orders(
    transactions: &[&Operation],
    reads: &[Read<'_>],
    finals: &[(String, Vec<u64>)],
    writers: &HashMap<Element<'_>, usize>,
    report: &mut Report,
) -> BTreeMap<String, Vec<u64>> {
    let seen = || {
        let reads = reads.iter().map(|read| (read.key, &read.list));
        reads.chain(finals.iter().map(|(key, list)| (key.as_str(), list)))
    };
    let mut orders: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (key, list) in seen() {
        let longest = orders.entry(key.to_owned()).or_default();
        if list.len() > longest.len() {
            longest.clone_from(list);
        }
    }
    for (key, list) in seen() {
        let longest = &orders[key];
        if longest.get(..list.len()) != Some(list) {
            let message = format!("{key} was seen as {list:?} and as {longest:?}");
            report.invalid("incompatible-order", &[], message);
        }
    }
    for (key, list) in &orders {
        let mut distinct = HashSet::new();
        for element in list {
            if !distinct.insert(element) {
                report.invalid(
                    "duplicate-element",
                    &[],
                    format!("{key} holds {element} twice"),
                );
            }
            match writers.get(&(key.as_str(), *element)) {
                None => {
                    let message = format!("{key} holds {element}, which nobody appended");
                    report.invalid("phantom-element", &[], message);
                }
                Some(writer) if transactions[*writer].outcome == Outcome::Fail => {
                    let message = format!("{key} holds {element}, whose append was refused");
                    report.invalid("aborted-read", &[transactions[*writer].start], message);
                }
                Some(_) => {}
            }
        }
    }
    orders
}

/// Acknowledged elements that the longest list lacks, although that list was read after.
fn lost(transactions: &[&Operation], orders: &BTreeMap<String, Vec<u64>>, report: &mut Report) {
    let orders: HashMap<&str, HashSet<u64>> = orders
        .iter()
        .map(|(key, list)| (key.as_str(), list.iter().copied().collect()))
        .collect();
    for transaction in transactions.iter().filter(|t| t.outcome == Outcome::Ok) {
        let Call::Append { steps } = &transaction.call else {
            continue;
        };
        for step in steps {
            let Micro::Append(key, element) = step else {
                continue;
            };
            if !orders
                .get(key.as_str())
                .is_some_and(|list| list.contains(element))
            {
                let message = format!("{element} was appended to {key} and is in no list");
                report.invalid(
                    "lost-append",
                    &[transaction.start, transaction.end],
                    message,
                );
            }
        }
    }
}

/// Transactions are nodes `0..n`; nodes above are instants of real time.
struct Graph {
    edges: Vec<Vec<usize>>,
    transactions: usize,
}

impl Graph {
    fn new(transactions: &[&Operation]) -> Graph {
        Graph {
            edges: vec![Vec::new(); transactions.len()],
            transactions: transactions.len(),
        }
    }

    fn add(&mut self, from: usize, to: usize) {
        if from != to {
            self.edges[from].push(to);
        }
    }

    fn add_data(
        &mut self,
        orders: &BTreeMap<String, Vec<u64>>,
        writers: &HashMap<Element<'_>, usize>,
        reads: &[Read<'_>],
    ) {
        let writer = |key: &str, element: Option<&u64>| {
            element.and_then(|element| writers.get(&(key, *element)).copied())
        };
        for (key, list) in orders {
            for pair in list.windows(2) {
                if let (Some(a), Some(b)) = (writer(key, pair.first()), writer(key, pair.get(1))) {
                    self.add(a, b);
                }
            }
        }
        for read in reads {
            if let Some(before) = writer(read.key, read.list.last()) {
                self.add(before, read.transaction);
            }
            let next = orders
                .get(read.key)
                .and_then(|order| order.get(read.list.len()));
            if let Some(after) = writer(read.key, next) {
                self.add(read.transaction, after);
            }
        }
    }

    /// A chain of instants, one per completion: a transaction leads to its instant, and the
    /// last instant before an invocation leads to that transaction.
    fn add_real_time(&mut self, transactions: &[&Operation]) {
        let mut points: Vec<(u64, bool, usize)> = Vec::new();
        for (id, transaction) in transactions.iter().enumerate() {
            if transaction.outcome != Outcome::Fail {
                points.push((transaction.start, false, id));
            }
            if transaction.outcome == Outcome::Ok {
                points.push((transaction.end, true, id));
            }
        }
        points.sort_unstable();
        let mut last: Option<usize> = None;
        for (_, completion, id) in points {
            if completion {
                let instant = self.edges.len();
                self.edges.push(Vec::new());
                self.edges[id].push(instant);
                if let Some(last) = last {
                    self.edges[last].push(instant);
                }
                last = Some(instant);
            } else if let Some(last) = last {
                self.edges[last].push(id);
            }
        }
    }

    /// Strongly connected components with more than one transaction (Tarjan, iterative).
    fn cycles(&self) -> Vec<Vec<usize>> {
        let size = self.edges.len();
        let mut order = vec![usize::MAX; size];
        let mut low = vec![0; size];
        let mut on_stack = vec![false; size];
        let mut stack = Vec::new();
        let mut found = Vec::new();
        let mut next = 0;
        for root in 0..size {
            if order[root] != usize::MAX {
                continue;
            }
            let mut work = vec![(root, 0)];
            while let Some((node, edge)) = work.pop() {
                if edge == 0 {
                    order[node] = next;
                    low[node] = next;
                    next += 1;
                    stack.push(node);
                    on_stack[node] = true;
                }
                if let Some(&to) = self.edges[node].get(edge) {
                    work.push((node, edge + 1));
                    if order[to] == usize::MAX {
                        work.push((to, 0));
                    } else if on_stack[to] {
                        low[node] = low[node].min(order[to]);
                    }
                    continue;
                }
                if low[node] == order[node] {
                    found.extend(self.component(node, &mut stack, &mut on_stack));
                }
                if let Some((parent, _)) = work.last() {
                    low[*parent] = low[*parent].min(low[node]);
                }
            }
        }
        found
    }

    fn component(
        &self,
        root: usize,
        stack: &mut Vec<usize>,
        on_stack: &mut [bool],
    ) -> Option<Vec<usize>> {
        let mut component = Vec::new();
        while let Some(node) = stack.pop() {
            on_stack[node] = false;
            if node < self.transactions {
                component.push(node);
            }
            if node == root {
                break;
            }
        }
        (component.len() > 1).then_some(component)
    }
}
