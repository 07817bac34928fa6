//! Which characters are text, and what replaces those that are not.
//!
//! There are three kinds of unsafe characters. A *control* is replaced by its picture (`␀`, `␛`),
//! because bytes such as the NUL between two arguments mean something. A *hidden* character is
//! removed and counted: it is invisible, or changes the order or the shape of its neighbours, and
//! so can tell a model what a person cannot see. A *blank* character without a glyph becomes a
//! space.

/// Replaces a character that cannot be shown.
pub const REPLACEMENT: char = '\u{fffd}';

/// Whether a character is invisible or changes how others are displayed: direction, joining, zero
/// width, tags, variation selectors, fillers, marks of interlinear and musical layout.
pub fn is_hidden(char: char) -> bool {
    matches!(char,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff0}'..='\u{fffc}' | '\u{13430}'..='\u{1345f}' | '\u{16fe4}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Whether a character may occur in our texts: not a control other than LF and TAB, not hidden, and
/// not without a meaning of its own.
pub fn is_text(char: char) -> bool {
    matches!(char, '\n' | '\t') || visible_form(char) == Some(char)
}

/// Returns the visible form of a character outside a line's own layout; `None` for a hidden one. LF
/// and TAB are controls here like any other: a caller that gives them a meaning handles them first.
pub fn visible_form(char: char) -> Option<char> {
    match char {
        ' '..='~' => Some(char),
        '\0'..='\u{1f}' | '\u{7f}' => Some(picture(char)),
        '\u{80}'..='\u{9f}' => Some(REPLACEMENT),
        // Private use and noncharacters: what is visible, if anything, depends on the font.
        '\u{e000}'..='\u{f8ff}' | '\u{fdd0}'..='\u{fdef}' | '\u{f0000}'.. => Some(REPLACEMENT),
        '\u{fffe}'.. if u32::from(char) & 0xfffe == 0xfffe => Some(REPLACEMENT),
        // A Braille pattern without dots.
        '\u{2800}' => Some(' '),
        // Line and paragraph separator: some readers begin a new line here.
        '\u{2028}' | '\u{2029}' => None,
        _ if is_hidden(char) => None,
        _ => Some(char),
    }
}

/// Whether a variation selector only chooses between the two usual shapes of the preceding
/// character, as in "✔️". It is removed like all others, but deserves no warning.
pub fn is_presentation(before: Option<char>, char: char) -> bool {
    let symbol = matches!(
        before,
        Some(
            '#' | '*' | '0'..='9' | '©' | '®' | '\u{2010}'..='\u{3299}' | '\u{1f000}'..='\u{1faff}',
        )
    );
    symbol && matches!(char, '\u{fe0e}' | '\u{fe0f}')
}

/// Returns the picture of a C0 control or DEL; U+FFFD for anything else.
fn picture(char: char) -> char {
    match char {
        '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(char)).unwrap_or(REPLACEMENT),
        '\u{7f}' => '␡',
        _ => REPLACEMENT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_point_that_the_threat_model_names_is_taken_away() {
        let ranges = [
            (0x202a, 0x202e),
            (0x2066, 0x2069),
            (0x200b, 0x200f),
            (0x2060, 0x2060),
            (0xfeff, 0xfeff),
            (0xe0000, 0xe007f),
            (0xe0100, 0xe01ef),
            (0xfe00, 0xfe0f),
            (0xfff9, 0xfffc),
            (0x61c, 0x61c),
            (0x2028, 0x2029),
        ];
        for char in ranges.iter().flat_map(|&(a, b)| (a..=b).filter_map(char::from_u32)) {
            assert_eq!(visible_form(char), None, "{}", char.escape_unicode());
        }
    }

    #[test]
    fn what_is_shown_is_text_and_stays_as_it_is() {
        for char in (0..=0x0010_ffff).filter_map(char::from_u32) {
            let Some(seen) = visible_form(char) else { continue };
            assert_eq!(visible_form(seen), Some(seen), "{}", char.escape_unicode());
            assert!(!seen.is_control(), "{}", char.escape_unicode());
        }
    }

    #[test]
    fn controls_are_pictures_and_scripts_are_left_alone() {
        let said: String = "a\0b\x1b\x7f\u{85}ñ한字🚀é".chars().filter_map(visible_form).collect();
        assert_eq!(said, "a␀b␛␡\u{fffd}ñ한字🚀é");
    }
}
