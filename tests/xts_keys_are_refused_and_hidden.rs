//! A key whose halves are equal is refused, a kernel that the CPU cannot run is refused, and a key does not print itself.

use std::mem::MaybeUninit;

use strongroom::crypto::xts::{Kernel, KeyError, SectorSize, Tweak, XtsKey};

fn key() -> [u8; 64] {
    std::array::from_fn(|i| i as u8)
}

#[test]
fn equal_halves_are_refused() {
    for kernel in Kernel::available() {
        let mut key = key();
        key.copy_within(..32, 32);
        assert_eq!(XtsKey::expand(kernel, &key).unwrap_err(), KeyError::EqualHalves);
        key[63] ^= 1;
        assert!(XtsKey::expand(kernel, &key).is_ok());
    }
}

#[test]
fn a_kernel_that_the_cpu_lacks_is_refused() {
    for kernel in Kernel::ALL.into_iter().filter(|kernel| !kernel.is_supported()) {
        assert_eq!(XtsKey::expand(kernel, &key()).unwrap_err(), KeyError::Unsupported(kernel));
    }
}

#[test]
fn a_key_is_made_in_place_moves_between_threads_and_does_not_print_itself() {
    for kernel in Kernel::available() {
        let mut place = Box::new(MaybeUninit::uninit());
        let in_place: &XtsKey = XtsKey::expand_into(&mut place, kernel, &key()).unwrap();
        assert_eq!((format!("{in_place:?}"), in_place.kernel()), ("[secret]".to_owned(), kernel));
        let moved = XtsKey::expand(kernel, &key()).unwrap();
        let (mut here, mut there) = ([7u8; 512], [7u8; 512]);
        in_place.encrypt_in_place(SectorSize::B512, Tweak::sectors(3), &mut here);
        std::thread::scope(|scope| {
            scope.spawn(|| moved.encrypt_in_place(SectorSize::B512, Tweak::sectors(3), &mut there));
        });
        assert_eq!(here, there);
    }
}

#[test]
#[should_panic(expected = "a run of 511 bytes is not whole sectors of 512")]
fn half_sectors_are_a_bug_of_the_caller() {
    let key = XtsKey::expand(Kernel::best(), &key()).unwrap();
    key.encrypt_in_place(SectorSize::B512, Tweak::sectors(0), &mut [0; 511]);
}
