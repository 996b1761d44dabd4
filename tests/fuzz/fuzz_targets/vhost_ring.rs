//! Bytes as a guest's memory with a virtqueue in it, and what the guest and its front end write there while a device serves it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    strongroom::export::vhost_user::fuzzing::vhost_ring(bytes);
});
