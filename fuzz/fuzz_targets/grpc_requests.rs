//! Fuzzes `acs_broker::grpc::fuzzing::requests`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| acs_broker::grpc::fuzzing::requests(data));
