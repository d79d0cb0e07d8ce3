//! Applies log entries.
//!
//! Every member applies the same entries and must reach the same state: nothing here looks at a
//! clock, at randomness, at the order of a hash map or at how far this member collected history.

use bytes::Bytes;

use super::check;
use super::decoded::{Decoded, Step};
use super::keys::{LeaseRecord, VersionRecord};
use super::leases::{LeaseEvent, MAX_LEASE_TTL};
use super::range::{header, range};
use super::span::Span;
use super::state::{Failure, Row, Source};
use super::txn::{self, Path, answer};
use super::write::Writer;
use super::{Outcome, Response};
use crate::engine::EngineError;
use crate::engine::Space;
use crate::error::Error;
use crate::pb::etcdserverpb::alarm_request::AlarmAction;
use crate::pb::etcdserverpb::request_op::Request;
use crate::pb::etcdserverpb::response_op::Response as OpResponse;
use crate::pb::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, CompactionRequest, CompactionResponse,
    DeleteRangeRequest, DeleteRangeResponse, LeaseGrantResponse, LeaseRevokeResponse, PutRequest,
    PutResponse, RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
};
use crate::pb::log::LeaseGrant;
use crate::pb::log::command::Op;
use crate::pb::log::lease_checkpoint::Remaining;
use crate::pb::mvccpb::KeyValue;
use crate::position::LogPosition;

impl Writer {
    /// Applies entries in order and commits them to the engine as one batch. An error leaves the
    /// writer unusable.
    pub(super) fn apply(&mut self, entries: Decoded) -> Result<Vec<Outcome>, EngineError> {
        let entries = entries.entries;
        let mut outcomes = Vec::with_capacity(entries.len());
        for (position, step) in entries {
            self.follow(position)?;
            outcomes.push(match step {
                Step::Blank => Ok(Response::None),
                Step::Membership(membership) => {
                    self.set_membership(position, membership);
                    Ok(Response::None)
                }
                Step::Command(op) => self.command(position, op)?,
            });
            self.record.applied = Some(position);
        }
        self.commit()?;
        Ok(outcomes)
    }

    fn follow(&self, position: LogPosition) -> Result<(), EngineError> {
        match self.record.applied {
            Some(applied) if position.index != applied.index + 1 => Err(EngineError::OutOfOrder {
                applied,
                found: position,
            }),
            _ => Ok(()),
        }
    }

    fn command(
        &mut self,
        position: LogPosition,
        op: Result<Op, String>,
    ) -> Result<Outcome, EngineError> {
        let unknown = |detail: String| EngineError::UnknownCommand { position, detail };
        let result = self.execute(op.map_err(unknown)?, position);
        let changes = self.open_changes();
        self.finish_revision();
        match result {
            Ok(response) => Ok(Ok(response)),
            Err(Failure::Refused(error)) if changes == 0 => Ok(Err(error)),
            Err(Failure::Refused(error)) => Err(unknown(format!("it failed half way: {error}"))),
            Err(Failure::Engine(error)) => Err(error),
            Err(Failure::Gone) => Err(EngineError::corrupt(Space::Kv, "a version is missing")),
        }
    }

    fn execute(&mut self, op: Op, position: LogPosition) -> Result<Response, Failure> {
        self.check_alarms(&op)?;
        Ok(match op {
            Op::Put(request) => {
                txn::check_put(self, &request)?;
                Response::Put(self.put_request(request)?)
            }
            Op::DeleteRange(request) => Response::DeleteRange(self.delete_range(request)?),
            Op::Txn(request) => Response::Txn(self.txn(request)?),
            Op::Compact(request) => Response::Compact(self.compact(request)?),
            Op::LeaseGrant(request) => Response::LeaseGrant(self.grant(request)?),
            Op::LeaseRevoke(request) => Response::LeaseRevoke(self.revoke(request.ids)?),
            Op::LeaseCheckpoint(request) => self.checkpoint_leases(request.leases),
            Op::Alarm(request) => Response::Alarm(self.alarm(&request)),
            Op::AllocateMemberId(_) => {
                Response::MemberId(member_id(self.record.seed, position.index))
            }
        })
    }

