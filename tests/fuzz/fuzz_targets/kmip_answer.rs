//! Bytes into the reader of a KMIP server's answers.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| strongroom::kms::kmip::fuzzing::answer(bytes));
