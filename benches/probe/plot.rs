//! A plot of bars on a logarithmic scale, readable on light and on dark pages.

use std::fmt::Write as _;

/// One bar.
pub(crate) struct Bar {
    pub(crate) name: &'static str,
    pub(crate) value: f64,
    /// Ours has the strong colour.
    pub(crate) ours: bool,
}

/// Bars that share a scale.
pub(crate) struct Group {
    pub(crate) title: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) bars: Vec<Bar>,
}

const WIDTH: f64 = 760.0;
const LEFT: f64 = 150.0;
const RIGHT: f64 = 90.0;
const BAR: f64 = 16.0;
const STEP: f64 = 22.0;
const HEAD: f64 = 30.0;

/// The whole picture.
pub(crate) fn svg(groups: &[Group]) -> String {
    let mut body = String::new();
    let mut y = 4.0;
    for group in groups {
        let most = group.bars.iter().map(|bar| bar.value).fold(10.0, f64::max).log10().ceil();
        writeln!(
            body,
            "<text class=\"title\" x=\"0\" y=\"{:.0}\">{} ({}, logarithmic)</text>",
            y + 14.0,
            group.title,
            group.unit
        )
        .unwrap();
        let top = y + HEAD - 6.0;
        let bottom = top + STEP * f64::from(u32::try_from(group.bars.len()).unwrap());
        let scale = (WIDTH - LEFT - RIGHT) / most;
        let mut decade = 0.0;
        while decade <= most {
            let x = LEFT + decade * scale;
            writeln!(body, "<path class=\"grid\" d=\"M{x:.0} {top:.0}V{bottom:.0}\"/>").unwrap();
            let number = 10_f64.powf(decade);
            writeln!(body, "<text class=\"scale\" x=\"{x:.0}\" y=\"{:.0}\">{number}</text>", bottom + 11.0).unwrap();
            decade += 1.0;
        }
        for (at, bar) in (0_u32..).zip(&group.bars) {
            let y = top + STEP * f64::from(at) + (STEP - BAR) / 2.0;
            let width = bar.value.max(1.1).log10() * scale;
            let class = if bar.ours { "ours" } else { "theirs" };
            let text = if bar.value < 100.0 { format!("{:.1}", bar.value) } else { format!("{:.0}", bar.value) };
            let (name, middle, end) = (bar.name, y + BAR - 4.0, LEFT + width + 6.0);
            writeln!(body, "<text class=\"name\" x=\"{:.0}\" y=\"{middle:.0}\">{name}</text>", LEFT - 8.0).unwrap();
            writeln!(body, "<rect class=\"{class}\" x=\"{LEFT}\" y=\"{y:.0}\" width=\"{width:.1}\" height=\"{BAR}\"/>")
                .unwrap();
            writeln!(body, "<text class=\"value\" x=\"{end:.0}\" y=\"{middle:.0}\">{text} {}</text>", group.unit)
                .unwrap();
        }
        y = bottom + 30.0;
    }
    // Colours that have contrast enough on white and on near black: nobody tells a picture which page it is on.
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y:.0}\" width=\"{WIDTH}\" height=\"{y:.0}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<style>text{{fill:#7a828c}}.title{{font-weight:bold;font-size:13px}}\
         .name{{text-anchor:end}}.scale{{text-anchor:middle;font-size:10px}}.value{{font-weight:bold}}.ours{{fill:#2f81f7}}\
         .theirs{{fill:#c77d2b}}.grid{{stroke:#7a828c;stroke-opacity:.35}}</style>\n{body}</svg>\n"
    )
}
