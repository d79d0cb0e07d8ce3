//! Builds small bbolt databases for tests, so that the reader is tested without etcd too.

/// A bucket's name and entries; the entries must ascend.
pub(crate) type Entries = (&'static str, Vec<(Vec<u8>, Vec<u8>)>);

/// The pages of a database under construction.
pub(crate) struct Builder {
    page_size: usize,
    bytes: Vec<u8>,
}

/// Entries that a page can refer to: flags, key, value.
type Leaf = (u32, Vec<u8>, Vec<u8>);

impl Builder {
    /// A whole database. Buckets without a page's worth of data are kept inline, as bbolt does.
    pub(crate) fn database(page_size: usize, buckets: &[Entries]) -> Vec<u8> {
        let mut builder = Builder {
            page_size,
            bytes: vec![0; page_size * 2],
        };
        let mut root = Vec::new();
        for (name, entries) in buckets {
            let entries: Vec<Leaf> = entries
                .iter()
                .map(|(key, value)| (0, key.clone(), value.clone()))
                .collect();
            let small = size(&entries) <= page_size / 4;
            let mut value = match small {
                true => vec![0; 16],
                false => [builder.tree(&entries).to_le_bytes(), [0; 8]].concat(),
            };
            if small {
                value.extend_from_slice(&leaf_page(0, &entries, 0));
            }
            root.push((1, name.as_bytes().to_vec(), value));
        }
        root.sort();
        let root = builder.tree(&root);
        let pages = (builder.bytes.len() / page_size) as u64;
        for transaction in [6u64, 7] {
            let at = (transaction % 2) as usize * page_size;
            let meta = meta(page_size as u32, root, pages, transaction);
            builder.bytes[at..at + meta.len()].copy_from_slice(&meta);
        }
        builder.bytes
    }

    /// Writes a tree of pages and returns its root.
    fn tree(&mut self, entries: &[Leaf]) -> u64 {
        let mut level: Vec<(Vec<u8>, u64)> = Vec::new();
        let mut rest = entries;
        loop {
            let mut take = 1.min(rest.len());
            while take < rest.len() && size(&rest[..take + 1]) <= self.page_size {
                take += 1;
            }
            let (page, after) = rest.split_at(take);
            let first = page
                .first()
                .map(|entry| entry.1.clone())
                .unwrap_or_default();
            let overflow = size(page).div_ceil(self.page_size) as u32 - 1;
            level.push((first, self.put(|id| leaf_page(id, page, overflow))));
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        while level.len() > 1 {
            // Few children per page, so that small tests have deep trees.
            level = level
                .chunks(4)
                .map(|children| {
                    (
                        children[0].0.clone(),
                        self.put(|id| branch_page(id, children)),
                    )
                })
                .collect();
        }
        level[0].1
    }

    fn put(&mut self, page: impl FnOnce(u64) -> Vec<u8>) -> u64 {
        let id = (self.bytes.len() / self.page_size) as u64;
        self.bytes.extend_from_slice(&page(id));
        self.bytes
            .resize(self.bytes.len().next_multiple_of(self.page_size), 0);
        id
    }
}

fn size(entries: &[Leaf]) -> usize {
    16 + entries
        .iter()
        .map(|(_, key, value)| 16 + key.len() + value.len())
        .sum::<usize>()
}

fn head(id: u64, flags: u16, count: usize, overflow: u32) -> Vec<u8> {
    let mut page = id.to_le_bytes().to_vec();
    page.extend_from_slice(&flags.to_le_bytes());
    page.extend_from_slice(&(count as u16).to_le_bytes());
    page.extend_from_slice(&overflow.to_le_bytes());
    page
}

fn leaf_page(id: u64, entries: &[Leaf], overflow: u32) -> Vec<u8> {
    let mut page = head(id, 2, entries.len(), overflow);
    let mut data_at = 16 + entries.len() * 16;
    for (i, (flags, key, value)) in entries.iter().enumerate() {
        let position = data_at - (16 + i * 16);
        for word in [
            *flags,
            position as u32,
            key.len() as u32,
            value.len() as u32,
        ] {
            page.extend_from_slice(&word.to_le_bytes());
        }
        data_at += key.len() + value.len();
    }
    entries.iter().for_each(|(_, key, value)| {
        page.extend_from_slice(key);
        page.extend_from_slice(value);
    });
    page
}

fn branch_page(id: u64, children: &[(Vec<u8>, u64)]) -> Vec<u8> {
    let mut page = head(id, 1, children.len(), 0);
    let mut data_at = 16 + children.len() * 16;
    for (i, (key, child)) in children.iter().enumerate() {
        page.extend_from_slice(&((data_at - (16 + i * 16)) as u32).to_le_bytes());
        page.extend_from_slice(&(key.len() as u32).to_le_bytes());
        page.extend_from_slice(&child.to_le_bytes());
        data_at += key.len();
    }
    children
        .iter()
        .for_each(|(key, _)| page.extend_from_slice(key));
    page
}

/// A meta page's content.
pub(crate) fn meta(page_size: u32, root: u64, pages: u64, transaction: u64) -> Vec<u8> {
    let mut meta = Vec::new();
    for word in [super::MAGIC, super::VERSION, page_size, 0] {
        meta.extend_from_slice(&word.to_le_bytes());
    }
    for word in [root, 0, u64::MAX, pages, transaction] {
        meta.extend_from_slice(&word.to_le_bytes());
    }
    let sum = super::fnv1a(&meta);
    meta.extend_from_slice(&sum.to_le_bytes());
    [head(transaction % 2, 4, 0, 0), meta].concat()
}
