//! Breaks text into lines.

/// The longest line, in characters.
const WIDTH: usize = 80;

/// Breaks text into lines of at most [`WIDTH`] characters, between words only; a longer word gets a
/// line to itself.
pub(crate) fn paragraph(text: &str) -> String {
    let mut lines = String::new();
    let mut used = 0;
    for word in text.split_whitespace() {
        let len = word.chars().count();
        if used > 0 {
            let fits = used + 1 + len <= WIDTH;
            lines.push(if fits { ' ' } else { '\n' });
            used = if fits { used + 1 } else { 0 };
        }
        lines.push_str(word);
        used += len;
    }
    lines.push('\n');
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words_and_lose_none() {
        let text = "word ".repeat(96);
        let lines = paragraph(&text);
        assert!(lines.lines().all(|line| (64..=WIDTH).contains(&line.len())), "{lines}");
        assert_eq!(lines.split_whitespace().count(), 96);
        assert_eq!(paragraph(&"x".repeat(150)).trim_end().len(), 150);
    }
}
