//! Draws a small figure with axes, as SVG that takes its colours from the page.
//!
//! All figures have one size, which fits a column of a narrow page; wider pages have several
//! columns. The plotting library supports fixed colours only: each stands for a variable of the
//! style sheet and is replaced by it afterwards, so that one drawing suits light and dark.

use std::ops::Range;

use maud::{Markup, PreEscaped, html};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;

use crate::measure::Metric;
use crate::report::figures;

/// The natural size of a figure, in pixels.
const SIZE: (u32, u32) = (380, 230);

/// Units of the drawing per pixel: the plotting library supports whole units only.
const UNITS: u32 = 4;

/// Values within this factor are drawn on a linear axis. A logarithmic one has labels at powers of
/// ten, and from this factor on at least two of them, given the margins of the range.
const WORTH_A_LOGARITHM: f64 = 60.0;

/// Values beyond this factor are drawn on a linear axis as well: no measurement spreads that far,
/// and there would be too many powers of ten.
const NO_LOGARITHM: f64 = 1e15;

/// The least margin of a range, as a part of its larger end. Between two values with few others in
/// between, the plotting library looks for places of labels forever.
const LEAST_MARGIN: f64 = 1e-9;

// Placeholders for variables of the style sheet.
const INK: RGBColor = RGBColor(10, 0, 1);
const GRID: RGBColor = RGBColor(11, 0, 1);

/// Returns the placeholder for the colour of a series.
fn colour(number: usize) -> RGBColor {
    // The remainder is below 8.
    RGBColor(1 + (number % COLOURS) as u8, 0, 0)
}

fn hex(RGBColor(red, green, blue): RGBColor) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}

/// The number of series colours in the style sheet; a ninth series takes the first colour again.
const COLOURS: usize = 8;

/// A figure.
#[derive(Debug)]
pub(super) struct Chart {
    /// A description for screen readers.
    pub(super) alt: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) series: Vec<Series>,
}

/// One axis of a figure.
pub(super) struct Axis {
    /// The quantity.
    pub(super) label: &'static str,
    /// True if a logarithmic axis is wanted.
    pub(super) is_log: bool,
    /// True if the axis includes zero.
    pub(super) has_zero: bool,
    /// Labels are at round multiples of this.
    pub(super) unit: f64,
    /// Formats a value.
    pub(super) words: Box<dyn Fn(f64) -> String>,
}

impl std::fmt::Debug for Axis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Axis").field("label", &self.label).finish_non_exhaustive()
    }
}

impl Axis {
    /// Returns a linear axis.
    pub(super) fn new(label: &'static str, words: impl Fn(f64) -> String + 'static) -> Self {
        let words = Box::new(words);
        Self { label, is_log: false, has_zero: false, unit: 1.0, words }
    }

    /// Returns an axis for values of a metric.
    pub(super) fn of(label: &'static str, metric: Metric) -> Self {
        let is_memory = [Metric::MemAvgBytes, Metric::MemPeakBytes].contains(&metric);
        match is_memory {
            true => Self { unit: MIB, ..Self::new(label, mebibytes) },
            false => Self::new(label, move |value| figures::value(metric, value)),
        }
    }

    /// Returns whether a logarithmic axis is wanted and the values are far enough apart for it.
    fn is_logarithmic(&self, values: impl Iterator<Item = f64>) -> bool {
        let (low, high) = bounds(values);
        let factor = high / low;
        self.is_log && low > 0.0 && factor > WORTH_A_LOGARITHM && factor < NO_LOGARITHM
    }

    /// Returns the range that contains the values, with a margin.
    fn range(&self, values: impl Iterator<Item = f64>, is_log: bool) -> Range<f64> {
        let (low, high) = bounds(values);
        match () {
            () if low > high => 0.0..1.0,
            () if is_log => low / 1.3..high * 1.3,
            () if self.has_zero => low.min(0.0)..if high > 0.0 { high * 1.06 } else { 1.0 },
            () => {
                let least = low.abs().max(high.abs()) * LEAST_MARGIN;
                let room = match high > low {
                    true => ((high - low) * 0.08).max(least),
                    false => high.abs().max(1.0) * 0.05,
                };
                low - room..high + room
            }
        }
    }
}

const MIB: f64 = 1_048_576.0;

/// Formats mebibytes so that round steps look round, as in "0.75 MiB".
fn mebibytes(bytes: f64) -> String {
    format!("{} MiB", (bytes / MIB * 1000.0).round() / 1000.0)
}

/// Returns the smallest and the largest value.
fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let none = (f64::INFINITY, f64::NEG_INFINITY);
    values.fold(none, |(low, high), value| (low.min(value), high.max(value)))
}

