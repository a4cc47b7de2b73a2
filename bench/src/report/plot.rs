//! The plots of a scenario: bars with their spread, parts stacked to a whole, starts as a curve.

use crate::life::{START, STEPS};
use crate::measurement::{Measurement, Outcome, Summary, median, precise};

use super::svg::{Anchor, OTHERS, OURS, PARTS, Plot};
use super::{figure, groups, title};

const WIDTH: f64 = 760.0;
/// Where bars begin, and how far they may go; a label has its place behind.
const LEFT: f64 = 215.0;
const ROOM: f64 = 400.0;
const ROW: f64 = 26.0;
const BAR: f64 = 15.0;

/// Names and texts of a scenario's files.
pub(super) fn of(scenario: &str, outcome: &Outcome) -> Vec<(String, String)> {
    let mut files = Vec::new();
    if let Some(text) = bars(scenario, outcome) {
        files.push((format!("{scenario}.svg"), text));
    }
    if let Some(text) = stacked(scenario, outcome) {
        files.push((format!("{scenario}-steps.svg"), text));
    }
    if let Some(text) = curve(outcome) {
        files.push((format!("{scenario}-starts.svg"), text));
    }
    files
}

/// Every thing that was measured as a group of bars: medians, with the quartiles as a whisker.
fn bars(scenario: &str, outcome: &Outcome) -> Option<String> {
    let mut plot = Plot::new(WIDTH);
    plot.text(
        0.0,
        18.0,
        Anchor::Start,
        "title",
        title(scenario).trim_matches('`'),
    );
    let mut y = 30.0;
    let mut any = false;
    for (what, series) in groups(outcome) {
        let rows: Vec<(&Measurement, Summary)> = series
            .iter()
            .filter_map(|series| Some((*series, series.summary()?)))
            .collect();
        // A bar alone says less than its figure.
        let ([(first, _), _, ..], false) = (&rows[..], STEPS.contains(&what)) else {
            continue;
        };
        any = true;
        y += 18.0;
        let unit = first.unit.name();
        let heading = if unit.is_empty() {
            what.to_owned()
        } else {
            format!("{what}, {unit}")
        };
        plot.text(0.0, y, Anchor::Start, "what", &heading);
        y += 8.0;
        let most = rows
            .iter()
            .map(|(_, found)| found.upper.max(found.median))
            .fold(0.0, f64::max);
        let scale = if most > 0.0 { ROOM / most } else { 0.0 };
        for (series, found) in rows {
            row(&mut plot, y, series, &found, scale);
            y += ROW;
        }
    }
    any.then(|| plot.finish())
}

fn row(plot: &mut Plot, y: f64, series: &Measurement, found: &Summary, scale: f64) {
    let (middle, unit) = (y + BAR / 2.0, series.unit.name());
    let colour = if series.runtime.starts_with("skiff") {
        OURS
    } else {
        OTHERS
    };
    plot.text(LEFT - 8.0, middle + 4.5, Anchor::End, "", series.runtime);
    let words = format!(
        "{}: median {} {unit}, quartiles {} and {}, p99 {}, {} samples",
        series.runtime,
        figure(found.median),
        figure(found.lower),
        figure(found.upper),
        figure(found.p99),
        found.count
    );
    let width = (found.median * scale).max(1.0);
    plot.bar([LEFT, y], [width, BAR], colour, &words);
    let (low, high) = (LEFT + found.lower * scale, LEFT + found.upper * scale);
    if found.count > 1 {
        plot.line([low, middle], [high, middle]);
        for end in [low, high] {
            plot.line([end, middle - 4.0], [end, middle + 4.0]);
        }
    }
    let label = high.max(LEFT + width) + 8.0;
    plot.text(
        label,
        middle + 4.5,
        Anchor::Start,
        "",
        &format!("{} {unit}", figure(found.median)),
    );
}

