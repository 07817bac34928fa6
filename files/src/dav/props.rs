//! Dead properties, which clients set and we only store, in one attribute of the file.
//!
//! What comes from the disk is checked like what comes from a client: another program may have
//! written it.

use minicbor::{Decode, Encode};

use super::xml;
use farwire_protocol::cbor;

/// The name of the attribute.
pub(super) const ATTRIBUTE: &str = "user.farwire.dav";

/// The most bytes of all properties of a file. Most file systems accept less.
pub(super) const SIZE: usize = 60 << 10;

/// The most properties of a file.
const COUNT: usize = 256;

/// The longest name and the longest namespace of a property, in bytes.
const NAME: usize = 1_024;

/// One property.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub(super) struct Prop {
    /// Its namespace.
    #[n(0)]
    pub space: String,
    /// Its local name.
    #[n(1)]
    pub name: String,
    /// The whole element.
    #[n(2)]
    pub xml: cbor::Blob,
}

/// The properties of one file.
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
#[cbor(map)]
pub(super) struct Props {
    /// In the order in which they were set.
    #[n(0)]
    pub props: Vec<Prop>,
}

impl Props {
    /// Decodes an attribute. Invalid properties, and those that we would not have written, are left
    /// out.
    pub(super) fn read(bytes: &[u8]) -> Self {
        let mut props = cbor::decode::<Self>(bytes, SIZE).unwrap_or_default();
        props.props.truncate(COUNT);
        props.props.retain(|prop| {
            xml::check(&prop.xml)
                .is_ok_and(|shape| shape.root.local == prop.name && shape.root.space == prop.space)
        });
        props
    }

    /// Encodes the attribute. `None` if there are no properties.
    ///
    /// # Errors
    ///
    /// If it is too large.
    pub(super) fn write(&self) -> Result<Option<Vec<u8>>, TooLarge> {
        if self.props.is_empty() {
            return Ok(None);
        }
        let bytes = cbor::encode(self);
        match bytes.len() > SIZE || self.props.len() > COUNT {
            true => Err(TooLarge),
            false => Ok(Some(bytes)),
        }
    }

    /// The property with this name.
    pub(super) fn get(&self, space: &str, name: &str) -> Option<&Prop> {
        self.props.iter().find(|prop| prop.space == space && prop.name == name)
    }

    /// Sets a property, or removes it.
    ///
    /// # Errors
    ///
    /// If it could not be read again.
    pub(super) fn set(&mut self, prop: Prop, keep: bool) -> Result<(), Unreadable> {
        let at = self
            .props
            .iter()
            .position(|other| other.space == prop.space && other.name == prop.name);
        if !keep {
            at.map(|at| self.props.remove(at));
            return Ok(());
        }
        let shape = xml::check(&prop.xml).map_err(|_| Unreadable)?;
        let same = shape.root.local == prop.name && shape.root.space == prop.space;
        if !same || prop.name.len() > NAME || prop.space.len() > NAME {
            return Err(Unreadable);
        }
        match at.and_then(|at| self.props.get_mut(at)) {
            Some(old) => *old = prop,
            None => self.props.push(prop),
        }
        Ok(())
    }
}

/// The properties are larger than can be stored.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct TooLarge;

/// The property could not be read again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Unreadable;

#[cfg(test)]
mod tests {
    use super::*;

    fn prop(name: &str, text: &str) -> Prop {
        let xml = format!("<{name} xmlns=\"u:\">{text}</{name}>").into_bytes();
        Prop { space: "u:".to_owned(), name: name.to_owned(), xml: cbor::Blob(xml) }
    }

    #[test]
    fn what_is_kept_comes_back() {
        let mut props = Props::default();
        props.set(prop("a", "1"), true).unwrap();
        props.set(prop("b", "2"), true).unwrap();
        props.set(prop("a", "3"), true).unwrap();
        let again = Props::read(&props.write().unwrap().unwrap());
        assert_eq!(again, props);
        assert_eq!(again.get("u:", "a"), Some(&prop("a", "3")));
        props.set(prop("a", ""), false).unwrap();
        props.set(prop("b", ""), false).unwrap();
        assert_eq!(props.write(), Ok(None));
    }

    #[test]
    fn what_others_wrote_is_looked_at() {
        let deep = prop("a", &format!("{}{}", "<b>".repeat(100), "</b>".repeat(100)));
        let other = Prop { name: "b".to_owned(), ..prop("a", "") };
        let props = Props { props: vec![deep.clone(), other.clone(), prop("c", "")] };
        let bytes = props.write().unwrap().unwrap();
        assert_eq!(Props::read(&bytes).props, [prop("c", "")]);
        assert_eq!(Props::read(b"nonsense"), Props::default());
        assert_eq!(Props::default().set(deep, true), Err(Unreadable));
        assert_eq!(Props::default().set(other, true), Err(Unreadable));
        let large = Props { props: vec![prop("a", &"x".repeat(SIZE))] };
        assert_eq!(large.write(), Err(TooLarge));
    }

    #[test]
    fn any_attribute_is_read() {
        bolero::check!().for_each(|bytes: &[u8]| {
            let props = Props::read(bytes);
            assert!(props.props.len() <= COUNT);
        });
    }
}
