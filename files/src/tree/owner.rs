//! Protects what the owner hides or keeps from changes, when the directory around it is moved or
//! replaced.

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::What;
use rustix::fs::OFlags;

use super::place::Place;
use super::root::Tree;
use super::walk::EVERYTHING;
use super::walk::step;
use crate::fault::fault;
use crate::path::Rel;
use crate::rules::Rules;

impl Tree {
    /// Refuses to move or replace a directory that has hidden or protected entries: they would be
    /// revealed or lost.
    pub(super) fn check_nothing_protected(&self, place: &Place) -> Result<(), Failure> {
        match self.protects_anything() {
            true => self.check_contents(place, &self.real_of(place)?),
            false => Ok(()),
        }
    }

    /// Refuses to move a directory to where one of its entries would be hidden or protected.
    pub(super) fn check_brings_nothing_protected(
        &self,
        place: &Place,
        to: &Place,
    ) -> Result<(), Failure> {
        match self.protects_anything() {
            true => self.check_contents(place, &self.real_of(to)?),
            false => Ok(()),
        }
    }

    /// Checks everything in a directory as if the directory were at `real`.
    fn check_contents(&self, place: &Place, real: &Rel) -> Result<(), Failure> {
        use std::os::fd::AsFd as _;
        let dir = step(place.dir.as_fd(), &place.name, OFlags::RDONLY | OFlags::DIRECTORY, true);
        let dir = dir.map_err(|error| fault(&place.path, error))?;
        let everything = Self::enter(dir, Rules::default())?;
        let skipped = everything.walk(&Rel::ROOT, EVERYTHING, &mut |visited| {
            self.listener.check_after_name()?;
            if self.is_protected(&real.join(visited.at.as_bytes())) {
                return Err(partly_owned(&place.path));
            }
            Ok(visited.what().map_err(|_| partly_unreadable(&place.path))? == Some(What::Directory))
        })?;
        if skipped > 0 { Err(partly_unreadable(&place.path)) } else { Ok(()) }
    }

    /// Whether the rules hide or protect anything.
    pub(super) fn protects_anything(&self) -> bool {
        !self.rules.hidden.is_empty() || !self.rules.kept.is_empty()
    }

    /// Whether the rules hide or protect exactly this path.
    pub(super) fn is_protected(&self, real: &Rel) -> bool {
        let path = real.as_bytes();
        self.rules.hidden.fits_itself(path) || self.rules.kept.fits_itself(path)
    }
}

pub(super) fn partly_owned(path: &Rel) -> Failure {
    let text =
        format!("{path} cannot be moved as a whole: the owner protects or hides a part of it");
    Failure::new(Kind::ReadOnly, text)
}

fn partly_unreadable(path: &Rel) -> Failure {
    let text = format!("{path} cannot be moved as a whole: a part of it cannot be read");
    Failure::new(Kind::ReadOnly, text)
}
