//! Texts that are kept in part.

/// The beginning of a text: at most so many bytes, and whole characters.
pub fn beginning(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(beginning("abc".to_owned(), 3), "abc");
        assert_eq!(beginning("abcd".to_owned(), 3), "abc");
        assert_eq!(beginning("a\u{e9}\u{e9}".to_owned(), 4), "a\u{e9}");
    }
}
