//! Fuzzes `acs_broker::messaging::fuzzing::records`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| acs_broker::messaging::fuzzing::records(data));
