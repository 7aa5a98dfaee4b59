//! Fuzzes `acs_broker::acs::fuzzing::sign_ins`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| acs_broker::acs::fuzzing::sign_ins(data));
