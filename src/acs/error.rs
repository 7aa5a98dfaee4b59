//! How a call to ACS ends when it does not succeed, by what the caller may do next.
//!
//! `Display` and `Debug` hold no text that ACS wrote, no id and no secret. What ACS said is only in `source()`, for the
//! log, and only in the reduced form of [`super::fault`]. Made by the pipeline, read by `app`.

use std::fmt;
use std::time::Duration;

use super::connection_string::ConnectionStringError;

/// A cause, for the log.
pub(super) type Source = Box<dyn std::error::Error + Send + Sync + 'static>;

/// What is known about what happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Nothing was sent: ACS has done nothing.
    NeverSent,
    /// It was sent, and no usable answer came: ACS may have done it.
    PerhapsSent,
    /// ACS asks to slow down; it has done nothing.
    Throttled {
        /// The wait it asked for.
        retry_after: Option<Duration>,
    },
    /// ACS does not accept the access key, the signature or the clock behind it.
    CredentialsRefused,
    /// ACS does not accept the access token of the user in whose name it was asked.
    TokenRefused,
    /// ACS will not do this, however often it is asked.
    Rejected,
    /// ACS failed; it may have done it.
    ServerFailed {
        /// The wait it asked for.
        retry_after: Option<Duration>,
    },
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NeverSent => "never sent",
            Self::PerhapsSent => "sent, but no usable answer",
            Self::Throttled { .. } => "throttled",
            Self::CredentialsRefused => "credentials refused",
            Self::TokenRefused => "user token refused",
            Self::Rejected => "rejected",
            Self::ServerFailed { .. } => "server failed",
        })
    }
}

/// A call to ACS that failed.
#[derive(Debug)]
pub struct Error(Box<Detail>);

#[derive(Debug)]
pub(super) struct Detail {
    pub operation: &'static str,
    pub class: Class,
    pub status: Option<u16>,
    pub code: Option<String>,
    pub target: Option<String>,
    pub client_request_id: String,
    pub attempts: u32,
    pub source: Option<Source>,
}

impl From<Detail> for Error {
    fn from(detail: Detail) -> Self {
        Self(Box::new(detail))
    }
}

impl Error {
    /// What is known about what happened.
    pub fn class(&self) -> Class {
        self.0.class
    }

    /// A call that could not even be described: nothing was sent.
    pub(super) fn unsendable(operation: &'static str, target: &str, problem: &'static str) -> Self {
        Self::from(Detail {
            operation,
            class: Class::Rejected,
            status: None,
            code: None,
            target: Some(target.to_owned()),
            client_request_id: String::new(),
            attempts: 0,
            source: Some(Fixed(problem).into()),
        })
    }

    /// The same failure, of another class and with another target: what a status means differs by area.
    pub(super) fn meaning(mut self, class: Class, target: Option<&str>) -> Self {
        self.0.class = class;
        self.0.target = target.map(str::to_owned);
        self
    }

    /// The HTTP status of the answer, if one came.
    pub fn status(&self) -> Option<u16> {
        self.0.status
    }

    /// The error code of ACS: 1 to 64 ASCII letters, digits, `.`, `_`, `-`.
    pub fn code(&self) -> Option<&str> {
        self.0.code.as_deref()
    }

    /// The part of the request ACS blames, in the same alphabet.
    pub fn target(&self) -> Option<&str> {
        self.0.target.as_deref()
    }

    /// The `x-ms-client-request-id` of the call, for a support request.
    pub fn client_request_id(&self) -> &str {
        &self.0.client_request_id
    }

    /// How many attempts were made.
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Detail { operation, class, status, code, target, client_request_id, attempts, source: _ } =
            &*self.0;
        write!(f, "{operation} at ACS: {class}")?;
        if let Some(status) = status {
            write!(f, ", status {status}")?;
        }
        if let Some(code) = code {
            write!(f, ", code {code}")?;
        }
        if let Some(target) = target {
            write!(f, ", target {target}")?;
        }
        write!(f, ", attempts {attempts}, client request id {client_request_id}")
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| &**source as &(dyn std::error::Error + 'static))
    }
}

/// Why a cause of our own arose; a fixed text, so that nothing of a request or an answer can be in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Fixed(pub &'static str);

/// Why a client could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A connection string is none.
    #[error("{key} {problem}")]
    ConnectionString {
        /// The setting.
        key: &'static str,
        /// What is wrong.
        problem: ConnectionStringError,
    },
    /// Two keys must be keys of one resource.
    #[error("{key} is of another ACS resource than the one in use")]
    OtherResource {
        /// The setting.
        key: &'static str,
    },
    /// The endpoint is none.
    #[error("acs.endpoint {problem}")]
    Endpoint {
        /// What is wrong.
        problem: String,
    },
    /// The CA file cannot be read.
    #[error("acs.ca_file {path} cannot be read: {problem}")]
    CaFileUnreadable {
        /// The file.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// The CA file has no usable certificate.
    #[error("acs.ca_file {path} holds no usable CA certificate in PEM form (-----BEGIN CERTIFICATE-----)")]
    CaFileWithoutCertificate {
        /// The file.
        path: String,
    },
    /// No certificate authority is known at all.
    #[error(
        "no certificate authority to trust was found; install the system's CA certificates or set acs.ca_file"
    )]
    NoAuthorities,
    /// The HTTP client cannot be set up.
    #[error("the HTTP client towards ACS cannot be set up")]
    Http(#[source] Box<dyn std::error::Error + Send + Sync + 'static>),
}
