//! Secrets for password prompts, stored by name, so that a model can have one typed without ever
//! seeing it.
//!
//! Each secret has one file, written like every other here: private, atomic, durable. Values are
//! read only when they are used. Anyone who can read the keys of this home can read them, too: they
//! are as safe as the keys.

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::outer::valid_name;
use zeroize::Zeroizing;

use crate::dir::Dir;
use crate::fault::Damage;
use crate::file::{self, FileBody, Format};
use crate::lock::Guard;

/// The directory of the secrets.
const SECRETS: &str = "secrets";

/// The suffix of a secret's file.
const SUFFIX: &str = ".secret";

/// The maximum length of a value, in bytes.
const LONGEST: usize = 1024;

/// The maximum number of secrets.
const MOST: usize = 256;

struct Phrase(Zeroizing<Vec<u8>>);

impl FileBody for Phrase {
    const FORMAT: Format = Format { kind: "secret", version: 1, limit: LONGEST };

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }

    fn read(body: &[u8]) -> Result<Self, Damage> {
        check(body).map_err(Damage::Content)?;
        Ok(Self(Zeroizing::new(body.to_vec())))
    }
}

/// Checks that a value can be typed as one line before the enter key.
fn check(value: &[u8]) -> Result<(), &'static str> {
    match value {
        [] => Err("it is empty"),
        _ if value.len() > LONGEST => Err("it has more than 1,024 bytes"),
        _ if value.iter().any(|byte| matches!(byte, 0..=0x1f | 0x7f)) => {
            Err("it has a control character, which would act as a key")
        }
        _ => Ok(()),
    }
}

/// The secrets in a bridge's home, by name.
#[derive(Clone, Debug)]
pub struct Phrases {
    home: Dir,
}

impl Phrases {
    /// The longest value, in bytes.
    pub const LONGEST: usize = LONGEST;

    pub(crate) const fn new(home: Dir) -> Self {
        Self { home }
    }

    /// Stores a value under a name, replacing a previous one. Returns whether there was one.
    pub fn set(&self, guard: &Guard, name: &str, value: &[u8]) -> Result<bool, Failure> {
        let file = file_name(name)?;
        check(value).map_err(|why| {
            Failure::new(Kind::InvalidArgument, format!("the secret cannot be typed: {why}"))
        })?;
        let secrets = self.home.create_sub(SECRETS)?;
        secrets.sweep(guard)?;
        let known = secrets.holds(&file)?;
        if !known && secrets.names(SUFFIX)?.len() >= MOST {
            let text = format!("there are already {MOST} secrets, the maximum");
            return Err(Failure::new(Kind::ResourceExhausted, text)
                .with_hint("remove one with `farwire secret rm NAME`"));
        }
        let mut copy = Zeroizing::new(Vec::with_capacity(value.len()));
        copy.extend_from_slice(value);
        file::save(&secrets, guard, &file, &Phrase(copy))?;
        Ok(known)
    }

    /// Reads the value with this name.
    pub fn get(&self, name: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let file = file_name(name)?;
        let phrase = match self.home.sub(SECRETS)? {
            Some(secrets) => file::load::<Phrase>(&secrets, &file)?,
            None => None,
        };
        Ok(phrase.ok_or_else(|| unknown(name))?.0)
    }

    /// Lists the names, sorted.
    pub fn names(&self) -> Result<Vec<String>, Failure> {
        let Some(secrets) = self.home.sub(SECRETS)? else { return Ok(Vec::new()) };
        let mut names = secrets.names(SUFFIX)?;
        names.retain(|name| valid_name(name));
        Ok(names)
    }

    /// Removes a value.
    pub fn remove(&self, guard: &Guard, name: &str) -> Result<(), Failure> {
        let file = file_name(name)?;
        let removed = match self.home.sub(SECRETS)? {
            Some(secrets) => secrets.remove(guard, &file)?,
            None => false,
        };
        if removed { Ok(()) } else { Err(unknown(name)) }
    }
}

fn unknown(name: &str) -> Failure {
    Failure::new(Kind::InvalidArgument, format!("there is no secret `{name}` here"))
        .with_hint(format!("a person stores it: `farwire secret set {name}`"))
}

fn file_name(name: &str) -> Result<String, Failure> {
    if valid_name(name) {
        return Ok(format!("{name}{SUFFIX}"));
    }
    let text = "a secret's name has 1 to 64 letters, digits, `-`, `_` or `.`, and begins with a letter or a digit";
    Err(Failure::new(Kind::InvalidArgument, text))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::Home;
    use crate::file::tests::check_damage;

    #[test]
    fn a_secret_comes_back_is_replaced_and_is_gone() {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::create(&temp.path().join("home")).unwrap();
        let secrets = home.phrases();
        assert!(secrets.names().unwrap().is_empty());
        let failure = secrets.get("sudo").unwrap_err();
        assert!(
            failure.kind == Kind::InvalidArgument && failure.hint().contains("secret set sudo")
        );
        let guard = home.lock().unwrap();
        assert!(!secrets.set(&guard, "sudo", "p\u{e4}ss word".as_bytes()).unwrap());
        assert!(secrets.set(&guard, "sudo", b"another").unwrap());
        secrets.set(&guard, "db-1", b"x").unwrap();
        assert_eq!(secrets.get("sudo").unwrap().as_slice(), b"another");
        assert_eq!(secrets.names().unwrap(), ["db-1", "sudo"]);
        let path = temp.path().join("home/secrets/sudo.secret");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        check_damage(&path, || secrets.get("sudo").map(drop));
        secrets.remove(&guard, "sudo").unwrap();
        assert!(secrets.remove(&guard, "sudo").is_err());
        assert_eq!(secrets.names().unwrap(), ["db-1"]);
    }

    #[test]
    fn names_and_values_that_cannot_be_are_refused() {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::create(&temp.path().join("home")).unwrap();
        let guard = home.lock().unwrap();
        let secrets = home.phrases();
        for name in ["", "../x", "a/b", ".x", "A b", &"x".repeat(65)] {
            assert!(secrets.set(&guard, name, b"v").is_err(), "{name}");
            assert!(secrets.get(name).is_err(), "{name}");
        }
        for value in [b"".as_slice(), b"a\nb", b"\x1b[A", &[b'x'; LONGEST + 1]] {
            let failure = secrets.set(&guard, "n", value).unwrap_err();
            assert!(!failure.message.contains("xxx"), "{failure}");
        }
        secrets.set(&guard, "n", &[b'x'; LONGEST]).unwrap();
        for number in 1..MOST {
            secrets.set(&guard, &format!("n{number}"), b"v").unwrap();
        }
        let failure = secrets.set(&guard, "more", b"v").unwrap_err();
        assert_eq!(failure.kind, Kind::ResourceExhausted);
        secrets.set(&guard, "n1", b"replaced").unwrap();
    }
}
