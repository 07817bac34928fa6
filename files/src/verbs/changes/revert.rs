//! `revert`: a change is undone, or done again, as a whole or not at all.
//!
//! All of it is looked at first. What is then changed is changed only in the state that was seen, so that
//! whoever else changes it at the same time loses nothing; and if a part cannot be done, what was done before
//! is taken back.

use std::io::Read as _;
use std::sync::Arc;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Done, How, Revert, What};
use sha2::{Digest as _, Sha256};

use super::{records, shown, unknown};
use crate::fault::fault;
use crate::path::Rel;
use crate::peer::Peer;
use crate::tree::{EVERYTHING, Tree, Wanted};
use crate::undo::{Keeping, Order, Record, Turned, Undo, Was};
use crate::verbs::{Desk, Stop, list};

const LOST: &str = "look at it, and force it if what was done since may be lost";

/// Undoes a change, or does it again.
pub(in crate::verbs) fn revert(
    desk: &Desk<'_>,
    revert: &Revert,
    peer: &mut dyn Peer,
) -> Result<Done, Stop> {
    let redo = revert.redo.unwrap_or(false);
    // Two at once would each take the other's work for somebody else's.
    let store = desk.undo.ok_or_else(unknown)?;
    let _turning = store.turning();
    let (undo, records) = records(desk)?;
    let record = chosen(records, revert.change, redo)?;
    if record.undone != redo {
        let state = if redo { "has not been undone" } else { "has been undone already" };
        let text = format!("change {} {state}", record.change);
        return Err(Failure::new(Kind::NothingToUndo, text).into());
    }
    let mut keeping = undo.begin();
    keeping.needs(&record);
    let mut turning = Turning::new(desk, undo, &record, redo)?;
    turning.may_be_seen()?;
    turning.places.iter().for_each(|place| peer.changes(&place.path));
    turning.look(revert.force.unwrap_or(false))?;
    turning.may_be_done()?;
    let turned = turning.carry_out(&mut keeping)?;
    keeping.turned(record.change, !redo, turned)?;
    let count = Some(record.steps.len() as u64);
    Ok(Done { change: Some(record.change), count, ..Done::default() })
}

/// The change with this number, or the one that is next.
pub(super) fn chosen(
    mut records: impl Iterator<Item = Arc<Record>>,
    change: Option<u64>,
    redo: bool,
) -> Result<Arc<Record>, Failure> {
    match change {
        Some(number) => records.find(|record| record.change == number),
        None if redo => last_undone(records),
        // The latest that is done is undone first.
        None => records.find(|record| !record.undone),
    }
    .ok_or_else(unknown)
}

/// The change that was undone last. Whoever changes something afterwards has gone another way: what was undone before
/// that is done again by its number only.
fn last_undone(records: impl Iterator<Item = Arc<Record>>) -> Option<Arc<Record>> {
    let (mut latest, mut last) = (0, None::<(Order, Arc<Record>)>);
    for record in records {
        latest = latest.max(record.change);
        let order = record.order.filter(|_| record.undone);
        if let Some(order) = order
            && last.as_ref().is_none_or(|(other, _)| order.turn > other.turn)
        {
            last = Some((order, record));
        }
    }
    last.filter(|(order, _)| latest < order.next).map(|(_, record)| record)
}

/// One place that is turned back, or forth again.
struct Place<'a> {
    /// Which step of the record.
    step: usize,
    path: Rel,
    /// How it should be before.
    expected: &'a Was,
    /// How it will be.
    target: &'a Was,
    /// How it is.
    is: Is,
}

/// What stands somewhere.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Is {
    what: Option<What>,
    /// The state in which it may be written to.
    revision: Option<u64>,
    /// The state in which its name may be removed: a directory's changes with what is in it.
    removable: Option<u64>,
    /// It is a file, and holds what it should hold then.
    right: bool,
    /// The rights of a file.
    mode: u32,
}

/// What was done already, to be taken back.
enum Did {
    Renamed {
        from: Rel,
        to: Rel,
    },
    /// Something else stands there than this.
    Replaced(Rel, Was),
}

