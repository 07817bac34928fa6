//! Everything that can go wrong, in one closed list.
//!
//! A [`Failure`] is what a person or a model sees: a kind from the list, a message that names the
//! object and the cause, and a hint that names the next step. The same kind appears on the command
//! line, in `--json`, in MCP text, on the wire and in the audit. Numbers are assigned here and
//! never reused; an unknown kind is preserved as [`Kind::Unknown`].

use core::fmt;

use minicbor::{Decode, Encode};

/// Declares the list once: number, Rust name, wire name, sentence, default hint.
macro_rules! kinds {
    ($( $number:literal $variant:ident $name:literal : $sentence:literal => $hint:literal; )*) => {
        /// The kind of a failure. Programs branch on it; the list is documented API.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        #[non_exhaustive]
        pub enum Kind {
            $( #[doc = $sentence] $variant, )*
            /// A kind of a newer program. An old one shows its number and treats it as fatal.
            Unknown(u16),
        }

        impl Kind {
            /// Every kind, in the order of the numbers.
            pub const ALL: &[Self] = &[$( Self::$variant, )*];

            /// The number on the wire.
            pub const fn number(self) -> u16 {
                match self { $( Self::$variant => $number, )* Self::Unknown(number) => number }
            }

            /// Returns the kind with this number.
            pub const fn from_number(number: u16) -> Self {
                match number { $( $number => Self::$variant, )* other => Self::Unknown(other) }
            }

            /// The name in snake case, for people and programs.
            pub const fn name(self) -> &'static str {
                match self { $( Self::$variant => $name, )* Self::Unknown(_) => "unknown_failure" }
            }

            /// The meaning, in one sentence.
            pub const fn sentence(self) -> &'static str {
                match self {
                    $( Self::$variant => $sentence, )*
                    Self::Unknown(_) => "A newer program reported a failure that this one does not know.",
                }
            }

            /// The default hint, where no code closer to the cause has a better one.
            pub const fn hint(self) -> &'static str {
                match self {
                    $( Self::$variant => $hint, )*
                    Self::Unknown(_) => "update this program, then try again",
                }
            }
        }
    };
}

