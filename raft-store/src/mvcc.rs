//! Stub of the applied state, until the branch `mvcc` brings it.

use crate::error::Result;
use crate::pb::etcdserverpb::{AlarmMember, RangeRequest, RangeResponse, ResponseHeader};

/// Stub.
#[derive(Clone, Default)]
pub struct Mvcc {}

/// Stub.
#[derive(Clone, Copy, Default)]
pub struct Sizes {
    /// Live bytes.
    pub live_bytes: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Quota.
    pub quota_bytes: u64,
}

impl Mvcc {
    /// Stub.
    pub fn sizes(&self) -> Sizes {
        Sizes { live_bytes: 1, disk_bytes: 2, quota_bytes: 3 }
    }
    /// Stub.
    pub fn alarms(&self) -> Vec<AlarmMember> {
        Vec::new()
    }
    /// Stub.
    pub fn revision(&self) -> i64 {
        1
    }
    /// Stub.
    pub fn compact_revision(&self) -> i64 {
        0
    }
    /// Stub.
    pub fn range(&self, _: &RangeRequest) -> Result<RangeResponse> {
        Ok(RangeResponse { header: Some(ResponseHeader::default()), ..RangeResponse::default() })
    }
}
