//! One contract suite for the `Store` trait, run on every implementation and on etcd itself.
//!
//! A case is an async function over a store; `contract/` holds them by subject. To add an
//! implementation, add one line to [`backends!`] below. What a backend lacks is skipped with its
//! reason, which the test prints.

#[path = "contract/backend.rs"]
mod backend;
#[path = "contract/compaction.rs"]
mod compaction;
#[path = "support/etcd.rs"]
mod debian;
#[path = "contract/errors.rs"]
mod errors;
#[path = "contract/etcd.rs"]
mod etcd;
#[path = "contract/harness.rs"]
mod harness;
#[path = "contract/leases.rs"]
mod leases;
#[path = "contract/ranges.rs"]
mod ranges;
#[path = "contract/revisions.rs"]
mod revisions;
#[path = "contract/trireme.rs"]
mod trireme;
#[path = "contract/txns.rs"]
mod txns;
#[path = "contract/watches.rs"]
mod watches;

mod support;

/// Runs every group of cases on every backend: one test per pair, on a fresh store of its own.
macro_rules! backends {
    ($($backend:ident => $start:expr;)*) => { $(
        mod $backend {
            mod on {
                use crate::*;

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn revisions() {
                    harness::run(&$start, revisions::CASES).await;
                }

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn ranges() {
                    harness::run(&$start, ranges::CASES).await;
                }

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn txns() {
                    harness::run(&$start, txns::CASES).await;
                }

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn leases() {
                    harness::run(&$start, leases::CASES).await;
                }

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn watches() {
                    harness::run(&$start, watches::CASES).await;
                }

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn compaction() {
                    harness::run(&$start, compaction::CASES).await;
                }

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn errors() {
                    harness::run(&$start, errors::CASES).await;
                }
            }
        }
    )* };
}

backends! {
    // The reference: Debian's etcd behind `RemoteStore`.
    etcd34 => etcd::DebianEtcd;
    embedded_alone => trireme::Trireme::Alone;
    embedded_leader => trireme::Trireme::Leader;
    embedded_follower => trireme::Trireme::Follower;
    remote => trireme::Trireme::Remote;
}
