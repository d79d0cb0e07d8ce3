//! What the applied state has to do, in the plainest way: every revision kept whole.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use raft_store::mvcc::{Outcome, Response};
use raft_store::pb::etcdserverpb::request_op::Request;
use raft_store::pb::etcdserverpb::response_op::Response as OpResponse;
use raft_store::pb::etcdserverpb::*;
use raft_store::pb::log::command::Op;
use raft_store::pb::mvccpb::KeyValue;
use raft_store::{Error, Result};

type Keys = BTreeMap<Bytes, KeyValue>;

/// One change of a revision: the key, its new version (`None`: deleted), the `mod_revision` of
/// the version before.
pub type ModelChange = (Bytes, Option<KeyValue>, i64);

pub struct Model {
    /// The keys at each revision; the last is the current one, and index 0 is not used.
    pub keys: Vec<Keys>,
    pub changes: BTreeMap<i64, Vec<ModelChange>>,
    pub compact: i64,
    pub leases: BTreeMap<i64, (i64, i64)>,
    pub nospace: BTreeSet<u64>,
    /// The revision under way.
    open: Vec<ModelChange>,
}

pub fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision,
        ..ResponseHeader::default()
    })
}

fn within(key: &Bytes, start: &Bytes, end: &Bytes) -> bool {
    match &end[..] {
        [] => key == start,
        [0] => key >= start,
        _ => key >= start && key < end,
    }
}

impl Default for Model {
    fn default() -> Model {
        Model {
            keys: vec![Keys::new(), Keys::new()],
            changes: BTreeMap::new(),
            compact: 0,
            leases: BTreeMap::new(),
            nospace: BTreeSet::new(),
            open: Vec::new(),
        }
    }
}

impl Model {
    pub fn revision(&self) -> i64 {
        self.keys.len() as i64 - 1
    }

    /// The latest keys with what the revision under way did to them.
    fn now(&self) -> Keys {
        let mut keys = self.keys[self.keys.len() - 1].clone();
        for (key, version, _) in &self.open {
            match version {
                Some(kv) => keys.insert(key.clone(), kv.clone()),
                None => keys.remove(key),
            };
        }
        keys
    }

