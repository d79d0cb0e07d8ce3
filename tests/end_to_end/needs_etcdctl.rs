//! What is looked at through Debian's etcdctl: an etcd client that nobody here wrote.

mod backups;
mod exits;
mod keys;
mod leases;
mod membership;
mod recovery;
mod scripts;
