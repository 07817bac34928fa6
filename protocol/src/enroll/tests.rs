//! Valid enrollment mail, and mail that a relay forged.

use super::*;
use crate::address::Relay;
use crate::bundle::Bundle;
use crate::bundle::tests::bundle;
use crate::id::{Kt, TrustDomain};

struct Case {
    token: Token,
    id: SigningKey,
    answer_key: SigningKey,
    delegation: Vec<u8>,
    agent: SignedBundle,
    device: SignedBundle,
}

fn case() -> Case {
    let (id, device) = bundle(1, Kind::Device);
    let (agent_key, agent) = bundle(20, Kind::Agent);
    let trust_domain = TrustDomain([8; 32]);
    let token = Token {
        relay: Relay { addresses: vec!["r:1".into()], key: Kt([1; 32]) },
        trust_domain,
        inviter: device.id,
        enrollment: Nonce([4; 16]),
        secret: Zeroizing::new([5; 32]),
        expires: 9,
    };
    let answer_key = SigningKey::from_bytes(&[66; 32]);
    let delegation =
        AnswerDelegation::sign(&token, Surf(answer_key.verifying_key().to_bytes()), &id);
    let agent = Bundle { trust_domain, ..agent }.sign(&agent_key);
    let device = device.sign(&id);
    Case { token, id, answer_key, delegation, agent, device }
}

impl Case {
    fn request(&self) -> Request {
        Request {
            bundle: Blob(self.agent.encode()),
            enrollment: self.token.enrollment,
            hostname: "web-1".into(),
            os: "linux".into(),
            nonce: Nonce([6; 16]),
        }
    }

    fn answer(&self, request: &[u8]) -> EnrollAnswer {
        EnrollAnswer {
            request: Blob(blob_hash(request).to_vec()),
            agent: self.agent.id,
            device: Blob(self.device.encode()),
            name: "web-1".into(),
            device_name: "laptop".into(),
        }
    }
}

#[test]
fn a_request_and_its_answer_arrive() {
    let case = case();
    let sent = case.request().seal(&case.token).unwrap();
    let (request, bundle) = Request::open(&case.token, &sent).unwrap();
    assert_eq!((request, bundle), (case.request(), case.agent.clone()));
    let back = case.answer(&sent).seal(&case.token, &case.delegation, &case.answer_key).unwrap();
    let (_, device) = EnrollAnswer::open(&case.token, &back, &sent, &case.agent.id).unwrap();
    assert_eq!(device, case.device);
}

#[test]
fn mail_is_good_for_one_way_one_token_and_one_request() {
    let case = case();
    let sent = case.request().seal(&case.token).unwrap();
    let back = case.answer(&sent).seal(&case.token, &case.delegation, &case.answer_key).unwrap();
    let me = &case.agent.id;
    assert!(EnrollAnswer::open(&case.token, &sent, &sent, me).is_err(), "a request reflected");
    let other = Token { expires: 10, ..case.token.clone() };
    assert!(
        Request::open(&other, &sent).is_err()
            && EnrollAnswer::open(&other, &back, &sent, me).is_err()
    );
    let again = case.request().seal(&case.token).unwrap();
    assert!(matches!(
        EnrollAnswer::open(&case.token, &back, &again, me),
        Err(BadMail::AnotherRequest)
    ));
    assert!(
        EnrollAnswer::open(&case.token, &back, &sent, &case.device.id).is_err(),
        "another agent"
    );
    for at in [0, SALT, back.len() - 1] {
        let mut bad = back.clone();
        bad[at] ^= 1;
        assert!(EnrollAnswer::open(&case.token, &bad, &sent, me).is_err());
    }
}

#[test]
fn a_thief_of_the_token_cannot_answer_in_the_name_of_the_inviter() {
    let case = case();
    let sent = case.request().seal(&case.token).unwrap();
    let thief = SigningKey::from_bytes(&[99; 32]);
    let thief_key = Surf(thief.verifying_key().to_bytes());
    for (delegation, key) in [
        (AnswerDelegation::sign(&case.token, thief_key, &thief), &thief),
        (case.delegation.clone(), &thief),
        (
            AnswerDelegation::sign(
                &Token { enrollment: Nonce([0; 16]), ..case.token.clone() },
                thief_key,
                &case.id,
            ),
            &thief,
        ),
    ] {
        let forged = case.answer(&sent).seal(&case.token, &delegation, key).unwrap();
        assert!(matches!(
            EnrollAnswer::open(&case.token, &forged, &sent, &case.agent.id),
            Err(BadMail::NotTheInviter)
        ));
    }
}

#[test]
fn any_mail_is_read_without_a_panic() {
    let case = case();
    bolero::check!().for_each(|text: &[u8]| {
        let _ = Request::open(&case.token, text);
        let sealed = seal(&case.token, Way::Request, text).unwrap();
        let _ = Request::open(&case.token, &sealed);
        let sealed = seal(&case.token, Way::Answer, text).unwrap();
        let _ = EnrollAnswer::open(&case.token, &sealed, b"", &case.agent.id);
    });
}
