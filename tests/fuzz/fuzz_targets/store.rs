//! Bytes into the readers of the embedded key store: its file, the content of its body, its counter file.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| strongroom::kms::embedded::fuzzing::store(bytes));