/// The points of one subject.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) name: String,
    /// The number of the colour and of the mark.
    pub(super) colour: usize,
    /// True if a line joins the points.
    pub(super) is_line: bool,
    /// True if each point is marked.
    pub(super) is_marked: bool,
    pub(super) points: Vec<Point>,
}

/// A point of a figure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
    /// True if the mark is hollow: the value has a caveat.
    pub(super) is_hollow: bool,
}

impl Point {
    pub(super) fn new(x: f64, y: f64) -> Self {
        Self { x, y, is_hollow: false }
    }
}

impl Chart {
    /// Returns the drawing, or a sentence if it failed.
    pub(super) fn svg(&self) -> Markup {
        let mut text = String::new();
        let size = (SIZE.0 * UNITS, SIZE.1 * UNITS);
        let drawn = {
            let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
            self.draw(&area).and_then(|()| area.present().map_err(|error| error.to_string()))
        };
        match drawn {
            Ok(()) => PreEscaped(self.adapted(&text)),
            Err(error) => html! { p { "This figure could not be drawn: " (error) } },
        }
    }

    fn draw(&self, area: &DrawingArea<SVGBackend<'_>, Shift>) -> Result<(), String> {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let xs = || points().map(|point| point.x / self.x.unit);
        let ys = || points().map(|point| point.y / self.y.unit);
        let is_log = (self.x.is_logarithmic(xs()), self.y.is_logarithmic(ys()));
        let (x, y) = (self.x.range(xs(), is_log.0), self.y.range(ys(), is_log.1));
        if [&x, &y].iter().any(|range| !(range.end - range.start).is_finite()) {
            return Err("its values are too far apart".into());
        }
        match is_log {
            (false, false) => self.draw_on(area, x, y),
            (false, true) => self.draw_on(area, x, y.log_scale()),
            (true, false) => self.draw_on(area, x.log_scale(), y),
            (true, true) => self.draw_on(area, x.log_scale(), y.log_scale()),
        }
    }

