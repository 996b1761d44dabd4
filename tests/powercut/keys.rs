//! Sealed keys: which one a lineage may have, which are gone for ever, and where any of them is found on a device.
//!
//! A key is gone when its last volume's deletion was answered, when its replacement was, or when its volume was not made. From then on it must be
//! found nowhere, whatever a power cut does.

use std::collections::{BTreeMap, BTreeSet};

use strongroom::device::SimulatedDevice;

/// The number of a key.
pub type KeyId = u32;
/// Volumes and snapshots with the same key.
pub type LineageId = u32;

/// Stands in front of a key's number. Nothing else that is written has it.
const MARK: u64 = 0xa55e_a1ed_9b1c_5d3f;

/// The bytes of a key: its number, again and again. How many there are follows from the number as well.
pub fn bytes_of(key: KeyId) -> Vec<u8> {
    let words = [MARK, u64::from(key) | u64::from(!key) << 32].map(u64::to_le_bytes).concat();
    words.repeat(1 + (key as usize * 7) % 28)
}

/// The key that the bytes are.
pub fn key_of(bytes: &[u8]) -> Result<KeyId, String> {
    let mut found = BTreeSet::new();
    find_in(bytes, &mut found);
    match found.first() {
        Some(key) if bytes_of(*key) == bytes => Ok(*key),
        _ => Err(format!("{} bytes that are no key", bytes.len())),
    }
}

/// Keys are looked for where words are: nothing writes them anywhere else.
fn find_in(bytes: &[u8], found: &mut BTreeSet<KeyId>) {
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    for pair in bytes.chunks_exact(8).zip(bytes[8.min(bytes.len())..].chunks_exact(8)) {
        if word(pair.0) == MARK {
            found.insert(word(pair.1) as u32);
        }
    }
}

/// Every key that a power cut now could leave on the device.
pub fn found_on(device: &SimulatedDevice) -> BTreeSet<KeyId> {
    let mut found = BTreeSet::new();
    device.each_possible_sector(|_, sector| find_in(sector, &mut found));
    found
}

/// The keys of a model.
#[derive(Clone, Default)]
pub struct Keys {
    /// The key that each lineage has; a second one if its replacement is not answered.
    lineages: BTreeMap<LineageId, Vec<KeyId>>,
    gone: BTreeSet<KeyId>,
    last: KeyId,
}

impl Keys {
    fn new_key(&mut self) -> KeyId {
        self.last += 1;
        self.last
    }

    /// A lineage, and its key.
    pub fn begin(&mut self) -> (LineageId, KeyId) {
        let key = self.new_key();
        self.lineages.insert(key, vec![key]);
        (key, key)
    }

    /// A key that may soon replace the lineage's; none if another one is about to.
    pub fn begin_replacing(&mut self, lineage: LineageId) -> Option<KeyId> {
        let key = self.new_key();
        let keys = self.lineages.get_mut(&lineage).filter(|keys| keys.len() == 1)?;
        keys.push(key);
        Some(key)
    }

    /// The replacement is answered.
    pub fn end_replacing(&mut self, lineage: LineageId) {
        let keys = self.lineages.get_mut(&lineage).expect("a lineage");
        self.gone.extend(keys.drain(..keys.len() - 1));
    }

    /// Lineages of which nobody is left are gone.
    pub fn keep(&mut self, left: &BTreeSet<LineageId>) {
        let gone = &mut self.gone;
        self.lineages.retain(|lineage, keys| {
            if !left.contains(lineage) {
                gone.extend(keys.drain(..));
            }
            left.contains(lineage)
        });
    }

    /// Holds a key against what the lineage may have.
    pub fn check(&self, lineage: Option<LineageId>, key: Option<&[u8]>) -> Result<(), String> {
        let key = key.map(key_of).transpose()?;
        let possible = lineage.map(|lineage| &self.lineages[&lineage]);
        match (possible, key) {
            (None, None) => Ok(()),
            (Some(possible), Some(key)) if possible.contains(&key) => Ok(()),
            _ => Err(format!("it has key {key:?}; possible are {possible:?}")),
        }
    }

    /// After a power cut: this is the key that the lineage has.
    pub fn settle(&mut self, lineage: LineageId, key: &[u8]) -> Result<(), String> {
        self.check(Some(lineage), Some(key))?;
        let key = key_of(key)?;
        let before = self.lineages.insert(lineage, vec![key]).expect("a lineage");
        self.gone.extend(before.into_iter().filter(|other| *other != key));
        Ok(())
    }

    /// Nothing that is gone may be found.
    pub fn check_found(&self, found: &BTreeSet<KeyId>) -> Result<(), String> {
        match found.intersection(&self.gone).next() {
            None => Ok(()),
            Some(key) => Err(format!("key {key} is on the device, although it is gone")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use strongroom::device::SimulatedConfig;

    #[test]
    fn keys_are_recognised() {
        for key in [1, 5, 27, 28, 4000] {
            assert_eq!(key_of(&bytes_of(key)), Ok(key));
            assert!((16..=448).contains(&bytes_of(key).len()));
        }
        assert!(key_of(&bytes_of(5)[..16]).is_err() && key_of(b"").is_err());
        assert!(found_on(&SimulatedDevice::new(SimulatedConfig::default())).is_empty());
    }

    #[test]
    fn what_was_replaced_or_has_no_volume_left_is_gone() {
        let mut keys = Keys::default();
        let (lineage, old) = keys.begin();
        let new = keys.begin_replacing(lineage).expect("one at a time");
        assert_eq!(keys.begin_replacing(lineage), None);
        for key in [old, new] {
            let mut cut = keys.clone();
            cut.settle(lineage, &bytes_of(key)).expect("possible");
            assert!(cut.check_found(&BTreeSet::from([key])).is_ok());
            assert!(cut.check_found(&BTreeSet::from([old + new - key])).is_err());
        }
        keys.end_replacing(lineage);
        assert!(keys.check(Some(lineage), Some(&bytes_of(old))).is_err() && keys.check(Some(lineage), None).is_err());
        assert!(keys.check_found(&BTreeSet::from([old])).is_err() && keys.check_found(&BTreeSet::from([new])).is_ok());
        keys.keep(&BTreeSet::new());
        assert!(keys.check_found(&BTreeSet::from([new])).is_err());
    }
}
