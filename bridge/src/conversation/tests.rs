//! The table, over everything that it is asked about.

use super::*;

/// Every code that a reset can have: the known ones, and some of newer programs.
fn resets() -> impl Iterator<Item = Reset> {
    (0..=12).chain([77, u32::MAX]).map(Reset::from_code)
}

/// What anybody on the way can bring about.
fn unproven() -> Vec<Fault> {
    let other =
        [Fault::Damaged, Fault::Cut, Fault::Lost, Fault::Silent, Fault::NoWay, Fault::CutShort];
    resets().map(Fault::Reset).chain(other).collect()
}

/// What only the agent can bring about.
fn sealed() -> Vec<Fault> {
    let words = [Word::Broken, Word::Gone, Word::Unsure, Word::Died, Word::Kept, Word::Refused];
    words.into_iter().map(Fault::Said).chain([Fault::Rejected, Fault::Nonsense]).collect()
}

fn all_asked() -> Vec<RequestProgress> {
    let mut all = Vec::new();
    for effects in [Effects::None, Effects::Once, Effects::Each] {
        for copies in 0..=3 {
            for heard in [false, true] {
                for fruitless in 0..=2 {
                    all.push(RequestProgress { effects, copies, heard, fruitless });
                }
            }
        }
    }
    all
}

#[test]
fn nothing_unproven_ends_a_request_that_acts_and_may_have_been_sent_but_in_not_knowing() {
    for asked in all_asked().into_iter().filter(|asked| asked.copies > 0) {
        for fault in unproven() {
            let next = next(fault, asked);
            match asked.effects {
                Effects::None => {}
                Effects::Once => {
                    assert!(matches!(next, Next::Again | Next::NewLink), "{fault:?} {asked:?}");
                }
                Effects::Each => assert_eq!(next, Next::Unknown, "{fault:?} {asked:?}"),
            }
        }
    }
}

#[test]
fn a_request_of_which_each_copy_acts_is_never_sent_twice() {
    let sent = all_asked().into_iter().filter(|asked| asked.copies > 0);
    for asked in sent.filter(|asked| asked.effects == Effects::Each) {
        for fault in unproven().into_iter().chain(sealed()).chain([Fault::Here]) {
            let next = next(fault, asked);
            assert!(matches!(next, Next::Failed | Next::Unknown), "{fault:?} {asked:?}");
        }
    }
}

#[test]
fn only_a_sealed_answer_says_that_a_request_that_may_have_been_sent_was_not_carried_out() {
    let sent = all_asked().into_iter().filter(|asked| asked.copies > 0);
    for asked in sent.filter(|asked| asked.effects != Effects::None) {
        for fault in unproven().into_iter().chain(sealed()).chain([Fault::Here]) {
            let failed = next(fault, asked) == Next::Failed;
            let proven = match fault {
                Fault::Said(Word::Kept) => true,
                // Of its one copy the agent has answered.
                Fault::Said(Word::Refused) => asked.copies == 1,
                _ => false,
            };
            assert_eq!(failed, proven, "{fault:?} {asked:?}");
        }
    }
}

#[test]
fn what_was_never_sent_is_never_of_unknown_outcome() {
    for asked in all_asked().into_iter().filter(|asked| asked.copies == 0) {
        let no_stream = [Fault::NoWay, Fault::CutShort, Fault::Rejected, Fault::Here];
        for fault in no_stream.into_iter().chain(unproven()) {
            assert_ne!(next(fault, asked), Next::Unknown, "{fault:?} {asked:?}");
        }
    }
}

#[test]
fn a_handshake_that_is_cut_short_is_tried_once_more_before_anything_is_sent() {
    for asked in all_asked().into_iter().filter(|asked| asked.copies == 0) {
        let expected = if asked.fruitless == 0 { Next::Again } else { Next::Failed };
        assert_eq!(next(Fault::CutShort, asked), expected, "{asked:?}");
    }
}

#[test]
fn a_question_is_asked_again_until_somebody_says_that_the_server_is_not_there() {
    let fresh = RequestProgress { effects: Effects::None, copies: 1, heard: false, fruitless: 0 };
    for reset in resets() {
        let refusal = matches!(reset, Reset::UnknownServer | Reset::Offline | Reset::Suspended);
        let next_of = |asked| next(Fault::Reset(reset), asked);
        assert_eq!(next_of(fresh) == Next::Failed, refusal, "{reset:?}");
        let under_way = RequestProgress { heard: true, ..fresh };
        assert!(matches!(next_of(under_way), Next::Again | Next::NewLink), "{reset:?}");
        let carried_before = RequestProgress { copies: 2, fruitless: 1, ..fresh };
        assert_eq!(next_of(carried_before), Next::NewLink, "{reset:?}");
    }
    assert_eq!(next(Fault::Reset(Reset::UnknownLink), fresh), Next::NewLink);
    assert_eq!(next(Fault::Said(Word::Gone), fresh), Next::NewConversation);
    for asked in all_asked().into_iter().filter(|asked| asked.effects == Effects::None) {
        for fault in unproven().into_iter().chain(sealed()) {
            assert_ne!(next(fault, asked), Next::Unknown, "{fault:?} {asked:?}");
        }
    }
}

#[test]
fn every_kind_of_failure_has_one_meaning_when_it_is_sealed() {
    for &kind in Kind::ALL {
        let word = Word::of(kind);
        // Nothing that a stream of ours can come to is taken for a refusal.
        let carrier =
            matches!(kind, Kind::LinkLost | Kind::StreamTruncated | Kind::IntegrityFailure);
        assert_eq!(word == Word::Broken, carrier, "{kind}");
    }
    assert_eq!(Word::of(Kind::Unknown(60_000)), Word::Refused);
    assert_eq!(Word::of(Kind::StreamStale), Word::Unsure);
}

#[test]
fn no_kind_in_which_a_relay_refuses_is_taken_for_the_word_of_an_agent() {
    for &kind in Kind::ALL.iter().filter(|kind| kind.is_of_hello()) {
        let fault = Fault::of_words(kind);
        assert!(matches!(fault, Fault::NoWay | Fault::Reset(_)), "{kind}: {fault:?}");
        assert!(is_unknown(kind), "{kind}");
    }
    for kind in [Kind::ServerKeyChanged, Kind::RelayKeyMismatch, Kind::KeystorePermissions] {
        assert!(is_unknown(kind), "{kind}");
    }
    // And of files it cannot say anything at all.
    for kind in Kind::ALL.iter().filter(|kind| kind.number() >= 100) {
        assert!(!kind.is_of_relay(), "{kind}");
    }
}
