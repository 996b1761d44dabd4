//! Which keys of the server are ours.
//!
//! A CMK is a name; each of its versions is a key of its own, `NAME-v1`, `NAME-v2` and so on: not every server can re-key, and links between keys are
//! not kept by all. The newest version that was ever activated wraps; its state is the CMK's.

use std::collections::BTreeMap;

use crate::kms::{CmkState, CmkVersion};

use super::message::{Call, Refusal};
use super::ttlv::{Structure, TtlvError};
use super::words::{attribute, tag};

/// Of one owner's key; whoever rotates more often has to begin with another key.
pub const MOST_VERSIONS: u32 = 1000;
/// Versions that are asked for at once; so many names without a key end the search.
const WINDOW: u32 = 8;
/// Keys whose attributes are asked for at once: their answers stay far below the most that is read.
const BATCH: usize = 32;
/// Keys of a page.
const PAGE: usize = 256;
/// All symmetric keys that the server shows us.
const MOST_KEYS: usize = 20_000;

/// The state of a key (KMIP 1.4 sections 3.22 and 9.1.3.2.18).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Made, but not activated.
    PreActive,
    /// In use.
    Active,
    /// Out of use.
    Deactivated,
    /// Known to somebody else, perhaps.
    Compromised,
    /// Gone.
    Destroyed,
}

impl State {
    fn of(number: u32) -> Result<Self, TtlvError> {
        match number {
            1 => Ok(Self::PreActive),
            2 => Ok(Self::Active),
            3 => Ok(Self::Deactivated),
            4 => Ok(Self::Compromised),
            5 | 6 => Ok(Self::Destroyed),
            _ => Err(TtlvError("a key is in a state that KMIP does not have")),
        }
    }

    /// In our words.
    pub fn cmk(self) -> CmkState {
        match self {
            Self::Active => CmkState::Enabled,
            Self::PreActive | Self::Deactivated | Self::Compromised => CmkState::Disabled,
            Self::Destroyed => CmkState::Destroyed,
        }
    }

    /// Why it cannot be used, and what would have to be done.
    pub fn why(self) -> &'static str {
        match self {
            Self::Active => "it can be used",
            Self::PreActive => "it is pre-active at the KMIP server; activate it there",
            Self::Deactivated => "it was deactivated at the KMIP server, which KMIP cannot undo; restore it there",
            Self::Compromised => "the KMIP server lists it as compromised, which KMIP cannot undo; restore it there",
            Self::Destroyed => {
                "the KMIP server has it no more; nothing that it wrapped can be opened unless it is restored there"
            }
        }
    }
}

/// A key at the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its unique identifier.
    pub id: String,
    /// The names that it has.
    pub names: Vec<String>,
    /// What may be done with it.
    pub state: State,
    /// When it was made, in seconds since 1970.
    pub created_at: Option<u64>,
}

impl Key {
    /// Out of the answer to [`Call::GetAttributes`].
    pub fn read(payload: Structure<'_>) -> Result<Self, TtlvError> {
        let mut key = Self {
            id: payload.need(tag::UNIQUE_IDENTIFIER)?.text()?.to_owned(),
            names: Vec::new(),
            state: State::PreActive,
            created_at: None,
        };
        let mut has_state = false;
        for item in payload.items().filter(|item| item.tag == tag::ATTRIBUTE) {
            let item = item.structure()?;
            let value = || item.need(tag::ATTRIBUTE_VALUE);
            match item.need(tag::ATTRIBUTE_NAME)?.text()? {
                attribute::NAME => key.names.push(value()?.structure()?.need(tag::NAME_VALUE)?.text()?.to_owned()),
                attribute::STATE => (key.state, has_state) = (State::of(value()?.enumeration()?)?, true),
                attribute::INITIAL_DATE => key.created_at = u64::try_from(value()?.date()?).ok(),
                _ => {}
            }
        }
        if has_state { Ok(key) } else { Err(TtlvError("a key has no state")) }
    }
}

/// A version of a CMK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// From 1 on.
    pub number: u32,
    /// The key.
    pub key: Key,
}

impl Version {
    /// In our words.
    pub fn cmk(&self) -> CmkVersion {
        CmkVersion { number: self.number, created_at: self.key.created_at }
    }
}

/// The name of a version.
pub fn version_name(cmk: &str, number: u32) -> String {
    format!("{cmk}-v{number}")
}

/// CMK and number, if it is the name of a version.
fn parse(name: &str) -> Option<(&str, u32)> {
    let (cmk, number) = name.rsplit_once("-v")?;
    let number = number.parse().ok().filter(|number| (1..=MOST_VERSIONS).contains(number))?;
    // There is one way to write a number.
    (version_name(cmk, number) == name).then_some((cmk, number))
}

