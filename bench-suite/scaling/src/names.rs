//! Short names of places in the sources, for the tables.

/// Returns the path of a file of the libraries, without `src`. `None` for other files, and for the
/// façade, which only forwards.
pub(crate) fn library_file(path: &str) -> Option<String> {
    let library = ["memalloc", "qptrie"].into_iter().find_map(|library| {
        let (_, inside) = path.rsplit_once(&format!("{library}/src/"))?;
        Some(format!("{library}/{inside}"))
    })?;
    let is_facade = library.starts_with("memalloc/sync");
    (!is_facade).then_some(library)
}

/// Returns the name of a function without its path and parameters; for a closure, the name of the
/// function around it.
pub(crate) fn last_segment(full: &str) -> Option<String> {
    let (mut path, mut depth) = (String::new(), 0);
    for letter in full.chars() {
        match letter {
            '<' => depth += 1,
            '>' => depth -= 1,
            _ if depth == 0 => path.push(letter),
            _ => (),
        }
    }
    let names = path.split("::").filter(|part| !part.is_empty() && !part.starts_with('{'));
    names.last().map(str::to_owned)
}

/// Returns the last name at the end of an expression: `b` for `a.b(c)[d].0`, `?` if there is none.
pub(crate) fn last_name(expression: &str) -> String {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    let mut rest = expression.trim_end();
    while let Some(last) = rest.chars().next_back() {
        if let Some(opening) = [(')', '('), (']', '[')].iter().find(|pair| pair.0 == last) {
            rest = before_bracket(rest, *opening).trim_end();
            continue;
        }
        let start = rest.trim_end_matches(is_part);
        let name = &rest[start.len()..];
        if name.is_empty() {
            break;
        }
        if !name.starts_with(|first: char| first.is_ascii_digit()) {
            return name.to_owned();
        }
        rest = start.trim_end_matches('.').trim_end();
    }
    "?".to_owned()
}

/// Returns the text before the opening bracket that matches the closing one at the end.
fn before_bracket(text: &str, (closing, opening): (char, char)) -> &str {
    let mut depth = 0;
    let start = text.char_indices().rev().find(|&(_, letter)| {
        depth += i32::from(letter == closing) - i32::from(letter == opening);
        depth == 0
    });
    start.map_or("", |(at, _)| &text[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_named_without_its_path_and_parameters() {
        let short = |full| last_segment(full).unwrap_or_default();
        assert_eq!(short("memalloc::batch::list::BatchList::push"), "push");
        assert_eq!(short("<memalloc::rcu::reader::Guard as core::ops::drop::Drop>::drop"), "drop");
        assert_eq!(short("<memalloc::alloc::raw::Raw>::free_slow::{closure#0}"), "free_slow");
        assert_eq!(short("with<memalloc::Body, core::option::Option<u32>>"), "with");
        assert_eq!(short("{closure#0}"), "");
    }

    #[test]
    fn only_files_of_the_libraries_have_names() {
        let file = |path| library_file(path).unwrap_or_default();
        assert_eq!(file("/any/where/memalloc/src/batch/list.rs"), "memalloc/batch/list.rs");
        assert_eq!(file("./qptrie/src/lib.rs"), "qptrie/lib.rs");
        assert_eq!(file("memalloc/src/sync/counted.rs"), "");
        assert_eq!(file("/rustc/0/library/core/src/ops.rs"), "");
    }

    #[test]
    fn a_field_is_named_as_the_source_names_it() {
        assert_eq!(last_name("self.pending_bytes"), "pending_bytes");
        assert_eq!(last_name("arena.link(object)"), "link");
        assert_eq!(last_name("self.stripes[number(a, b)]"), "stripes");
        assert_eq!(last_name("given_up[1].0"), "given_up");
        assert_eq!(last_name("owner_load(&self.epoch"), "epoch");
        assert_eq!(last_name("(a + b)"), "?");
    }
}
