//! Where the memory of the container is, with the sentence that answers "is this a leak?".

use super::finding::Finding;
use crate::cgroup::Usage;
use crate::status::Memory;

const MIB: u64 = 1024 * 1024;
/// The part of the limit from which on it matters what the memory is.
const NEAR: f64 = 0.9;

/// What the memory is, and what that means.
pub(super) fn held(usage: &Usage) -> Finding {
    let mib = |bytes: u64| bytes / MIB;
    let of = usage.limit.map_or_else(String::new, |limit| format!(" of {}", mib(limit)));
    let peak = usage.peak.map_or_else(String::new, |peak| format!(", at most {}", mib(peak)));
    let slab = usage.slab.map_or_else(String::new, |slab| format!(" ({} of them slab)", mib(slab)));
    let swap = if usage.swap > 0 { format!(", and {} are swapped out", mib(usage.swap)) } else { String::new() };
    let is = format!(
        "{}{of} MiB are used{peak}: processes {} (anon), page cache {} (file), the kernel {}{slab}{swap}",
        mib(usage.used),
        mib(usage.anon),
        mib(usage.file),
        mib(usage.kernel)
    );
    let held = usage.held();
    let given_back = usage.used.saturating_sub(held);
    let share = |part| usage.share(part).unwrap_or_default();
    if share(held) >= NEAR {
        return Finding::warning(
            "held",
            format!(
                "{is}; the kernel can take back no more than {} MiB of it, and kills a process next",
                mib(given_back)
            ),
            "raise the limit, or run fewer tasks at once; if anon grows from day to day with the same work, it is a \
             leak, and the largest processes in the log say whose",
        );
    }
    if share(usage.used) >= NEAR {
        let why = "this is no leak: what is near the limit is page cache and names of files";
        return Finding::ok(
            "held",
            format!("{is}; {why}, and the kernel takes {} MiB back before it kills", mib(given_back)),
        );
    }
    Finding::ok("held", format!("{is}; a leak is anon that grows from day to day with the same work, and nothing else"))
}

/// Who has been killed in the life of this init.
pub(super) fn killed(record: &Memory) -> Option<Finding> {
    let [tasks, roles, others] = record.kills;
    let count = tasks + roles + others;
    (count > 0).then(|| {
        let is =
            format!("the kernel has killed {count} processes of this container for want of memory, {tasks} of tasks");
        Finding::warning("killed", is, "the lines `out of memory:` in the log say which and why")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;

    fn usage(anon: u64, file: u64, slab: u64) -> Usage {
        Usage {
            used: (anon + file + slab) * MIB,
            limit: Some(600 * MIB),
            anon: anon * MIB,
            file: file * MIB,
            kernel: slab * MIB,
            slab: Some(slab * MIB),
            slab_reclaimable: slab * MIB,
            ..Usage::default()
        }
    }

    #[test]
    fn a_leak_is_told_from_page_cache_and_slab() {
        for (usage, level, told) in [
            (usage(570, 20, 5), Level::Warning, "can take back no more than 25 MiB"),
            (usage(60, 500, 30), Level::Ok, "this is no leak"),
            (usage(60, 30, 500), Level::Ok, "the kernel takes 530 MiB back before it kills"),
            (usage(200, 100, 10), Level::Ok, "a leak is anon that grows"),
        ] {
            let finding = held(&usage);
            assert!(finding.level == level && finding.text.contains(told), "{finding:?}");
        }
        let unlimited = held(&Usage { limit: None, ..usage(570, 20, 5) });
        assert!(unlimited.level == Level::Ok && unlimited.text.starts_with("595 MiB are used: "), "{unlimited:?}");
    }

    #[test]
    fn who_was_killed_is_counted() {
        assert_eq!(killed(&Memory::default()), None);
        let told = killed(&Memory { kills: [2, 1, 0], warnings: 0 }).unwrap().text;
        assert!(told.contains("killed 3 processes") && told.ends_with("2 of tasks"), "{told}");
    }
}
