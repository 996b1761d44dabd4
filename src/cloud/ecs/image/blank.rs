//! The image that is always there: `m-blank`, with which a system disk begins empty. It is in no table, has no snapshots, and stays as it is.

use crate::cloud::rows::Image;

/// Its identifier.
pub const BLANK: &str = "m-blank";
/// The least size of a system disk in GiB, which is its size.
pub const BLANK_GIB: u64 = 20;

/// The image as a row.
pub fn blank() -> Image {
    Image {
        id: BLANK.to_owned(),
        account: "system".to_owned(),
        name: "blank".to_owned(),
        description: "An empty system disk".to_owned(),
        version: String::new(),
        architecture: "x86_64".to_owned(),
        platform: "Others Linux".to_owned(),
        devices: Vec::new(),
        shared_with: Vec::new(),
        is_available: true,
        created_at: 0,
        tags: Vec::new(),
    }
}
