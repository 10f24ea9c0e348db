//! A table that fits into a width: subjects side by side, or folded, with a line for each.

use comfy_table::{
    Cell, CellAlignment, ColumnConstraint, ContentArrangement, ContentLineStyle, LineStyle,
    TableStyle, Width,
};

/// A table in both forms.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Side by side: the names of the columns, and a row of cells for each row.
    pub(super) header: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
    /// Folded: groups of lines, each with a heading. A line begins with the name of a subject.
    pub(super) groups: Vec<(String, Vec<Vec<String>>)>,
}

/// Space between columns, and a line below their names.
const STYLE: TableStyle = TableStyle::new()
    .header_lines(ContentLineStyle::none().junction(' '))
    .header_separator(LineStyle::none().fill('─').junction('─'))
    .content_lines(ContentLineStyle::none().junction(' '));

/// The space on both sides of a cell.
const PADDING: usize = 2;

/// A space at which a cell does not break.
const TIED: char = '\u{a0}';

/// A name that is wider than this is broken at its hyphens at the head of a column.
const HEAD: usize = 12;

impl Table {
    /// Formats the table for a width. Subjects are side by side if no word has to be broken.
    pub(super) fn text(&self, width: usize) -> String {
        let text = self.side_by_side(width).unwrap_or_else(|| self.folded(width));
        text.replace(TIED, " ")
    }

    fn side_by_side(&self, width: usize) -> Option<String> {
        let header: Vec<String> = self.header.iter().map(|name| broken(name)).collect();
        let least: Vec<usize> = (0..header.len())
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                let words = cells.chain([&header[column]]).flat_map(|cell| cell.split([' ', '\n']));
                words.map(|word| word.chars().count()).max().unwrap_or(0) + PADDING
            })
            .collect();
        if least.iter().sum::<usize>() + least.len().saturating_sub(1) > width {
            return None;
        }
        let mut table = comfy_table::Table::new();
        table.load_style(STYLE);
        table.set_content_arrangement(ContentArrangement::Dynamic);
        let narrow = |width: usize| u16::try_from(width).unwrap_or(u16::MAX);
        table.set_width(narrow(width));
        table.set_header(header);
        for row in &self.rows {
            let cells = row.iter().enumerate().map(|(column, cell)| match column {
                0 => Cell::new(cell),
                _ => Cell::new(cell).set_alignment(CellAlignment::Right),
            });
            table.add_row(cells);
        }
        let at_least = |&width| ColumnConstraint::LowerBoundary(Width::Fixed(narrow(width)));
        table.set_constraints(least.iter().map(at_least));
        Some(table.to_string())
    }

    fn folded(&self, width: usize) -> String {
        let lines = || self.groups.iter().flat_map(|(_, lines)| lines);
        let columns = lines().map(Vec::len).max().unwrap_or(0);
        let widest = |column: usize| {
            let cells = lines().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(widest).collect();
        let fits = widths.iter().map(|width| width + 2).sum::<usize>() <= width;
        let mut text = String::new();
        for (heading, lines) in &self.groups {
            flow(&mut text, heading.split(' '), " ", 0, width);
            for line in lines {
                if fits {
                    let cells = line.iter().zip(&widths).enumerate();
                    let cells = cells.map(|(column, (cell, &width))| match column {
                        // A name, and a verdict.
                        0 => format!("  {cell:<width$}"),
                        _ if column + 1 == columns => format!("  {cell:<width$}"),
                        _ => format!("  {cell:>width$}"),
                    });
                    text.push_str(cells.collect::<String>().trim_end());
                    text.push('\n');
                } else {
                    let cells = line.iter().map(String::as_str).filter(|cell| !cell.is_empty());
                    flow(&mut text, cells, "  ", 2, width);
                }
            }
        }
        text.trim_end().to_owned()
    }
}

/// Appends parts, each as a whole, in lines of a width. The first line is indented by `indent`,
/// the others by two more.
fn flow<'p>(
    text: &mut String,
    parts: impl Iterator<Item = &'p str>,
    gap: &str,
    indent: usize,
    width: usize,
) {
    let mut used = 0;
    for (place, part) in parts.enumerate() {
        let len = part.chars().count();
        if place == 0 {
            text.push_str(&" ".repeat(indent));
            used = indent;
        } else if used + gap.len() + len <= width {
            text.push_str(gap);
            used += gap.len();
        } else {
            text.push('\n');
            text.push_str(&" ".repeat(indent + 2));
            used = indent + 2;
        }
        text.push_str(part);
        used += len;
    }
    text.push('\n');
}

/// Formats a value for a cell that does not break within it.
pub(super) fn tied(value: &str) -> String {
    value.replace(' ', &TIED.to_string())
}

/// Breaks the lines of a name at hyphens.
fn broken(name: &str) -> String {
    let line = |line: &str| {
        let (mut text, mut used) = (String::new(), 0);
        for part in line.split_inclusive('-') {
            if used > 0 && used + part.len() > HEAD {
                text.push('\n');
                used = 0;
            }
            text.push_str(part);
            used += part.len();
        }
        text
    };
    name.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let names = ["immediate", "after-tasks-trace-gp", "memalloc-callbacks-trace"];
        let value = "1.13 (0.59..1.20) M/s";
        let line = |name: &str| vec![name.to_owned(), value.into(), "no difference".into()];
        Table {
            header: ["case"].into_iter().chain(names).map(str::to_owned).collect(),
            rows: vec![
                ["a case".to_owned()].into_iter().chain(names.map(|_| tied(value))).collect(),
            ],
            groups: vec![("a case, 2 threads".into(), names.map(line).into())],
        }
    }

    #[test]
    fn names_break_at_hyphens_and_values_not_at_all() {
        let text = table().text(80);
        let heads: Vec<&str> = text.lines().take(3).collect();
        assert!(heads[0].contains("after-tasks-") && heads[1].contains("trace-gp"), "{text}");
        assert!(heads[1].contains("callbacks-") && heads[2].contains("trace"), "{text}");
        assert!(text.lines().last().unwrap().matches("1.13 (0.59..1.20) M/s").count() == 3);
    }

    #[test]
    fn a_table_that_does_not_fit_has_a_line_for_each_subject_and_then_for_each_value() {
        let text = table().text(76);
        assert!(!text.contains('─') && text.starts_with("a case, 2 threads\n"), "{text}");
        let last = "  memalloc-callbacks-trace  1.13 (0.59..1.20) M/s  no difference";
        assert_eq!(text.lines().last(), Some(last));
        let narrow = table().text(40);
        assert!(narrow.lines().all(|line| line.chars().count() <= 40), "{narrow}");
        assert!(narrow.contains("-trace\n    1.13 (0.59..1.20) M/s  no difference"), "{narrow}");
    }
}
