//! What a TPM slot keeps: an object that only the TPM which made it can load, and the PCRs that it is bound to.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..8 | [`Figure`] |
//! | then | `TPM2B_PUBLIC` and `TPM2B_PRIVATE` without their lengths (TPM 2.0 Library part 2, sections 12.2.5 and 12.3.7) |

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The beginning.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Figure {
    /// Bit n is PCR n of the SHA-256 bank.
    pcrs: U32,
    public_len: U16,
    private_len: U16,
}

const _: () = assert!(size_of::<Figure>() == 8);

/// No object of ours is longer.
const MOST_LEN: usize = 1024;

/// An object of a TPM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SealedByTpm {
    pub(super) pcrs: u32,
    pub(super) public: Vec<u8>,
    pub(super) private: Vec<u8>,
}

impl SealedByTpm {
    pub(super) fn encode(&self) -> Vec<u8> {
        let figure = Figure {
            pcrs: self.pcrs.into(),
            public_len: (self.public.len() as u16).into(),
            private_len: (self.private.len() as u16).into(),
        };
        [figure.as_bytes(), &self.public, &self.private].concat()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (figure, rest) = Figure::read_from_prefix(bytes).ok()?;
        let (public, private) = rest.split_at_checked(figure.public_len.get().into())?;
        if private.len() != usize::from(figure.private_len.get()) || public.len().max(private.len()) > MOST_LEN {
            return None;
        }
        Some(Self { pcrs: figure.pcrs.get(), public: public.to_vec(), private: private.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_and_other_lengths_are_refused() {
        let sealed = SealedByTpm { pcrs: 0x90, public: vec![1; 78], private: vec![2; 158] };
        let bytes = sealed.encode();
        assert_eq!(SealedByTpm::decode(&bytes), Some(sealed));
        assert!((0..bytes.len()).all(|len| SealedByTpm::decode(&bytes[..len]).is_none()));
        assert_eq!(SealedByTpm::decode(&[&bytes[..], b"x"].concat()), None);
    }
}
