//! The protocol between agents or bridges and the relay, on the first stream of each connection.
//! ```text
//! program                                relay
//!    | -- Call 1 Hello ------------------> |     streams may be opened at once, unanswered
//!    | <----------------- Answer Welcome - |
//!    | -- Call n (a verb) ---------------> |
//!    | <--------------------------- Answer |     in any order, by the call's id
//!    | <--------------------------- Notice |     whenever the relay has one
//! ```
//!
//! Each message is a u32 length and a CBOR body of at most [`LIMIT`] bytes. A verb that the relay
//! does not know is answered `unsupported`; a notice that a program does not know is skipped.
//! Times are by the relay's clock and are for display only.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};

use crate::cbor::{self, Blob};
use crate::failure::Failure;
use crate::id::{Id, Nonce, Signature};
use crate::lp;

/// The name of the protocol in TLS.
pub const ALPN: &[u8] = b"farwire/1";

/// The maximum length of a control message.
pub const LIMIT: usize = 256 * 1024;

/// The maximum length of HELLO, which comes from an unknown peer.
pub const HELLO_LIMIT: usize = 16 * 1024;

/// The part of [`LIMIT`] that is left for the entries of a list, besides the rest of its answer.
const ROOM: usize = LIMIT - 1024;

/// How many blobs the relay stores for one enrollment, so that a second request is noticed.
pub const MAIL_BLOBS: usize = 4;

/// The maximum length of an enrollment blob.
pub const MAIL_LIMIT: usize = 16 * 1024;

/// The TLS exporter's label for [`Hello::proof`].
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-farwire-hello-1";

/// The maximum number of labels of a server.
pub const LABELS: usize = 32;

/// The maximum number of records in an answer.
pub const RECORDS: usize = 1_024;

/// The maximum number of pieces of mail in an answer.
pub const PIECES: usize = 256;

/// A call to the relay.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Call {
    /// Chosen by the caller, from 1 up; repeated in the answer.
    #[n(0)]
    pub id: u32,
    /// [`Verb::NUMBER`].
    #[n(1)]
    pub verb: u16,
    /// The verb, encoded.
    #[n(2)]
    pub body: Blob,
}

/// A message of the relay: the answer to a call, or a notice when `id` is 0.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Answer {
    /// The call's id, or 0.
    #[n(0)]
    pub id: u32,
    /// Why the call was refused, if it was.
    #[n(1)]
    pub failure: Option<Failure>,
    /// The verb's answer, or the notice, encoded.
    #[n(2)]
    pub body: Blob,
}

/// A call that the relay answers.
pub trait Verb: Encode<()> + for<'b> Decode<'b, ()> {
    /// Its number. Numbers are never reused.
    const NUMBER: u16;
    /// The type of the answer.
    type Answer: Encode<()> + for<'b> Decode<'b, ()>;
}

/// Declares the number and the answer of each verb, in one table.
macro_rules! verbs {
    ($($number:literal $verb:ident -> $answer:ty;)*) => {
        $(impl Verb for $verb {
            const NUMBER: u16 = $number;
            type Answer = $answer;
        })*
    };
}

// 12 to 31 are reserved for the log (LOG_*), 32 to 39 for DIAL_BULK and candidates.
verbs! {
    1 Hello -> Welcome;
    2 Presence -> Done;
    3 List -> Servers;
    4 Lookup -> Record;
    5 ServerCreate -> Record;
    6 ServerUpdate -> Record;
    7 ServerRemove -> Done;
    8 EnrollmentState -> EnrollmentIs;
    9 MailPut -> Done;
    10 MailGet -> Mail;
    11 MailAnswer -> Record;
}

/// The role in which a program connects.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(index_only)]
pub enum Role {
    /// A bridge.
    #[n(1)]
    Device,
    /// An agent with a record.
    #[n(2)]
    Agent,
    /// An agent that has a token but no record yet. It may use only the mailbox of its enrollment.
    #[n(3)]
    Enrolling,
}

/// The first call: identifies the program, and proves that the bundle belongs to this connection.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Hello {
    /// The role.
    #[n(0)]
    pub role: Role,
    /// The signed bundle.
    #[n(1)]
    pub bundle: Blob,
    /// 16 random bytes per process: a reconnect of the same process displaces nobody.
    #[n(2)]
    pub instance: Nonce,
    /// The signature by `KT` over [`hello_text`].
    #[n(3)]
    pub proof: Signature,
    /// Program and version, for display.
    #[n(4)]
    pub build: String,
    /// The secret of an invite: creates a workspace, with `genesis`.
    #[n(5)]
    pub invite: Option<Blob>,
    /// The signed genesis event of the workspace to create.
    #[n(6)]
    pub genesis: Option<Blob>,
    /// The enrollment, for [`Role::Enrolling`].
    #[n(7)]
    pub enrollment: Option<Nonce>,
}