/// A change that is being undone, or done again.
struct Turning<'a> {
    desk: &'a Desk<'a>,
    undo: &'a Undo,
    change: u64,
    redo: bool,
    /// From the outside in.
    places: Vec<Place<'a>>,
    /// Where what was moved came from.
    moved_from: Option<Rel>,
    did: Vec<Did>,
    turned: Vec<Turned>,
}

impl<'a> Turning<'a> {
    fn new(
        desk: &'a Desk<'a>,
        undo: &'a Undo,
        record: &'a Record,
        redo: bool,
    ) -> Result<Self, Failure> {
        let mut places = Vec::new();
        for (step, change) in record.steps.iter().enumerate() {
            let path = desk.tree.inner(&change.path).ok_or_else(unknown)?;
            let (before, after) = (&change.before, &change.after);
            let (expected, target) = if redo { (before, after) } else { (after, before) };
            let is = Is::default();
            places.push(Place { step, path, expected, target, is });
        }
        places.sort_by(|one, other| one.path.cmp(&other.path));
        let moved_from = record.steps.iter().find_map(|step| step.moved_from.as_ref());
        let moved_from =
            moved_from.map(|from| desk.tree.inner(from).ok_or_else(unknown)).transpose()?;
        let change = record.change;
        Ok(Self {
            desk,
            undo,
            change,
            redo,
            places,
            moved_from,
            did: Vec::new(),
            turned: Vec::new(),
        })
    }

    /// Refuses a change of which something is hidden now.
    fn may_be_seen(&self) -> Result<(), Failure> {
        let paths = self.places.iter().map(|place| &place.path).chain(&self.moved_from);
        shown::all_shown(self.desk.tree, self.change, paths)
    }

    /// Refuses a change of which something would be written to that is kept from changes now.
    fn may_be_done(&self) -> Result<(), Failure> {
        let written = self.places.iter().filter(|place| !place.is.fits(place.target));
        let mut paths = written.map(|place| &place.path).chain(&self.moved_from);
        paths.try_for_each(|path| shown::may_be_written(self.desk.tree, self.change, path))
    }

    /// Looks at all places. Refuses where something has been changed since, unless it is forced.
    fn look(&mut self, force: bool) -> Result<(), Failure> {
        let moved = self.moved_from.is_some();
        for place in &mut self.places {
            place.is = is(self.desk, &place.path, place.target)?;
            place.is.right &= !place.has_other_rights();
            let expected = match place.expected {
                // What came with a directory is where that is.
                Was::Unknown => moved,
                expected => is(self.desk, &place.path, expected)?.fits(expected),
            };
            // What was done in part before is as it should be already.
            if !force && !expected && !place.is.fits(place.target) {
                let path = &place.path;
                let text = match place.expected {
                    Was::Unknown => format!("{path} is so large that it was not looked at"),
                    _ => format!("{path} has been changed since"),
                };
                return Err(Failure::new(Kind::ChangedMeanwhile, text).with_hint(LOST));
            }
        }
        if moved && self.redo && !force { self.is_all_that_is_replaced() } else { Ok(()) }
    }

    /// Refuses to replace a directory in which something is that was not there when it was replaced first: it
    /// would go with it, and is kept nowhere.
    fn is_all_that_is_replaced(&self) -> Result<(), Failure> {
        let Some(first) = self.places.first() else { return Ok(()) };
        if first.is.what != Some(What::Directory) {
            return Ok(());
        }
        let changed = |path: &Rel| {
            let text = format!("{path} has been changed since");
            Failure::new(Kind::ChangedMeanwhile, text).with_hint(LOST)
        };
        let skipped =
            self.desk.tree.walk(&first.path, EVERYTHING, &mut |visited| {
                self.desk.listens.visited()?;
                let path = first.path.join(visited.at.as_bytes());
                match self.places.binary_search_by(|place| place.path.cmp(&path)) {
                    Ok(_) => Ok(visited.what().map_err(|error| fault(&path, error))?
                        == Some(What::Directory)),
                    Err(_) => Err(changed(&path)),
                }
            })?;
        if skipped > 0 { Err(changed(&first.path)) } else { Ok(()) }
    }

