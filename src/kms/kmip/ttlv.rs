//! TTLV: how KMIP writes tags, types, lengths and values (KMIP 1.4 section 9.1.1).
//!
//! What is read comes from a peer. [`Structure::check`] walks over all of it once, and bounds its depth; from then on every item is known to lie within the
//! bytes, and views of it are handed out without a copy. What is written may hold a key: a [`Writer`] wipes its bytes, also those it outgrows.

use thiserror::Error;
use zeroize::Zeroizing;

/// Bytes before a value: tag, type and length (section 9.1.1).
pub const HEADER_BYTES: usize = 8;
/// KMIP's own messages nest six deep at most.
const MOST_DEPTH: usize = 12;
/// What a request with a key in it needs, and more.
const USUAL_BYTES: usize = 2048;

/// What an item is (section 9.1.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(pub u32);

/// The type of an item's value (section 9.1.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Items.
    Structure = 1,
    /// Four bytes, signed.
    Integer = 2,
    /// Eight bytes, signed.
    LongInteger = 3,
    /// Any multiple of eight bytes.
    BigInteger = 4,
    /// Four bytes.
    Enumeration = 5,
    /// Eight bytes, of which the last says it.
    Boolean = 6,
    /// UTF-8.
    TextString = 7,
    /// Bytes.
    ByteString = 8,
    /// Eight bytes: seconds since 1970.
    DateTime = 9,
    /// Four bytes: seconds.
    Interval = 10,
}

impl Kind {
    const ALL: [Self; 10] = [
        Self::Structure,
        Self::Integer,
        Self::LongInteger,
        Self::BigInteger,
        Self::Enumeration,
        Self::Boolean,
        Self::TextString,
        Self::ByteString,
        Self::DateTime,
        Self::Interval,
    ];

    fn of(byte: u8) -> Result<Self, TtlvError> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte).ok_or(TtlvError("a type that KMIP does not have"))
    }

    /// Lengths are fixed for most types (section 9.1.1.3).
    fn fits(self, len: usize) -> bool {
        match self {
            Self::Integer | Self::Enumeration | Self::Interval => len == 4,
            Self::LongInteger | Self::Boolean | Self::DateTime => len == 8,
            Self::Structure | Self::BigInteger => len.is_multiple_of(8),
            Self::TextString | Self::ByteString => true,
        }
    }
}

/// What is wrong with bytes that should be TTLV.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct TtlvError(pub &'static str);

/// One item.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// What it is.
    pub tag: Tag,
    kind: Kind,
    value: &'a [u8],
}

impl<'a> Item<'a> {
    fn value_of<const N: usize>(self, kind: Kind) -> Result<[u8; N], TtlvError> {
        let value = (self.kind == kind).then_some(self.value).and_then(|value| value.try_into().ok());
        value.ok_or(TtlvError("an item has another type than it must have"))
    }

    /// An integer.
    pub fn integer(self) -> Result<i32, TtlvError> {
        self.value_of(Kind::Integer).map(i32::from_be_bytes)
    }

    /// One of the values that the specification lists.
    pub fn enumeration(self) -> Result<u32, TtlvError> {
        self.value_of(Kind::Enumeration).map(u32::from_be_bytes)
    }

    /// Seconds since 1970.
    pub fn date(self) -> Result<i64, TtlvError> {
        self.value_of(Kind::DateTime).map(i64::from_be_bytes)
    }

    /// Text.
    pub fn text(self) -> Result<&'a str, TtlvError> {
        match self.kind {
            Kind::TextString => std::str::from_utf8(self.value).map_err(|_| TtlvError("a text is not UTF-8")),
            _ => Err(TtlvError("an item is no text but must be one")),
        }
    }

    /// Bytes.
    pub fn bytes(self) -> Result<&'a [u8], TtlvError> {
        match self.kind {
            Kind::ByteString => Ok(self.value),
            _ => Err(TtlvError("an item is no byte string but must be one")),
        }
    }

    /// Items.
    pub fn structure(self) -> Result<Structure<'a>, TtlvError> {
        match self.kind {
            Kind::Structure => Ok(Structure(self.value)),
            _ => Err(TtlvError("an item is no structure but must be one")),
        }
    }
}

/// Items, one after the other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Structure<'a>(&'a [u8]);