kinds! {
    1 InvalidArgument "invalid_argument": "An argument is missing, malformed or out of range."
        => "correct the argument and try again";
    2 UnknownServer "unknown_server": "No server has this name here."
        => "`farwire servers` lists the names";
    3 AmbiguousServer "ambiguous_server": "Several servers match the name."
        => "use the full name or the id that `farwire servers` shows";
    4 ServerOffline "server_offline": "The server is enrolled, but its agent is not connected to the relay."
        => "check that `farwire-agent run` is up on the server";
    5 ServerSuspended "server_suspended": "The server has been suspended in the relay's records."
        => "`farwire server update NAME --resume` resumes it";
    6 ServerPending "server_pending": "The server has been created, but its agent has not enrolled yet."
        => "run `farwire-agent enroll --token -` on the server, with the token that `farwire server create` printed";
    7 ServerKeyChanged "server_key_changed": "The server's key is not the one that is pinned for it."
        => "compare it with `farwire-agent fingerprint` on NAME; if it matches, `farwire server repin NAME --bundle FILE`";
    8 RelayUnreachable "relay_unreachable": "The relay does not answer."
        => "check the relay's address and that UDP to it is allowed; `farwire doctor` on a device tells more";
    9 RelayKeyMismatch "relay_key_mismatch": "What answered at the relay's address does not hold the relay's key."
        => "compare the key with what `farwire-relay url` prints on the relay; somebody may be intercepting the connection";
    10 RelayDenied "relay_denied": "The relay refused the connection or the request."
        => "ask the operator of the relay";
    11 Overloaded "overloaded": "The other side is at its limit."
        => "try again in a moment";
    12 NotAuthorized "not_authorized": "This device is not authorized on the server."
        => "run `farwire-agent device add DEVICE --bundle FILE` on the server, with what `farwire fingerprint --bundle` prints here";
    13 NotGranted "not_granted": "This device may not do that on this server."
        => "ask the owner of the server for a wider grant";
    14 GrantExpired "grant_expired": "The grant for this has expired."
        => "ask the owner of the server for a new grant";
    15 RequiresLocalTrustedMcp "requires_local_trusted_mcp": "Only a trusted local Farwire can do this."
        => "run it through `farwire` on a machine that holds the keys";
    16 NotInitialized "not_initialized": "This installation has no identity yet."
        => "`farwire init --relay -` creates one";
    17 AlreadyInitialized "already_initialized": "This installation has an identity already."
        => "use another `--home`, or remove the old identity on purpose";
    18 TokenMalformed "token_malformed": "The text is not a complete enrollment token."
        => "copy the token again, from `fwe_` to its end";
    19 TokenUsed "token_used": "The token has been used."
        => "create a new one with `farwire server create`";
    20 TokenExpired "token_expired": "The token has expired."
        => "create a new one with `farwire server create`";
    21 TokenUnknown "token_unknown": "The relay knows no such token."
        => "create a new one with `farwire server create`";
    22 AlreadyEnrolled "already_enrolled": "This agent is enrolled already."
        => "`farwire-agent leave` first, if that is what you want";
    23 NotEnrolled "not_enrolled": "This agent is not enrolled yet."
        => "`farwire-agent enroll` first";
    24 EnrollmentRejected "enrollment_rejected": "The answer to the enrollment did not come from the device that created the token."
        => "the relay may be tampering; check its key, then use a new token";
    25 InviteUsed "invite_used": "The invite has been used by another device, or has expired."
        => "`farwire-relay invite` prints a new one";
    26 NameTaken "name_taken": "A server has this name already."
        => "choose another name, or remove the old server";
    27 KeystoreCorrupt "keystore_corrupt": "A file of the keystore is damaged."
        => "restore it from a backup; it is never replaced silently";
    28 KeystorePermissions "keystore_permissions": "A file of the keystore can be read or written by others."
        => "chmod 700 the directory and 600 the file";
    29 KeystoreLocked "keystore_locked": "Another process holds the keystore's lock."
        => "wait for it to end";
    30 StateVersion "state_version": "The state was written by a newer version."
        => "update this program";
    31 Io "io": "Reading or writing a local file failed."
        => "check the disk and the permissions";
    32 AlreadyRunning "already_running": "Another process already uses this directory."
        => "stop it first, or use another directory";
    33 Configuration "configuration": "A configuration file cannot be used."
        => "correct the file where the message says";
    34 WrongKeyKind "wrong_key_kind": "The key belongs to another kind of program."
        => "use the bundle of an agent for a server, and that of a device for a device";
    40 HandshakeFailed "handshake_failed": "The end-to-end handshake did not complete."
        => "the server may have new keys, or the relay may be tampering; `farwire doctor` compares";
    41 IncompatibleVersion "incompatible_version": "The two programs have no version in common."
        => "update the older one";
    42 IntegrityFailure "integrity_failure": "Bytes were altered in transit."
        => "the relay or the network may be tampering";
    43 StreamTruncated "stream_truncated": "The stream was cut off before its authenticated end."
        => "try again; `farwire output ID` shows what a run printed";
    44 StreamStale "stream_stale": "The request arrived too late to be carried out."
        => "try again";
    45 ProtocolViolation "protocol_violation": "The other program broke a rule of the protocol."
        => "update both programs; if it persists, report it";
    46 ConversationGone "conversation_gone": "The agent no longer knows this conversation."
        => "`farwire output ID` reads the run";
    47 LinkLost "link_lost": "The link to the server is down."
        => "try again once it is back; runs and sessions continue on the server, see `farwire status`";
    60 ExecFailed "exec_failed": "The program could not be started."
        => "check that it exists and may be executed";
    61 CwdNotFound "cwd_not_found": "The working directory does not exist or cannot be entered."
        => "name a directory that exists on the server";
    62 UserNotFound "user_not_found": "The server has no such user."
        => "name a user that exists on the server";
    63 UserNotAllowed "user_not_allowed": "The agent may not run programs as this user."
        => "run the agent as root, or leave the user out";
    64 EmptyCommand "empty_command": "There is no command to run."
        => "name one after `--`, or with `-c`";
    65 TooLarge "too_large": "Something exceeds its limit, in size or in number."
        => "reduce what the message names";
    66 RequestIdConflict "request_id_conflict": "The request id was used before for another request."
        => "use a new request id";
    67 OutcomeUnknown "outcome_unknown": "It is not known whether the request took effect, or how it ended."
        => "check on the server before you repeat it";
    68 Cancelled "cancelled": "It was cancelled before it started."
        => "run it again if you want it";
    69 TimedOut "timed_out": "The time allowed ran out."
        => "allow more time";
    70 UnknownId "unknown_id": "No run or session has this id."
        => "`farwire status` lists the ids";
    71 Expired "expired": "The output is no longer kept."
        => "output is kept for 24 hours after the end, within the spool's size";
    72 AlreadyEnded "already_ended": "It has ended already."
        => "`farwire output ID` shows its output";
    73 ResourceExhausted "resource_exhausted": "The server has run out of a resource."
        => "free what the message names, then try again";
    74 InputUnknown "input_unknown": "It is not known how much input the program received."
        => "check on the server before you send it again";
    75 Busy "busy": "Too many requests of this kind are open."
        => "try again when some of them have ended";
    76 ConfirmationRequired "confirmation_required": "This needs a confirmation."
        => "confirm it, then try again";
    77 InputLocked "input_locked": "You may not type now: another client does, or the session forbids it."
        => "the message says who types; wait, ask for a handoff, or as a person run `farwire session take ID`";
    78 ChangedMeanwhile "changed_meanwhile": "It has changed since you read it."
        => "read it again";
    79 TerminalBusy "terminal_busy": "The terminal is not at a prompt."
        => "look at its screen; answer or end what runs there first";
    80 SessionLimit "session_limit": "The limit on open sessions is reached."
        => "close one first";
    81 AmbiguousSession "ambiguous_session": "Several sessions match, but none is active."
        => "name one by its id, or choose one with session_set_active";
    90 Unsupported "unsupported": "This system cannot do that."
        => "see the documentation for what it needs";
    91 Internal "internal": "A bug in Farwire."
        => "report it with the message";
    100 NoRoot "no_root": "The server has opened no such directory."
        => "its owner opens one with `farwire-agent run --fs-root ROOT=DIR`; `farwire files roots SERVER` lists them";
    101 NoSuchFile "no_such_file": "There is no file or directory of this name beneath the root."
        => "list the directory above it";
    102 FileExists "file_exists": "Something of this name exists already."
        => "choose another name, or allow it to be replaced";
    103 ReadOnly "read_only": "Nothing may be changed here."
        => "the server's owner can open a root with `:rw` (`--fs-root ROOT=DIR:rw`), and keeps some files protected even then";
    104 OutsideRoot "outside_root": "The path leads, or may lead, outside the root."
        => "name the file by a path beneath the root";
    105 NotAFile "not_a_file": "It is not a regular file."
        => "name a regular file; a directory can only be listed";
    106 NotADirectory "not_a_directory": "It is not a directory."
        => "name a directory";
    107 DirectoryNotEmpty "directory_not_empty": "The directory is not empty."
        => "remove it recursively, if that is what you want";
    108 PermissionDenied "permission_denied": "The agent's user may not do that there."
        => "check that user's permissions on the server";
    109 DiskFull "disk_full": "The disk is full, or a quota is used up."
        => "free some space there, then try again; what was there before is unchanged";
    110 NoMatch "no_match": "The text to replace was not found."
        => "read the file again, and copy the text exactly";
    111 NotUnique "not_unique": "The text to replace occurs more than once."
        => "add lines around it until it is unique, or replace all";
    112 PatchFailed "patch_failed": "A part of the patch does not apply, and nothing was changed."
        => "make a new patch from the current file";
    113 NothingToUndo "nothing_to_undo": "There is no such change, or what it replaced is no longer kept."
        => "`farwire files undo SERVER --list` lists the changes";
    114 FileWorkerEnded "file_worker_ended": "The process that serves files ended during the request."
        => "try again: it is restarted; look at the agent's log if it happens again";
    115 Incomplete "incomplete": "A part of the request could not be carried out; the rest was."
        => "the answer names each item that failed, with the reason";
}

