//! Categories of disks: how large they may be, and how fast, by their size. As the cloud's documentation had it in June 2018.

use serde::{Deserialize, Serialize};

/// A category.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// Basic.
    Cloud,
    /// Ultra.
    CloudEfficiency,
    /// SSD.
    CloudSsd,
}

/// How fast a disk may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speed {
    /// Commands in a second.
    pub iops: u64,
    /// Bytes in a second, read and written together. The documentation says "MB": 10^6 bytes.
    pub bytes_per_second: u64,
}

/// Bytes in the documentation's "MB".
const MB: u64 = 1_000_000;

impl Category {
    /// As the API writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Cloud => "cloud",
            Self::CloudEfficiency => "cloud_efficiency",
            Self::CloudSsd => "cloud_ssd",
        }
    }

    /// The category of this name.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Cloud, Self::CloudEfficiency, Self::CloudSsd].into_iter().find(|category| category.word() == word)
    }

    /// The sizes in GiB that a data disk may have.
    pub fn sizes(self) -> std::ops::RangeInclusive<u64> {
        match self {
            Self::Cloud => 5..=2000,
            Self::CloudEfficiency | Self::CloudSsd => 20..=32_768,
        }
    }

    /// Whether there is shared block storage of this category.
    pub fn may_be_shared(self) -> bool {
        match self {
            Self::Cloud => false,
            Self::CloudEfficiency | Self::CloudSsd => true,
        }
    }

    /// How fast a disk of so many GiB may be. For basic disks the documentation says "a few hundred" commands and 30 to 40 MB; here that is 300 and 40.
    pub fn speed(self, gib: u64, shared: bool) -> Speed {
        let (iops, megabytes) = match (self, shared) {
            (Self::Cloud, _) => (300, 40 * MB),
            (Self::CloudEfficiency, false) => ((1000 + 6 * gib).min(3000), (50 * MB + gib * MB / 10).min(80 * MB)),
            (Self::CloudSsd, false) => ((1200 + 30 * gib).min(20_000), (80 * MB + gib * MB / 2).min(300 * MB)),
            (Self::CloudEfficiency, true) => {
                ((1000 + 6 * gib).min(5000), (50 * MB + gib * MB * 15 / 100).min(160 * MB))
            }
            (Self::CloudSsd, true) => ((40 * gib).min(30_000), (50 * MB + gib * MB / 2).min(512 * MB)),
        };
        Speed { iops, bytes_per_second: megabytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_as_fast_as_its_page_says() {
        // "Block storage performance" of 2018-06-09: 40, 100 and 800 GiB.
        let speed = |category: Category, gib, shared| {
            let Speed { iops, bytes_per_second } = category.speed(gib, shared);
            (iops, bytes_per_second / MB)
        };
        assert_eq!(speed(Category::CloudSsd, 40, false), (2400, 100));
        assert_eq!(speed(Category::CloudSsd, 800, false), (20_000, 300));
        assert_eq!(speed(Category::CloudEfficiency, 100, false), (1600, 60));
        assert_eq!(speed(Category::CloudEfficiency, 1000, false), (3000, 80));
        assert_eq!(speed(Category::CloudEfficiency, 1000, true), (5000, 160));
        assert_eq!(speed(Category::CloudSsd, 100, true), (4000, 100));
        assert_eq!(speed(Category::Cloud, 2000, false), (300, 40));
    }

    #[test]
    fn words_lead_back() {
        assert_eq!(Category::parse("cloud_ssd"), Some(Category::CloudSsd));
        assert_eq!(Category::parse("cloud_essd"), None);
        assert_eq!(serde_json::to_string(&Category::CloudEfficiency).expect("a word"), "\"cloud_efficiency\"");
    }
}
