//! The six kinds of reservation.

use super::Refusal;

/// A reservation type: the numbers are RTYPE (NVM Express Base 2.0, section 7.2, Figure "Reservation Type Encoding").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ReservationType {
    /// Only the holder writes; everybody reads.
    WriteExclusive = 1,
    /// Only the holder reads and writes.
    ExclusiveAccess = 2,
    /// Registrants write; everybody reads. One of them holds the reservation.
    WriteExclusiveRegistrantsOnly = 3,
    /// Registrants read and write. One of them holds the reservation.
    ExclusiveAccessRegistrantsOnly = 4,
    /// Registrants write; everybody reads. All of them hold the reservation.
    WriteExclusiveAllRegistrants = 5,
    /// Registrants read and write. All of them hold the reservation.
    ExclusiveAccessAllRegistrants = 6,
}

impl ReservationType {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::WriteExclusive,
        Self::ExclusiveAccess,
        Self::WriteExclusiveRegistrantsOnly,
        Self::ExclusiveAccessRegistrantsOnly,
        Self::WriteExclusiveAllRegistrants,
        Self::ExclusiveAccessAllRegistrants,
    ];

    /// RTYPE.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// Whether those who are kept out may not even read.
    pub fn excludes_reads(self) -> bool {
        matches!(
            self,
            Self::ExclusiveAccess | Self::ExclusiveAccessRegistrantsOnly | Self::ExclusiveAccessAllRegistrants
        )
    }

    /// Whether a registrant that does not hold the reservation is let in like its holder.
    pub fn admits_registrants(self) -> bool {
        !matches!(self, Self::WriteExclusive | Self::ExclusiveAccess)
    }

    /// Whether every registrant is a holder.
    pub fn all_registrants_hold(self) -> bool {
        matches!(self, Self::WriteExclusiveAllRegistrants | Self::ExclusiveAccessAllRegistrants)
    }
}

impl TryFrom<u8> for ReservationType {
    type Error = Refusal;

    fn try_from(code: u8) -> Result<Self, Refusal> {
        Self::ALL.into_iter().find(|kind| kind.code() == code).ok_or(Refusal::InvalidField)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_specification() {
        for code in 0..=u8::MAX {
            assert_eq!(ReservationType::try_from(code).is_ok(), (1..=6).contains(&code), "{code}");
        }
        assert!(ReservationType::ALL.iter().enumerate().all(|(at, kind)| usize::from(kind.code()) == at + 1));
    }
}
