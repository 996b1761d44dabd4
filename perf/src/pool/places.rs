//! Where commands go: anywhere, or everywhere once.

/// Places in the order in which commands take them: bytes from the beginning.
pub struct Places {
    order: Order,
    random: Random,
}

enum Order {
    /// Any of so many places of this many bytes, for ever.
    Anywhere { count: u64, unit: u64 },
    /// From a place on, so many, so far apart.
    Stepwise { next: u64, stride: u64, left: u64 },
    /// Each of these numbers once, in units.
    Listed { numbers: Vec<u32>, unit: u64 },
}

impl Places {
    /// Any of `count` places of `unit` bytes, each as likely, for ever.
    pub fn anywhere(count: u64, unit: u64, seed: u64) -> Self {
        Self { order: Order::Anywhere { count, unit }, random: Random(seed) }
    }

    /// `count` places from `first` on, `stride` bytes apart.
    pub fn in_order(first: u64, stride: u64, count: u64) -> Self {
        Self { order: Order::Stepwise { next: first, stride, left: count }, random: Random(0) }
    }

    /// Each of `count` places of `unit` bytes once, shuffled.
    pub fn each_once(count: u64, unit: u64, seed: u64) -> Self {
        Self::shuffled((0..count as u32).collect(), unit, seed)
    }

    /// One place of `unit` bytes in each group of `group` places, of which there are `groups`; shuffled.
    pub fn one_of_each(groups: u64, group: u64, unit: u64, seed: u64) -> Self {
        let mut random = Random(seed);
        let numbers = (0..groups).map(|number| (number * group + random.below(group)) as u32).collect();
        Self::shuffled(numbers, unit, random.0)
    }

    /// At most so many of places that are taken once.
    pub fn first(mut self, most: u64) -> Self {
        match &mut self.order {
            Order::Anywhere { .. } => {}
            Order::Stepwise { left, .. } => *left = most.min(*left),
            Order::Listed { numbers, .. } => numbers.truncate(most as usize),
        }
        self
    }

    fn shuffled(mut numbers: Vec<u32>, unit: u64, seed: u64) -> Self {
        let mut random = Random(seed);
        // Fisher and Yates, as Durstenfeld has it.
        for last in (1..numbers.len()).rev() {
            numbers.swap(last, random.below(last as u64 + 1) as usize);
        }
        Self { order: Order::Listed { numbers, unit }, random }
    }

    /// The next place; none when all were taken.
    #[inline]
    pub fn next(&mut self) -> Option<u64> {
        match &mut self.order {
            Order::Anywhere { count, unit } => Some(self.random.below(*count) * *unit),
            Order::Stepwise { next, stride, left } => {
                *left = left.checked_sub(1)?;
                let place = *next;
                *next += *stride;
                Some(place)
            }
            Order::Listed { numbers, unit } => Some(u64::from(numbers.pop()?) * *unit),
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut places: Places) -> Vec<u64> {
        std::iter::from_fn(|| places.next()).collect()
    }

    #[test]
    fn everywhere_once_is_everywhere_once() {
        let mut found = all(Places::each_once(1000, 8, 1));
        assert_ne!(found[..3], [0, 8, 16]);
        found.sort_unstable();
        assert_eq!(found, (0..1000).map(|n| n * 8).collect::<Vec<_>>());
    }

    #[test]
    fn each_group_has_one() {
        let mut found = all(Places::one_of_each(100, 16, 1, 7));
        found.sort_unstable();
        assert_eq!(found.iter().map(|place| place / 16).collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
        assert!(found.iter().any(|place| place % 16 != found[0] % 16));
    }

    #[test]
    fn places_in_order_and_anywhere() {
        assert_eq!(all(Places::in_order(64, 32, 3)), [64, 96, 128]);
        let mut anywhere = Places::anywhere(4, 512, 3);
        assert!((0..100).all(|_| anywhere.next().is_some_and(|place| place % 512 == 0 && place < 2048)));
    }
}
