//! What a target asks of its helper, and what that answers.
//!
//! A conversation begins with [`Request::Open`] and [`Request::Login`]; then come calls in any order, one at a time. Each is answered by one message,
//! [`Request::List`] by a [`Answer::Key`] for each key before its [`Answer::Done`]. After [`Answer::Failed`] the helper ends: the next call begins
//! with a fresh library.

use super::frame::{Fields, Frame, Garbled, WireError};
use crate::kms::KEY_BYTES;
use crate::memory::Secret;

/// Bytes of the nonce (NIST SP 800-38D section 8.2.2).
pub(super) const IV_BYTES: usize = 12;
/// Bytes of the tag.
pub(super) const TAG_BYTES: usize = 16;
/// A wrapped key: nonce, cipher text, tag.
pub(super) const SEALED_BYTES: usize = IV_BYTES + KEY_BYTES + TAG_BYTES;

/// What a wrapped key is made of.
pub(super) type SealedKey = [u8; SEALED_BYTES];
/// The `CKA_ID` of a key that we have made.
pub(super) type ObjectId = [u8; 16];

/// A key in the token: both have to be right.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Object<'a> {
    pub(super) label: &'a str,
    pub(super) id: &'a ObjectId,
}

/// A sealed disk key: with which key, and together with what.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Bound<'a> {
    pub(super) object: Object<'a>,
    /// The additional data.
    pub(super) context: &'a [u8],
}

