//! Fuzzes `acs_broker::emulator::fuzzing::requests`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| acs_broker::emulator::fuzzing::requests(data));
