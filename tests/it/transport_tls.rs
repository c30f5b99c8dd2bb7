//! Both ports over TLS, with certificates made for the test.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use muster::client::{self, Trust};
use muster::config::Config;
use muster::face::core::system::{Info, Ping};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message;

use crate::server::{PATIENCE, TestServer, read_answer};

/// An authority, and the files that it has signed.
struct Authority {
    dir: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { dir, issuer }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a certificate for these names, and its key.
    fn sign(&self, names: &[&str]) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let chain = certificate.pem() + self.issuer.pem().as_str();
        std::fs::write(self.path("cert.pem"), chain).unwrap();
        std::fs::write(self.path("key.pem"), key.serialize_pem()).unwrap();
    }

    fn trust(&self) -> Trust {
        Trust::of_file(&self.path("ca.pem")).unwrap()
    }

    fn set(&self, config: &mut Config) {
        config.tls_cert = Some(self.path("cert.pem"));
        config.tls_key = Some(self.path("key.pem"));
    }

    /// A connection that is encrypted, as far as this authority vouches for `name`.
    async fn connect(&self, to: SocketAddr, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let settings = ClientConfig::builder_with_provider(ring)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tcp = TcpStream::connect(to).await?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        TlsConnector::from(Arc::new(settings)).connect(name, tcp).await
    }
}

/// Both ends of a name that every certificate here is for.
const NAMES: &[&str] = &["localhost", "127.0.0.1"];

async fn secure() -> (Authority, TestServer) {
    let authority = Authority::new();
    authority.sign(NAMES);
    let server = TestServer::with(|config| authority.set(config)).await;
    (authority, server)
}

async fn get(io: &mut TlsStream<TcpStream>, host: &str, path: &str) -> u16 {
    let head = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
    io.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 64 << 10];
    let got = timeout(PATIENCE, io.read(&mut answer)).await.unwrap().unwrap();
    let answer = String::from_utf8_lossy(&answer[..got]);
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn both_ports_answer_over_tls_to_those_who_trust_them() {
    let (authority, server) = secure().await;
    let (http, ws) =
        (format!("https://{}", server.at.http), format!("wss://localhost:{}", server.at.ws.port()));
    let trust = authority.trust();
    let caller = client::http_trusting(&trust, &http, PATIENCE).unwrap();
    let info = client::call(&caller, Info {}).await.unwrap();
    assert_eq!(info.http, http);
    assert!(info.ws.starts_with("wss://"), "{}", info.ws);
    let pusher = client::ws_trusting(&trust, &ws, PATIENCE).await.unwrap();
    assert!(client::call(&pusher, Ping {}).await.unwrap());
    let stranger = Authority::new().trust();
    let caller = client::http_trusting(&stranger, &http, PATIENCE).unwrap();
    assert!(client::call(&caller, Ping {}).await.is_err(), "nobody vouches for it");
    assert!(client::ws_trusting(&stranger, &ws, PATIENCE).await.is_err());
    let caller = client::http(&http, PATIENCE).unwrap();
    assert!(client::call(&caller, Ping {}).await.is_err(), "nor does this machine");
}

#[tokio::test]
async fn large_answers_come_through_whole() {
    let (authority, server) = secure().await;
    let url = format!("wss://{}", server.at.ws);
    let client = client::ws_trusting(&authority.trust(), &url, PATIENCE).await.unwrap();
    let ask = || async {
        let profile = jsonrpsee::core::rpc_params!["codegen"];
        let found: Value =
            jsonrpsee::core::client::ClientT::request(&client, "rpc.discover", profile)
                .await
                .unwrap();
        found.to_string().len()
    };
    let sizes = futures_util::future::join_all((0..20).map(|_| ask())).await;
    assert!(sizes.iter().all(|size| *size == sizes[0] && *size > 100_000), "{sizes:?}");
}

/// More than all buffers between hold, so that encrypting has to wait for the reader.
#[tokio::test]
async fn a_reader_that_comes_late_gets_everything() {
    let (authority, server) = secure().await;
    let io = authority.connect(server.at.ws, "localhost").await.unwrap();
    let url = format!("wss://localhost:{}/", server.at.ws.port());
    let (mut socket, _) = tokio_tungstenite::client_async(url, io).await.unwrap();
    const CALLS: usize = 100;
    for id in 0..CALLS {
        let call = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"rpc.discover"}}"#);
        socket.send(Message::text(call)).await.unwrap();
    }
    let mut answered = BTreeSet::new();
    while answered.len() < CALLS {
        let message = timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
        if let Message::Text(text) = message {
            let answer: Value = serde_json::from_str(&text).unwrap();
            assert!(answer["result"]["methods"].is_array());
            answered.insert(answer["id"].as_u64().unwrap());
        }
    }
}