/// The versions of each CMK among some keys, in order. If two nodes have made the same version at the same time, both see the same of the two here.
pub fn by_cmk(keys: Vec<Key>) -> BTreeMap<String, Vec<Version>> {
    let mut found: BTreeMap<String, BTreeMap<u32, Key>> = BTreeMap::new();
    for key in keys {
        let Some((cmk, number)) = key.names.iter().find_map(|name| parse(name)) else { continue };
        let versions = found.entry(cmk.to_owned()).or_default();
        let rank = |key: &Key| (key.state == State::Destroyed, key.created_at, key.id.clone());
        if versions.get(&number).is_none_or(|other| rank(&key) < rank(other)) {
            versions.insert(number, key);
        }
    }
    let versions = |keys: BTreeMap<u32, Key>| keys.into_iter().map(|(number, key)| Version { number, key }).collect();
    found.into_iter().map(|(cmk, keys)| (cmk, versions(keys))).collect()
}

/// What a server answers to each call of a batch.
type Outcomes<T> = Vec<Result<T, Refusal>>;

/// How to ask it: one batch, and what is read out of each answer.
pub trait Ask {
    /// What goes wrong.
    type Error;
    /// Identifiers of the keys that were located.
    fn locate(&self, calls: &[Call<'_>]) -> Result<Outcomes<Vec<String>>, Self::Error>;
    /// Keys with their attributes.
    fn attributes(&self, ids: &[String]) -> Result<Outcomes<Key>, Self::Error>;
    /// A refusal that should not be.
    fn refused(&self, refusal: Refusal) -> Self::Error;
    /// There is more than we can deal with.
    fn too_many(&self, what: &str) -> Self::Error;
}

/// All versions of a CMK.
pub fn versions<A: Ask>(server: &A, cmk: &str) -> Result<Vec<Version>, A::Error> {
    let mut ids = Vec::new();
    let mut first = 1;
    loop {
        let names: Vec<_> = (first..first + WINDOW).map(|number| version_name(cmk, number)).collect();
        let calls: Vec<_> = names.iter().map(|name| Call::Locate { name }).collect();
        let before = ids.len();
        for outcome in server.locate(&calls)? {
            ids.extend(outcome.map_err(|refusal| server.refused(refusal))?);
        }
        if ids.len() == before {
            break;
        }
        first += WINDOW;
        if first > MOST_VERSIONS || ids.len() > 2 * MOST_VERSIONS as usize {
            return Err(server.too_many("versions of one key"));
        }
    }
    let keys = attributes(server, &ids)?;
    Ok(by_cmk(keys).remove(cmk).unwrap_or_default())
}

/// All keys that it shows us.
pub fn all<A: Ask>(server: &A) -> Result<BTreeMap<String, Vec<Version>>, A::Error> {
    let mut ids: Vec<String> = Vec::new();
    loop {
        let page = server.locate(&[Call::LocateAll { offset: ids.len(), most: PAGE }])?;
        let before = ids.len();
        for outcome in page {
            ids.extend(outcome.map_err(|refusal| server.refused(refusal))?);
        }
        if ids.len() < before + PAGE {
            break;
        }
        if ids.len() > MOST_KEYS {
            return Err(server.too_many("keys"));
        }
    }
    attributes(server, &ids).map(by_cmk)
}

/// A key that was destroyed meanwhile is left out.
fn attributes<A: Ask>(server: &A, ids: &[String]) -> Result<Vec<Key>, A::Error> {
    let mut keys = Vec::new();
    for batch in ids.chunks(BATCH) {
        for outcome in server.attributes(batch)? {
            match outcome {
                Ok(key) => keys.push(key),
                Err(refusal) if refusal.reason == super::words::reason::ITEM_NOT_FOUND => {}
                Err(refusal) => return Err(server.refused(refusal)),
            }
        }
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str, name: &str, state: State, created_at: u64) -> Key {
        Key { id: id.to_owned(), names: vec![name.to_owned()], state, created_at: Some(created_at) }
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        assert_eq!(parse("strongroom-r-a-v12"), Some(("strongroom-r-a", 12)));
        assert_eq!(parse("strongroom-r-a-v2-v1"), Some(("strongroom-r-a-v2", 1)));
        for other in ["strongroom-r-a", "x-v0", "x-v01", "x-v+1", "x-v1001", "x-v", "x-v99999999999"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn of_two_keys_of_a_name_all_see_the_same() {
        let (one, two) = (key("8", "a-v1", State::Active, 5), key("7", "a-v1", State::Active, 6));
        let gone = key("1", "a-v1", State::Destroyed, 1);
        let second = key("9", "a-v2", State::Active, 9);
        for keys in [vec![one.clone(), two.clone(), second.clone(), gone.clone()], vec![gone, second, two, one.clone()]]
        {
            let versions = by_cmk(keys).remove("a").expect("a");
            assert_eq!(versions[0], Version { number: 1, key: one.clone() });
            assert_eq!((versions.len(), versions[1].number), (2, 2));
        }
    }
}