    /// A corrupt cluster changes nothing more; a full one grows no more.
    fn check_alarms(&self, op: &Op) -> Result<(), Error> {
        if self.alarms.is_empty() {
            return Ok(());
        }
        let raised = |kind: AlarmType| self.alarms.iter().any(|(alarm, _)| *alarm == kind as i32);
        let exempt = matches!(
            op,
            Op::Alarm(_) | Op::LeaseCheckpoint(_) | Op::AllocateMemberId(_)
        );
        if raised(AlarmType::Corrupt) && !exempt {
            return Err(Error::Corrupt);
        }
        let grows = match op {
            Op::Put(_) | Op::LeaseGrant(_) => true,
            Op::Txn(request) => check::has_put(request),
            _ => false,
        };
        if raised(AlarmType::Nospace) && grows {
            return Err(Error::NoSpace);
        }
        Ok(())
    }

    /// Puts a key; what can fail was checked before.
    fn put_request(&mut self, request: PutRequest) -> Result<PutResponse, Failure> {
        let mut previous = None;
        if request.prev_kv || request.ignore_value {
            previous = self.current(&request.key)?;
        }
        let (mut value, mut lease) = (request.value, request.lease);
        if request.ignore_value {
            let kept = previous.as_ref().ok_or(Error::KeyNotFound)?;
            value = kept.value.clone();
        }
        if request.ignore_lease {
            let kept = self.index.get(&request.key).ok_or(Error::KeyNotFound)?;
            lease = kept.lease;
        }
        self.put(request.key, value, lease);
        Ok(PutResponse {
            header: header(self.revision()),
            prev_kv: previous.filter(|_| request.prev_kv),
        })
    }

    fn delete_range(
        &mut self,
        request: DeleteRangeRequest,
    ) -> Result<DeleteRangeResponse, Failure> {
        let span = Span::new(&request.key, &request.range_end);
        let mut rows: Vec<Row> = span
            .entries(&self.index)
            .map(|(key, meta)| Row {
                key: Bytes::copy_from_slice(key),
                meta: *meta,
                value: None,
            })
            .collect();
        if request.prev_kv {
            self.fill(&mut rows)?;
        }
        for row in &rows {
            self.delete(row.key.clone());
        }
        Ok(DeleteRangeResponse {
            header: header(self.revision()),
            deleted: rows.len() as i64,
            prev_kvs: match request.prev_kv {
                true => rows.into_iter().map(Row::into_key_value).collect(),
                false => Vec::new(),
            },
        })
    }

    fn txn(&mut self, request: TxnRequest) -> Result<TxnResponse, Failure> {
        check::check_overlap(&request)?;
        if check::reads_history(&request) {
            // Older revisions are read from the engine alone.
            self.commit()?;
        }
        let mut path = txn::prepare(self, &request)?;
        let mut response = self.run_branch(request, &mut path)?;
        response.header = header(self.revision());
        Ok(response)
    }

    fn run_branch(&mut self, request: TxnRequest, path: &mut Path) -> Result<TxnResponse, Failure> {
        let succeeded = path.next().unwrap_or(false);
        let ops = match succeeded {
            true => request.success,
            false => request.failure,
        };
        let responses = ops
            .into_iter()
            .map(|op| self.run_op(op, path))
            .collect::<Result<_, Failure>>()?;
        Ok(TxnResponse {
            // Only the outermost response says the revision, as with etcd.
            header: Some(ResponseHeader::default()),
            succeeded,
            responses,
        })
    }

    fn run_op(&mut self, op: RequestOp, path: &mut Path) -> Result<ResponseOp, Failure> {
        Ok(answer(match op.request {
            Some(Request::RequestRange(request)) => {
                OpResponse::ResponseRange(range(self, &request)?)
            }
            Some(Request::RequestPut(request)) => {
                OpResponse::ResponsePut(self.put_request(request)?)
            }
            Some(Request::RequestDeleteRange(request)) => {
                OpResponse::ResponseDeleteRange(self.delete_range(request)?)
            }
            Some(Request::RequestTxn(request)) => {
                OpResponse::ResponseTxn(self.run_branch(request, path)?)
            }
            None => return Ok(ResponseOp { response: None }),
        }))
    }

    fn compact(&mut self, request: CompactionRequest) -> Result<CompactionResponse, Error> {
        if request.revision <= self.record.compact {
            return Err(Error::Compacted {
                compact_revision: self.record.compact,
            });
        }
        if request.revision > self.record.revision {
            return Err(Error::FutureRevision);
        }
        self.record.compact = request.revision;
        Ok(CompactionResponse {
            header: header(self.record.revision),
        })
    }