    fn visible_revision(&self) -> i64 {
        self.revision() + i64::from(!self.open.is_empty())
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            let now = self.now();
            self.keys.push(now);
            let changes = std::mem::take(&mut self.open);
            self.changes.insert(self.revision(), changes);
        }
    }

    pub fn apply(&mut self, op: &Op) -> Outcome {
        let full = !self.nospace.is_empty();
        let outcome = match op {
            Op::Put(_) | Op::LeaseGrant(_) if full => Err(Error::NoSpace),
            Op::Txn(txn) if full && has_put(txn) => Err(Error::NoSpace),
            Op::Put(put) => self.check_put(put).map(|()| Response::Put(self.put(put))),
            Op::DeleteRange(delete) => Ok(Response::DeleteRange(self.delete(delete))),
            Op::Txn(txn) => self.txn(txn).map(Response::Txn),
            Op::Compact(request) => self.compact(request.revision),
            Op::LeaseGrant(grant) if self.leases.contains_key(&grant.id) => Err(Error::LeaseExists),
            Op::LeaseGrant(grant) => {
                self.leases.insert(grant.id, (grant.ttl, 0));
                Ok(Response::LeaseGrant(LeaseGrantResponse {
                    header: header(self.revision()),
                    id: grant.id,
                    ttl: grant.ttl,
                    error: String::new(),
                }))
            }
            Op::LeaseRevoke(request) => self.revoke(&request.ids),
            Op::LeaseCheckpoint(request) => {
                for lease in &request.leases {
                    if let Some((_, remaining)) = self.leases.get_mut(&lease.id) {
                        *remaining = lease.remaining_ttl;
                    }
                }
                Ok(Response::None)
            }
            Op::Alarm(request) => {
                let on = request.action == alarm_request::AlarmAction::Activate as i32;
                let told = match on {
                    true => {
                        self.nospace.insert(request.member_id);
                        true
                    }
                    false => self.nospace.remove(&request.member_id),
                };
                let alarm = AlarmMember {
                    member_id: request.member_id,
                    alarm: AlarmType::Nospace as i32,
                };
                Ok(Response::Alarm(AlarmResponse {
                    header: header(self.revision()),
                    alarms: told.then_some(alarm).into_iter().collect(),
                }))
            }
            Op::AllocateMemberId(_) => panic!("not modelled"),
        };
        self.close();
        outcome
    }

    fn compact(&mut self, revision: i64) -> Outcome {
        if revision <= self.compact {
            let compact_revision = self.compact;
            return Err(Error::Compacted { compact_revision });
        }
        if revision > self.revision() {
            return Err(Error::FutureRevision);
        }
        self.compact = revision;
        Ok(Response::Compact(CompactionResponse {
            header: header(self.revision()),
        }))
    }

    fn revoke(&mut self, ids: &[i64]) -> Outcome {
        let mut found = false;
        for id in ids {
            if self.leases.remove(id).is_none() {
                continue;
            }
            found = true;
            for (key, kv) in self.now() {
                if kv.lease == *id {
                    self.open.push((key, None, kv.mod_revision));
                }
            }
            self.close();
        }
        if !found {
            return Err(Error::LeaseNotFound);
        }
        Ok(Response::LeaseRevoke(LeaseRevokeResponse {
            header: header(self.revision()),
        }))
    }

    fn check_put(&self, put: &PutRequest) -> Result<()> {
        if put.lease != 0 && !self.leases.contains_key(&put.lease) {
            return Err(Error::LeaseNotFound);
        }
        if (put.ignore_value || put.ignore_lease) && !self.now().contains_key(&put.key) {
            return Err(Error::KeyNotFound);
        }
        Ok(())
    }

    fn put(&mut self, put: &PutRequest) -> PutResponse {
        let before = self.now().get(&put.key).cloned();
        let old = before.clone().unwrap_or_default();
        let revision = self.revision() + 1;
        let kv = KeyValue {
            key: put.key.clone(),
            create_revision: match &before {
                Some(kv) => kv.create_revision,
                None => revision,
            },
            mod_revision: revision,
            version: old.version + 1,
            value: match put.ignore_value {
                true => old.value.clone(),
                false => put.value.clone(),
            },
            lease: match put.ignore_lease {
                true => old.lease,
                false => put.lease,
            },
        };
        self.open
            .push((put.key.clone(), Some(kv), old.mod_revision));
        PutResponse {
            header: header(revision),
            prev_kv: before.filter(|_| put.prev_kv),
        }
    }

    fn delete(&mut self, delete: &DeleteRangeRequest) -> DeleteRangeResponse {
        let gone: Vec<KeyValue> = self
            .now()
            .into_values()
            .filter(|kv| within(&kv.key, &delete.key, &delete.range_end))
            .collect();
        for kv in &gone {
            self.open.push((kv.key.clone(), None, kv.mod_revision));
        }
        DeleteRangeResponse {
            header: header(self.visible_revision()),
            deleted: gone.len() as i64,
            prev_kvs: if delete.prev_kv { gone } else { Vec::new() },
        }
    }

    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse> {
        let current = self.visible_revision();
        if request.revision > current {
            return Err(Error::FutureRevision);
        }
        let at = if request.revision <= 0 {
            current
        } else {
            request.revision
        };
        if at < self.compact {
            let compact_revision = self.compact;
            return Err(Error::Compacted { compact_revision });
        }
        let keys = match at > self.revision() {
            true => self.now(),
            false => self.keys[at as usize].clone(),
        };
        let mut kvs: Vec<KeyValue> = keys
            .into_values()
            .filter(|kv| within(&kv.key, &request.key, &request.range_end))
            .collect();
        let count = kvs.len() as i64;
        if request.count_only {
            kvs.clear();
        }
        let limit = request.limit as usize;
        let open_order = request.sort_order == 0;
        let filters = [
            request.min_mod_revision,
            request.max_mod_revision,
            request.min_create_revision,
            request.max_create_revision,
        ];
        if open_order && limit > 0 && filters == [0; 4] {
            kvs.truncate(limit + 1);
        }
        kvs.retain(|kv| {
            let low = |revision: i64, min: i64| min == 0 || revision >= min;
            let high = |revision: i64, max: i64| max == 0 || revision <= max;
            low(kv.mod_revision, filters[0])
                && high(kv.mod_revision, filters[1])
                && low(kv.create_revision, filters[2])
                && high(kv.create_revision, filters[3])
        });
        let number = |kv: &KeyValue| match request.sort_target {
            1 => kv.version,
            2 => kv.create_revision,
            _ => kv.mod_revision,
        };
        kvs.sort_by(|a, b| {
            let order = match request.sort_target {
                0 => a.key.cmp(&b.key),
                4 => a.value.cmp(&b.value),
                _ => number(a).cmp(&number(b)),
            };
            if request.sort_order == 2 {
                order.reverse()
            } else {
                order
            }
        });
        let more = limit > 0 && kvs.len() > limit;
        if more {
            kvs.truncate(limit);
        }
        if request.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
        }
        Ok(RangeResponse {
            header: header(current),
            kvs,
            more,
            count,
        })
    }

    fn txn(&mut self, request: &TxnRequest) -> Result<TxnResponse> {
        raft_store::mvcc::check::check_txn(request)?;
        let path = self.path(request);
        self.check(request, &mut path.clone().into_iter())?;
        let mut response = self.run(request, &mut path.into_iter());
        response.header = header(self.visible_revision());
        Ok(response)
    }

    fn path(&self, request: &TxnRequest) -> Vec<bool> {
        let succeeded = request.compare.iter().all(|compare| self.holds(compare));
        let mut path = vec![succeeded];
        for op in branch(request, succeeded) {
            if let Some(Request::RequestTxn(nested)) = &op.request {
                path.extend(self.path(nested));
            }
        }
        path
    }

    fn holds(&self, compare: &Compare) -> bool {
        let mut found: Vec<KeyValue> = self
            .now()
            .into_values()
            .filter(|kv| within(&kv.key, &compare.key, &compare.range_end))
            .collect();
        if found.is_empty() {
            if compare.target == compare::CompareTarget::Value as i32 {
                return false;
            }
            found.push(KeyValue::default());
        }
        found.iter().all(|kv| {
            use compare::TargetUnion::*;
            let order = match compare.target_union.as_ref().unwrap() {
                Version(n) => kv.version.cmp(n),
                CreateRevision(n) => kv.create_revision.cmp(n),
                ModRevision(n) => kv.mod_revision.cmp(n),
                Value(value) => kv.value.cmp(value),
                Lease(n) => kv.lease.cmp(n),
            };
            match compare.result {
                0 => order.is_eq(),
                1 => order.is_gt(),
                2 => order.is_lt(),
                _ => order.is_ne(),
            }
        })
    }

    fn check(&self, request: &TxnRequest, path: &mut impl Iterator<Item = bool>) -> Result<()> {
        for op in branch(request, path.next().unwrap()) {
            match op.request.as_ref().unwrap() {
                Request::RequestRange(range) => {
                    self.range(&RangeRequest {
                        revision: range.revision,
                        key: "x".into(),
                        ..RangeRequest::default()
                    })?;
                }
                Request::RequestPut(put) => self.check_put(put)?,
                Request::RequestDeleteRange(_) => {}
                Request::RequestTxn(nested) => self.check(nested, path)?,
            }
        }
        Ok(())
    }

    fn run(&mut self, request: &TxnRequest, path: &mut impl Iterator<Item = bool>) -> TxnResponse {
        let succeeded = path.next().unwrap();
        let mut responses = Vec::new();
        for op in branch(request, succeeded) {
            let response = match op.request.as_ref().unwrap() {
                Request::RequestRange(range) => {
                    OpResponse::ResponseRange(self.range(range).unwrap())
                }
                Request::RequestPut(put) => OpResponse::ResponsePut(self.put(put)),
                Request::RequestDeleteRange(delete) => {
                    OpResponse::ResponseDeleteRange(self.delete(delete))
                }
                Request::RequestTxn(nested) => OpResponse::ResponseTxn(self.run(nested, path)),
            };
            responses.push(ResponseOp {
                response: Some(response),
            });
        }
        TxnResponse {
            header: Some(ResponseHeader::default()),
            succeeded,
            responses,
        }
    }
}

fn branch(request: &TxnRequest, succeeded: bool) -> &[RequestOp] {
    match succeeded {
        true => &request.success,
        false => &request.failure,
    }
}

fn has_put(request: &TxnRequest) -> bool {
    let mut ops = request.success.iter().chain(&request.failure);
    ops.any(|op| match op.request.as_ref().unwrap() {
        Request::RequestPut(_) => true,
        Request::RequestTxn(nested) => has_put(nested),
        _ => false,
    })
}
