//! The errors of the store's operations, with the texts that etcd's clients match.

use thiserror::Error;

/// The result of a store operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the store refused or failed an operation.
///
/// The messages are those of etcd's `rpctypes`, word for word: Go clients turn the text back into
/// a typed error. `server::status` alone maps a variant to its gRPC code and back.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    // Malformed requests (InvalidArgument).
    /// A put, delete or range without a key.
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    /// `ignore_value` or `ignore_lease` on a key that does not exist.
    #[error("etcdserver: key not found")]
    KeyNotFound,
    /// `ignore_value` together with a value.
    #[error("etcdserver: value is provided")]
    ValueProvided,
    /// `ignore_lease` together with a lease.
    #[error("etcdserver: lease is provided")]
    LeaseProvided,
    /// More than the allowed operations in one transaction.
    #[error("etcdserver: too many operations in txn request")]
    TooManyOps,
    /// Two operations of a transaction change the same key.
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    /// An unknown sort order or target.
    #[error("etcdserver: invalid sort option")]
    InvalidSortOption,
    /// The request is larger than the limit.
    #[error("etcdserver: request is too large")]
    RequestTooLarge,
    /// The given member URLs cannot be used.
    #[error("etcdserver: given member URLs are invalid")]
    MemberBadUrls,
    /// `HashKV`, `Alarm` or another request carried a value that makes no sense; the text says which.
    #[error("etcdserver: {0}")]
    InvalidArgument(String),

    // History (OutOfRange).
    /// The revision is below the compaction watermark; `compact_revision` is that watermark
    /// (0 where it is not known, as over gRPC).
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted {
        /// The lowest revision that can still be read.
        compact_revision: i64,
    },
    /// The revision has not been issued yet.
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision,

    // Resources (ResourceExhausted).
    /// The quota is used up and the NOSPACE alarm is raised.
    #[error("etcdserver: mvcc: database space exceeded")]
    NoSpace,
    /// Too many requests wait to be applied.
    #[error("etcdserver: too many requests")]
    TooManyRequests,

    // Leases.
    /// No lease has that ID (NotFound).
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    /// A lease with that ID exists already (FailedPrecondition).
    #[error("etcdserver: lease already exists")]
    LeaseExists,
    /// The TTL is above the limit of 9,000,000,000 s (OutOfRange).
    #[error("etcdserver: too large lease TTL")]
    LeaseTtlTooLarge,

    // Membership (FailedPrecondition, NotFound).
    /// A member with that ID exists already.
    #[error("etcdserver: member ID already exist")]
    MemberExists,
    /// Another member has that peer URL.
    #[error("etcdserver: Peer URLs already exists")]
    PeerUrlExists,
    /// The change would leave fewer started voters than a quorum.
    #[error("etcdserver: re-configuration failed due to not enough started members")]
    NotEnoughStartedMembers,
    /// No member has that ID.
    #[error("etcdserver: member not found")]
    MemberNotFound,
    /// The member to promote is a voter already.
    #[error("etcdserver: can only promote a learner member")]
    MemberNotLearner,
    /// The learner to promote is too far behind.
    #[error("etcdserver: can only promote a learner member which is in sync with leader")]
    LearnerNotReady,
    /// The request came from another cluster.
    #[error("etcdserver: cluster ID mismatch")]
    ClusterIdMismatch,
    /// The target cannot lead: it is unknown, a learner, or not reachable.
    #[error("etcdserver: bad leader transferee")]
    BadLeaderTransferee,
    /// A learner does not serve this request.
    #[error("etcdserver: rpc not supported for learner")]
    NotSupportedForLearner,

    // Leadership and availability (Unavailable unless said otherwise).
    /// There is no leader now.
    #[error("etcdserver: no leader")]
    NoLeader,
    /// This member is not the leader (FailedPrecondition).
    #[error("etcdserver: not leader")]
    NotLeader,
    /// The leader changed while the request was under way.
    #[error("etcdserver: leader changed")]
    LeaderChanged,
    /// The member is stopping.
    #[error("etcdserver: server stopped")]
    Stopped,
    /// The request did not finish in time; a write may or may not have happened.
    #[error("etcdserver: request timed out")]
    Timeout,
    /// Like `Timeout`, after the leader was lost.
    #[error("etcdserver: request timed out, possibly due to previous leader failure")]
    TimeoutLeaderFail,
    /// Like `Timeout`, while the connection to the leader was lost.
    #[error("etcdserver: request timed out, possibly due to connection lost")]
    TimeoutConnectionLost,
    /// The member did not catch up with the leader in time.
    #[error("etcdserver: request timed out, waiting for the applied index took too long")]
    TimeoutWaitAppliedIndex,
    /// The cluster is not healthy enough for the change.
    #[error("etcdserver: unhealthy cluster")]
    Unhealthy,
    /// The member's data disagrees with the others' (DataLoss).
    #[error("etcdserver: corrupt cluster")]
    Corrupt,
    /// No such operation here (Unimplemented).
    #[error("etcdserver: {0} is not supported")]
    Unimplemented(&'static str),
    /// A failure inside the member or of its disk (Internal). Never a client's fault.
    #[error("etcdserver: internal error: {0}")]
    Internal(String),
    /// A status of a remote endpoint that has no variant here; `code` is the gRPC code.
    #[error("{message}")]
    Remote {
        /// gRPC code number.
        code: i32,
        /// The endpoint's message.
        message: String,
    },
}
