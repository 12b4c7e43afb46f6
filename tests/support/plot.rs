//! Plots of bars on a logarithmic scale, readable on light and on dark pages, drawn from the figures in the pages: a
//! picture says what its page says.

#![allow(dead_code, reason = "each bench draws its part")]
#![allow(clippy::unwrap_used, reason = "a helper that fails ends the benchmark")]

use std::fmt::Write as _;

/// A picture of cells of one table of figures.
struct Picture {
    /// Its file in docs, without the ending.
    name: &'static str,
    /// The name of the figures.
    figures: &'static str,
    groups: &'static [Cells],
}

/// Bars that share a scale: a title, the unit, how many of it are one of the table's, and the cells.
type Cells = (&'static str, &'static str, f64, &'static [Cell]);

/// A name, the cell (how its row begins, and the column, from 0), and whether it is ours.
type Cell = (&'static str, &'static str, usize, bool);

const PICTURES: &[Picture] = &[
    Picture {
        name: "start-cost",
        figures: "start",
        groups: &[
            (
                "From the first instruction to the role",
                "ms",
                1.0,
                &[
                    ("kube-airflow-init", "kube-airflow-init:", 1, true),
                    ("Airflow's two checks", "`airflow db check`", 1, false),
                ],
            ),
            (
                "CPU of it",
                "ms",
                1.0,
                &[
                    ("kube-airflow-init", "kube-airflow-init:", 2, true),
                    ("Airflow's two checks", "`airflow db check`", 2, false),
                ],
            ),
        ],
    },
    Picture {
        name: "init-cost",
        figures: "init",
        groups: &[
            (
                "Until the command begins",
                "µs",
                1000.0,
                &[
                    ("kube-airflow-init", "kube-airflow-init ", 1, true),
                    ("tini", "tini ", 1, false),
                    ("tini-static", "tini-static", 1, false),
                    ("dumb-init", "dumb-init", 1, false),
                    ("catatonit", "catatonit", 1, false),
                ],
            ),
            (
                "Idle memory (PSS)",
                "KiB",
                1.0,
                &[
                    ("kube-airflow-init", "kube-airflow-init ", 7, true),
                    ("tini", "tini ", 7, false),
                    ("tini-static", "tini-static", 7, false),
                    ("dumb-init", "dumb-init", 7, false),
                    ("catatonit", "catatonit", 7, false),
                ],
            ),
        ],
    },
    Picture {
        name: "git-cost",
        figures: "git",
        groups: &[
            (
                "CPU of a quiet pass, 1000 files",
                "ms",
                1.0,
                &[("kube-airflow-init", "1000 quiet", 3, true), ("git commands of v4", "1000 quiet", 7, false)],
            ),
            (
                "CPU of a pass with one changed file",
                "ms",
                1.0,
                &[
                    ("kube-airflow-init", "1000 one file changed", 3, true),
                    ("git commands of v4", "1000 one file changed", 7, false),
                ],
            ),
            (
                "CPU of the first pass",
                "ms",
                1.0,
                &[("kube-airflow-init", "1000 first", 3, true), ("git commands of v4", "1000 first", 7, false)],
            ),
        ],
    },
    Picture {
        name: "groom-cost",
        figures: "groom",
        groups: &[
            (
                "CPU of grooming 10000 files",
                "ms",
                1.0,
                &[
                    ("by age", "ours, by age ", 2, true),
                    ("find -delete", "`find -delete`", 2, false),
                    ("by age and size", "ours, by age and size", 2, true),
                    ("find, sort, awk, rm", "`find`, `sort`", 2, false),
                ],
            ),
            (
                "memory of it",
                "KiB",
                1024.0,
                &[
                    ("by age", "ours, by age ", 3, true),
                    ("find -delete", "`find -delete`", 3, false),
                    ("by age and size", "ours, by age and size", 3, true),
                    ("find, sort, awk, rm", "`find`, `sort`", 3, false),
                ],
            ),
        ],
    },
];

/// Name and content of every picture; `block` gives the figures of a name.
pub(crate) fn pictures(block: impl Fn(&str) -> String) -> Vec<(String, String)> {
    let picture = |picture: &Picture| {
        let figures = block(picture.figures);
        let rows: Vec<Vec<&str>> = figures
            .lines()
            .filter(|line| line.starts_with('|'))
            .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
            .skip(2)
            .collect();
        let find = |begin: &str| rows.iter().find(|row| format!("{} ", row.join(" ")).starts_with(begin));
        let group = |(title, unit, times, cells): &Cells| {
            // Who was not there to be measured has no bar.
            let bar = |(name, begin, column, ours): &Cell| {
                let value: f64 = find(begin)?[*column].split(' ').next().unwrap().parse().unwrap();
                Some(Bar { name, value: value * times, ours: *ours })
            };
            Group { title, unit, bars: cells.iter().filter_map(bar).collect() }
        };
        (format!("{}.svg", picture.name), svg(&picture.groups.iter().map(group).collect::<Vec<_>>()))
    };
    PICTURES.iter().map(picture).collect()
}

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
