//! The canonical encoding of Curve25519 public keys.
//!
//! Both curves' formats can encode some keys in two ways: as a number, and as that number plus the
//! field's prime; X25519 also ignores the top bit. Libraries accept all of them. Keys are compared,
//! pinned and hashed as bytes here, so that a second encoding would be a second name for a key:
//! only the canonical one is accepted, although RFC 7748 (section 5) lets X25519 accept all. None
//! of our programs writes another.

/// Whether an X25519 public key is in its canonical encoding: a number below the prime, and no top
/// bit.
#[cfg(any(feature = "inner", test))]
pub(crate) fn is_canonical_x25519(key: &[u8; 32]) -> bool {
    key[31] & 0x80 == 0 && is_below_prime(key)
}

/// Whether the number in an Ed25519 public key is below the prime. The top bit is a sign.
pub(crate) fn is_canonical_ed25519(key: &[u8; 32]) -> bool {
    is_below_prime(key)
}

/// Whether the low 255 bits, little-endian, are below 2^255 − 19.
fn is_below_prime(key: &[u8; 32]) -> bool {
    let [low, middle @ .., high] = key;
    *low < 0xed || high & 0x7f != 0x7f || middle.iter().any(|&byte| byte != 0xff)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(low: u8, rest: u8, high: u8) -> [u8; 32] {
        let mut key = [rest; 32];
        key[0] = low;
        key[31] = high;
        key
    }

    #[test]
    fn numbers_from_the_prime_on_are_refused_and_those_below_taken() {
        for (key, ed25519, x25519) in [
            (number(0xec, 0xff, 0x7f), true, true),
            (number(0xed, 0xff, 0x7f), false, false),
            (number(0xee, 0xff, 0x7f), false, false),
            (number(0xff, 0xff, 0x7f), false, false),
            (number(0xec, 0xff, 0xff), true, false),
            (number(0xed, 0xff, 0xff), false, false),
            (number(9, 0, 0), true, true),
            (number(9, 0, 0x80), true, false),
            (number(0xff, 0xfe, 0x7f), true, true),
            (number(0xff, 0xff, 0x7e), true, true),
        ] {
            assert_eq!(is_canonical_ed25519(&key), ed25519, "{key:02x?}");
            assert_eq!(is_canonical_x25519(&key), x25519, "{key:02x?}");
        }
    }

    #[test]
    fn an_id_that_is_said_another_way_cannot_verify() {
        use crate::id::Id;
        // y = 3 is on the curve; p + 3 says the same point.
        let three = number(3, 0, 0);
        let again = number(0xf0, 0xff, 0x7f);
        assert_eq!(
            ed25519_dalek::VerifyingKey::from_bytes(&three).is_ok(),
            ed25519_dalek::VerifyingKey::from_bytes(&again).is_ok(),
            "the library makes no difference"
        );
        assert!(Id(again).verifying().is_none());
    }
}