/// The text that `KT` signs in a HELLO, bound to this TLS connection by its exporter.
pub fn hello_text(exporter: &[u8; 32]) -> Vec<u8> {
    let mut text = lp::join(&[b"farwire/hello/1"]);
    text.extend_from_slice(exporter);
    text
}

/// The answer to a valid HELLO.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Welcome {
    /// The relay node, for display.
    #[n(0)]
    pub node: String,
    /// Program and version of the relay.
    #[n(1)]
    pub build: String,
    /// The relay's clock, seconds since 1970, for display and for `doctor`.
    #[cbor(n(2), decode_with = "crate::peer::count")]
    pub time: u64,
    /// The maximum number of open streams per connection.
    #[n(3)]
    pub streams: u32,
    /// The address from which the relay sees this connection.
    #[n(4)]
    pub observed: String,
    /// Whether mail waits for this workspace.
    #[n(5)]
    pub mail: Option<bool>,
}

/// Tells the relay which devices an agent admits besides those of its workspace, so that the relay
/// lets their streams through. The agent still decides by itself.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Presence {
    /// The `ID`s of devices that were added by hand.
    #[n(0)]
    pub admits: Vec<Id>,
}

/// The call was carried out.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Done {}

/// Lists all servers of the workspace.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct List {
    /// [`Servers::next`] of the previous page; the first page when absent.
    #[n(0)]
    pub page: Option<u32>,
}

/// A page of servers.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Servers {
    /// Sorted by name, at most [`RECORDS`].
    #[cbor(n(0), decode_with = "crate::peer::list::<_, _, RECORDS>")]
    pub servers: Vec<Record>,
    /// Where the next page begins, if there is one.
    #[n(1)]
    pub next: Option<u32>,
}

/// Looks up one server by its agent's `ID`; it may be one of another workspace that admits this
/// device.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Lookup {
    /// The agent.
    #[n(0)]
    pub agent: Id,
}

/// The relay's record of a server.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Record {
    /// The record's id.
    #[n(0)]
    pub id: Nonce,
    /// The name that the operator gave it.
    #[n(1)]
    pub name: String,
    /// The labels that the operator gave it, at most [`LABELS`]: for display and search, never for
    /// authority.
    #[cbor(n(2), decode_with = "crate::peer::map::<_, _, _, LABELS>")]
    pub labels: BTreeMap<String, String>,
    /// Its state.
    #[n(3)]
    pub state: ServerState,
    /// The agent's `ID`, once enrolled.
    #[n(4)]
    pub agent: Option<Id>,
    /// When the record was created, seconds since 1970.
    #[cbor(n(5), decode_with = "crate::peer::count")]
    pub created: u64,
    /// When the agent was last connected, seconds since 1970.
    #[cbor(n(6), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub seen: Option<u64>,
    /// The agent's self-reported program and version.
    #[n(7)]
    pub build: Option<String>,
    /// When two processes with the identity of this agent were last seen, if they were.
    #[cbor(n(8), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub duplicate: Option<u64>,
}

/// The state of a server, as the relay sees it.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(index_only)]
pub enum ServerState {
    /// Created, but not enrolled.
    #[n(0)]
    Pending,
    /// Its agent is connected.
    #[n(1)]
    Online,
    /// Its agent is not connected.
    #[n(2)]
    Offline,
    /// The operator suspended it.
    #[n(3)]
    Suspended,
}

impl ServerState {
    /// The name of the state for people and programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Online => "online",
            Self::Offline => "offline",
            Self::Suspended => "suspended",
        }
    }
}

/// Creates a server's record, for an agent to enroll.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct ServerCreate {
    /// Its name: see [`valid_name`].
    #[n(0)]
    pub name: String,
    /// Its labels.
    #[n(1)]
    pub labels: BTreeMap<String, String>,
    /// The enrollment id of the token.
    #[n(2)]
    pub enrollment: Nonce,
    /// How long the token is valid, in seconds.
    #[n(3)]
    pub lifetime: u32,
}

/// Changes a server's record. Absent fields stay unchanged.
#[derive(Clone, Debug, Default, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct ServerUpdate {
    /// The server.
    #[n(0)]
    pub name: String,
    /// Its new name.
    #[n(1)]
    pub rename: Option<String>,
    /// Labels to set.
    #[n(2)]
    pub set: Option<BTreeMap<String, String>>,
    /// Labels to remove.
    #[n(3)]
    pub unset: Option<Vec<String>>,
    /// Suspend or resume it.
    #[n(4)]
    pub suspended: Option<bool>,
    /// A new enrollment for the same record: the next agent that enrolls takes its place.
    #[n(5)]
    pub enrollment: Option<Nonce>,
    /// How long the new token is valid, in seconds.
    #[n(6)]
    pub lifetime: Option<u32>,
}

