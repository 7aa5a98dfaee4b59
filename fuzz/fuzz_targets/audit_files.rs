//! Fuzzes `acs_broker::audit::fuzzing::files`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| acs_broker::audit::fuzzing::files(data));
