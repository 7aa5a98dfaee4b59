//! Fuzzes `acs_broker::grpc::fuzzing::client_certificates`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| acs_broker::grpc::fuzzing::client_certificates(data));