/// What is asked. Without `Debug`: a PIN and keys are in it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Request<'a> {
    /// Loads the library and looks for the token; the helper ends when nothing is asked for so long.
    Open { module: &'a [u8], token: &'a str, idle_ms: u32 },
    /// Opens the one session.
    Login { pin: &'a [u8] },
    /// Asks for [`Answer::About`].
    Health,
    /// Asks for all AES keys whose label begins so.
    List { prefix: &'a str },
    /// Makes a master key.
    Generate { object: Object<'a> },
    /// Asks for [`Answer::Sealed`].
    Wrap { with: Bound<'a>, key: &'a [u8; KEY_BYTES] },
    /// Asks for [`Answer::Plain`].
    Unwrap { with: Bound<'a>, sealed: &'a SealedKey },
    /// Asks for [`Answer::Sealed`]; the plain key stays in the helper.
    Rewrap { from: Bound<'a>, sealed: &'a SealedKey, to: Bound<'a> },
}

/// What has failed, told apart by what there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The library cannot be loaded, or the token's label is not unique.
    Config,
    /// May go better later.
    Unavailable,
    /// The token does not let us.
    Refused,
    /// The token does not take the PIN: it must not be tried again.
    WrongPin,
    /// There is no such key.
    NotFound,
    /// The wrapped key does not open, while the token works.
    NotAuthentic,
    /// The token cannot do it.
    Unsupported,
    /// The token does what it must not.
    Nonsense,
}

impl Failure {
    const ALL: [Self; 8] = [
        Self::Config,
        Self::Unavailable,
        Self::Refused,
        Self::WrongPin,
        Self::NotFound,
        Self::NotAuthentic,
        Self::Unsupported,
        Self::Nonsense,
    ];

    fn number(self) -> u8 {
        Self::ALL.iter().position(|failure| *failure == self).expect("all are there") as u8
    }
}

/// What is answered. Without `Debug`: a key is in it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer<'a> {
    Done,
    About { text: &'a str },
    Key { object: Object<'a> },
    Sealed { sealed: &'a SealedKey },
    Plain { key: &'a [u8; KEY_BYTES] },
    Failed { failure: Failure, what: &'a str },
}

/// The kinds of frames: requests, and from 128 on answers.
mod kind {
    pub(super) const OPEN: u8 = 1;
    pub(super) const LOGIN: u8 = 2;
    pub(super) const HEALTH: u8 = 3;
    pub(super) const LIST: u8 = 4;
    pub(super) const GENERATE: u8 = 5;
    pub(super) const WRAP: u8 = 6;
    pub(super) const UNWRAP: u8 = 7;
    pub(super) const REWRAP: u8 = 8;
    pub(super) const DONE: u8 = 128;
    pub(super) const ABOUT: u8 = 129;
    pub(super) const KEY: u8 = 130;
    pub(super) const SEALED: u8 = 131;
    pub(super) const PLAIN: u8 = 132;
    pub(super) const FAILED: u8 = 133;
}

impl<'a> Object<'a> {
    fn read(fields: &mut Fields<'a>) -> Result<Self, Garbled> {
        Ok(Self { label: fields.text()?, id: fields.array()? })
    }
}

impl<'a> Bound<'a> {
    fn fields(&self) -> [&'a [u8]; 3] {
        [self.object.label.as_bytes(), self.object.id, self.context]
    }

    fn read(fields: &mut Fields<'a>) -> Result<Self, Garbled> {
        Ok(Self { object: Object::read(fields)?, context: fields.bytes()? })
    }
}

impl<'a> Request<'a> {
    pub(super) fn encode(&self) -> Result<Secret<Frame>, WireError> {
        match self {
            Self::Open { module, token, idle_ms } => {
                Frame::build(kind::OPEN, &[module, token.as_bytes(), &idle_ms.to_le_bytes()])
            }
            Self::Login { pin } => Frame::build(kind::LOGIN, &[pin]),
            Self::Health => Frame::build(kind::HEALTH, &[]),
            Self::List { prefix } => Frame::build(kind::LIST, &[prefix.as_bytes()]),
            Self::Generate { object } => Frame::build(kind::GENERATE, &[object.label.as_bytes(), object.id]),
            Self::Wrap { with, key } => {
                let [label, id, context] = with.fields();
                Frame::build(kind::WRAP, &[label, id, context, *key])
            }
            Self::Unwrap { with, sealed } => {
                let [label, id, context] = with.fields();
                Frame::build(kind::UNWRAP, &[label, id, context, *sealed])
            }
            Self::Rewrap { from, sealed, to } => {
                let [label, id, context] = from.fields();
                let [new_label, new_id, new_context] = to.fields();
                Frame::build(kind::REWRAP, &[label, id, context, *sealed, new_label, new_id, new_context])
            }
        }
    }

    pub(super) fn decode(frame: &'a Frame) -> Result<Self, Garbled> {
        let (kind, mut fields) = frame.open()?;
        let f = &mut fields;
        let request = match kind {
            kind::OPEN => Self::Open { module: f.bytes()?, token: f.text()?, idle_ms: f.number()? },
            kind::LOGIN => Self::Login { pin: f.bytes()? },
            kind::HEALTH => Self::Health,
            kind::LIST => Self::List { prefix: f.text()? },
            kind::GENERATE => Self::Generate { object: Object::read(f)? },
            kind::WRAP => Self::Wrap { with: Bound::read(f)?, key: f.array()? },
            kind::UNWRAP => Self::Unwrap { with: Bound::read(f)?, sealed: f.array()? },
            kind::REWRAP => Self::Rewrap { from: Bound::read(f)?, sealed: f.array()?, to: Bound::read(f)? },
            _ => return Err(Garbled("there is no such request")),
        };
        fields.end()?;
        Ok(request)
    }
}

impl<'a> Answer<'a> {
    pub(super) fn encode(&self) -> Result<Secret<Frame>, WireError> {
        match self {
            Self::Done => Frame::build(kind::DONE, &[]),
            Self::About { text } => Frame::build(kind::ABOUT, &[text.as_bytes()]),
            Self::Key { object } => Frame::build(kind::KEY, &[object.label.as_bytes(), object.id]),
            Self::Sealed { sealed } => Frame::build(kind::SEALED, &[*sealed]),
            Self::Plain { key } => Frame::build(kind::PLAIN, &[*key]),
            Self::Failed { failure, what } => Frame::build(kind::FAILED, &[&[failure.number()], what.as_bytes()]),
        }
    }

    pub(super) fn decode(frame: &'a Frame) -> Result<Self, Garbled> {
        let (kind, mut fields) = frame.open()?;
        let f = &mut fields;
        let answer = match kind {
            kind::DONE => Self::Done,
            kind::ABOUT => Self::About { text: f.text()? },
            kind::KEY => Self::Key { object: Object::read(f)? },
            kind::SEALED => Self::Sealed { sealed: f.array()? },
            kind::PLAIN => Self::Plain { key: f.array()? },
            kind::FAILED => {
                let [number] = *f.array()?;
                let failure = Failure::ALL.get(usize::from(number)).ok_or(Garbled("there is no such failure"))?;
                Self::Failed { failure: *failure, what: f.text()? }
            }
            _ => return Err(Garbled("there is no such answer")),
        };
        fields.end()?;
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn bound<'a>(label: &'a str, id: &'a ObjectId, context: &'a [u8]) -> Bound<'a> {
        Bound { object: Object { label, id }, context }
    }

    proptest! {
        #[test]
        fn what_is_said_arrives(
            texts in (".{0,100}", ".{0,100}"),
            bytes in (vec(any::<u8>(), 0..2000), vec(any::<u8>(), 0..2000)),
            number: u32, ids: (ObjectId, ObjectId), key: [u8; KEY_BYTES],
            sealed in vec(any::<u8>(), SEALED_BYTES), which in 0..Failure::ALL.len(),
        ) {
            let (with, to) = (bound(&texts.0, &ids.0, &bytes.0), bound(&texts.1, &ids.1, &bytes.1));
            let sealed: &SealedKey = sealed.as_slice().try_into().expect("so long");
            for request in [
                Request::Open { module: &bytes.0, token: &texts.0, idle_ms: number },
                Request::Login { pin: &bytes.1 },
                Request::Health,
                Request::List { prefix: &texts.1 },
                Request::Generate { object: to.object },
                Request::Wrap { with, key: &key },
                Request::Unwrap { with, sealed },
                Request::Rewrap { from: with, sealed, to },
            ] {
                let frame = request.encode().expect("it fits");
                prop_assert!(Request::decode(&frame) == Ok(request));
                prop_assert!(Answer::decode(&frame).is_err());
            }
            for answer in [
                Answer::Done,
                Answer::About { text: &texts.0 },
                Answer::Key { object: with.object },
                Answer::Sealed { sealed },
                Answer::Plain { key: &key },
                Answer::Failed { failure: Failure::ALL[which], what: &texts.1 },
            ] {
                let frame = answer.encode().expect("it fits");
                prop_assert!(Answer::decode(&frame) == Ok(answer));
                prop_assert!(Request::decode(&frame).is_err());
            }
        }

        #[test]
        fn nothing_that_arrives_does_harm(mut bytes in vec(any::<u8>(), 0..300), kind: u8, honest: bool) {
            // Most random heads are refused at once; an honest one leads deeper.
            if honest && bytes.len() >= 4 {
                let len = (bytes.len() - 4) as u16;
                bytes[..2].copy_from_slice(&len.to_le_bytes());
                bytes[2] = kind % 10 + 128 * (kind / 128);
                bytes[3] = 0;
            }
            let frame = Frame::raw(&bytes);
            let _ = Request::decode(&frame);
            let _ = Answer::decode(&frame);
        }

        #[test]
        fn what_is_damaged_does_no_harm(at in 0usize..400, flip in 1u8.., cut in 0usize..400) {
            let with = bound("strongroom.local.a-v1", &[1; 16], &[2; 90]);
            let request = Request::Rewrap { from: with, sealed: &[3; SEALED_BYTES], to: with };
            let mut bytes = request.encode().expect("it fits").bytes().to_vec();
            let at = at % bytes.len();
            bytes[at] ^= flip;
            let _ = Request::decode(&Frame::raw(&bytes));
            bytes[at] ^= flip;
            bytes.truncate(cut % bytes.len());
            prop_assert!(Request::decode(&Frame::raw(&bytes)).is_err());
        }
    }
}
