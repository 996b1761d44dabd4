//! Bytes into the decoder of wrapped keys.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| strongroom::kms::embedded::fuzzing::wrapped_key(bytes));
