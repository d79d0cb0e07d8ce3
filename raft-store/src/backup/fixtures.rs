//! What the tests of backups share: states in memory as sources and sinks, and a member's formats.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use seams::Disk;

use crate::backup::boundary::{
    DB_DIR, FIRST_DB, Identity, MemberFormat, MemberInfo, Start, States,
};
use crate::backup::{BackupError, Header, Lease, Result, Sink, Source};
use crate::pb::mvccpb::KeyValue;

/// A state in memory.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct State {
    pub(crate) header: Header,
    pub(crate) leases: Vec<Lease>,
    pub(crate) keys: Vec<KeyValue>,
}

/// Reads a state from its beginning.
pub(crate) struct StateSource {
    state: State,
    leases: usize,
    keys: usize,
}

impl State {
    pub(crate) fn source(&self) -> StateSource {
        StateSource {
            state: self.clone(),
            leases: 0,
            keys: 0,
        }
    }

    /// Everything that a source yields.
    pub(crate) fn read(source: &mut dyn Source) -> Result<State> {
        let mut state = State {
            header: source.header(),
            ..State::default()
        };
        while let Some(lease) = source.next_lease()? {
            state.leases.push(lease);
        }
        while let Some(key) = source.next_key()? {
            state.keys.push(key);
        }
        Ok(state)
    }

    /// A state with so many keys of the given value size, some of them under leases.
    pub(crate) fn example(keys: i64, value: usize) -> State {
        let header = Header {
            cluster_id: 0xC1,
            member_id: 0xA1,
            revision: keys + 10,
            compact_revision: 3.min(keys),
            term: 4,
            index: 1234,
            taken_at_ms: 1_790_000_000_000,
            store_version: "0.1.0".to_owned(),
        };
        let lease = |id| Lease {
            id,
            ttl: 60 + id,
            remaining_ttl: id,
        };
        let key = |i: i64| KeyValue {
            key: Bytes::from(format!("/registry/{i:08}")),
            create_revision: i + 1,
            mod_revision: i + 2,
            version: 2,
            value: Bytes::from(vec![i as u8; value]),
            lease: if i % 3 == 0 { 7 } else { 0 },
        };
        State {
            header,
            leases: vec![lease(7), lease(9)],
            keys: (0..keys).map(key).collect(),
        }
    }
}

impl Source for StateSource {
    fn header(&self) -> Header {
        self.state.header.clone()
    }

    fn next_lease(&mut self) -> Result<Option<Lease>> {
        self.leases += 1;
        Ok(self.state.leases.get(self.leases - 1).copied())
    }

    fn next_key(&mut self) -> Result<Option<KeyValue>> {
        self.keys += 1;
        Ok(self.state.keys.get(self.keys - 1).cloned())
    }
}

/// Keeps what a restore writes; the directory holds a durable marker once it is finished.
#[derive(Clone)]
pub(crate) struct MemoryStates {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) made: Arc<Mutex<Vec<(Start, State)>>>,
}

/// The marker in a finished directory.
pub(crate) const FINISHED: &str = "FINISHED";

impl MemoryStates {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> MemoryStates {
        MemoryStates {
            disk,
            made: Arc::default(),
        }
    }
}

struct MemorySink {
    dir: PathBuf,
    start: Start,
    state: State,
    states: MemoryStates,
}

impl States for MemoryStates {
    fn create(&self, dir: &Path, start: &Start) -> Result<Box<dyn Sink>> {
        Ok(Box::new(MemorySink {
            dir: dir.to_owned(),
            start: start.clone(),
            state: State::default(),
            states: self.clone(),
        }))
    }
}

impl Sink for MemorySink {
    fn lease(&mut self, lease: Lease) -> Result<()> {
        self.state.leases.push(lease);
        Ok(())
    }

    fn key(&mut self, key: KeyValue) -> Result<()> {
        self.state.keys.push(key);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        let MemoryStates { disk, made } = &self.states;
        let marker = self.dir.join(FINISHED);
        disk.create_dir_all(&self.dir)
            .and_then(|()| disk.write_atomic(&marker, b"yes"))
            .map_err(BackupError::io("write", &marker))?;
        made.lock().unwrap().push((self.start, self.state));
        Ok(())
    }
}

/// A readable stand-in for the formats that `member` owns.
pub(crate) struct TextFormat;

impl MemberFormat for TextFormat {
    fn encode_identity(&self, identity: &Identity) -> Vec<u8> {
        let members = self.encode_membership(&identity.members);
        let text = format!(
            "{} {} {}\n",
            identity.cluster_id, identity.member_id, identity.name
        );
        [text.as_bytes(), &members].concat()
    }

    fn decode_identity(&self, bytes: &[u8]) -> Result<Identity, String> {
        let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
        let mut lines = text.lines();
        let head: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
        let [cluster, member, name] = head[..] else {
            return Err("no head".to_owned());
        };
        let members = members(lines)?;
        Ok(Identity {
            cluster_id: number(cluster)?,
            member_id: number(member)?,
            name: name.to_owned(),
            members,
        })
    }

    fn live_database(&self, _: &dyn Disk, data_dir: &Path) -> std::io::Result<PathBuf> {
        Ok(data_dir.join(DB_DIR).join(FIRST_DB))
    }

    fn decode_membership(&self, bytes: &Bytes) -> Result<Vec<MemberInfo>, String> {
        members(
            std::str::from_utf8(bytes)
                .map_err(|e| e.to_string())?
                .lines(),
        )
    }

    fn encode_membership(&self, members: &[MemberInfo]) -> Bytes {
        let line = |m: &MemberInfo| format!("{} {} {}\n", m.id, m.name, m.peer_urls.join(" "));
        members.iter().map(line).collect::<String>().into()
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse::<u64>().map_err(|e| e.to_string())
}

fn members<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Vec<MemberInfo>, String> {
    lines
        .map(|line| {
            let mut words = line.split(' ');
            Ok(MemberInfo {
                id: number(words.next().unwrap_or_default())?,
                name: words.next().unwrap_or_default().to_owned(),
                peer_urls: words.map(str::to_owned).collect(),
            })
        })
        .collect()
}

/// A progress callback that nobody looks at.
pub(crate) fn quiet(_: crate::backup::Progress) {}