    fn draw_on<X, Y>(
        &self,
        area: &DrawingArea<SVGBackend<'_>, Shift>,
        x: X,
        y: Y,
    ) -> Result<(), String>
    where
        X: AsRangedCoord<Value = f64>,
        Y: AsRangedCoord<Value = f64>,
        X::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
        Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        let failed = |error: &dyn std::fmt::Display| error.to_string();
        let mut chart = ChartBuilder::on(area)
            .margin(4 * UNITS)
            .margin_right(28 * UNITS)
            .x_label_area_size(42 * UNITS)
            .y_label_area_size(66 * UNITS)
            .build_cartesian_2d(x, y)
            .map_err(|error| failed(&error))?;
        let text = ("sans-serif", 15 * UNITS).into_font().color(&INK);
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID.stroke_width(UNITS))
            .axis_style(GRID.stroke_width(UNITS))
            // Labels with a unit are wide.
            .x_labels(if self.x.unit > 1.0 { 4 } else { 5 })
            .y_labels(5)
            .x_label_formatter(&|value| (self.x.words)(*value * self.x.unit))
            .y_label_formatter(&|value| (self.y.words)(*value * self.y.unit))
            .x_desc(self.x.label)
            .label_style(text.clone())
            .axis_desc_style(text)
            .draw()
            .map_err(|error| failed(&error))?;
        for series in &self.series {
            let colour = colour(series.colour);
            let place = |point: &Point| (point.x / self.x.unit, point.y / self.y.unit);
            let places = series.points.iter().map(place);
            if series.is_line {
                chart
                    .draw_series(LineSeries::new(places.clone(), colour.stroke_width(2 * UNITS)))
                    .map_err(|error| failed(&error))?;
            }
            let (shape, size) = (shape(series.colour), RADIUS);
            let outlined = colour.stroke_width(UNITS + UNITS / 2);
            for is_hollow in [false, true].into_iter().filter(|_| series.is_marked) {
                let points = series.points.iter().filter(|point| point.is_hollow == is_hollow);
                let places = points.map(place);
                // Each kind of mark has a type of its own.
                let drawn = match (&shape, is_hollow) {
                    (Shape::Circle, _) => {
                        let style = if is_hollow { outlined } else { colour.filled() };
                        chart.draw_series(places.map(|place| Circle::new(place, size, style)))
                    }
                    (Shape::Corners(corners), true) => chart.draw_series(places.map(|place| {
                        EmptyElement::at(place) + PathElement::new(corners.clone(), outlined)
                    })),
                    (Shape::Corners(corners), false) => chart.draw_series(places.map(|place| {
                        EmptyElement::at(place) + Polygon::new(corners.clone(), colour.filled())
                    })),
                };
                drawn.map_err(|error| failed(&error))?;
            }
        }
        Ok(())
    }

    /// Adapts the drawing to the page: its colours, a title, and a flexible width.
    fn adapted(&self, text: &str) -> String {
        let (width, height) = (SIZE.0 * UNITS, SIZE.1 * UNITS);
        let fixed = format!("<svg width=\"{width}\" height=\"{height}\"");
        let title = html! { title { (self.alt) } }.into_string();
        let label = html! { svg role="img" aria-label=(self.alt) {} }.into_string();
        let label = label.trim_end_matches("</svg>").trim_end_matches('>').to_owned();
        let mut text = text.replacen(&fixed, &label, 1);
        if let Some(end) = text.find('>') {
            text.insert_str(end + 1, &title);
        }
        for number in 0..COLOURS {
            text = text.replace(&hex(colour(number)), &format!("var(--s{})", number + 1));
        }
        text.replace(&hex(INK), "var(--soft)").replace(&hex(GRID), "var(--grid)")
    }

    /// Returns the names and marks of the series.
    pub(super) fn legend(&self) -> Markup {
        html! {
            ul.legend {
                @for series in &self.series {
                    li { (key(series.colour)) (series.name) }
                }
            }
        }
    }

    /// Returns all points in a table.
    pub(super) fn table(&self) -> Markup {
        html! {
            div.scroll tabindex="0" role="region" aria-label=(self.alt) {
                table {
                    thead { tr { th { "" } th.n { (self.x.label) } th.n { (self.y.label) } } }
                    tbody {
                        @for series in &self.series {
                            @for point in &series.points {
                                tr {
                                    td { (series.name) }
                                    td.n { ((self.x.words)(point.x)) }
                                    td.n { ((self.y.words)(point.y)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Half the size of a mark.
const RADIUS: i32 = 3 * UNITS as i32;

/// The shape of a mark.
enum Shape {
    Circle,
    /// Lines between offsets from the point.
    Corners(Vec<(i32, i32)>),
}

/// Returns the mark of a series: series differ by shape as well as colour.
fn shape(number: usize) -> Shape {
    let size = RADIUS + 3;
    match number % 4 {
        0 => Shape::Circle,
        1 => Shape::Corners(vec![(0, -size), (size, size), (-size, size), (0, -size)]),
        2 => {
            let size = RADIUS - 1;
            let corners = [(-size, -size), (size, -size), (size, size), (-size, size)];
            Shape::Corners(corners.into_iter().chain([(-size, -size)]).collect())
        }
        _ => Shape::Corners(vec![(0, -size), (size, 0), (0, size), (-size, 0), (0, -size)]),
    }
}

/// Returns the mark of a series for the legend.
fn key(number: usize) -> Markup {
    let shape = match number % 4 {
        0 => "M6 2a4 4 0 1 0 .01 0z",
        1 => "M6 1.5 10.5 10.5 1.5 10.5z",
        2 => "M2.5 2.5h7v7h-7z",
        _ => "M6 1 11 6 6 11 1 6z",
    };
    html! {
        svg.key viewBox="0 0 12 12" aria-hidden="true" {
            path d=(shape) fill={ "var(--s" (number % COLOURS + 1) ")" } {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test hangs if an axis has no places for its labels.
    #[test]
    fn a_figure_of_any_values_is_drawn_or_says_why_not() {
        let values =
            [0.0, 1e-320, 1e-17, 1.0, 1e6, 1.5e262, 1e34, 1.5e308, f64::MAX, -1e34, -1e308];
        for &low in &values {
            for high in values.into_iter().chain([low.next_up()]) {
                for [is_log, has_zero] in [[false; 2], [false, true], [true, false]] {
                    let axis =
                        || Axis { is_log, has_zero, ..Axis::new("values", |v| v.to_string()) };
                    let points = vec![Point::new(low, high), Point::new(high, low)];
                    let (name, colour) = (String::new(), 0);
                    let series = Series { name, colour, is_line: true, is_marked: true, points };
                    let chart =
                        Chart { alt: String::new(), x: axis(), y: axis(), series: vec![series] };
                    let drawn = chart.svg().into_string();
                    let is_finite = (low.max(high) * 1.3 - low.min(high) * 1.3).is_finite();
                    assert!(!is_finite || drawn.starts_with("<svg"), "{low}, {high}: {drawn}");
                }
            }
        }
    }
}
