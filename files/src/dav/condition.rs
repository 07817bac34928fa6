//! Conditions: the `If` header of RFC 4918 and the conditional headers of HTTP. They are decided
//! here, and nowhere behind us.

use super::fields::{Tag, Tags, uri_text};
use super::reply::Refusal;
use super::target::RequestTarget;
use crate::path::Rel;

/// The longest `If` header, in bytes.
const LENGTH: usize = 8 << 10;

/// The most lists in it.
const LISTS: usize = 32;

/// The most conditions in all its lists together.
const CONDITIONS: usize = 64;

/// An `If` header, which holds if one of its lists does.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct If(Vec<ConditionList>);

/// Conditions that must all hold.
#[derive(Clone, Debug, Eq, PartialEq)]
struct ConditionList {
    about: About,
    conditions: Vec<Condition>,
}

/// The resource that a list is about.
#[derive(Clone, Debug, Eq, PartialEq)]
enum About {
    /// The target of the request.
    Target,
    /// Another path beneath the root.
    Other(Rel),
    /// A resource elsewhere, about which we know nothing.
    Unknown,
}

/// A matcher, and whether it is negated.
type Condition = (bool, Matcher);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Matcher {
    Token(String),
    Tag(Tag),
}

/// The state that conditions are checked against.
pub(super) trait ResourceState {
    /// Whether a lock with this token covers the path.
    fn has_token(&self, path: &Rel, token: &str) -> bool;

    /// The revision of the file at a path.
    fn revision(&self, path: &Rel) -> Option<u64>;
}

impl If {
    /// Parses the header. A tagged list is about a path beneath the same prefix on the same host,
    /// or about a resource that we do not know.
    pub(super) fn parse(value: &[u8], prefix: &str, host: &[u8]) -> Result<Self, Refusal> {
        if value.len() > LENGTH {
            return Err(Refusal::MALFORMED);
        }
        let mut lists = Vec::new();
        let mut about = About::Target;
        let mut count = 0;
        // A resource tag was read, and no list yet.
        let mut awaits = false;
        let mut rest = value.trim_ascii();
        while let Some((&first, behind)) = rest.split_first() {
            match first {
                b'<' if lists.is_empty() || about != About::Target => {
                    let (uri, behind) = until(behind, b'>').ok_or(Refusal::MALFORMED)?;
                    if awaits {
                        return Err(Refusal::MALFORMED);
                    }
                    about = read_about(uri, prefix, host)?;
                    (rest, awaits) = (behind.trim_ascii_start(), true);
                }
                b'(' => {
                    let (conditions, behind) = read_list(behind).ok_or(Refusal::MALFORMED)?;
                    count += conditions.len();
                    lists.push(ConditionList { about: about.clone(), conditions });
                    if lists.len() > LISTS || count > CONDITIONS {
                        return Err(Refusal::MALFORMED);
                    }
                    (rest, awaits) = (behind.trim_ascii_start(), false);
                }
                _ => return Err(Refusal::MALFORMED),
            }
        }
        if awaits || lists.is_empty() { Err(Refusal::MALFORMED) } else { Ok(Self(lists)) }
    }

    /// The lock tokens in the header, which counts as submitting them.
    pub(super) fn tokens(&self) -> Vec<String> {
        let mut tokens = Vec::new();
        for (_, item) in self.0.iter().flat_map(|list| &list.conditions) {
            if let Matcher::Token(token) = item
                && !tokens.contains(token)
            {
                tokens.push(token.clone());
            }
        }
        tokens
    }

    /// Whether it is about states of files, and not only about locks.
    pub(super) fn has_states(&self) -> bool {
        let mut items = self.0.iter().flat_map(|list| &list.conditions);
        items.any(|(_, item)| matches!(item, Matcher::Tag(_)))
    }

    /// Whether it holds for a request about this path.
    pub(super) fn holds(&self, path: &Rel, state: &dyn ResourceState) -> bool {
        self.0.iter().any(|list| list.holds(path, state))
    }
}

