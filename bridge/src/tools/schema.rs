//! The JSON Schema of a tool's arguments, without what only costs a model's attention.

use schemars::JsonSchema;
use serde_json::{Map, Value};

/// The schema of these arguments.
pub(super) fn schema<T: JsonSchema>() -> Map<String, Value> {
    let settings = schemars::generate::SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let schema = settings.into_generator().into_root_schema_for::<T>();
    let mut value = schema.to_value();
    trim(&mut value, true);
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Removes what clients do not understand or pay for: titles, number formats, "or null".
fn trim(value: &mut Value, root: bool) {
    let Value::Object(map) = value else { return };
    for key in ["title", "format", "default", "$schema", "minimum"] {
        map.remove(key);
    }
    if root {
        map.remove("description");
    }
    if let Some(Value::Array(types)) = map.get_mut("type") {
        types.retain(|one| one != "null");
        if let [one] = types.as_slice() {
            let one = one.clone();
            map.insert("type".to_owned(), one);
        }
    }
    if let Some(Value::Array(values)) = map.get_mut("enum") {
        values.retain(|one| !one.is_null());
    }
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        properties.values_mut().for_each(|property| trim(property, false));
    }
    for inner in ["additionalProperties", "items"] {
        if let Some(inner) = map.get_mut(inner) {
            trim(inner, false);
        }
    }
}
