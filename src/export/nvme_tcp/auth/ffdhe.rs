//! Diffie-Hellman in the groups of DH-HMAC-CHAP: none, or the finite fields of RFC 7919 (NVM Express Base 2.0 section 8.13.5.2).
//!
//! An [`Exponentiation`] is prepared on a reactor and run elsewhere: it takes milliseconds, and tens of them in the large
//! groups. It takes a time that depends on the group alone, never on the exponent. Exponents and results are wiped; the
//! library's own intermediate values on the heap are not, and nothing can be computed from them after the transaction.

use std::fmt;
use std::sync::LazyLock;

use crypto_bigint::modular::{BoxedMontyForm, BoxedMontyParams};
use crypto_bigint::{BoxedUint, Odd};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::primes;

/// A group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// No Diffie-Hellman exchange.
    Null,
    /// ffdhe2048.
    Ffdhe2048,
    /// ffdhe3072.
    Ffdhe3072,
    /// ffdhe4096.
    Ffdhe4096,
    /// ffdhe6144.
    Ffdhe6144,
    /// ffdhe8192.
    Ffdhe8192,
}

impl Group {
    /// All, in the order of their identifiers.
    pub const ALL: [Self; 6] =
        [Self::Null, Self::Ffdhe2048, Self::Ffdhe3072, Self::Ffdhe4096, Self::Ffdhe6144, Self::Ffdhe8192];

    /// The group identifier (section 8.13.5.2, DHgIDList).
    pub fn id(self) -> u8 {
        self as u8
    }

    /// The field, if there is an exchange.
    pub fn field(self) -> Option<&'static Field> {
        usize::from(self.id()).checked_sub(1).map(|index| &FIELDS[index])
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field() {
            None => f.write_str("null"),
            Some(field) => write!(f, "ffdhe{}", field.bits),
        }
    }
}

/// A finite field of RFC 7919.
pub struct Field {
    bits: u32,
    /// At least what RFC 7919 names for the group (Appendix A, twice the strength), in whole bytes.
    exponent_bytes: usize,
    params: LazyLock<BoxedMontyParams>,
}

static FIELDS: [Field; 5] = [
    Field { bits: 2048, exponent_bytes: 29, params: LazyLock::new(|| params(primes::FFDHE2048, 2048)) },
    Field { bits: 3072, exponent_bytes: 35, params: LazyLock::new(|| params(primes::FFDHE3072, 3072)) },
    Field { bits: 4096, exponent_bytes: 41, params: LazyLock::new(|| params(primes::FFDHE4096, 4096)) },
    Field { bits: 6144, exponent_bytes: 47, params: LazyLock::new(|| params(primes::FFDHE6144, 6144)) },
    Field { bits: 8192, exponent_bytes: 50, params: LazyLock::new(|| params(primes::FFDHE8192, 8192)) },
];

/// The generator of all groups (RFC 7919 Appendix A).
const GENERATOR: u8 = 2;

fn params(prime: &str, bits: u32) -> BoxedMontyParams {
    let prime = BoxedUint::from_be_hex(prime, bits).into_option().expect("the constant is hex of this length");
    BoxedMontyParams::new_vartime(Odd::new(prime).into_option().expect("the prime is odd"))
}

impl Field {
    /// How long a public value and a shared secret are.
    pub fn bytes(&self) -> usize {
        self.bits as usize / 8
    }

    /// 1 < y < p - 1 (RFC 7919 section 5.1): others would leave a secret that everybody knows.
    fn is_public_value(&self, value: &BoxedUint) -> bool {
        let one = BoxedUint::one_with_precision(self.bits);
        let last = self.params.modulus().as_ref().wrapping_sub(&one);
        *value > one && *value < last
    }
}

/// A secret exponent, used for one transaction.
pub struct Exponent {
    field: &'static Field,
    bytes: Zeroizing<Vec<u8>>,
}

impl Exponent {
    /// A fresh one.
    pub fn random(field: &'static Field) -> Result<Self, getrandom::Error> {
        let mut bytes = Zeroizing::new(vec![0; field.exponent_bytes]);
        getrandom::fill(&mut bytes)?;
        Ok(Self { field, bytes })
    }

    /// g^x, the value that the peer gets.
    pub fn public_value(self) -> Exponentiation {
        let mut base = vec![0; self.field.bytes()];
        *base.last_mut().expect("a field has bytes") = GENERATOR;
        Exponentiation { base, exponent: self }
    }

    /// y^x, which both sides know and nobody else, from the peer's value.
    pub fn shared_secret(self, peer: &[u8]) -> Exponentiation {
        Exponentiation { base: peer.to_vec(), exponent: self }
    }
}

/// A modular exponentiation that waits to be run, off the reactor.
pub struct Exponentiation {
    base: Vec<u8>,
    exponent: Exponent,
}

/// What an exponentiation gave.
pub struct Power {
    /// The exponent, back.
    pub exponent: Exponent,
    /// The value in the group's full length; none if the base was no public value.
    pub value: Option<Zeroizing<Vec<u8>>>,
}

impl Exponentiation {
    /// Computes it.
    pub fn run(self) -> Power {
        let value = self.value();
        Power { exponent: self.exponent, value }
    }

