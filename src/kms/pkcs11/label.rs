//! The labels of keys in the token: `NAME-vN`, where `NAME` is the CMK and `N` its version.
//!
//! A version is one object. Its label says which one it is, and its `CKA_ID` is a UUID of its own: two targets that make the same version at the
//! same time make two objects. Both stay, since both may have wrapped keys; a wrapped key names its object by the `CKA_ID`, and the object with the
//! lowest one wraps from then on.

use std::collections::BTreeMap;

use super::message::ObjectId;

/// The label of a version.
pub(super) fn label(name: &str, version: u32) -> String {
    format!("{}{version}", prefix(name))
}

/// What the labels of all its versions begin with.
pub(super) fn prefix(name: &str) -> String {
    format!("{name}-v")
}

/// Name and version of a label, if it is one of ours.
pub(super) fn parse(label: &str) -> Option<(&str, u32)> {
    let (name, digits) = label.rsplit_once("-v")?;
    let version: u32 = digits.parse().ok()?;
    // One version has one label: no "+1", no "01".
    (version > 0 && version.to_string() == digits && !name.is_empty()).then_some((name, version))
}

/// The objects of a CMK: its versions, and the one that wraps for each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Versions(BTreeMap<u32, ObjectId>);

impl Versions {
    pub(super) fn add(&mut self, version: u32, id: ObjectId) {
        self.0.entry(version).and_modify(|known| *known = id.min(*known)).or_insert(id);
    }

    pub(super) fn newest(&self) -> Option<(u32, ObjectId)> {
        self.0.last_key_value().map(|(version, id)| (*version, *id))
    }

    /// From the oldest one on.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.0.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_read_as_it_is_written() {
        assert_eq!(parse(&label("strongroom.local.a-v7", 12)), Some(("strongroom.local.a-v7", 12)));
        for other in ["", "-v1", "a", "a-v", "a-v0", "a-v01", "a-v+1", "a-v1 ", "a-v4294967296", "a-V1"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn of_two_objects_the_lowest_wraps() {
        let mut versions = Versions::default();
        assert_eq!(versions.newest(), None);
        for (version, id) in [(2, 9), (1, 1), (2, 3), (2, 5)] {
            versions.add(version, [id; 16]);
        }
        assert_eq!(versions.newest(), Some((2, [3; 16])));
        assert_eq!(versions.numbers().collect::<Vec<_>>(), [1, 2]);
    }
}
