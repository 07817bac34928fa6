//! Each rule with the cases on both sides of it.

use farwire_protocol::id::Kind as IdKind;

use super::*;
use crate::testing::{bundle, device};

const NOW: i64 = 1_000_000;
const MINE: WorkspaceId = WorkspaceId(7);

fn kind<T: std::fmt::Debug>(result: Result<T, Failure>) -> Kind {
    result.unwrap_err().kind
}

#[test]
fn an_invite_is_good_once_and_in_time() {
    let (kt, other) = (Kt([1; 32]), Kt([2; 32]));
    let unused = |expires| Some(KeptInvite { expires, used_by: None });
    let used_by = |kt| Some(KeptInvite { expires: NOW, used_by: Some(kt) });
    assert_eq!(redeem(unused(NOW), kt, None, NOW).unwrap(), None);
    assert_eq!(kind(redeem(unused(NOW - 1), kt, None, NOW)), Kind::InviteUsed);
    assert_eq!(kind(redeem(None, kt, None, NOW)), Kind::InviteUsed);
    assert_eq!(kind(redeem(unused(NOW), kt, Some(MINE), NOW)), Kind::RelayDenied);
    // The device that used it learns its workspace again, also later.
    assert_eq!(redeem(used_by(kt), kt, Some(MINE), NOW + 9_999).unwrap(), Some(MINE));
    assert_eq!(kind(redeem(used_by(other), kt, Some(MINE), NOW)), Kind::InviteUsed);
    assert_eq!(kind(redeem(used_by(kt), kt, None, NOW)), Kind::InviteUsed);
}

#[test]
fn a_key_is_proven_by_its_owner_and_stays_proven_until_it_changes() {
    let at = |seq, kt| bundle(1, IdKind::Device, move |bundle| (bundle.seq, bundle.kt) = (seq, kt));
    let known = |proven| KnownIdentity {
        bundle: at(1, Kt([1; 32])).encode(),
        proven,
        workspace: Some(MINE),
    };
    let (equal, moved) = (at(2, Kt([1; 32])), at(2, Kt([2; 32])));
    assert!(succeed(None, &equal, BundleSource::Owner).unwrap());
    assert!(!succeed(None, &equal, BundleSource::Acceptance).unwrap());
    assert!(succeed(Some(&known(true)), &equal, BundleSource::Acceptance).unwrap());
    assert!(!succeed(Some(&known(true)), &moved, BundleSource::Acceptance).unwrap());
    assert!(!succeed(Some(&known(false)), &equal, BundleSource::Acceptance).unwrap());
    assert!(succeed(Some(&known(false)), &moved, BundleSource::Owner).unwrap());
}

#[test]
fn a_bundle_replaces_an_older_one_only() {
    let at = |seq| bundle(1, IdKind::Device, move |bundle| bundle.seq = seq);
    let known = |bundle| Some(KnownIdentity { bundle, proven: true, workspace: None });
    let succeed =
        |known: Option<KnownIdentity>, seq| succeed(known.as_ref(), &at(seq), BundleSource::Owner);
    assert!(succeed(known(at(2).encode()), 2).is_ok(), "the same one again");
    assert!(succeed(known(at(2).encode()), 3).is_ok());
    assert_eq!(kind(succeed(known(at(2).encode()), 1)), Kind::RelayDenied);
    assert_eq!(kind(succeed(known(vec![0; 9]), 3)), Kind::RelayDenied, "a damaged record");
}

#[test]
fn a_request_is_filed_by_what_its_enrollment_has() {
    let enrollment = |expires, answered| KeptEnrollment { workspace: MINE, expires, answered };
    let (open, expired) = (enrollment(NOW, None), enrollment(NOW - 1, None));
    let answered = enrollment(NOW - 1, Some(NOW - 1));
    let request = |late| StoredRequest { workspace: MINE, late };
    for (enrollment, requests, state) in [
        (open, 0, MailState::Open),
        (open, 1, MailState::Waiting),
        (expired, 0, MailState::Expired),
        (expired, 1, MailState::Waiting),
        (answered, 0, MailState::Answered),
        (answered, 4, MailState::Answered),
    ] {
        assert_eq!(mail_state(&enrollment, requests, NOW), state, "{enrollment:?}, {requests}");
    }
    let file = |enrollment, known, requests| file_request(&enrollment, known, requests, NOW);
    assert_eq!(file(open, None, 0).unwrap(), Filing::New(request(false)));
    assert_eq!(file(open, None, 3).unwrap(), Filing::New(request(false)));
    assert_eq!(kind(file(open, None, 4)), Kind::TokenUsed);
    assert_eq!(kind(file(expired, None, 0)), Kind::TokenExpired);
    assert_eq!(file(expired, None, 1).unwrap(), Filing::New(request(false)));
    assert_eq!(file(answered, None, 1).unwrap(), Filing::New(request(true)));
    for late in [false, true] {
        assert_eq!(file(answered, Some(late), 4).unwrap(), Filing::Known(request(late)));
    }
}

