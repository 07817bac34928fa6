//! SPDX licence expressions: what a crate says about who may use it.
//!
//! `WITH` binds tightest, then `AND`, then `OR`; parentheses group. Old crates write `/` for `OR`.
//! What we accept is in `licences.rs`.

use anyhow::{Context as _, Result, bail};

/// Whether an expression is satisfied when the licences for which `accepted` says yes are. A
/// licence with an exception is asked for as `X WITH Y`.
pub(crate) fn satisfied(expression: &str, accepted: &dyn Fn(&str) -> bool) -> Result<bool> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut parser = Parser { words: spaced.split_whitespace().collect(), accepted };
    parser.words.reverse();
    let satisfied = parser.any()?;
    match parser.words.pop() {
        None => Ok(satisfied),
        Some(word) => bail!("`{word}` does not belong there"),
    }
}

struct Parser<'a> {
    /// The next word is the last one.
    words: Vec<&'a str>,
    accepted: &'a dyn Fn(&str) -> bool,
}

impl Parser<'_> {
    fn any(&mut self) -> Result<bool> {
        let mut satisfied = self.all()?;
        while self.takes("OR") {
            // Both sides are read, whatever the first one says.
            satisfied |= self.all()?;
        }
        Ok(satisfied)
    }

    fn all(&mut self) -> Result<bool> {
        let mut satisfied = self.one()?;
        while self.takes("AND") {
            satisfied &= self.one()?;
        }
        Ok(satisfied)
    }

    fn one(&mut self) -> Result<bool> {
        if self.takes("(") {
            let satisfied = self.any()?;
            if !self.takes(")") {
                bail!("a parenthesis is left open");
            }
            return Ok(satisfied);
        }
        let licence = self.name()?;
        if self.takes("WITH") {
            let exception = self.name()?;
            return Ok((self.accepted)(&format!("{licence} WITH {exception}")));
        }
        Ok((self.accepted)(&licence))
    }

    fn name(&mut self) -> Result<String> {
        let word = self.words.pop().context("it ends where a licence should be")?;
        if ["AND", "OR", "WITH", "(", ")"].contains(&word) {
            bail!("`{word}` is where a licence should be");
        }
        Ok(word.to_owned())
    }

    fn takes(&mut self, word: &str) -> bool {
        self.words.pop_if(|next| *next == word).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::satisfied;

    /// With MIT, ISC and Apache-2.0 with LLVM's exception accepted.
    fn check(expression: &str) -> Option<bool> {
        let accepted =
            |name: &str| ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"].contains(&name);
        satisfied(expression, &accepted).ok()
    }

    #[test]
    fn an_or_needs_one_side_and_an_and_needs_both() {
        assert_eq!(check("MIT"), Some(true));
        assert_eq!(check("GPL-3.0-only"), Some(false));
        assert_eq!(check("GPL-3.0-only OR MIT"), Some(true));
        assert_eq!(check("GPL-3.0-only AND MIT"), Some(false));
        assert_eq!(check("ISC AND MIT"), Some(true));
    }

    #[test]
    fn and_binds_tighter_than_or() {
        assert_eq!(check("MIT OR GPL-3.0-only AND GPL-2.0-only"), Some(true));
        assert_eq!(check("GPL-3.0-only AND GPL-2.0-only OR MIT"), Some(true));
        assert_eq!(check("(MIT OR GPL-3.0-only) AND GPL-2.0-only"), Some(false));
        assert_eq!(check("(MIT OR GPL-3.0-only) AND (GPL-2.0-only OR (ISC))"), Some(true));
    }

    #[test]
    fn an_exception_belongs_to_its_licence() {
        assert_eq!(check("Apache-2.0 WITH LLVM-exception"), Some(true));
        assert_eq!(check("Apache-2.0"), Some(false));
        assert_eq!(check("Apache-2.0 WITH Other-exception"), Some(false));
        assert_eq!(check("GPL-2.0-only OR Apache-2.0 WITH LLVM-exception AND MIT"), Some(true));
    }

    #[test]
    fn old_crates_separate_with_a_slash() {
        assert_eq!(check("MIT/GPL-3.0-only"), Some(true));
        assert_eq!(check("GPL-3.0-only / MIT"), Some(true));
    }

    #[test]
    fn what_is_no_expression_is_an_error_and_never_satisfied() {
        for wrong in [
            "",
            "MIT OR",
            "OR MIT",
            "MIT MIT",
            "(MIT",
            "MIT)",
            "MIT OR (",
            "()",
            "MIT WITH",
            "MIT AND OR ISC",
        ] {
            assert_eq!(check(wrong), None, "{wrong:?}");
        }
    }
}