    /// Does it, or takes back what was done of it.
    fn carry_out(mut self, keeping: &mut Keeping<'_>) -> Result<Vec<Turned>, Failure> {
        let done = match (self.redo, self.moved_from.clone()) {
            (true, Some(from)) => self.move_again(&from, keeping),
            (_, from) => self.turn(from.as_ref(), keeping),
        };
        let Err(failure) = done else { return Ok(self.turned) };
        let tree = self.desk.tree;
        for did in self.did.iter().rev() {
            let back = match did {
                Did::Renamed { from, to } => tree.rename(to, from, false),
                Did::Replaced(path, was) => self.put_back(path, was),
            };
            if let Err(worse) = back {
                let text =
                    format!("{failure}; and what was done before could not be taken back: {worse}");
                return Err(Failure::new(Kind::OutcomeUnknown, text));
            }
        }
        Err(failure)
    }

    /// Moves what was moved once more. What stands where it goes was kept when it went there first.
    fn move_again(&mut self, from: &Rel, keeping: &mut Keeping<'_>) -> Result<(), Failure> {
        let places = std::mem::take(&mut self.places);
        let first = places.first().ok_or_else(unknown)?;
        if first.is.what == Some(What::File) {
            self.keep(first, keeping)?;
        }
        self.desk.tree.rename(from, &first.path, true)
    }

    fn turn(&mut self, from: Option<&Rel>, keeping: &mut Keeping<'_>) -> Result<(), Failure> {
        let tree = self.desk.tree;
        let mut places = std::mem::take(&mut self.places);
        if let (Some(from), Some(first)) = (from, places.first()) {
            tree.rename(&first.path, from, false)?;
            self.did.push(Did::Renamed { from: first.path.clone(), to: from.clone() });
            for place in &mut places {
                place.is = Is::default();
            }
        }
        // What is in the way goes from the inside out, and what is missing comes from the outside in.
        for place in places.iter_mut().rev() {
            if place.is.what.is_some() && place.is.what != what(place.target) {
                let was = self.keep(place, keeping)?;
                tree.remove(&place.path, false, place.is.removable)?;
                self.did.push(Did::Replaced(place.path.clone(), was));
                place.is = Is::default();
            }
        }
        for place in &places {
            self.come(place, keeping)?;
        }
        Ok(())
    }

    /// Lets something be what it was.
    fn come(&mut self, place: &Place<'_>, keeping: &mut Keeping<'_>) -> Result<(), Failure> {
        let path = &place.path;
        let was = match (place.target, place.is.what) {
            (Was::Absent, _) | (Was::Directory { .. }, Some(What::Directory)) => return Ok(()),
            (Was::File { .. }, Some(_)) if place.is.right => return Ok(()),
            (Was::File { .. }, Some(_)) => self.keep(place, keeping)?,
            (Was::Unknown, _) => {
                let text = "what was there before is no longer kept";
                return Err(Failure::new(Kind::NothingToUndo, text));
            }
            (_, None) | (Was::Directory { .. }, Some(_)) => Was::Absent,
        };
        let how = if place.is.what.is_some() { How::Replace } else { How::Create };
        be(self.desk.tree, self.undo, path, (place.target, how, place.is.revision))?;
        self.did.push(Did::Replaced(path.clone(), was));
        Ok(())
    }

    /// Keeps what stands somewhere, for the way back. Gives what that is.
    fn keep(&mut self, place: &Place<'_>, keeping: &mut Keeping<'_>) -> Result<Was, Failure> {
        let path = &place.path;
        let Ok((file, stat)) = self.desk.tree.open(path) else {
            let stat = self.desk.tree.stat_link(path)?;
            let directory = Was::Directory { mode: Some(stat.mode & 0o777) };
            return Ok(if stat.what == What::Directory { directory } else { Was::Unknown });
        };
        let kept = keeping.keep(&file)?;
        let Some((hash, size)) = kept else { return Ok(Was::Unknown) };
        let was = Was::File { hash, size, mode: stat.mode & 0o777 };
        if was != *place.expected {
            let step = u32::try_from(place.step).map_err(|_| unknown())?;
            self.turned.push(Turned { step, was: was.clone() });
        }
        Ok(was)
    }

