//! A server of key sets for tests: real HTTP or HTTPS on a free port, answers that a test scripts by path, and a record of
//! what it was asked. It ends when it is dropped.

#![allow(dead_code, reason = "each binary uses some of it")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What a path is answered with.
#[derive(Clone)]
pub(crate) enum Reply {
    /// 200 with this body, to be kept for so many seconds.
    Keys(String, u64),
    /// A whole response.
    Raw(Vec<u8>),
    /// The beginning of a response, and then nothing for ever.
    Stalls(Vec<u8>),
    /// The connection is closed.
    Closes,
}

impl Reply {
    /// A status without a body.
    pub(crate) fn status(status: u16, headers: &str) -> Self {
        let head =
            format!("HTTP/1.1 {status} Status\r\ncontent-length: 0\r\nconnection: close\r\n{headers}\r\n");
        Self::Raw(head.into_bytes())
    }
}

#[derive(Default)]
struct State {
    replies: HashMap<String, Reply>,
    heads: Vec<String>,
}

/// The server.
pub(crate) struct KeyServer {
    pub(crate) address: SocketAddr,
    scheme: &'static str,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl KeyServer {
    pub(crate) async fn start() -> Self {
        Self::listen(None).await
    }

    /// With this certificate, for HTTPS.
    pub(crate) async fn start_tls(config: Arc<rustls::ServerConfig>) -> Self {
        Self::listen(Some(tokio_rustls::TlsAcceptor::from(config))).await
    }

    async fn listen(tls: Option<tokio_rustls::TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let (state, tls) = (Arc::clone(&shared), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                answer(stream, &state).await;
                            }
                        }
                        None => answer(stream, &state).await,
                    }
                });
            }
        });
        Self { address, scheme, state, task }
    }

    /// Answers a path with this from now on; every other with 404.
    pub(crate) fn reply(&self, path: &str, reply: Reply) {
        self.state.lock().unwrap().replies.insert(path.into(), reply);
    }

    /// How often a path was asked for.
    pub(crate) fn asked(&self, path: &str) -> usize {
        let line = format!("GET {path} ");
        self.state.lock().unwrap().heads.iter().filter(|head| head.starts_with(&line)).count()
    }

    /// The heads of all requests.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.state.lock().unwrap().heads.clone()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}://localhost:{}{path}", self.scheme, self.address.port())
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, state: &Mutex<State>) {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer).await {
            Ok(read) if read > 0 && head.len() < 65_536 => head.extend_from_slice(&buffer[..read]),
            _ => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let reply = {
        let mut state = state.lock().unwrap();
        state.heads.push(head);
        state.replies.get(&path).cloned().unwrap_or_else(|| Reply::status(404, ""))
    };
    match reply {
        Reply::Keys(body, age) => {
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
                 cache-control: public, max-age={age}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all((head + &body).as_bytes()).await;
        }
        Reply::Raw(bytes) => {
            let _ = stream.write_all(&bytes).await;
        }
        Reply::Stalls(bytes) => {
            let _ = stream.write_all(&bytes).await;
            // Until whoever asks hangs up.
            while matches!(stream.read(&mut buffer).await, Ok(read) if read > 0) {}
        }
        Reply::Closes => {}
    }
    let _ = stream.shutdown().await;
}
