//! The reservation commands, taken apart and checked: Dword 10 and the data that comes with it.
//!
//! NVM Express Base 2.0, sections 7.2 (Acquire), 7.3 (Register) and 7.4 (Release). Reserved bits are ignored; a reserved
//! value of a field ends the command with Invalid Field.

use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned, little_endian as le};

use super::{Refusal, ReservationType};

/// A reservation key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReservationKey(pub u64);

impl ReservationKey {
    /// No key: nobody can register with it, and as the key to preempt it stands for all registrants.
    pub const NONE: Self = Self(0);
}

/// The key that a host says to have registered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CurrentKey {
    /// CRKEY, to be checked.
    Given(ReservationKey),
    /// IEKEY is set: no key is checked, and it is no error that there is none.
    Ignored,
}

/// Reservation Register (section 7.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register {
    /// RREGA.
    pub action: RegisterAction,
    /// CPTPL.
    pub power_loss: PowerLossChange,
}

/// Reservation Register Action (RREGA).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterAction {
    /// 000b: become a registrant.
    Register {
        /// NRKEY.
        new: ReservationKey,
    },
    /// 001b: be a registrant no more.
    Unregister {
        /// CRKEY or IEKEY.
        current: CurrentKey,
    },
    /// 010b: take another key.
    Replace {
        /// CRKEY or IEKEY.
        current: CurrentKey,
        /// NRKEY.
        new: ReservationKey,
    },
}

/// Change Persist Through Power Loss State (CPTPL), also what Set Features asks for with the Reservation Persistence feature (83h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerLossChange {
    /// 00b: as it is.
    Keep,
    /// 10b: registrations and reservation end when power is lost.
    Forget,
    /// 11b: registrations and reservation survive a loss of power.
    Survive,
}

/// Reservation Acquire (section 7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acquire {
    /// CRKEY.
    pub current: ReservationKey,
    /// RTYPE.
    pub kind: ReservationType,
    /// RACQA.
    pub action: AcquireAction,
}

/// Reservation Acquire Action (RACQA).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcquireAction {
    /// 000b: reserve what nobody holds.
    Acquire,
    /// 001b: unregister others, and take over their reservation.
    Preempt {
        /// PRKEY.
        victims: ReservationKey,
    },
    /// 010b: the same, and abort the commands of those.
    PreemptAndAbort {
        /// PRKEY.
        victims: ReservationKey,
    },
}

/// Reservation Release (section 7.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// CRKEY.
    pub current: ReservationKey,
    /// RRELA.
    pub action: ReleaseAction,
}

/// Reservation Release Action (RRELA).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseAction {
    /// 000b: end the reservation.
    Release {
        /// RTYPE.
        kind: ReservationType,
    },
    /// 001b: end the reservation and all registrations.
    Clear,
}

/// Figures "Reservation Register Data Structure" and "Reservation Acquire Data Structure" have the same shape.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct TwoKeys {
    /// CRKEY.
    current: le::U64,
    /// NRKEY or PRKEY.
    second: le::U64,
}
const _: () = assert!(size_of::<TwoKeys>() == 16);

/// Figure "Reservation Release Data Structure".
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct OneKey {
    /// CRKEY.
    current: le::U64,
}
const _: () = assert!(size_of::<OneKey>() == 8);

/// Dword 10 of all three commands.
struct Dword10(u32);

impl Dword10 {
    /// Bits 2:0: RREGA, RACQA or RRELA.
    fn action(&self) -> u32 {
        self.0 & 0b111
    }

    /// Bit 3: IEKEY.
    fn ignores_key(&self) -> bool {
        self.0 & 1 << 3 != 0
    }

    /// Bits 15:8: RTYPE.
    fn kind(&self) -> Result<ReservationType, Refusal> {
        ReservationType::try_from((self.0 >> 8) as u8)
    }

    /// Bits 31:30: CPTPL.
    fn power_loss(&self) -> Result<PowerLossChange, Refusal> {
        match self.0 >> 30 {
            0b00 => Ok(PowerLossChange::Keep),
            0b10 => Ok(PowerLossChange::Forget),
            0b11 => Ok(PowerLossChange::Survive),
            _ => Err(Refusal::InvalidField),
        }
    }
}

impl Register {
    /// Bytes of data that come with the command.
    pub const DATA_BYTES: usize = size_of::<TwoKeys>();

    /// Takes the command apart.
    pub fn decode(dword10: u32, data: &[u8]) -> Result<Self, Refusal> {
        let dword10 = Dword10(dword10);
        let keys = prefix::<TwoKeys>(data)?;
        let new = ReservationKey(keys.second.get());
        let current = match dword10.ignores_key() {
            true => CurrentKey::Ignored,
            false => CurrentKey::Given(ReservationKey(keys.current.get())),
        };
        let action = match dword10.action() {
            0b000 => RegisterAction::Register { new },
            0b001 => RegisterAction::Unregister { current },
            0b010 => RegisterAction::Replace { current, new },
            _ => return Err(Refusal::InvalidField),
        };
        Ok(Self { action, power_loss: dword10.power_loss()? })
    }
}

impl Acquire {
    /// Bytes of data that come with the command.
    pub const DATA_BYTES: usize = size_of::<TwoKeys>();

