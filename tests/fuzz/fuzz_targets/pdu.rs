//! Bytes into the decoder of NVMe/TCP PDUs.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| strongroom::export::nvme_tcp::fuzzing::pdu(bytes));
