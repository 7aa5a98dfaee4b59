//! Fuzzes `acs_broker::emulator::fuzzing::mail_parts`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| acs_broker::emulator::fuzzing::mail_parts(data));
