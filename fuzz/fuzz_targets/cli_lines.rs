//! Fuzzes `acs_broker::cli::fuzzing::lines`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| acs_broker::cli::fuzzing::lines(data));
