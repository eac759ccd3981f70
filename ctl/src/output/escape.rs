//! Spelling out what a terminal would obey.

/// Escapes every control character but newline and tab, and the characters that change the direction of text.
pub(crate) fn escape(text: &str) -> String {
    escape_with(text, |letter| letter == '\n' || letter == '\t')
}

/// Escapes newlines too: for a cell or a name that must stay on its line.
pub(crate) fn escape_line(text: &str) -> String {
    escape_with(text, |_| false)
}

fn escape_with(text: &str, keep: impl Fn(char) -> bool) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        if !is_unsafe(letter) || keep(letter) || drover_api::mutants::active("A45-raw-escapes") {
            safe.push(letter);
        } else if letter.is_ascii() {
            // The caret form that people know: ESC is ^[, BEL is ^G, DEL is ^?.
            safe.push('^');
            safe.push(char::from((letter as u8) ^ 0x40));
        } else {
            safe.extend(letter.escape_unicode());
        }
    }
    safe
}

fn is_unsafe(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_are_spelled_out() {
        assert_eq!(escape("\u{1b}[31mred\u{7}\rgone"), "^[[31mred^G^Mgone");
        assert_eq!(escape("\u{9b}2J"), "\\u{9b}2J");
        assert_eq!(escape("abc\u{202e}fed"), "abc\\u{202e}fed");
    }

    #[test]
    fn lines_and_ordinary_text_stay() {
        assert_eq!(escape("a\tb\nc é 漢"), "a\tb\nc é 漢");
        assert_eq!(escape_line("a\nb"), "a^Jb");
    }
}
