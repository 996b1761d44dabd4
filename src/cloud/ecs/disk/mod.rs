//! Disks: made, attached, changed and deleted.

pub mod attach;
pub mod create;
pub mod delete;
pub mod describe;
pub mod detach;
pub mod modify;
pub mod reinit;
pub mod reset;
pub mod resize;
pub mod switch;