impl ConditionList {
    fn holds(&self, path: &Rel, state: &dyn ResourceState) -> bool {
        let path = match &self.about {
            About::Target => Some(path),
            About::Other(other) => Some(other),
            About::Unknown => None,
        };
        self.conditions.iter().all(|(not, item)| {
            let is = path.is_some_and(|path| match item {
                Matcher::Token(token) => state.has_token(path, token),
                Matcher::Tag(tag) => state.revision(path).is_some_and(|now| *tag == Tag::of(now)),
            });
            is != *not
        })
    }
}

fn read_about(uri: &[u8], prefix: &str, host: &[u8]) -> Result<About, Refusal> {
    match RequestTarget::parse(uri, prefix) {
        Ok((_, Some(authority))) if !authority.eq_ignore_ascii_case(host) => Ok(About::Unknown),
        Ok((target, _)) => Ok(About::Other(target.path)),
        Err(refusal) if refusal == Refusal::MALFORMED => Err(refusal),
        Err(_) => Ok(About::Unknown),
    }
}

/// Parses conditions up to the end of their list. Returns the rest.
fn read_list(text: &[u8]) -> Option<(Vec<Condition>, &[u8])> {
    let mut conditions = Vec::new();
    let mut rest = text.trim_ascii_start();
    loop {
        if let Some(behind) = rest.strip_prefix(b")") {
            return (!conditions.is_empty()).then_some((conditions, behind));
        }
        let not = rest.get(..3).is_some_and(|word| word.eq_ignore_ascii_case(b"not"));
        if not {
            rest = rest.get(3..)?.trim_ascii_start();
        }
        let item = match rest.split_first()? {
            (b'<', behind) => {
                let (uri, behind) = until(behind, b'>')?;
                rest = behind;
                Matcher::Token(uri_text(uri)?)
            }
            (b'[', behind) => {
                let (tag, behind) = Tag::take(behind)?;
                rest = behind.strip_prefix(b"]")?;
                Matcher::Tag(tag)
            }
            _ => return None,
        };
        conditions.push((not, item));
        if conditions.len() > CONDITIONS {
            return None;
        }
        rest = rest.trim_ascii_start();
    }
}

fn until(text: &[u8], end: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|&byte| byte == end)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// The conditional headers of HTTP.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Conditions {
    /// `If-Match`.
    pub matches: Option<Tags>,
    /// `If-None-Match`.
    pub none_matches: Option<Tags>,
    /// `If-Unmodified-Since`.
    pub unmodified_since: Option<i64>,
}

impl Conditions {
    /// The header with this name, rewritten for dav-server.
    pub(super) fn anew(&self, name: &str, value: &[u8]) -> Vec<u8> {
        match (name, &self.matches, &self.none_matches) {
            ("if-match", Some(tags), _) => tags.to_bytes(false),
            ("if-none-match", _, Some(tags)) => tags.to_bytes(true),
            _ => value.to_vec(),
        }
    }

    /// Whether there are any.
    pub(super) fn are_given(&self) -> bool {
        *self != Self::default()
    }

    /// Whether they allow a change. `now` is the current revision and time, or `None` if there is
    /// no file.
    pub(super) fn hold(&self, now: Option<(u64, i64)>) -> bool {
        let fits = |tags: &Tags, weakly: bool| match (tags, now) {
            (Tags::Any, now) => now.is_some(),
            (Tags::These(_), None) => false,
            (Tags::These(tags), Some((revision, _))) => {
                let text = Tag::of(revision).text;
                tags.iter().any(|tag| (weakly || !tag.weak) && tag.text == text)
            }
        };
        let first = match (&self.matches, self.unmodified_since) {
            (Some(tags), _) => fits(tags, false),
            (None, Some(since)) => {
                now.is_some_and(|(_, modified)| modified.div_euclid(1_000_000_000) <= since)
            }
            (None, None) => true,
        };
        first && !self.none_matches.as_ref().is_some_and(|tags| fits(tags, true))
    }
}

#[cfg(test)]
mod tests;
