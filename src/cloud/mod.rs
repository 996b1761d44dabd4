//! The cloud's disk service: its API, its rules, and its durable state.
//!
//! A user of the cloud sees accounts, instances, disks, snapshots, images and master keys; the target below has hosts, volumes and keys. This layer
//! keeps the first in its store and has the second made through [`backend::Backend`], so that both agree after any crash.
//!
//! | module | what it owns |
//! | --- | --- |
//! | [`ecs`], [`kms`] | the operations of the two products, each with its rules and error codes |
//! | [`service`] | the way from a request to a change: plan, act, finish |
//! | [`schedule`] | what happens by itself: automatic snapshots, expiry, further tries |
//! | [`intent`] | what is being done, so that it is finished or undone after a crash |
//! | [`store`], [`rows`] | what is known |
//! | [`backend`] | what is needed of the target |
//! | [`category`], [`text`], [`page`], [`params`], [`id`] | small nouns of the API |
//!
//! The contract is the public documentation of Alibaba Cloud's ECS (API version 2014-05-26) and KMS (2016-01-20) as of 2018; later parameters are
//! taken where they do not contradict it. Codes, statuses and odd spellings are kept, because clients match on them.

mod accounts;
pub mod backend;
pub mod category;
pub mod config;
#[cfg(test)]
mod crash_tests;
pub mod ecs;
pub mod error;
mod front;
pub mod http;
pub mod id;
pub mod intent;
pub mod kms;
pub mod page;
pub mod params;
pub mod rows;
pub mod schedule;
pub mod service;
pub mod store;
#[cfg(test)]
pub mod testing;
pub mod text;

pub use backend::{Backend, Caller};
pub use config::CloudConfig;
pub use error::ApiError;
pub use params::Params;
pub use service::{Call, Cloud};
pub use store::{DatabaseFile, Store, StoreError};
