//! The transport: gRPC services over the core. The only place that knows tonic, prost and status codes.

pub mod client;
pub mod proto;
