//! What one machine hands to another by way of a person: tokens, URLs, bundles.

use farwire_protocol::token::Token;
use farwire_tests::{Done, World, world::program};

use super::{misused, refused};

fn text_of(token: &Token) -> String {
    token.encode().to_string()
}

#[tokio::test]
async fn a_token_of_any_other_shape_is_refused_and_writes_nothing() {
    let world = World::new().await;
    let token = world.create("web-1", &[]).await;
    let mut mistyped = token.clone().into_bytes();
    mistyped[40] = if mistyped[40] == b'a' { b'b' } else { b'a' };
    let mistyped = String::from_utf8(mistyped).unwrap();
    let (half, rest) = token.split_at(token.len() / 2);
    for text in [
        "",
        "\n\n",
        "fwe_",
        "hello",
        half,
        rest,
        &token[1..],
        &mistyped,
        &format!("{token}a"),
        &format!("{token}{token}"),
        &format!("{half} {rest}"),
        &token.replace("fwe_", "fwr_"),
        &token.replace("fwe_", "fwb_"),
        &format!("fwe_{}", "a".repeat(1 << 20)),
        "fwe_\u{202e}\u{1b}[31m",
    ] {
        let enroll = ["enroll", "--token", "-", "--wait", "1"];
        let done = world.agent_with("no", &enroll, text.as_bytes()).await;
        refused(&done, 65, "token_malformed");
        assert!(!done.stderr.contains(&token[20..60]), "the secret is shown: {done:?}");
        assert!(!world.path("no").exists(), "{text:?}: something was written");
    }
    let done = world.agent_with("no", &["enroll", "--token", "-"], b"\xff\xfe").await;
    refused(&done, 74, "io");
    for file in ["/", "/no/such/file"] {
        refused(&world.agent_with("no", &["enroll", "--token-file", file], b"").await, 74, "io");
    }
    misused(&world.agent_with("no", &["enroll"], b"").await, 64, "--token");
    let both = ["enroll", "--token", "-", "--token-file", "/"];
    misused(&world.agent_with("no", &both, b"").await, 64, "--token");
    // White space around it is what terminals and mail add.
    let padded = format!("\r\n  {token}\r\n");
    let enroll = ["enroll", "--token", "-", "--wait", "1"];
    let done = world.agent_with("web-1", &enroll, padded.as_bytes()).await;
    assert!(done.code == 0 && done.text().contains("pending"), "{done:?}");
}

#[tokio::test]
async fn a_token_with_a_changed_part_lets_nobody_in_and_does_not_spoil_the_real_one() {
    let mut world = World::new().await;
    let real: Token = world.create("web-1", &[]).await.parse().unwrap();
    let enroll = ["enroll", "--token", "-", "--wait", "1"];
    let mut other_relay = real.clone();
    other_relay.relay.key.0[5] ^= 1;
    let done = world.agent_with("a", &enroll, text_of(&other_relay).as_bytes()).await;
    refused(&done, 69, "relay_key_mismatch");
    let mut other_enrollment = real.clone();
    other_enrollment.enrollment.0[0] ^= 1;
    let done = world.agent_with("b", &enroll, text_of(&other_enrollment).as_bytes()).await;
    refused(&done, 69, "token_unknown");
    assert!(!world.path("a").exists() && !world.path("b").exists());
    // Its request is posted; the bridge cannot open it and goes by it.
    let mut other_secret = real.clone();
    other_secret.secret[0] ^= 1;
    let done = world.agent_with("c", &enroll, text_of(&other_secret).as_bytes()).await;
    assert!(done.code == 0 && done.text().contains("pending"), "{done:?}");
    world.farwire(&["servers"]).await;
    let done = world.agent_with("web-1", &enroll, text_of(&real).as_bytes()).await;
    assert_eq!(done.code, 0, "{done:?}");
    world.farwire(&["servers"]).await;
    world.start_agent("web-1").await;
    assert_eq!(world.farwire(&["run", "web-1", "--", "true"]).await.code, 0);
    let again = world.create("web-2", &[]).await;
    let done = world.agent_with("web-1", &enroll, again.as_bytes()).await;
    refused(&done, 69, "already_enrolled");
}

#[tokio::test]
async fn an_agent_without_an_enrollment_says_so_whatever_it_is_asked() {
    let world = World::new().await;
    for command in [&["run"][..], &["status"], &["fingerprint"], &["leave"], &["device", "ls"]] {
        let done = world.agent_with("nobody", command, b"").await;
        refused(&done, 78, "not_initialized");
        assert!(!world.path("nobody").exists(), "{command:?}: asking writes nothing");
    }
    std::fs::create_dir(world.path("empty")).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(world.path("empty"), open).unwrap();
    for command in ["run", "fingerprint", "leave"] {
        refused(&world.agent_with("empty", &[command], b"").await, 78, "not_enrolled");
    }
}