/// The steps of each runtime's life, side by side to the whole.
fn stacked(scenario: &str, outcome: &Outcome) -> Option<String> {
    let steps: Vec<_> = groups(outcome)
        .into_iter()
        .filter(|(what, _)| STEPS.contains(what))
        .collect();
    let (_, runtimes) = steps.first()?;
    let part = |step: usize, runtime: &str| {
        let (_, series) = steps.get(step)?;
        let series = series.iter().find(|series| series.runtime == runtime)?;
        Some(median(&series.samples))
    };
    let whole = |runtime: &str| -> f64 {
        (0..steps.len())
            .filter_map(|step| part(step, runtime))
            .sum()
    };
    let most = runtimes
        .iter()
        .map(|series| whole(series.runtime))
        .fold(0.0, f64::max);
    let mut plot = Plot::new(WIDTH);
    let heading = format!("{}, step by step (medians, ms)", title(scenario));
    plot.text(0.0, 18.0, Anchor::Start, "title", &heading);
    let mut x = 0.0;
    for (number, (what, _)) in steps.iter().enumerate() {
        let name = what.trim_start_matches("step: ");
        plot.bar([x, 32.0], [12.0, 12.0], PARTS[number % PARTS.len()], name);
        plot.text(x + 17.0, 42.5, Anchor::Start, "", name);
        x += 32.0 + 7.4 * precise(name.len());
    }
    let mut y = 60.0;
    for series in runtimes {
        plot.text(
            LEFT - 8.0,
            y + BAR / 2.0 + 4.5,
            Anchor::End,
            "",
            series.runtime,
        );
        let mut x = LEFT;
        for (number, (what, _)) in steps.iter().enumerate() {
            let time = part(number, series.runtime).unwrap_or(0.0);
            let width = time * ROOM / most;
            let words = format!("{}: {} ms", what.trim_start_matches("step: "), figure(time));
            plot.bar([x, y], [width, BAR], PARTS[number % PARTS.len()], &words);
            x += width;
        }
        let words = format!("{} ms", figure(whole(series.runtime)));
        plot.text(x + 8.0, y + BAR / 2.0 + 4.5, Anchor::Start, "", &words);
        y += ROW;
    }
    Some(plot.finish())
}

/// The next figure that is easy to read.
fn round_up(value: f64) -> f64 {
    let unit = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    steps
        .into_iter()
        .map(|step| step * unit)
        .find(|step| *step >= value)
        .unwrap_or(value)
}

/// The starts of pods in their order: every one as a dot, and a running median.
fn curve(outcome: &Outcome) -> Option<String> {
    const HEIGHT: f64 = 240.0;
    const TOP: f64 = 40.0;
    const FROM: f64 = 50.0;
    let series = outcome
        .measurements
        .iter()
        .find(|series| series.what == START)?;
    let found = series.summary().filter(|found| found.count > 20)?;
    let most = round_up(found.p99 * 1.15);
    let place = |number: usize, time: f64| {
        let x = FROM + precise(number) / precise(found.count) * (WIDTH - FROM - 20.0);
        [x, TOP + HEIGHT * (1.0 - (time / most).min(1.0))]
    };
    let mut plot = Plot::new(WIDTH);
    let heading = format!(
        "Start of each of {} pods that stay alive, ms ({})",
        found.count, series.runtime
    );
    plot.text(0.0, 18.0, Anchor::Start, "title", &heading);
    let window = found.count / 20;
    let mut middle = Vec::new();
    for (number, time) in series.samples.iter().enumerate() {
        let [x, y] = place(number, *time);
        plot.dot(x, y, OURS);
        let from = number.saturating_sub(window);
        let near = series
            .samples
            .get(from..(number + window).min(found.count))?;
        middle.push(place(number, median(near)));
    }
    plot.curve(&middle, PARTS[3]);
    let bottom = TOP + HEIGHT;
    plot.line([FROM, TOP], [FROM, bottom]);
    plot.line([FROM, bottom], [WIDTH - 20.0, bottom]);
    for share in [0.0, 0.5, 1.0] {
        let [_, y] = place(0, most * share);
        plot.text(
            FROM - 6.0,
            y + 4.0,
            Anchor::End,
            "small",
            &figure(most * share),
        );
        let [x, _] = place(0, 0.0);
        let at = x + share * (WIDTH - FROM - 20.0);
        let label = format!("{:.0}", precise(found.count) * share);
        plot.text(at, bottom + 18.0, Anchor::Middle, "small", &label);
    }
    plot.text(
        WIDTH - 20.0,
        TOP - 6.0,
        Anchor::End,
        "small",
        "dots: each start; line: running median",
    );
    Some(plot.finish())
}
