//! A thin client: one connection to one member, a deadline on every call, no hidden retry.
//!
//! What it reports is part of what is tested: a failure is called refused only when it is
//! proven that the call had no effect, else its outcome is unknown. A connection is used until
//! it breaks and never replaced in the middle of a call.

mod admin;
mod classify;
mod connect;
mod translate;

pub use connect::{Target, Tls};

use std::time::Duration;

use raft_store::pb::etcdserverpb as pb;
use raft_store::pb::etcdserverpb::kv_client::KvClient;
use raft_store::pb::etcdserverpb::lease_client::LeaseClient;
use raft_store::pb::etcdserverpb::maintenance_client::MaintenanceClient;
use raft_store::pb::etcdserverpb::watch_client::WatchClient;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::history::WatchSpec;
use crate::ops::{Call, Compare, Item, Micro, Reply, Step, format_list, parse_list};

/// Messages up to this size are accepted: a list of a whole test database.
const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It provably had no effect.
    Refused(String),
    /// It may have had an effect, or may still have one.
    Unknown(String),
}

/// An answer with the revision of its header.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// What was said.
    pub reply: Reply,
    /// At which revision.
    pub rev: Option<i64>,
}

/// What a member says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its id.
    pub id: u64,
    /// The leader it knows, 0 for none.
    pub leader: u64,
    /// Its revision.
    pub revision: i64,
    /// Its term.
    pub term: u64,
}

/// A client of one member.
pub struct Client {
    target: Target,
    deadline: Duration,
    channel: Option<Channel>,
}

impl Client {
    /// A client that connects when it is first used and gives every call `deadline`.
    pub fn new(target: Target, deadline: Duration) -> Client {
        Client {
            target,
            deadline,
            channel: None,
        }
    }

    /// The member's number.
    pub fn node(&self) -> u32 {
        self.target.node
    }

    /// Makes a call.
    ///
    /// # Errors
    ///
    /// A [`Failure`] that says whether the call can have had an effect.
    pub async fn call(&mut self, call: &Call) -> Result<Answer, Failure> {
        let channel = match timeout(self.deadline, self.connected()).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return Err(Failure::Refused(format!("connect: {error}"))),
            Err(_) => return Err(Failure::Refused("connect: deadline".into())),
        };
        match timeout(self.deadline, perform(channel, call)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(Failed::Guard)) => Err(Failure::Refused("guard".into())),
            Ok(Err(Failed::Status(status))) => {
                if classify::is_broken(&status) {
                    self.channel = None;
                }
                Err(classify::classify(call, &status))
            }
            Err(_) => {
                self.channel = None;
                let reason = "deadline of the client".to_owned();
                Err(if call.has_effect() {
                    Failure::Unknown(reason)
                } else {
                    Failure::Refused(reason)
                })
            }
        }
    }

    async fn connected(&mut self) -> Result<Channel, String> {
        if let Some(channel) = &self.channel {
            return Ok(channel.clone());
        }
        let channel = self.target.connect(self.deadline).await?;
        self.channel = Some(channel.clone());
        Ok(channel)
    }

    /// Asks the member about itself.
    ///
    /// # Errors
    ///
    /// In words, when it does not answer.
    pub async fn status(&mut self) -> Result<MemberStatus, String> {
        let ask = |channel| async move {
            let mut client = MaintenanceClient::new(channel);
            client.status(pb::StatusRequest {}).await
        };
        let status = self.administer(ask).await?;
        let header = status.header.unwrap_or_default();
        Ok(MemberStatus {
            id: header.member_id,
            leader: status.leader,
            revision: header.revision,
            term: status.raft_term,
        })
    }

    /// Opens a watch. The sender must be kept while the stream is wanted.
    ///
    /// # Errors
    ///
    /// In words, when there is no connection or the member refuses.
    pub async fn watch(
        &mut self,
        spec: &WatchSpec,
    ) -> Result<(mpsc::Sender<pb::WatchRequest>, Streaming<pb::WatchResponse>), String> {
        let deadline = self.deadline;
        let opened = timeout(deadline, async {
            let channel = self.connected().await?;
            let (sender, receiver) = mpsc::channel(4);
            let create = translate::watch_request(spec);
            sender
                .send(create)
                .await
                .map_err(|error| error.to_string())?;
            let mut client = WatchClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
            let opened = client.watch(ReceiverStream::new(receiver)).await;
            let stream = opened.map_err(|status| status.to_string())?.into_inner();
            Ok((sender, stream))
        });
        let opened = opened.await.unwrap_or_else(|_| Err("deadline".into()));
        if opened.is_err() {
            self.channel = None;
        }
        opened
    }
}

pub use translate::event as event_from_wire;

enum Failed {
    Status(Status),
    /// A list-append transaction found that its reads were overtaken; nothing was written.
    Guard,
}

impl From<Status> for Failed {
    fn from(status: Status) -> Failed {
        Failed::Status(status)
    }
}

fn revision(header: Option<pb::ResponseHeader>) -> Option<i64> {
    header.map(|header| header.revision)
}

async fn perform(channel: Channel, call: &Call) -> Result<Answer, Failed> {
    match call {
        Call::Grant { .. } | Call::KeepAlive { .. } | Call::Revoke { .. } => {
            lease(LeaseClient::new(channel), call).await
        }
        Call::Hash { revision: at } => {
            let request = pb::HashKvRequest { revision: *at };
            let hash = MaintenanceClient::new(channel)
                .hash_kv(request)
                .await?
                .into_inner();
            let reply = Reply::Hash {
                hash: hash.hash,
                compacted: hash.compact_revision,
            };
            Ok(Answer {
                reply,
                rev: revision(hash.header),
            })
        }
        Call::Append { steps } => append(&mut kv_client(channel), steps).await,
        _ => kv(&mut kv_client(channel), call).await,
    }
}