#[tokio::test]
async fn the_names_of_the_certificate_are_ours_and_others_are_not() {
    let authority = Authority::new();
    authority.sign(&["muster.example", "*.inner.example", "192.0.2.7", "localhost"]);
    let server = TestServer::with(|config| authority.set(config)).await;
    for (host, status) in [
        ("muster.example", 200),
        ("muster.example:9652", 200),
        ("a.inner.example", 200),
        ("192.0.2.7", 200),
        ("localhost", 200),
        ("inner.example", 403),
        ("evil.example", 403),
        ("192.0.2.8", 403),
    ] {
        let mut io = authority.connect(server.at.http, "localhost").await.unwrap();
        assert_eq!(get(&mut io, host, "/health").await, status, "{host}");
    }
    let wrong = authority.connect(server.at.http, "evil.example").await.unwrap_err();
    assert!(wrong.to_string().contains("certificate"), "{wrong}");
}

#[tokio::test]
async fn a_new_certificate_is_taken_and_a_bad_one_is_not() {
    let (authority, server) = secure().await;
    let mut before = authority.connect(server.at.http, "localhost").await.unwrap();
    authority.sign(&["renewed.example"]);
    assert_eq!(server.at.reload(), Ok(true));
    assert!(authority.connect(server.at.http, "localhost").await.is_err());
    let mut after = authority.connect(server.at.http, "renewed.example").await.unwrap();
    assert_eq!(get(&mut after, "renewed.example", "/health").await, 200);
    assert_eq!(get(&mut before, "localhost", "/health").await, 200, "what was open goes on");
    std::fs::write(authority.path("key.pem"), KeyPair::generate().unwrap().serialize_pem())
        .unwrap();
    let refusal = server.at.reload().unwrap_err().to_string();
    assert!(refusal.contains("tls_key") && refusal.contains("not the key"), "{refusal}");
    std::fs::remove_file(authority.path("cert.pem")).unwrap();
    assert!(server.at.reload().unwrap_err().to_string().contains("tls_cert"));
    authority.connect(server.at.ws, "renewed.example").await.unwrap();
}

#[tokio::test]
async fn plain_http_is_told_that_this_is_tls() {
    let (_authority, server) = secure().await;
    for port in [server.at.http, server.at.ws] {
        let mut io = TcpStream::connect(port).await.unwrap();
        io.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let (status, body) = read_answer(&mut io).await;
        assert_eq!(status, 400);
        assert!(body.contains("https://"), "{body}");
    }
}

#[tokio::test]
async fn tls_to_a_plain_port_fails() {
    let server = TestServer::start().await;
    assert!(Authority::new().connect(server.at.http, "localhost").await.is_err());
}

#[tokio::test]
async fn an_unfinished_handshake_holds_a_place() {
    let authority = Authority::new();
    authority.sign(NAMES);
    let server = TestServer::with(|config| {
        authority.set(config);
        config.max_connections = 1;
    })
    .await;
    let mut slow = TcpStream::connect(server.at.http).await.unwrap();
    slow.write_all(&[0x16, 3, 1]).await.unwrap();
    while server.app.metrics.connections.get() == 0 {
        tokio::task::yield_now().await;
    }
    let mut more = TcpStream::connect(server.at.ws).await.unwrap();
    // Nothing can be said that a client would understand.
    assert_eq!(timeout(PATIENCE, more.read(&mut [0])).await.unwrap().unwrap_or_default(), 0);
    drop(slow);
    while server.app.metrics.connections.get() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.app.metrics.handshakes_failed.get(), 1);
    authority.connect(server.at.ws, "localhost").await.unwrap();
}

#[tokio::test]
async fn a_handshake_that_does_not_get_on_is_ended() {
    let authority = Authority::new();
    authority.sign(NAMES);
    let server = TestServer::with(|config| {
        authority.set(config);
        config.tls_handshake_timeout = Duration::from_millis(200);
    })
    .await;
    for first in [&b""[..], &[0x16, 3, 1, 2, 0]] {
        let mut slow = TcpStream::connect(server.at.http).await.unwrap();
        slow.write_all(first).await.unwrap();
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, slow.read_to_end(&mut rest)).await.expect("it is ended");
        assert!(rest.is_empty());
    }
}