#[test]
fn an_answer_may_be_repeated_and_not_changed() {
    let kept = |bundle: Option<&[u8]>| {
        let (blob, bundle) = (b"yes".to_vec(), bundle.map(<[u8]>::to_vec));
        KeptAnswer { blob, bundle }
    };
    let known = kept(Some(b"agent"));
    assert!(check_answer(None, b"yes", b"agent").is_ok());
    assert!(check_answer(Some(&known), b"yes", b"agent").is_ok());
    assert_eq!(kind(check_answer(Some(&known), b"no", b"agent")), Kind::TokenUsed);
    assert_eq!(kind(check_answer(Some(&known), b"yes", b"another")), Kind::TokenUsed);
    assert!(check_answer(Some(&kept(None)), b"yes", b"agent").is_ok(), "of an older version");
    assert!(check_mail_size("answer", &[0; MAIL_LIMIT]).is_ok());
    assert_eq!(kind(check_mail_size("answer", &[0; MAIL_LIMIT + 1])), Kind::TooLarge);
}

#[test]
fn an_agent_is_bound_where_its_bundle_says_and_to_one_workspace() {
    let genesis = b"genesis";
    let of = |domain| bundle(3, IdKind::Agent, move |bundle| bundle.trust_domain = domain);
    assert!(check_binding(genesis, &of(trust_domain(genesis)), false).is_ok());
    assert!(check_binding(genesis, &of(TrustDomain::NONE), false).is_ok());
    let foreign = of(trust_domain(b"another"));
    assert_eq!(kind(check_binding(genesis, &foreign, false)), Kind::InvalidArgument);
    assert_eq!(kind(check_binding(genesis, &device(3), true)), Kind::AlreadyEnrolled);
}

#[test]
fn limits_hold_at_their_last_value() {
    assert!(check_server_count(9_999).is_ok());
    assert_eq!(kind(check_server_count(10_000)), Kind::TooLarge);
    assert!(check_token(1, 0).is_ok() && check_token(604_800, 19_999).is_ok());
    assert_eq!(kind(check_token(604_800, 20_000)), Kind::TooLarge);
    for lifetime in [0, 604_801] {
        assert_eq!(kind(check_token(lifetime, 0)), Kind::InvalidArgument);
    }
    let labels = |count| (0..count).map(|key| (format!("k{key}"), String::new())).collect();
    assert!(check_labels(&labels(LABELS)).is_ok());
    assert_eq!(kind(check_labels(&labels(LABELS + 1))), Kind::InvalidArgument);
    let bad = BTreeMap::from([("a b".to_owned(), String::new())]);
    assert_eq!(kind(check_labels(&bad)), Kind::InvalidArgument);
    assert_eq!(kind(check_name("-web")), Kind::InvalidArgument);
}

#[test]
fn a_duplicate_is_reported_for_two_hours() {
    assert!(is_duplicate(NOW, NOW) && is_duplicate(NOW - 7_200, NOW));
    assert!(!is_duplicate(NOW - 7_201, NOW));
    assert!(is_duplicate(i64::MAX, NOW), "a clock that was set back");
}

#[test]
fn a_record_says_whether_a_server_can_be_reached() {
    assert_eq!(server_state(false, false), ServerState::Pending);
    assert_eq!(server_state(true, false), ServerState::Offline);
    for enrolled in [false, true] {
        assert_eq!(server_state(enrolled, true), ServerState::Suspended);
    }
}

#[test]
fn a_peers_text_is_shortened_and_escaped() {
    assert_eq!(excerpt("web-1"), "web-1");
    assert_eq!(excerpt("a\u{1b}[31m`"), "a\\u{1b}[31m`");
    assert_eq!(excerpt(&"x".repeat(65)), format!("{}…", "x".repeat(64)));
    assert_eq!(excerpt(&"x".repeat(64)), "x".repeat(64));
}
