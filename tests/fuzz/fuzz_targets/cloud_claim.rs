//! Bytes as requests to the cloud API, into what tells who has signed them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    strongroom::cloud::http::fuzzing::claim(bytes);
});