#[tokio::test]
async fn files_that_do_not_do_are_named_at_start() {
    let authority = Authority::new();
    authority.sign(NAMES);
    let good = std::fs::read(authority.path("key.pem")).unwrap();
    let other = KeyPair::generate().unwrap().serialize_pem();
    let refusal = |text: &[u8], of: &str| {
        std::fs::write(authority.path(of), text).unwrap();
        let mut config = Config::default();
        authority.set(&mut config);
        muster::server::check_tls(&config).unwrap_err().to_string()
    };
    for (text, said) in [
        (&b"no key"[..], "no private key"),
        (b"", "no private key"),
        (other.as_bytes(), "not the key of the certificate"),
    ] {
        let refusal = refusal(text, "key.pem");
        assert!(refusal.contains("tls_key") && refusal.contains(said), "{refusal}");
    }
    std::fs::write(authority.path("key.pem"), &good).unwrap();
    for (text, said) in [
        (&b"no certificate"[..], "no certificate"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "first certificate"),
    ] {
        let refusal = refusal(text, "cert.pem");
        assert!(refusal.contains("tls_cert") && refusal.contains(said), "{refusal}");
    }
}

struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn muster(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MUSTER_") {
            command.env_remove(name);
        }
    }
    command.current_dir(dir).args(args).stdin(Stdio::null()).stderr(Stdio::piped());
    command
}

fn run(dir: &Path, args: &[&str]) -> Output {
    muster(dir, args).output().unwrap()
}

#[tokio::test]
async fn sighup_renews_the_certificate_and_commands_speak_tls() {
    let authority = Authority::new();
    authority.sign(NAMES);
    let dir = authority.dir.path();
    let files = ["--tls-cert", "cert.pem", "--tls-key", "key.pem"];
    let ports = ["serve", "--api-http-port", "0", "--api-ws-port", "0", "--log-level", "off"];
    let mut server = muster(dir, &[&ports[..], &files[..]].concat());
    let started = Started(server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let endpoints = dir.join("muster-data/endpoints.json");
    let published = async {
        while !endpoints.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, published).await.unwrap();
    let endpoints: Value = serde_json::from_slice(&std::fs::read(endpoints).unwrap()).unwrap();
    let (http, ws) = (endpoints["http"].as_str().unwrap(), endpoints["ws"].as_str().unwrap());
    assert!(http.starts_with("https://") && ws.starts_with("wss://"), "{http} {ws}");
    for url in [http, ws] {
        let pinged = run(dir, &["call", "system.ping", "--url", url, "--ca", "ca.pem"]);
        assert!(pinged.status.success(), "{}", String::from_utf8_lossy(&pinged.stderr));
        let refused = run(dir, &["call", "system.ping", "--url", url]);
        assert_eq!(refused.status.code(), Some(6), "{refused:?}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains("certificate"), "{refused:?}");
    }
    let first = leaf(&authority, http).await;
    authority.sign(NAMES);
    kill(Pid::from_raw(i32::try_from(started.0.id()).unwrap()), Signal::SIGHUP).unwrap();
    let renewed = async {
        while leaf(&authority, http).await == first {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, renewed).await.unwrap();
    let written = CertificateDer::from_pem_file(authority.path("cert.pem")).unwrap();
    assert_eq!(leaf(&authority, http).await, written.as_ref());
}

async fn leaf(authority: &Authority, url: &str) -> Vec<u8> {
    let at = url.trim_start_matches("https://").parse().unwrap();
    let io = authority.connect(at, "localhost").await.unwrap();
    io.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[test]
fn half_a_certificate_and_plaintext_beyond_loopback_end_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let serve = |args: &[&str]| run(dir.path(), &[&["serve"], args].concat());
    let half = serve(&["--tls-cert", "cert.pem"]);
    let said = String::from_utf8_lossy(&half.stderr).into_owned();
    assert_eq!(half.status.code(), Some(2), "{said}");
    assert!(said.contains("--tls-key"), "{said}");
    let missing = serve(&["--tls-cert", "cert.pem", "--tls-key", "key.pem"]);
    let said = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert_eq!(missing.status.code(), Some(2), "{said}");
    assert!(said.contains("tls_cert cert.pem"), "{said}");
    let open = serve(&["--api-http-ip", "0.0.0.0"]);
    assert_eq!(open.status.code(), Some(2));
    assert!(!dir.path().join("muster-data").exists(), "before anything is made");
}
