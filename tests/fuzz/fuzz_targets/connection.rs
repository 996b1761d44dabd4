//! Bytes into a whole NVMe/TCP connection: everything that a host may say, on a target with disks.
#![no_main]

use std::cell::OnceCell;

use strongroom::export::nvme_tcp::fuzzing::Playground;

thread_local! {
    static PLAYGROUND: OnceCell<Playground> = const { OnceCell::new() };
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    PLAYGROUND.with(|playground| playground.get_or_init(Playground::new).play(bytes));
});
