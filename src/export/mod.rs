//! Exports: how disks are seen from outside. An export turns a protocol's requests into calls on a reactor's [`DiskQueue`](crate::disk::DiskQueue)
//! and knows nothing of keys, devices or other exports.

mod clients;
pub mod nbd;
pub mod nvme_tcp;
pub mod stream;
pub mod vhost_user;
