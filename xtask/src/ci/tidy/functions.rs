//! Every function that a crate defines, outside of tests.

use syn::visit::{self, Visit};
use syn::{ImplItem, Item, ItemImpl, Signature, TraitItemFn};

use super::modules::{Crate, attributes, is_test_only};

/// A function, where it is defined.
#[derive(Clone, Copy)]
pub(crate) struct Function<'a> {
    pub(crate) file: &'a str,
    pub(crate) signature: &'a Signature,
}

impl std::fmt::Debug for Function<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {}", self.name(), self.place())
    }
}

impl Function<'_> {
    pub(crate) fn name(&self) -> String {
        self.signature.ident.to_string()
    }

    /// Its file and line.
    pub(crate) fn place(&self) -> String {
        format!("{}:{}", self.file, self.signature.ident.span().start().line)
    }
}

/// The functions of a crate, methods included. Those of `impl Trait for …` are left out: the trait
/// chose how they look.
pub(crate) fn functions(house: &Crate) -> Vec<Function<'_>> {
    let mut functions = Vec::new();
    for module in &house.modules {
        let mut finder = Finder { file: &house.files[module.file], functions: &mut functions };
        module.items.iter().for_each(|item| finder.visit_item(item));
    }
    functions
}

struct Finder<'a, 'out> {
    file: &'a str,
    functions: &'out mut Vec<Function<'a>>,
}

impl<'a> Finder<'a, '_> {
    fn insert(&mut self, signature: &'a Signature) {
        self.functions.push(Function { file: self.file, signature });
    }
}

impl<'a> Visit<'a> for Finder<'a, '_> {
    fn visit_item(&mut self, item: &'a Item) {
        if is_test_only(attributes(item)) {
            return;
        }
        if let Item::Fn(item) = item {
            self.insert(&item.sig);
        }
        visit::visit_item(self, item);
    }

    fn visit_item_impl(&mut self, item: &'a ItemImpl) {
        for within in &item.items {
            let ImplItem::Fn(function) = within else { continue };
            if is_test_only(&function.attrs) {
                continue;
            }
            if item.trait_.is_none() {
                self.insert(&function.sig);
            }
            // Functions inside of it are its own.
            self.visit_block(&function.block);
        }
    }

    fn visit_trait_item_fn(&mut self, function: &'a TraitItemFn) {
        self.insert(&function.sig);
        visit::visit_trait_item_fn(self, function);
    }
}

#[cfg(test)]
mod tests {
    use super::super::modules::tests::house;
    use super::{Function, functions};

    #[test]
    fn functions_are_found_wherever_their_look_was_chosen() {
        let house = house(&[(
            "a.rs",
            "fn free() { fn inner() {} }
             impl A { fn method(&self) {} #[cfg(test)] fn only_tests() {} }
             trait T { fn of_trait(&self); }
             impl T for A { fn of_trait(&self) { fn deep() {} } }
             #[cfg(test)] mod tests { fn helper() {} }
             mod m { fn in_module() {} }",
        )]);
        let names: Vec<String> = functions(&house).iter().map(Function::name).collect();
        assert_eq!(names, ["free", "inner", "method", "of_trait", "deep", "in_module"]);
        assert_eq!(functions(&house)[2].place(), "house/src/a.rs:2");
    }
}