/// Removes a server's record and ends its agent's connection.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct ServerRemove {
    /// The server.
    #[n(0)]
    pub name: String,
}

/// Asks for the state of an enrollment, before anything is written anywhere.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct EnrollmentState {
    /// The enrollment.
    #[n(0)]
    pub enrollment: Nonce,
}

/// The state of an enrollment, by the relay's records and clock.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct EnrollmentIs {
    /// The state.
    #[n(0)]
    pub state: MailState,
    /// The relay's clock, seconds since 1970.
    #[cbor(n(1), decode_with = "crate::peer::count")]
    pub time: u64,
}

/// The states of an enrollment's mailbox.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(index_only)]
pub enum MailState {
    /// A request may be posted.
    #[n(0)]
    Open,
    /// A request waits for the inviter.
    #[n(1)]
    Waiting,
    /// The enrollment has been answered.
    #[n(2)]
    Answered,
    /// The enrollment expired without a request.
    #[n(3)]
    Expired,
    /// The relay knows no such enrollment.
    #[n(4)]
    Unknown,
}

/// Posts a sealed request. The same bytes again are the same request.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct MailPut {
    /// The enrollment.
    #[n(0)]
    pub enrollment: Nonce,
    /// The sealed request.
    #[n(1)]
    pub blob: Blob,
}

/// Fetches mail: a device gets the requests of its workspace, an enrolling agent its answer.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct MailGet {
    /// Only mail of this enrollment.
    #[n(0)]
    pub enrollment: Option<Nonce>,
    /// [`Mail::next`] of the previous answer; from the first piece when absent.
    #[n(1)]
    pub after: Option<u64>,
}

/// Sealed mail.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Mail {
    /// One piece for each blob, as many as fit, at most [`PIECES`].
    #[cbor(n(0), decode_with = "crate::peer::list::<_, _, PIECES>")]
    pub pieces: Vec<MailPiece>,
    /// The value of [`MailGet::after`] for the rest, if there is more.
    #[n(1)]
    pub next: Option<u64>,
}

/// One sealed blob.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct MailPiece {
    /// The enrollment.
    #[n(0)]
    pub enrollment: Nonce,
    /// The blob.
    #[n(1)]
    pub blob: Blob,
    /// How long ago it arrived, in seconds by the relay's clock.
    #[cbor(n(2), decode_with = "crate::peer::count")]
    pub age: u64,
    /// Whether it arrived after its enrollment had been answered: the token was used a second time.
    #[n(3)]
    pub late: Option<bool>,
}

/// Posts the sealed answer and binds the accepted agent to the record, in one transaction.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct MailAnswer {
    /// The enrollment.
    #[n(0)]
    pub enrollment: Nonce,
    /// The signed bundle of the accepted agent.
    #[n(1)]
    pub agent: Blob,
    /// The sealed answer.
    #[n(2)]
    pub blob: Blob,
}

/// An unsolicited message of the relay.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub enum Notice {
    /// Another process with the same identity has replaced this one.
    #[n(1)]
    Superseded,
    /// The relay is about to shut down. Reconnect at a random time within this many milliseconds.
    #[n(2)]
    GoAway(#[n(0)] u32),
    /// Mail has arrived for this workspace or this enrollment.
    #[n(3)]
    Mail,
    /// The record was suspended, resumed, changed or removed.
    #[n(4)]
    Changed,
}

/// Returns the first entries of a list, as many as fit into one answer, and at least one.
pub fn page<T: Encode<()>>(mut entries: Vec<T>) -> Vec<T> {
    let mut room = ROOM;
    let fits = entries.iter().take_while(|entry| {
        let length = cbor::encode(*entry).len();
        let fits = length <= room;
        room = room.saturating_sub(length);
        fits
    });
    let count = fits.count().max(1);
    entries.truncate(count);
    entries
}

/// Whether `name` may name a server: 1 to 64 letters, digits, `-`, `_` or `.`, beginning with a
/// letter or a digit, so that it cannot be mistaken for an option or a path.
pub fn valid_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= 64
        && bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// Whether a label is valid: a key like a name, and a value of at most 128 printable characters