#[tokio::test]
async fn a_relays_url_of_any_other_shape_is_refused() {
    let world = World::new().await;
    let mut url = program("farwire-relay");
    let shown: Done =
        url.arg("url").arg("--data").arg(world.path("relay")).output().await.unwrap().into();
    let shown = shown.text();
    let init = async |home: &str, url: &str| -> Done {
        let mut command = program("farwire");
        command.arg("--home").arg(world.path(home)).args(["init", "--relay", url]);
        command.output().await.unwrap().into()
    };
    let address = format!("127.0.0.1:{}", world.port);
    let key = shown.trim().rsplit('/').next().unwrap();
    for url in [
        "",
        "x",
        "http://127.0.0.1:1/",
        "farwire://",
        "farwire:///",
        &format!("farwire://{address}"),
        &format!("farwire://{address}/{}", &key[1..]),
        &format!("farwire://{address}/{key}a"),
        &format!("farwire://127.0.0.1/{key}"),
        &format!("farwire://127.0.0.1:99999/{key}"),
        &format!("farwire://{address}/{key}#x"),
        &format!("farwire://{}/{key}", [address.as_str(); 9].join(",")),
        &format!("farwire://{address}/{key}\u{1b}[31m"),
    ] {
        refused(&init("h1", url).await, 64, "invalid_argument");
        let through = world.device("h1", &["init", "--relay", "-"], url.as_bytes()).await;
        refused(&through, 64, "invalid_argument");
        assert!(!world.path("h1").exists(), "{url}: something was written");
    }
    // Whole, but without an invite, or with one that has been used, or with another key.
    let good = format!("farwire://{address}/{key}");
    refused(&init("h2", &good).await, 69, "relay_denied");
    let used = format!("{good}#{}", "a".repeat(52));
    refused(&init("h3", &used).await, 69, "invite_used");
    let through = world.device("h3", &["init", "--relay", "-"], used.as_bytes()).await;
    refused(&through, 69, "invite_used");
    let other = if key.starts_with('a') { 'b' } else { 'a' };
    let wrong = format!("farwire://{address}/{other}{}", &key[1..]);
    refused(&init("h4", &wrong).await, 69, "relay_key_mismatch");
    refused(&init("bridge", &good).await, 78, "already_initialized");
    let nobody = format!("farwire://127.0.0.1:1/{key}");
    refused(&init("h5", &nobody).await, 69, "relay_unreachable");
}

#[tokio::test]
async fn a_bundle_of_another_kind_shape_or_owner_is_refused() {
    let world = World::with_server("web-1").await;
    let device = world.farwire(&["fingerprint", "--bundle"]).await.text();
    let agent = world.agent_with("web-1", &["fingerprint", "--bundle"], b"").await.text();
    let add = ["server", "add", "web-2", "--bundle", "-"];
    let here = async |text: &str| world.farwire_with(&add, text.as_bytes()).await;
    let there = async |text: &str| {
        let add = ["device", "add", "laptop", "--bundle", "-"];
        world.agent_with("web-1", &add, text.as_bytes()).await
    };
    refused(&here(&device).await, 69, "wrong_key_kind");
    refused(&there(&agent).await, 69, "wrong_key_kind");
    let cut = |text: &str| text.trim()[..text.len() / 2].to_owned();
    let flipped = |text: &str| {
        let mut bytes = text.trim().to_owned().into_bytes();
        let at = bytes.len() / 2;
        bytes[at] = if bytes[at] == b'a' { b'b' } else { b'a' };
        String::from_utf8(bytes).unwrap()
    };
    for text in ["", "fwb_", "fwb_!", "hello", &"fwb_a".repeat(4000)] {
        refused(&here(text).await, 64, "invalid_argument");
        refused(&there(text).await, 64, "invalid_argument");
    }
    refused(&here(&cut(&agent)).await, 64, "invalid_argument");
    refused(&here(&flipped(&agent)).await, 64, "invalid_argument");
    refused(&there(&cut(&device)).await, 64, "invalid_argument");
    refused(&there(&flipped(&device)).await, 64, "invalid_argument");
    refused(&here(&agent).await, 69, "already_enrolled");
    let taken = ["server", "add", "web-1", "--bundle", "-"];
    refused(&world.farwire_with(&taken, agent.as_bytes()).await, 69, "name_taken");
    let missing = ["server", "add", "web-2", "--bundle", "/no/such/file"];
    refused(&world.farwire(&missing).await, 74, "io");
    let unknown = ["server", "repin", "web-9", "--bundle", "-"];
    refused(&world.farwire_with(&unknown, agent.as_bytes()).await, 69, "unknown_server");
    assert_eq!(world.farwire(&["run", "web-1", "--", "true"]).await.code, 0, "all is as it was");
}
