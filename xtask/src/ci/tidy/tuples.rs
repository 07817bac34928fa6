//! Parameters that are tuples of unlike things: `at: (u64, &str)`.
//!
//! Each is a type without a name, and several parameters that the limit of five does not see. A
//! pair of two alike things, as rows and columns, may stay.

use syn::visit::{self, Visit};
use syn::{FnArg, Type};

use super::findings::Finding;
use super::functions::functions;
use super::modules::Crate;

/// What is wrong in a crate: one finding for each parameter.
pub(crate) fn check(house: &Crate) -> Vec<Finding> {
    let mut findings = Vec::new();
    for function in functions(house) {
        for parameter in &function.signature.inputs {
            let FnArg::Typed(parameter) = parameter else { continue };
            if is_unlike(&parameter.ty) {
                findings.push(Finding {
                    check: "tuple",
                    key: house.name.clone(),
                    count: 1,
                    text: format!(
                        "{}: `{}` takes a tuple of unlike things: make it a struct",
                        function.place(),
                        function.name()
                    ),
                });
            }
        }
    }
    findings
}

/// Whether a type is a tuple of unlike things, or a reference to one.
fn is_unlike(of: &Type) -> bool {
    match of {
        Type::Reference(of) => is_unlike(&of.elem),
        Type::Paren(of) => is_unlike(&of.elem),
        Type::Tuple(of) => {
            let mut names = of.elems.iter().map(names);
            let first = names.next();
            names.any(|other| Some(other) != first)
        }
        _ => false,
    }
}

/// The names in a type, which are as good as the type to tell it from another.
fn names(of: &Type) -> Vec<String> {
    struct Names(Vec<String>);
    impl<'ast> Visit<'ast> for Names {
        fn visit_ident(&mut self, name: &'ast syn::Ident) {
            self.0.push(name.to_string());
        }
        fn visit_type_slice(&mut self, of: &'ast syn::TypeSlice) {
            self.0.push("[]".into());
            visit::visit_type_slice(self, of);
        }
    }
    let mut names = Names(Vec::new());
    names.visit_type(of);
    names.0
}

#[cfg(test)]
mod tests {
    use super::super::modules::tests::house;
    use super::check;

    fn count(source: &str) -> usize {
        check(&house(&[("a.rs", source)])).len()
    }

    #[test]
    fn unlike_things_are_counted() {
        for source in [
            "fn f(x: (u8, &str)) {}",
            "fn f((a, b): (u8, &str)) {}",
            "fn f(x: &(u8, [u8])) {}",
            "fn f(x: &mut (&'static str, String, u8)) {}",
            "impl A { fn f(&self, x: (u8, Option<u8>)) {} }",
            "trait T { fn f(&self, x: (u8, &[u8])); }",
        ] {
            assert_eq!(count(source), 1, "{source}");
        }
        assert_eq!(count("fn f(x: (u8, u16), y: (u8, u16)) {}"), 2);
    }

    #[test]
    fn alike_things_and_those_of_others_are_not() {
        for source in [
            "fn f(rows: (u16, u16)) {}",
            "fn f(x: (&str, &str)) {}",
            "fn f(x: ()) {}",
            "fn f(x: &[(u8, u16)]) {}",
            "fn f() { let g = |x: (u8, u16)| x; }",
            "impl T for A { fn f(&self, x: (u8, u16)) {} }",
            "#[cfg(test)] fn f(x: (u8, u16)) {}",
        ] {
            assert_eq!(count(source), 0, "{source}");
        }
    }
}