impl<'a> Structure<'a> {
    /// Takes the bytes if they are items from the first to the last, at every depth.
    pub fn check(bytes: &'a [u8]) -> Result<Self, TtlvError> {
        walk(bytes, MOST_DEPTH)?;
        Ok(Self(bytes))
    }

    /// All items.
    pub fn items(self) -> impl Iterator<Item = Item<'a>> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (item, later) = next(rest).ok()?;
            rest = later;
            Some(item)
        })
    }

    /// The first item of a tag.
    pub fn find(self, tag: Tag) -> Option<Item<'a>> {
        self.items().find(|item| item.tag == tag)
    }

    /// The first item of a tag, which has to be there.
    pub fn need(self, tag: Tag) -> Result<Item<'a>, TtlvError> {
        self.find(tag).ok_or(TtlvError("an item that must be there is missing"))
    }
}

/// Its depth, and so its stack, is bounded.
fn walk(mut bytes: &[u8], depth_left: usize) -> Result<(), TtlvError> {
    while !bytes.is_empty() {
        let (item, rest) = next(bytes)?;
        if item.kind == Kind::Structure {
            let deeper = depth_left.checked_sub(1).ok_or(TtlvError("it is nested too deep"))?;
            walk(item.value, deeper)?;
        }
        bytes = rest;
    }
    Ok(())
}

/// The first item, and what follows after its padding.
fn next(bytes: &[u8]) -> Result<(Item<'_>, &[u8]), TtlvError> {
    const CUT: TtlvError = TtlvError("it is cut off");
    let (&[t0, t1, t2, kind, l0, l1, l2, l3], rest) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(CUT)?;
    let kind = Kind::of(kind)?;
    let len = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
    if !kind.fits(len) {
        return Err(TtlvError("a length does not fit its type"));
    }
    let (value, rest) = rest.split_at_checked(len).ok_or(CUT)?;
    let (_padding, rest) = rest.split_at_checked(padding(len)).ok_or(CUT)?;
    Ok((Item { tag: Tag(u32::from_be_bytes([0, t0, t1, t2])), kind, value }, rest))
}

/// Values end on a multiple of eight bytes (section 9.1.1.3).
fn padding(len: usize) -> usize {
    len.next_multiple_of(8) - len
}

/// Writes items.
pub struct Writer {
    bytes: Zeroizing<Vec<u8>>,
}

impl Writer {
    /// Nothing yet.
    pub fn new() -> Self {
        Self { bytes: Zeroizing::new(Vec::with_capacity(USUAL_BYTES)) }
    }

    /// What was written.
    pub fn finish(self) -> Zeroizing<Vec<u8>> {
        self.bytes
    }

    /// A structure; `fill` writes what is in it.
    pub fn structure(&mut self, tag: Tag, fill: impl FnOnce(&mut Self)) {
        self.header(tag, Kind::Structure, 0);
        let start = self.bytes.len();
        fill(self);
        let len = (self.bytes.len() - start) as u32;
        self.bytes[start - 4..start].copy_from_slice(&len.to_be_bytes());
    }

    /// An integer.
    pub fn integer(&mut self, tag: Tag, value: i32) {
        self.item(tag, Kind::Integer, &value.to_be_bytes());
    }

    /// One of the values that the specification lists.
    pub fn enumeration(&mut self, tag: Tag, value: u32) {
        self.item(tag, Kind::Enumeration, &value.to_be_bytes());
    }

    /// Text.
    pub fn text(&mut self, tag: Tag, value: &str) {
        self.item(tag, Kind::TextString, value.as_bytes());
    }

    /// Bytes.
    pub fn bytes(&mut self, tag: Tag, value: &[u8]) {
        self.item(tag, Kind::ByteString, value);
    }

    fn item(&mut self, tag: Tag, kind: Kind, value: &[u8]) {
        self.header(tag, kind, value.len());
        self.push(value);
        self.push(&[0; 8][..padding(value.len())]);
    }

    fn header(&mut self, tag: Tag, kind: Kind, len: usize) {
        self.push(&tag.0.to_be_bytes()[1..]);
        self.push(&[kind as u8]);
        self.push(&(len as u32).to_be_bytes());
    }

