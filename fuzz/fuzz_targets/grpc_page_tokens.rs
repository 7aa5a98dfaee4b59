//! Fuzzes `acs_broker::grpc::fuzzing::page_tokens`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| acs_broker::grpc::fuzzing::page_tokens(data));
