//! One word, one idea: a type name that is defined in many modules says nothing in any of them.
//!
//! What a reader meets in a signature is the name without its module. Structs, enums, unions,
//! traits and aliases count, those of tests do not.

use std::collections::BTreeMap;

use syn::Item;

use super::findings::Finding;
use super::modules::Crate;

/// How many modules may define a type of one name.
const MOST: usize = 3;

/// What is wrong in the workspace: one finding for each name, which counts its definitions.
pub(crate) fn check<'a>(houses: impl IntoIterator<Item = &'a Crate>) -> Vec<Finding> {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for house in houses {
        for module in &house.modules {
            for name in module.items.iter().filter_map(type_name) {
                let place = format!("{}:{}", house.files[module.file], name.span().start().line);
                places.entry(name.to_string()).or_default().push(place);
            }
        }
    }
    places.retain(|_, places| places.len() > MOST);
    let finding = |(name, places): (String, Vec<String>)| Finding {
        check: "homonym",
        count: places.len(),
        text: format!(
            "{} modules define a type `{name}`, and {MOST} may: call each what it is: {}",
            places.len(),
            places.join(", ")
        ),
        key: name,
    };
    places.into_iter().map(finding).collect()
}

fn type_name(item: &Item) -> Option<&syn::Ident> {
    match item {
        Item::Struct(item) => Some(&item.ident),
        Item::Enum(item) => Some(&item.ident),
        Item::Union(item) => Some(&item.ident),
        Item::Trait(item) => Some(&item.ident),
        Item::Type(item) => Some(&item.ident),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::modules::tests::house;
    use super::check;

    #[test]
    fn a_name_may_be_defined_three_times_in_all_crates() {
        let one = house(&[("a.rs", "struct S; struct T;"), ("b.rs", "enum S {}")]);
        let other = house(&[("a.rs", "type S = u8;"), ("b.rs", "#[cfg(test)] struct S;")]);
        assert_eq!(check([&one, &other]), []);
        let third = house(&[("a.rs", "mod m { trait S {} } fn f() { struct T; }")]);
        let found = check([&one, &other, &third]);
        let [finding] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((finding.key.as_str(), finding.count), ("S", 4));
        assert!(finding.text.contains("house/src/a.rs:1, house/src/b.rs:1"), "{}", finding.text);
    }
}
