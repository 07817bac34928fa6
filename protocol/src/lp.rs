//! Length prefixes, for everything that is hashed or signed: `LP(x)` = u32 big-endian length ‖ x.
//!
//! Two different lists of fields never yield the same bytes, so that a signature over one thing
//! cannot be a signature over another.

/// Appends `LP(field)` for each field.
pub fn put(out: &mut Vec<u8>, fields: &[&[u8]]) {
    for field in fields {
        let length = u32::try_from(field.len()).expect("nothing that we sign has 4 GiB");
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(field);
    }
}

/// Concatenates `LP` of each field.
pub fn join(fields: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(fields.iter().map(|field| field.len() + 4).sum());
    put(&mut out, fields);
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn where_one_field_ends_and_the_next_begins_matters() {
        assert_eq!(super::join(&[b"ab", b"c"]), b"\0\0\0\x02ab\0\0\0\x01c");
        assert_ne!(super::join(&[b"ab", b"c"]), super::join(&[b"a", b"bc"]));
    }
}
