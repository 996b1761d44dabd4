//! NVMe/TCP.
#![allow(dead_code, unused_imports)]

mod auth;