    fn value(&self) -> Option<Zeroizing<Vec<u8>>> {
        let field = self.exponent.field;
        if self.base.len() != field.bytes() {
            return None;
        }
        let base = BoxedUint::from_be_slice(&self.base, field.bits).ok()?;
        if !field.is_public_value(&base) {
            return None;
        }
        let exponent_bits = 8 * self.exponent.bytes.len() as u32;
        let exponent = BoxedUint::from_be_slice(&self.exponent.bytes, exponent_bits).ok()?;
        let exponent = Zeroizing::new(exponent);
        let power = BoxedMontyForm::new(base, &field.params).pow_bounded_exp(&exponent, exponent_bits);
        let power = Zeroizing::new(Zeroizing::new(power).retrieve());
        Some(Zeroizing::new(power.to_be_bytes().into_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> impl Iterator<Item = &'static Field> {
        Group::ALL.into_iter().filter_map(Group::field)
    }

    fn number(field: &Field, value: u8) -> Vec<u8> {
        let mut bytes = vec![0; field.bytes()];
        bytes[field.bytes() - 1] = value;
        bytes
    }

    #[test]
    fn both_sides_get_the_same_secret() {
        for field in fields() {
            let ours = Exponent::random(field).expect("random").public_value().run();
            let theirs = Exponent::random(field).expect("random").public_value().run();
            let (our_value, their_value) = (ours.value.expect("g fits"), theirs.value.expect("g fits"));
            let one = ours.exponent.shared_secret(&their_value).run().value.expect("a public value");
            let other = theirs.exponent.shared_secret(&our_value).run().value.expect("a public value");
            assert_eq!(one, other);
            assert_eq!(one.len(), field.bytes());
        }
    }

    /// SHA-256 of 2^x and of 2^(xy) with x = 0x1111…, y = 0x2222… of 40 bytes, as Python's `pow` gives them.
    #[test]
    fn powers_are_those_of_another_implementation() {
        let wanted = [
            (
                "d563834415a14d5945272e55517cf09d585ea719602ef0736d434ec63b6aafbd",
                "9e701f396faf61f7bf0debea4072d86abc5d4884fc7a00ea6cc6668d4c5c5fa4",
            ),
            (
                "4f99e2c22f282cb98e0973a4e2262a7bd40115b4d9ade0b85c4b650051109fa1",
                "fe06b759f7ab30721bf3168371b179252a83f6681cbe900cc9eaaa7a2afb2b3a",
            ),
            (
                "048409b7b07c111a7f13db2b49510b8b5f9b73e28a5b5ac870cc3e756eae42b6",
                "02079b97dcd49040877770f89eb54c3b89123f4b685e73d568e063dfbd4e7935",
            ),
            (
                "57172c55c9ca6a5cce796eaae7fe4bbab148565f1c90121e75c098184a4c7dba",
                "9e4d986aa3e1765c78768aea98b6a4541cbdbd2916c2203a216c2d8bb5aaad3f",
            ),
            (
                "57d6bbb5ea406b347fd16b7cb186402be120055d71fba09693d0a16843283c70",
                "d1a5cc45cd86f3aec31cd84b27344b00b91ce23c38dac91fd3a9e4df2ce24155",
            ),
        ];
        let digest = |power: &[u8]| -> String {
            super::super::Hash::Sha256.digest(power).as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
        };
        for (field, (public, shared)) in fields().zip(wanted) {
            let x = Exponent { field, bytes: Zeroizing::new(vec![0x11; 40]) }.public_value().run();
            let y = Exponent { field, bytes: Zeroizing::new(vec![0x22; 40]) }.public_value().run();
            assert_eq!(digest(&x.value.expect("g fits")), public);
            let power = x.exponent.shared_secret(&y.value.expect("g fits")).run();
            assert_eq!(digest(&power.value.expect("a public value")), shared);
        }
    }

    #[test]
    fn small_powers_are_those_of_two() {
        for field in fields() {
            let exponent = Exponent { field, bytes: Zeroizing::new(vec![0, 7]) };
            assert_eq!(*exponent.public_value().run().value.expect("g fits"), number(field, 128));
        }
    }

    #[test]
    fn values_that_leave_no_secret_are_refused() {
        for field in fields() {
            let prime = field.params.modulus().as_ref().to_be_bytes().into_vec();
            let minus = |below: u8| {
                let mut value = prime.clone();
                *value.last_mut().expect("bytes") -= below;
                value
            };
            let raised = |peer: &[u8]| Exponent::random(field).expect("random").shared_secret(peer).run().value;
            for bad in [number(field, 0), number(field, 1), minus(1), minus(0), vec![0xFF; field.bytes()]] {
                assert!(raised(&bad).is_none());
            }
            for short_or_long in [&prime[1..], &[&[0], prime.as_slice()].concat(), &[]] {
                assert!(raised(short_or_long).is_none());
            }
            assert!(raised(&minus(2)).is_some() && raised(&number(field, 2)).is_some());
        }
    }

    #[test]
    fn identifiers_and_names_are_those_of_the_specification() {
        let names: Vec<String> = Group::ALL.iter().map(Group::to_string).collect();
        assert_eq!(names, ["null", "ffdhe2048", "ffdhe3072", "ffdhe4096", "ffdhe6144", "ffdhe8192"]);
        let ids: Vec<u8> = Group::ALL.into_iter().map(Group::id).collect();
        assert_eq!(ids, [0, 1, 2, 3, 4, 5]);
    }
}
