//! Functions called like a state of things: `told`, `kept`, `found`.
//!
//! A participle names a result and hides the act: at `told(at, done, json)` nobody knows who does
//! what. Functions are verbs (`print`), or nouns for what they return (`summary`). What only
//! answers yes or no about `self` may be a participle: `if self.settled()` says what it asks.

use syn::{FnArg, ReturnType, Type};

use super::findings::Finding;
use super::functions::{Function, functions};
use super::modules::Crate;

/// What is wrong in a crate.
pub(crate) fn check(house: &Crate) -> Vec<Finding> {
    let wrong = functions(house).into_iter().filter(|function| {
        PARTICIPLES.contains(&function.name().as_str()) && !is_predicate(function)
    });
    let finding = |function: Function<'_>| Finding {
        check: "participle",
        key: format!("{} {}", house.name, function.name()),
        count: 1,
        text: format!(
            "{}: a function is called `{}`, which is no verb: say what it does or what it returns",
            function.place(),
            function.name()
        ),
    };
    wrong.map(finding).collect()
}

/// Whether it answers yes or no about `self`, and takes nothing else.
fn is_predicate(function: &Function<'_>) -> bool {
    let of_self = matches!(function.signature.inputs.first(), Some(FnArg::Receiver(_)))
        && function.signature.inputs.len() == 1;
    let answers = match &function.signature.output {
        ReturnType::Type(_, of) => matches!(&**of, Type::Path(of) if of.path.is_ident("bool")),
        ReturnType::Default => false,
    };
    of_self && answers
}

/// Words that three or more functions had when this check was written, and a few like them. Words
/// that are verbs too, such as `put` and `cut`, are left out.
const PARTICIPLES: &[&str] = &[
    "allowed", "arrived", "asked", "begun", "broken", "changed", "checked", "chosen", "denied",
    "done", "drawn", "ended", "failed", "filed", "finished", "found", "given", "gone", "heard",
    "held", "kept", "known", "left", "listed", "lost", "meant", "moved", "named", "opened",
    "quoted", "recorded", "refused", "replaced", "said", "seen", "sent", "settled", "shown",
    "started", "taken", "told", "typed", "wanted", "watched", "written",
];

#[cfg(test)]
mod tests {
    use super::super::modules::tests::house;
    use super::{PARTICIPLES, check};

    fn keys(source: &str) -> Vec<String> {
        let found = check(&house(&[("a.rs", source)]));
        found.into_iter().map(|finding| finding.key).collect()
    }

    #[test]
    fn a_function_that_is_called_like_a_state_is_named() {
        let source = "fn told(x: u8) {} struct A; impl A { fn kept(&self) -> u64 { 0 } fn seen(&mut self, at: u8) -> bool {} }
                      trait T { fn said(self); }";
        assert_eq!(keys(source), ["house told", "house kept", "house seen", "house said"]);
    }

    #[test]
    fn verbs_and_questions_about_self_are_not() {
        let source =
            "fn tell(x: u8) {} fn told_by() {} impl A { fn settled(&self) -> bool { true } }
                      impl T for A { fn said(self) {} } #[cfg(test)] mod tests { fn told() {} }";
        assert_eq!(keys(source), Vec::<String>::new());
    }

    #[test]
    fn the_list_can_be_searched_by_eye() {
        assert!(PARTICIPLES.is_sorted());
    }
}