impl Kind {
    /// Whether a relay may give this as its reason to refuse a HELLO: it is about the peer or about
    /// the relay, and not about a request to an agent.
    pub const fn is_of_hello(self) -> bool {
        matches!(
            self,
            Self::RelayDenied
                | Self::Overloaded
                | Self::TokenMalformed
                | Self::TokenUsed
                | Self::TokenExpired
                | Self::TokenUnknown
                | Self::AlreadyEnrolled
                | Self::EnrollmentRejected
                | Self::InviteUsed
        )
    }

    /// Whether a relay may give this as its answer to a call.
    pub const fn is_of_relay(self) -> bool {
        self.is_of_hello()
            || matches!(
                self,
                Self::InvalidArgument
                    | Self::UnknownServer
                    | Self::AmbiguousServer
                    | Self::ServerOffline
                    | Self::ServerSuspended
                    | Self::ServerPending
                    | Self::NameTaken
                    | Self::Io
                    | Self::ProtocolViolation
                    | Self::TooLarge
                    | Self::ResourceExhausted
                    | Self::Unsupported
                    | Self::Internal
            )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl<C> Encode<C> for Kind {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.u16(self.number())?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Kind {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        d.u16().map(Self::from_number)
    }
}

/// A failure as shown to a person or a model.
///
/// People and models follow a hint, so it always comes from this program: decoding moves the
/// sender's hint to the end of the message, in parentheses.
#[derive(Clone, Debug, Encode, Eq, PartialEq, thiserror::Error)]
#[cbor(map)]
#[error("{message}")]
pub struct Failure {
    /// The kind.
    #[n(0)]
    pub kind: Kind,
    /// What happened to what, as a lower-case fragment without a full stop.
    #[n(1)]
    pub message: String,
    /// What to do, if that goes beyond the kind's default hint.
    #[n(2)]
    pub hint: Option<String>,
}

/// A failure as encoded on the wire.
#[derive(Decode)]
#[cbor(map)]
struct Received {
    #[n(0)]
    kind: Kind,
    #[n(1)]
    message: String,
    #[n(2)]
    hint: Option<String>,
}

impl<'b, C> Decode<'b, C> for Failure {
    fn decode(
        d: &mut minicbor::Decoder<'b>,
        context: &mut C,
    ) -> Result<Self, minicbor::decode::Error> {
        let Received { kind, mut message, hint } = Received::decode(d, context)?;
        if let Some(hint) = hint {
            message = format!("{message} ({hint})");
        }
        Ok(Self::new(kind, message))
    }
}

impl Failure {
    /// Creates a failure of this kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    /// Creates a failure of this kind whose message ends with its chain of causes.
    pub fn caused(kind: Kind, message: impl fmt::Display, cause: &dyn core::error::Error) -> Self {
        let mut text = message.to_string();
        let mut next = Some(cause);
        while let Some(cause) = next {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            next = cause.source();
        }
        Self::new(kind, text)
    }

    /// Sets the hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The hint, or the kind's default.
    pub fn hint(&self) -> &str {
        self.hint.as_deref().unwrap_or_else(|| self.kind.hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_unique_and_lead_back_to_the_kind() {
        let mut names = std::collections::HashSet::new();
        for &kind in Kind::ALL {
            assert_eq!(Kind::from_number(kind.number()), kind);
            assert!(names.insert(kind.name()), "{kind} twice");
            assert!(kind.sentence().ends_with('.') && !kind.hint().ends_with('.'), "{kind}");
        }
        assert!(Kind::ALL.windows(2).all(|two| two[0].number() < two[1].number()));
    }

    #[test]
    fn the_specification_lists_every_kind() {
        let row = |kind: &Kind| format!("| {} | `{kind}` | {} |", kind.number(), kind.sentence());
        let expected: Vec<_> = Kind::ALL.iter().map(row).collect();
        let page = include_str!("../../docs/spec/failures.md");
        let (_, table) = page.split_once("| n | name | meaning |\n|---|---|---|\n").unwrap();
        assert_eq!(table.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_kind_of_a_newer_program_survives_the_wire() {
        let failure = Failure::new(Kind::Unknown(60_000), "odd");
        let bytes = minicbor::to_vec(&failure).unwrap();
        assert_eq!(minicbor::decode::<Failure>(&bytes).unwrap(), failure);
    }

    #[test]
    fn a_hint_of_the_sender_is_part_of_its_message_and_never_our_advice() {
        let failure = Failure::new(Kind::NoRoot, "there are two roots").with_hint("name one");
        let bytes = minicbor::to_vec(&failure).unwrap();
        let received = minicbor::decode::<Failure>(&bytes).unwrap();
        assert_eq!(received.message, "there are two roots (name one)");
        assert_eq!(received.hint(), Kind::NoRoot.hint());
    }
}