    /// A vector that grows by itself leaves its old bytes behind.
    fn push(&mut self, more: &[u8]) {
        if self.bytes.capacity() - self.bytes.len() < more.len() {
            let mut larger = Vec::with_capacity(2 * (self.bytes.len() + more.len()));
            larger.extend_from_slice(&self.bytes);
            self.bytes = Zeroizing::new(larger);
        }
        self.bytes.extend_from_slice(more);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OUTER: Tag = Tag(0x42_0020);
    const INNER: Tag = Tag(0x42_0004);

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02X}")).collect()
    }

    #[test]
    fn it_writes_the_examples_of_the_specification() {
        // Section 9.1.2, all with tag 420020.
        let written = |write: fn(&mut Writer)| {
            let mut writer = Writer::new();
            write(&mut writer);
            hex(&writer.finish())
        };
        assert_eq!(written(|w| w.integer(OUTER, 8)), "42002002000000040000000800000000");
        assert_eq!(written(|w| w.enumeration(OUTER, 255)), "4200200500000004000000FF00000000");
        assert_eq!(written(|w| w.text(OUTER, "Hello World")), "420020070000000B48656C6C6F20576F726C640000000000");
        assert_eq!(written(|w| w.bytes(OUTER, &[1, 2, 3])), "42002008000000030102030000000000");
        let structure = written(|w| {
            w.structure(OUTER, |w| {
                w.enumeration(INNER, 254);
                w.integer(Tag(0x42_0005), 255);
            });
        });
        assert_eq!(structure, "42002001000000204200040500000004000000FE000000004200050200000004000000FF00000000");
    }

    #[test]
    fn what_was_written_is_read() {
        let mut writer = Writer::new();
        writer.structure(OUTER, |w| {
            w.text(INNER, "name");
            w.structure(INNER, |w| w.bytes(OUTER, &[7; 3000]));
        });
        let bytes = writer.finish();
        let outer = Structure::check(&bytes).and_then(|all| all.need(OUTER)?.structure()).expect("read");
        let items: Vec<_> = outer.items().collect();
        assert_eq!(items[0].text(), Ok("name"));
        let inner = items[1].structure().expect("a structure");
        assert_eq!(inner.need(OUTER).and_then(Item::bytes), Ok(&[7; 3000][..]));
        assert!(inner.need(INNER).is_err() && items[0].integer().is_err() && items[1].text().is_err());
    }

    #[test]
    fn what_is_cut_or_deep_or_too_long_is_refused() {
        let mut writer = Writer::new();
        writer.structure(OUTER, |w| w.text(INNER, "some name"));
        let bytes = writer.finish();
        assert!((1..bytes.len()).all(|len| Structure::check(&bytes[..len]).is_err()));
        let mut long = bytes.clone();
        long[12..16].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(Structure::check(&long).is_err());
        let mut deep = Writer::new();
        nest(&mut deep, 100_000 / HEADER_BYTES);
        assert!(Structure::check(&deep.finish()).is_err());
        let mut deepest = Writer::new();
        nest(&mut deepest, MOST_DEPTH);
        assert!(Structure::check(&deepest.finish()).is_ok());
    }

    /// By hand: a closure in a closure would need the stack that reading must not need.
    fn nest(writer: &mut Writer, depth: usize) {
        for level in (0..depth).rev() {
            writer.header(OUTER, Kind::Structure, level * HEADER_BYTES);
        }
    }

    proptest! {
        #[test]
        fn nothing_that_is_read_does_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(all) = Structure::check(&bytes) {
                for item in all.items() {
                    let _ = (item.integer(), item.enumeration(), item.date(), item.text(), item.bytes(), item.structure());
                }
            }
        }

        #[test]
        fn what_is_changed_does_no_harm_and_is_within(
            text in "[a-z]{0,40}", number in any::<i32>(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
        ) {
            let mut writer = Writer::new();
            writer.structure(OUTER, |w| {
                w.text(INNER, &text);
                w.structure(INNER, |w| w.integer(INNER, number));
            });
            let mut bytes = writer.finish();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(all) = Structure::check(&bytes) {
                let within = all.items().filter_map(|item| item.structure().ok()).flat_map(Structure::items).count();
                prop_assert!(within <= bytes.len() / HEADER_BYTES);
            }
        }
    }
}