/// without `,` and `=`, which selectors use.
pub fn valid_label(key: &str, value: &str) -> bool {
    valid_name(key)
        && value.chars().count() <= 128
        && value.chars().all(|char| !char.is_control() && !matches!(char, ',' | '='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_never_options_or_paths() {
        for good in ["a", "web-1", "db.example", "9_x"] {
            assert!(valid_name(good), "{good}");
        }
        for bad in ["", "-x", "--help", "../x", "a/b", "a b", "é", &"a".repeat(65)] {
            assert!(!valid_name(bad), "{bad}");
        }
        assert!(valid_label("env", "prod") && !valid_label("env", "a,b") && !valid_label("-", "x"));
    }

    #[test]
    fn a_verb_and_a_field_of_a_newer_program_are_carried_or_skipped() {
        let call = Call { id: 7, verb: 999, body: Blob(vec![1]) };
        assert_eq!(cbor::decode::<Call>(&cbor::encode(&call), LIMIT).unwrap(), call);
        let newer = [0xa2, 0x00, 0x01, 0x18, 0x63, 0x61, b'x']; // {0: 1, 99: "x"}
        assert_eq!(cbor::decode::<List>(&newer, LIMIT).unwrap(), List { page: Some(1) });
    }

    #[test]
    fn a_page_fits_into_one_answer_however_large_its_entries_are() {
        let piece = |length: usize| MailPiece {
            enrollment: Nonce([7; 16]),
            blob: Blob(vec![1; length]),
            age: u64::MAX,
            late: Some(true),
        };
        for (length, count) in [(0, 64), (MAIL_LIMIT, 64), (MAIL_LIMIT, 1), (100, 0)] {
            let pieces = page((0..count).map(|_| piece(length)).collect());
            assert_eq!(pieces.is_empty(), count == 0);
            assert_eq!(pieces.len() == count, length < 1000 || count < 2, "{length}, {count}");
            let body = Blob(cbor::encode(&Mail { pieces, next: Some(u64::MAX) }));
            let answer = cbor::encode(&Answer { id: u32::MAX, failure: None, body });
            assert!(answer.len() <= LIMIT, "{}", answer.len());
        }
    }

    #[test]
    fn the_bytes_of_mail_and_of_asking_for_it() {
        let check = |bytes: Vec<u8>, expected: expect_test::Expect| {
            expected.assert_eq(&data_encoding::HEXLOWER.encode(&bytes));
        };
        let enrollment = Nonce([7; 16]);
        let get = |after| MailGet { enrollment: None, after };
        check(cbor::encode(&get(None)), expect_test::expect!["a0"]);
        check(cbor::encode(&get(Some(9))), expect_test::expect!["a10109"]);
        let piece = |late| MailPiece { enrollment, blob: Blob(vec![1]), age: 2, late };
        let mail = Mail { pieces: vec![piece(None), piece(Some(true))], next: Some(300) };
        check(
            cbor::encode(&mail),
            expect_test::expect![["a20082a3005007070707070707070707070707070707014101\
                 0202a40050070707070707070707070707070707070141010202\
                 03f50119012c"]],
        );
        // An answer of an older relay, and a call of an older program.
        let older = cbor::decode::<Mail>(&[0xa1, 0x00, 0x80], LIMIT).unwrap();
        assert_eq!(older, Mail { pieces: Vec::new(), next: None });
    }

    #[test]
    fn lists_over_their_limits_are_refused() {
        let record = |labels: usize| Record {
            id: Nonce([7; 16]),
            name: "web-1".to_owned(),
            labels: (0..labels).map(|at| (at.to_string(), String::new())).collect(),
            state: ServerState::Online,
            agent: None,
            created: 1,
            seen: None,
            build: None,
            duplicate: None,
        };
        let servers = |count, labels| {
            let servers = Servers { servers: vec![record(labels); count], next: None };
            cbor::decode::<Servers>(&cbor::encode(&servers), LIMIT)
                .is_ok_and(|read| read == servers)
        };
        assert!(servers(0, 0) && servers(2, LABELS) && servers(RECORDS, 0));
        assert!(!servers(RECORDS + 1, 0) && !servers(1, LABELS + 1));
        let piece =
            MailPiece { enrollment: Nonce([7; 16]), blob: Blob(vec![]), age: 1, late: None };
        let mail = |count| {
            let mail = Mail { pieces: vec![piece.clone(); count], next: None };
            cbor::decode::<Mail>(&cbor::encode(&mail), LIMIT).is_ok_and(|read| read == mail)
        };
        assert!(mail(0) && mail(PIECES) && !mail(PIECES + 1));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic() {
        bolero::check!().for_each(|bytes: &[u8]| {
            let _ = cbor::decode::<Call>(bytes, LIMIT);
            let _ = cbor::decode::<Answer>(bytes, LIMIT);
            let _ = cbor::decode::<Hello>(bytes, LIMIT);
            let _ = cbor::decode::<Servers>(bytes, LIMIT);
            let _ = cbor::decode::<Mail>(bytes, LIMIT);
            let _ = cbor::decode::<MailGet>(bytes, LIMIT);
            let _ = cbor::decode::<Notice>(bytes, LIMIT);
        });
    }
}
