//! What the lines before the hunks say about a file: its names, and what is done to it.

use super::name::{self, GitLine, Name};
use super::parse::FileAction;

/// The old and the new name of a file. `None` on a side without a file.
pub(super) type DiffPaths = (Option<Vec<u8>>, Option<Vec<u8>>);

/// The lines after `diff --git`.
#[derive(Debug, Default)]
pub(super) struct DiffHead {
    /// What is done to the file, if a line says so.
    pub(super) act: Option<FileAction>,
    pub(super) old_mode: Option<u32>,
    pub(super) new_mode: Option<u32>,
    /// The names of a rename or a copy.
    pub(super) from: Option<Vec<u8>>,
    pub(super) to: Option<Vec<u8>>,
    /// The names in `---` and `+++`.
    pub(super) names: Option<(Name, Name)>,
    /// The number of lines.
    pub(super) lines: usize,
}

impl DiffHead {
    pub(super) fn set_action(&mut self, act: FileAction) -> Result<(), &'static str> {
        match self.act.replace(act) {
            Some(before) if before != act => {
                Err("two lines contradict each other about what becomes of the file")
            }
            _ => Ok(()),
        }
    }

    /// Whether the names in `---` and `+++` belong to the file of the lines before.
    pub(super) fn is_about(&self, old: &Name, new: &Name, header: Option<&GitLine>) -> bool {
        let fits = |name: &Name, in_header: Option<&[u8]>, moved: Option<&Vec<u8>>| {
            let Some(name) = name.file() else { return true };
            let ends = |moved: &Vec<u8>| {
                name.strip_suffix(&moved[..])
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with(b"/"))
            };
            in_header.is_none() && moved.is_none()
                || in_header == Some(name)
                || moved.is_some_and(ends)
        };
        fits(old, header.map(|header| &header.old[..]), self.from.as_ref())
            && fits(new, header.map(|header| &header.new[..]), self.to.as_ref())
    }

    /// The old and the new name. `None` on a side without a file.
    pub(super) fn resolve(
        &self,
        header: Option<&GitLine>,
        strip: Option<usize>,
    ) -> Result<DiffPaths, &'static str> {
        let named = self.names.as_ref();
        let (old, new) = (named.map(|names| &names.0), named.map(|names| &names.1));
        if old == Some(&Name::Nothing) && self.act.is_some_and(|act| act != FileAction::Create)
            || new == Some(&Name::Nothing) && self.act.is_some_and(|act| act != FileAction::Remove)
            || self.act == Some(FileAction::Create)
                && old.is_some_and(|name| *name != Name::Nothing)
            || self.act == Some(FileAction::Remove)
                && new.is_some_and(|name| *name != Name::Nothing)
        {
            return Err("/dev/null is not where the lines before have it");
        }
        if matches!(self.act, Some(FileAction::Rename | FileAction::Copy)) {
            return self.moved_paths(strip);
        }
        let guessed = match (old.and_then(Name::file), new.and_then(Name::file), header) {
            (Some(old), Some(new), _) => name::before_both(old, new),
            (_, _, Some(header)) => header.strip,
            (Some(name), None, None) | (None, Some(name), None) => name::before_one(name),
            (None, None, None) => 0,
        };
        let strip = strip.unwrap_or(guessed);
        let of = |name: &[u8]| name::strip_components(name, strip).map(<[u8]>::to_vec);
        let nothing = |act| self.act == Some(act);
        let one = |name: Option<&Name>, in_header: Option<&[u8]>| match name {
            Some(Name::Nothing) => None,
            Some(Name::File(name)) => of(name),
            None => in_header.and_then(of),
        };
        let from =
            one(old, header.map(|header| &header.old[..])).filter(|_| !nothing(FileAction::Create));
        let to =
            one(new, header.map(|header| &header.new[..])).filter(|_| !nothing(FileAction::Remove));
        Ok((from, to))
    }

    /// The names of a rename or a copy, which git writes without a prefix.
    fn moved_paths(&self, strip: Option<usize>) -> Result<DiffPaths, &'static str> {
        let (Some(from), Some(to)) = (&self.from, &self.to) else {
            return Err("a rename or a copy that lacks one of the two names");
        };
        let of = |name: &[u8]| {
            let name = name::strip_components(name, strip.unwrap_or(0).saturating_sub(1));
            name.map(<[u8]>::to_vec).ok_or("it names no file")
        };
        let (from, to) = (of(from)?, of(to)?);
        if let Some((old, new)) = &self.names {
            let fits = |name: &Name, is: &[u8]| {
                let strips = strip.map_or([0, 1], |strip| [strip, strip]);
                let name = name.file().unwrap_or_default();
                strips.into_iter().any(|strip| name::strip_components(name, strip) == Some(is))
            };
            if !fits(old, &from) || !fits(new, &to) {
                return Err("the lines --- and +++ have other names than the rename or copy");
            }
        }
        if from == to {
            return Err("a rename or a copy of a file to itself");
        }
        Ok((Some(from), Some(to)))
    }
}
