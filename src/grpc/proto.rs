//! The generated messages, clients and servers of `proto/`, and the descriptor set for reflection.
//!
//! The messages have no derived `Debug`: it would print tokens and user ids. The one given here prints the type alone.

#![allow(missing_docs, unreachable_pub, clippy::all, clippy::disallowed_methods, reason = "generated code")]

/// Version 1 of the API.
pub mod v1 {
    tonic::include_proto!("acsbroker.v1");
}

/// The compiled proto files, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("acsbroker_descriptor");

macro_rules! opaque_debug {
    ($($message:ty),+ $(,)?) => {$(
        impl std::fmt::Debug for $message {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($message), " { .. }"))
            }
        }
    )+};
}

opaque_debug!(
    v1::Identity,
    v1::ResolveIdentityRequest,
    v1::ResolveIdentityResponse,
    v1::GetIdentityRequest,
    v1::get_identity_request::Key,
    v1::GetIdentityResponse,
    v1::DeleteIdentityRequest,
    v1::DeleteIdentityResponse,
    v1::ListIdentitiesRequest,
    v1::ListIdentitiesResponse,
    v1::ImportIdentitiesRequest,
    v1::ImportIdentitiesResponse,
    v1::ImportProblem,
    v1::IssueTokenRequest,
    v1::IssueTokenResponse,
    v1::RefreshTokenRequest,
    v1::RefreshTokenResponse,
    v1::RevokeTokensRequest,
    v1::RevokeTokensResponse,
);

// Enums hold nothing of anybody: they print their names.
macro_rules! named_debug {
    ($($enumeration:ty),+ $(,)?) => {$(
        impl std::fmt::Debug for $enumeration {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str_name())
            }
        }
    )+};
}

named_debug!(v1::Scope, v1::TokenSource);
