//! The page: what each part cost, and what that is for ten pods and for thousands.

use crate::page;
use crate::pods::{LIVENESS, READINESS};
use crate::servers::NAMES;
use crate::{CHART, OUTAGE, Part, Return};
use std::fmt::Write as _;
use std::time::Duration;

/// How many pods the page tells of.
const PODS: [f64; 4] = [10.0, 200.0, 1000.0, 5000.0];

pub(crate) fn report(parts: &[Part], back: &Return, count: usize, time: Duration) -> String {
    let page = text(parts, back, count, time);
    let blocks = page.trim_end().split("\n\n");
    blocks.map(page::wrapped).collect::<Vec<_>>().join("\n\n") + "\n"
}

fn text(parts: &[Part], back: &Return, count: usize, time: Duration) -> String {
    #[allow(clippy::cast_precision_loss, reason = "hundreds")]
    let pods = count as f64;
    let mut out = format!(
        "# What many pods cost\n\nWritten by `make bench`: {count} pods of a kind at a time, each a real init with a role that \
         sleeps, its heartbeat or its\nmailbox made by hand, and real probes for {} s after {READINESS} s of running in. Liveness \
         every {LIVENESS} s and readiness every\n{READINESS} s, as in [probes.md](probes.md); beside them what the commands of the \
         official chart say to the servers every\n{CHART} s, by the same libraries. What the servers use without pods is taken \
         off, and from Redis what its workers ask for while nobody probes them. The figures are for a thousand pods, by\nthe slope that was measured; those of schedulers include the sidecar that \
         watches the heartbeat. *Nothing kept* is what\na probe costs that asks by itself, as one does that finds nobody to ask. \
         TLS sessions are not resumed: a probe is a process of \
         its own, and rustls keeps sessions in memory only;\na connection that is kept needs none.\n\n\
         | a thousand | CPU of Postgres | CPU of RabbitMQ | CPU of Redis | new connections a second: Postgres | RabbitMQ | Redis | p99 of a \
         probe |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n",
        time.as_secs()
    );
    for part in parts {
        let [cpu, opened] =
            [part.used.cpu, part.used.opened].map(|rates| rates.map(|rate| rate.max(0.0) / pods * 1000.0));
        let p99 = p99(&part.walls).map_or_else(|| "-".to_owned(), |seconds| format!("{:.0} ms", seconds * 1000.0));
        write!(out, "| {} |", part.name).unwrap();
        for cores in cpu {
            write!(out, " {cores:.2} cores |").unwrap();
        }
        for opened in opened {
            write!(out, " {opened:.0} |").unwrap();
        }
        writeln!(out, " {p99} |").unwrap();
    }
    let kept = parts[0].memory / pods;
    if let Some((part, cores)) = parts.iter().find_map(|part| Some((part, part.pooler?))) {
        let cores = cores / pods * 1000.0;
        writeln!(out, "\n*{}*: in transaction mode; it used {cores:.2} cores itself.", part.name).unwrap();
    }
    writeln!(
        out,
        "\nA connection that is kept costs Postgres {kept:.1} MiB of memory (PSS). p99 is that of a machine which runs pods, \
         probes and\nservers on two cores.\n\n## Against the chart\n\n| | ours | chart | |\n| --- | --- | --- | --- |"
    )
    .unwrap();
    for (what, ours, theirs, server) in [("schedulers", 0, 2, 0), ("workers", 3, 5, 1), ("workers", 7, 8, 2)] {
        if theirs >= parts.len() {
            continue;
        }
        for (unit, of) in [("cores", 0), ("new connections a second", 1)] {
            let of = |part: &Part| [part.used.cpu, part.used.opened][of][server].max(0.0) / pods * 1000.0;
            let [ours, theirs] = [of(&parts[ours]), of(&parts[theirs])];
            let verdict = if ours <= theirs { "met" } else { "missed" };
            writeln!(out, "| a thousand {what}: {} {unit} | {ours:.2} | {theirs:.2} | {verdict} |", NAMES[server])
                .unwrap();
        }
    }
    out += "\n## By the number of pods\n\nCores, and new connections a second, of the server that a role's probes ask most.\n\n| |";
    for pods in PODS {
        write!(out, " {pods} pods |").unwrap();
    }
    out += "\n| --- | --- | --- | --- | --- |\n";
    for part in parts {
        let server = if part.name.contains("Redis") { 2 } else { usize::from(part.name.starts_with("workers")) };
        write!(out, "| {}, {} |", part.name, NAMES[server]).unwrap();
        for many in PODS {
            let of = |rates: [f64; 3]| rates[server].max(0.0) / pods * many;
            write!(out, " {:.3} cores, {:.1}/s |", of(part.used.cpu), of(part.used.opened)).unwrap();
        }
        out.push('\n');
    }
    let (peak, all) = (back.opened.iter().max().unwrap(), back.opened.iter().sum::<usize>());
    writeln!(
        out,
        "\n## An outage, and all at once\n\nPostgres was away for {} s, and {count} pods were started in that time. They wait with pauses of \
         up to 2 s, each shortened by a\nrandom part of up to a half. From its return on it was asked for {all} connections in 30 s, at \
         most {peak} of them in one second\n({:.1} for each pod); after {:.0} s every role ran. The first seconds: {}.\n\nProbes do not \
         gather either: each goes on at its own times, and an outage that was noticed makes liveness ask each time,\nwhich is {:.0} \
         connections a second for a thousand pods.",
        OUTAGE.as_secs(),
        f64::from(u32::try_from(*peak).unwrap()) / pods,
        back.running,
        back.opened.iter().take(8).map(ToString::to_string).collect::<Vec<_>>().join(", "),
        1000.0 / LIVENESS + 1000.0 / READINESS,
    )
    .unwrap();
    out
}

fn p99(walls: &[f64]) -> Option<f64> {
    let mut sorted = walls.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() * 99 / 100).copied()
}