    /// Makes a path what it was before it was turned.
    fn put_back(&self, path: &Rel, was: &Was) -> Result<(), Failure> {
        if *was == Was::Unknown {
            return Err(Failure::new(Kind::TooLarge, format!("{path} could not be kept")));
        }
        let stands = self.desk.tree.stat_link(path).ok().map(|stat| stat.what);
        if *was == Was::Absent || stands.is_some_and(|stands| Some(stands) != what(was)) {
            self.desk.tree.remove(path, false, None)?;
        }
        be(self.desk.tree, self.undo, path, (was, How::Put, None))
    }
}

impl Place<'_> {
    /// Whether the change was about rights, too, and they are not yet as they are to be.
    fn has_other_rights(&self) -> bool {
        match (self.expected, self.target) {
            (Was::File { mode: had, .. }, Was::File { mode: will, .. }) => {
                had != will && self.is.mode != *will
            }
            _ => false,
        }
    }
}

impl Is {
    /// Whether it is what it was.
    fn fits(self, was: &Was) -> bool {
        match was {
            Was::File { .. } => self.right,
            Was::Absent | Was::Directory { .. } => self.what == what(was),
            Was::Unknown => false,
        }
    }
}

fn what(was: &Was) -> Option<What> {
    match was {
        Was::File { .. } => Some(What::File),
        Was::Directory { .. } => Some(What::Directory),
        Was::Absent | Was::Unknown => None,
    }
}

/// What stands at a path, and whether it is this.
fn is(desk: &Desk<'_>, path: &Rel, was: &Was) -> Result<Is, Failure> {
    let stat = match desk.tree.stat_link(path) {
        Ok(stat) => stat,
        Err(failure) if matches!(failure.kind, Kind::NoSuchFile | Kind::NotADirectory) => {
            return Ok(Is::default());
        }
        Err(failure) => return Err(failure),
    };
    let own = Some(stat.revision);
    let stands = Is {
        what: Some(stat.what),
        removable: own.filter(|_| stat.what != What::Directory),
        ..Is::default()
    };
    if !matches!(stat.what, What::File | What::Link) {
        return Ok(stands);
    }
    let (file, opened) = match desk.tree.open(path) {
        Ok(opened) => opened,
        Err(_) if stat.what == What::Link => return Ok(stands),
        Err(failure) => return Err(failure),
    };
    let right = match was {
        Was::File { hash, size, .. } if *size == opened.size => {
            let now = list::digest(file, desk.listens);
            now.map_err(|error| Failure::new(Kind::Io, error.to_string()))? == hash.0
        }
        _ => false,
    };
    let revision = Some(opened.revision);
    let removable = if stat.what == What::Link { own } else { revision };
    let mode = opened.mode & 0o777;
    Ok(Is { what: Some(What::File), revision, removable, right, mode })
}

/// Makes a path what it was.
fn be(
    tree: &Tree,
    undo: &Undo,
    path: &Rel,
    (was, how, revision): (&Was, How, Option<u64>),
) -> Result<(), Failure> {
    let (hash, mode) = match was {
        Was::File { hash, mode, .. } => (hash, mode),
        Was::Directory { mode } => return tree.make_directories_with(path, mode.unwrap_or(0o777)),
        Was::Absent | Was::Unknown => return Ok(()),
    };
    let mut content = undo.content(hash)?;
    if let Some((above, _)) = path.split() {
        tree.make_directories(&above)?;
    }
    let wanted = Wanted { how, revision, mode: Some(*mode), ..Wanted::default() };
    let mut draft = tree.draft(path, wanted)?;
    let mut buffer = vec![0; 128 << 10];
    let mut digest = Sha256::new();
    loop {
        let read = content.read(&mut buffer);
        let read = read.map_err(|error| Failure::new(Kind::Io, error.to_string()))?;
        if read == 0 {
            break;
        }
        let piece = buffer.get(..read).unwrap_or_default();
        digest.update(piece);
        draft.write(piece)?;
    }
    // The store is not waited for until the disk has it: a machine that went down may have lost a part.
    if digest.finalize().as_slice() != hash.0.as_slice() {
        let text = format!("what {path} held before was not kept as a whole");
        return Err(Failure::new(Kind::NothingToUndo, text));
    }
    draft.commit().map(drop)
}