    fn grant(&mut self, request: LeaseGrant) -> Result<LeaseGrantResponse, Error> {
        let LeaseGrant { id, ttl } = request;
        if id == 0 {
            return Err(Error::LeaseNotFound);
        }
        if ttl > MAX_LEASE_TTL {
            return Err(Error::LeaseTtlTooLarge);
        }
        if self.leases.get(id).is_some() {
            return Err(Error::LeaseExists);
        }
        let lease = LeaseRecord {
            granted_ttl: ttl,
            remaining_ttl: 0,
        };
        self.set_lease(id, lease, LeaseEvent::Granted { id, ttl });
        Ok(LeaseGrantResponse {
            header: header(self.record.revision),
            id,
            ttl,
            error: String::new(),
        })
    }

    /// Revokes leases, each with its keys in a revision of its own. Leases that are gone already
    /// are passed over, unless all of them are.
    fn revoke(&mut self, ids: Vec<i64>) -> Result<LeaseRevokeResponse, Error> {
        let mut found = 0;
        for id in ids {
            if self.leases.get(id).is_none() {
                continue;
            }
            found += 1;
            for key in self.leases.keys(id) {
                self.delete(key);
            }
            self.finish_revision();
            self.remove_lease(id);
        }
        if found == 0 {
            return Err(Error::LeaseNotFound);
        }
        Ok(LeaseRevokeResponse {
            header: header(self.record.revision),
        })
    }

    fn checkpoint_leases(&mut self, leases: Vec<Remaining>) -> Response {
        for Remaining { id, remaining_ttl } in leases {
            let Some(lease) = self.leases.get(id) else {
                continue;
            };
            let lease = LeaseRecord {
                remaining_ttl,
                ..lease
            };
            self.set_lease(id, lease, LeaseEvent::Checkpointed { id, remaining_ttl });
        }
        Response::None
    }

    fn alarm(&mut self, request: &AlarmRequest) -> AlarmResponse {
        let named = (request.alarm, request.member_id);
        let mut alarms = (*self.alarms).clone();
        let answer = match AlarmAction::try_from(request.action) {
            Ok(AlarmAction::Get) => select(&alarms, request.alarm),
            Ok(AlarmAction::Activate) if request.alarm != AlarmType::None as i32 => {
                if alarms.insert(named) {
                    self.set_alarms(alarms);
                }
                vec![alarm_member(named)]
            }
            Ok(AlarmAction::Deactivate) if alarms.remove(&named) => {
                self.set_alarms(alarms);
                vec![alarm_member(named)]
            }
            _ => Vec::new(),
        };
        AlarmResponse {
            header: header(self.record.revision),
            alarms: answer,
        }
    }

    /// A key as it is now.
    fn current(&self, key: &[u8]) -> Result<Option<KeyValue>, Failure> {
        let Some(mut row) = self.row(key) else {
            return Ok(None);
        };
        match self.version(key, row.meta.modified)? {
            VersionRecord::Put { value, .. } => row.value = Some(value),
            VersionRecord::Tombstone => return Err(Failure::Gone),
        }
        Ok(Some(row.into_key_value()))
    }
}

/// The raised alarms of one kind; of all kinds for `NONE`.
pub(super) fn select<'a>(
    alarms: impl IntoIterator<Item = &'a (i32, u64)>,
    kind: i32,
) -> Vec<AlarmMember> {
    let wanted = |alarm: i32| kind == AlarmType::None as i32 || alarm == kind;
    alarms
        .into_iter()
        .filter(|(alarm, _)| wanted(*alarm))
        .map(|alarm| alarm_member(*alarm))
        .collect()
}

fn alarm_member((alarm, member_id): (i32, u64)) -> AlarmMember {
    AlarmMember { member_id, alarm }
}

/// A member ID that no other log index of this cluster gives: splitmix64's finalizer, a bijection.
fn member_id(seed: u64, index: u64) -> u64 {
    let mut id = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    id = (id ^ (id >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    id = (id ^ (id >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    id ^= id >> 31;
    // 0 means "no member". It is the image of one input in 2^64.
    if id == 0 { u64::MAX } else { id }
}
