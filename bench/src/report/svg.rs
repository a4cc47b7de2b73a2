//! The strokes of a plot: a few SVG elements with colours that can be read on light and on dark ground.

use std::fmt::Write as _;

/// Text and axes: as far from white as from black.
const INK: &str = "#767c85";
/// Ours, then the others.
pub(super) const OURS: &str = "#3b82f6";
pub(super) const OTHERS: &str = "#9aa1ab";
/// Parts of a whole, told apart also by those who see red and green alike.
pub(super) const PARTS: [&str; 6] = [
    "#3b82f6", "#e69f00", "#0f9d76", "#d55e00", "#a56ccf", "#8c7a4f",
];

/// A plot that grows.
#[derive(Debug)]
pub(super) struct Plot {
    body: String,
    width: f64,
    height: f64,
}

impl Plot {
    /// An empty one, this wide.
    pub(super) fn new(width: f64) -> Self {
        Self {
            body: String::new(),
            width,
            height: 0.0,
        }
    }

    /// Words that begin at a point, or end there.
    pub(super) fn text(&mut self, x: f64, y: f64, anchor: Anchor, class: &str, words: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let words = escape(words);
        self.add(&format!(
            r#"<text class="{class}" x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{words}</text>"#
        ));
        self.grow(y + 6.0);
    }

    /// A filled rectangle. Its words appear where the pointer rests.
    pub(super) fn bar(&mut self, at: [f64; 2], size: [f64; 2], colour: &str, words: &str) {
        let ([x, y], [width, height]) = (at, size);
        let words = escape(words);
        self.add(&format!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill="{colour}"><title>{words}</title></rect>"#
        ));
        self.grow(y + height);
    }

    /// A thin line.
    pub(super) fn line(&mut self, from: [f64; 2], to: [f64; 2]) {
        let ([x1, y1], [x2, y2]) = (from, to);
        self.add(&format!(
            r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#
        ));
        self.grow(y1.max(y2));
    }

    /// A small dot.
    pub(super) fn dot(&mut self, x: f64, y: f64, colour: &str) {
        self.add(&format!(
            r#"<circle cx="{x:.1}" cy="{y:.1}" r="1.4" fill="{colour}" fill-opacity="0.45"/>"#
        ));
        self.grow(y);
    }

    /// A line through many points.
    pub(super) fn curve(&mut self, points: &[[f64; 2]], colour: &str) {
        let points: Vec<String> = points
            .iter()
            .map(|[x, y]| format!("{x:.1},{y:.1}"))
            .collect();
        self.add(&format!(
            r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2.2"/>"#,
            points.join(" ")
        ));
    }

    /// The whole file.
    pub(super) fn finish(self) -> String {
        let (width, height) = (self.width, self.height + 10.0);
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0} {height:.0}" width="{width:.0}" height="{height:.0}" role="img">
<style>text{{font:13px system-ui,-apple-system,"Segoe UI",sans-serif;fill:{INK}}}.title{{font-weight:600;font-size:15px}}.what{{font-weight:600}}.small{{font-size:11.5px}}line{{stroke:{INK};stroke-width:1.3}}</style>
{}</svg>
"#,
            self.body
        )
    }

    fn add(&mut self, element: &str) {
        writeln!(self.body, "{element}").expect("a string takes all that is written to it");
    }

    fn grow(&mut self, to: f64) {
        self.height = self.height.max(to);
    }
}

/// Where words lie beside their point.
#[derive(Clone, Copy, Debug)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

fn escape(words: &str) -> String {
    words
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_escaped_and_the_plot_grows() {
        let mut plot = Plot::new(100.0);
        plot.text(1.0, 40.0, Anchor::Start, "what", "a < b & c");
        let text = plot.finish();
        assert!(text.contains("a &lt; b &amp; c"), "{text}");
        assert!(text.contains(r#"viewBox="0 0 100 56""#), "{text}");
    }
}