    /// Takes the command apart.
    pub fn decode(dword10: u32, data: &[u8]) -> Result<Self, Refusal> {
        let dword10 = Dword10(dword10);
        let keys = prefix::<TwoKeys>(data)?;
        let victims = ReservationKey(keys.second.get());
        if dword10.ignores_key() {
            return Err(Refusal::InvalidField);
        }
        let action = match dword10.action() {
            0b000 => AcquireAction::Acquire,
            0b001 => AcquireAction::Preempt { victims },
            0b010 => AcquireAction::PreemptAndAbort { victims },
            _ => return Err(Refusal::InvalidField),
        };
        Ok(Self { current: ReservationKey(keys.current.get()), kind: dword10.kind()?, action })
    }
}

impl Release {
    /// Bytes of data that come with the command.
    pub const DATA_BYTES: usize = size_of::<OneKey>();

    /// Takes the command apart. Clear has no type, so what stands there does not matter to it.
    pub fn decode(dword10: u32, data: &[u8]) -> Result<Self, Refusal> {
        let dword10 = Dword10(dword10);
        let key = prefix::<OneKey>(data)?;
        if dword10.ignores_key() {
            return Err(Refusal::InvalidField);
        }
        let action = match dword10.action() {
            0b000 => ReleaseAction::Release { kind: dword10.kind()? },
            0b001 => ReleaseAction::Clear,
            _ => return Err(Refusal::InvalidField),
        };
        Ok(Self { current: ReservationKey(key.current.get()), action })
    }
}

/// The data, of which there may be more than needed but not less.
fn prefix<T: FromBytes + Immutable + KnownLayout + Unaligned>(data: &[u8]) -> Result<&T, Refusal> {
    T::ref_from_prefix(data).map(|(value, _)| value).map_err(|_| Refusal::InvalidField)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(first: u64, second: u64) -> Vec<u8> {
        [first.to_le_bytes(), second.to_le_bytes()].concat()
    }

    #[test]
    fn what_the_linux_host_sends_is_understood() {
        // drivers/nvme/host/pr.c: register, replace with IEKEY, both with CPTPL = 11b.
        let register = Register::decode(3 << 30, &keys(0, 0xA)).expect("valid");
        assert_eq!(register.action, RegisterAction::Register { new: ReservationKey(0xA) });
        assert_eq!(register.power_loss, PowerLossChange::Survive);
        let replace = Register::decode(3 << 30 | 1 << 3 | 2, &keys(0xA, 0xB)).expect("valid");
        let expected = RegisterAction::Replace { current: CurrentKey::Ignored, new: ReservationKey(0xB) };
        assert_eq!(replace.action, expected);

        let preempt = Acquire::decode(2 << 8 | 2, &keys(0xA, 0xB)).expect("valid");
        assert_eq!(preempt.kind, ReservationType::ExclusiveAccess);
        assert_eq!(preempt.current, ReservationKey(0xA));
        assert_eq!(preempt.action, AcquireAction::PreemptAndAbort { victims: ReservationKey(0xB) });

        // It sends 16 bytes with Release, too.
        let clear = Release::decode(1, &keys(0xA, 0)).expect("valid");
        assert_eq!(clear, Release { current: ReservationKey(0xA), action: ReleaseAction::Clear });
        let release = Release::decode(1 << 8, &keys(0xA, 0)).expect("valid");
        assert_eq!(release.action, ReleaseAction::Release { kind: ReservationType::WriteExclusive });
    }

    #[test]
    fn reserved_values_are_invalid_fields() {
        let data = keys(1, 2);
        for action in 0..8 {
            assert_eq!(Register::decode(action, &data).is_ok(), action <= 2, "register {action}");
            assert_eq!(Acquire::decode(1 << 8 | action, &data).is_ok(), action <= 2, "acquire {action}");
            assert_eq!(Release::decode(1 << 8 | action, &data).is_ok(), action <= 1, "release {action}");
        }
        for kind in 0..=0xFF {
            assert_eq!(Acquire::decode(kind << 8, &data).is_ok(), (1..=6).contains(&kind), "acquire type {kind}");
            assert_eq!(Release::decode(kind << 8, &data).is_ok(), (1..=6).contains(&kind), "release type {kind}");
            assert!(Release::decode(kind << 8 | 1, &data).is_ok(), "clear type {kind}");
        }
        for power_loss in 0..4 {
            assert_eq!(Register::decode(power_loss << 30, &data).is_ok(), power_loss != 1, "CPTPL {power_loss}");
        }
    }

    #[test]
    fn acquire_and_release_never_ignore_the_key() {
        assert_eq!(Acquire::decode(1 << 8 | 1 << 3, &keys(1, 2)), Err(Refusal::InvalidField));
        assert_eq!(Release::decode(1 << 8 | 1 << 3, &keys(1, 2)), Err(Refusal::InvalidField));
    }

    #[test]
    fn data_that_is_too_short_is_an_invalid_field() {
        for len in 0..16 {
            assert_eq!(Register::decode(0, &vec![1; len]), Err(Refusal::InvalidField));
            assert_eq!(Acquire::decode(1 << 8, &vec![1; len]), Err(Refusal::InvalidField));
            assert_eq!(Release::decode(1 << 8, &vec![1; len]).is_ok(), len >= 8);
        }
    }
}
