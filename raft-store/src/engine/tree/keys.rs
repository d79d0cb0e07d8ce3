//! The keys of one node, in one buffer.

/// Ascending byte strings, packed.
#[derive(Debug, Clone, Default)]
pub(super) struct Keys {
    bytes: Vec<u8>,
    /// Where each key ends; it starts where the one before ends.
    ends: Vec<u32>,
}

impl Keys {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn get(&self, at: usize) -> &[u8] {
        &self.bytes[self.start(at)..self.ends[at] as usize]
    }

    /// Where `key` is (`Ok`), or where it would be inserted (`Err`).
    pub(super) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.ends.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.get(middle).cmp(key) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    pub(super) fn push(&mut self, key: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len() as u32);
    }

    pub(super) fn pop(&mut self) -> Vec<u8> {
        match self.len() {
            0 => Vec::new(),
            len => self.remove(len - 1),
        }
    }

    pub(super) fn insert(&mut self, at: usize, key: &[u8]) {
        let start = self.start(at);
        let old = self.bytes.len();
        if self.bytes.capacity() - old < key.len() {
            // Room for this and a few alike; see `grow`.
            self.bytes.reserve_exact(key.len() * 4);
        }
        self.bytes.resize(old + key.len(), 0);
        self.bytes.copy_within(start..old, start + key.len());
        self.bytes[start..start + key.len()].copy_from_slice(key);
        super::grow(&mut self.ends);
        self.ends.insert(at, start as u32);
        for end in &mut self.ends[at..] {
            *end += key.len() as u32;
        }
    }

    pub(super) fn remove(&mut self, at: usize) -> Vec<u8> {
        let (start, end) = (self.start(at), self.ends[at] as usize);
        let key = self.bytes.drain(start..end).collect::<Vec<u8>>();
        self.ends.remove(at);
        for end in &mut self.ends[at..] {
            *end -= key.len() as u32;
        }
        key
    }

    pub(super) fn append(&mut self, other: &Keys) {
        let offset = self.bytes.len() as u32;
        self.bytes.extend_from_slice(&other.bytes);
        self.ends.extend(other.ends.iter().map(|end| end + offset));
    }

    pub(super) fn split_off(&mut self, at: usize) -> Keys {
        let start = self.start(at);
        Keys {
            bytes: self.bytes.split_off(start),
            ends: self
                .ends
                .split_off(at)
                .into_iter()
                .map(|end| end - start as u32)
                .collect(),
        }
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    fn start(&self, at: usize) -> usize {
        match at {
            0 => 0,
            _ => self.ends[at - 1] as usize,
        }
    }
}

/// The shortest string above `left` and at most `right`, which is above `left`.
pub(super) fn separator(left: &[u8], right: &[u8]) -> Vec<u8> {
    let common = left.iter().zip(right).take_while(|(l, r)| l == r).count();
    right[..right.len().min(common + 1)].to_vec()
}