fn kv_client(channel: Channel) -> KvClient<Channel> {
    KvClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

async fn kv(client: &mut KvClient<Channel>, call: &Call) -> Result<Answer, Failed> {
    match call {
        Call::Put { key, value, lease } => {
            let request = translate::put(key, value, *lease);
            let answer = client.put(request).await?.into_inner();
            Ok(Answer {
                reply: Reply::Done,
                rev: revision(answer.header),
            })
        }
        Call::Delete { key } => {
            let answer = client
                .delete_range(translate::delete(key))
                .await?
                .into_inner();
            Ok(Answer {
                reply: Reply::Deleted(answer.deleted),
                rev: revision(answer.header),
            })
        }
        Call::Txn {
            compare,
            then,
            otherwise,
        } => {
            let request = translate::txn(compare, then, otherwise);
            let answer = client.txn(request).await?.into_inner();
            let steps = answer
                .responses
                .into_iter()
                .map(translate::step_reply)
                .collect();
            let reply = Reply::Txn {
                succeeded: answer.succeeded,
                steps,
            };
            Ok(Answer {
                reply,
                rev: revision(answer.header),
            })
        }
        Call::Compact { revision: at } => {
            let request = pb::CompactionRequest {
                revision: *at,
                physical: false,
            };
            let answer = client.compact(request).await?.into_inner();
            Ok(Answer {
                reply: Reply::Done,
                rev: revision(answer.header),
            })
        }
        _ => {
            let answer = client.range(translate::range(call)).await?.into_inner();
            let items = answer.kvs.into_iter().map(translate::item).collect();
            Ok(Answer {
                reply: Reply::Items(items),
                rev: revision(answer.header),
            })
        }
    }
}

async fn lease(mut client: LeaseClient<Channel>, call: &Call) -> Result<Answer, Failed> {
    let (ttl, header) = match call {
        Call::Grant { lease, ttl } => {
            let request = pb::LeaseGrantRequest {
                ttl: *ttl,
                id: *lease,
            };
            let answer = client.lease_grant(request).await?.into_inner();
            (answer.ttl, answer.header)
        }
        Call::KeepAlive { lease } => {
            let request = pb::LeaseKeepAliveRequest { id: *lease };
            let mut answers = client
                .lease_keep_alive(tokio_stream::once(request))
                .await?
                .into_inner();
            let answer = answers.message().await?;
            let answer =
                answer.ok_or_else(|| Status::unknown("the stream ended without answer"))?;
            (answer.ttl, answer.header)
        }
        Call::Revoke { lease } => {
            let request = pb::LeaseRevokeRequest { id: *lease };
            let answer = client.lease_revoke(request).await?.into_inner();
            return Ok(Answer {
                reply: Reply::Done,
                rev: revision(answer.header),
            });
        }
        _ => return Err(Status::internal("not a lease call").into()),
    };
    Ok(Answer {
        reply: Reply::Ttl(ttl),
        rev: revision(header),
    })
}

/// Reads all lists at one revision, then writes the longer ones if none of them changed since.
async fn append(client: &mut KvClient<Channel>, steps: &[Micro]) -> Result<Answer, Failed> {
    let mut keys: Vec<&String> = steps
        .iter()
        .map(|step| match step {
            Micro::Append(key, _) | Micro::Read(key) => key,
        })
        .collect();
    keys.sort();
    keys.dedup();
    let gets: Vec<Step> = keys.iter().map(|key| Step::Get((*key).clone())).collect();
    // A failure to read is a failure without effect, whatever it was.
    let read = client
        .txn(translate::txn(&[], &gets, &[]))
        .await
        .map_err(classify::without_effect)?;
    let read = read.into_inner();
    let found: Vec<Option<Item>> = read
        .responses
        .into_iter()
        .map(translate::item_of_step)
        .collect();
    let mut lists: Vec<Vec<u64>> = found
        .iter()
        .map(|item| {
            item.as_ref()
                .map_or_else(Vec::new, |item| parse_list(&item.value))
        })
        .collect();
    let mut written = vec![false; keys.len()];
    let mut reads = Vec::with_capacity(steps.len());
    for step in steps {
        let (Micro::Append(key, _) | Micro::Read(key)) = step;
        let place = keys
            .iter()
            .position(|known| *known == key)
            .unwrap_or_default();
        if let Micro::Append(_, element) = step {
            lists[place].push(*element);
            written[place] = true;
            reads.push(None);
        } else {
            reads.push(Some(lists[place].clone()));
        }
    }
    let reply = Reply::Lists(reads);
    if !written.contains(&true) {
        return Ok(Answer {
            reply,
            rev: revision(read.header),
        });
    }
    let guard: Vec<Compare> = keys
        .iter()
        .zip(&found)
        .map(|(key, item)| {
            Compare::Modified(
                (*key).clone(),
                item.as_ref().map_or(0, |item| item.modified),
            )
        })
        .collect();
    let mut puts = Vec::new();
    // In the order of first appends, which is the order the model gives the events.
    for step in steps {
        let Micro::Append(key, _) = step else {
            continue;
        };
        let place = keys
            .iter()
            .position(|known| *known == key)
            .unwrap_or_default();
        if std::mem::take(&mut written[place]) {
            puts.push(Step::Put(key.clone(), format_list(&lists[place])));
        }
    }
    let wrote = client
        .txn(translate::txn(&guard, &puts, &[]))
        .await?
        .into_inner();
    if !wrote.succeeded {
        return Err(Failed::Guard);
    }
    Ok(Answer {
        reply,
        rev: revision(wrote.header),
    })
}
