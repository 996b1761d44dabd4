//! Bytes into the reader of the cloud API's queries and forms, and into what is signed of them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    strongroom::cloud::http::fuzzing::parameters(bytes);
});
