//! What is answered here, without a server being asked.

use farwire_keystore::{Home, Pin};
use farwire_protocol::address::Relay;
use farwire_protocol::id::Kt;
use farwire_protocol::streams::files::Enter;
use farwire_protocol::surface::Surface;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// An endpoint in front of a server that cannot be reached.
async fn endpoint(home: &std::path::Path) -> SocketAddr {
    let home = Home::create(home).unwrap();
    let relay = Relay { addresses: vec!["127.0.0.1:9".to_owned()], key: Kt([7; 32]) };
    home.set_relay(&home.lock().unwrap(), &relay).unwrap();
    let identity = home.create_identity(&home.lock().unwrap(), "test", 1).unwrap();
    let pin = Pin::new(identity.open_public().unwrap(), relay, None, 1);
    let client = Client::open(home, &Surface::Human).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = Served {
        client,
        server: Server { name: "web-1".to_owned(), pin },
        request: RootRequest::unbound(Enter::default()),
        guard: Guard::new("secret".to_owned(), vec![format!("localhost:{}", address.port())]),
    };
    tokio::spawn(serve(Arc::new(served), listener));
    address
}

/// Says this on one connection, and gives what was answered until the other side closed, or a whole
/// head.
async fn said(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let (mut answer, mut piece) = (Vec::new(), [0; 1024]);
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut piece).await.unwrap_or(0) {
            0 => break,
            length => answer.extend_from_slice(&piece[..length]),
        }
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn who_has_no_token_learns_nothing_and_pages_of_browsers_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let address = endpoint(&home.path().join("home")).await;
    let token = "Authorization: Bearer secret";
    for (head, status) in [
        (format!("Host: {address}"), "401"),
        ("Host: evil.example".to_owned(), "401"),
        (format!("Host: {address}\r\nAuthorization: Bearer wrong"), "401"),
        (format!("Host: evil.example\r\n{token}"), "421"),
        (format!("Host: {address}\r\n{token}\r\nOrigin: http://evil.example"), "403"),
        (format!("Host: {address}\r\n{token}\r\nX: {}", "x".repeat(16 << 10)), "431"),
    ] {
        let answer = said(address, &format!("PROPFIND /work/ HTTP/1.1\r\n{head}\r\n\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head:.80}: {answer}");
        assert_eq!(
            answer.to_lowercase().contains("www-authenticate: basic realm=\"farwire\""),
            status == "401",
            "{answer}"
        );
        if status != "431" {
            assert!(
                answer.contains("content-security-policy: sandbox; default-src 'none'"),
                "{answer}"
            );
            assert!(answer.contains("x-content-type-options: nosniff"), "{answer}");
            assert!(answer.contains("cross-origin-resource-policy: same-origin"), "{answer}");
        }
    }
    // A head without an end takes no memory.
    let long = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(HEAD_BYTES + 1));
    let answer = said(address, &long).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
}
