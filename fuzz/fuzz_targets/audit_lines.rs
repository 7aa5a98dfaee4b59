//! Fuzzes `acs_broker::audit::fuzzing::lines`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| acs_broker::audit::fuzzing::lines(data));
