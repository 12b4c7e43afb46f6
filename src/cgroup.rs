//! The memory cgroup that this process is in, of either version: what it holds, what it may hold, and how often the
//! kernel has killed in it. The files are those of Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Where the kernel shows the groups.
const ROOT: &str = "/sys/fs/cgroup";
/// What the counters of one group take.
const SMALL: usize = 4096;

/// Which files a group has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    V1,
    V2,
}

/// A memory cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    kind: Kind,
    folder: PathBuf,
    /// The highest folder that may have a limit of its own.
    top: PathBuf,
}

/// How often something has happened since the group was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// Processes of the group that the kernel killed for want of memory, whoever's limit it was.
    pub kills: u64,
    /// How often the group was at its own limit.
    pub at_limit: u64,
}

/// What the group holds, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// All of it.
    pub used: u64,
    /// The most that it ever was, where the kernel says so (v2: from 5.19 on).
    pub peak: Option<u64>,
    /// The lowest limit of the group and of those above it that can be seen.
    pub limit: Option<u64>,
    /// Memory of processes that is no file's: nothing but swap or their end gives it back.
    pub anon: u64,
    /// The page cache, shared memory and tmpfs included.
    pub file: u64,
    /// The part of [`Self::file`] that is shared memory and tmpfs: it cannot be dropped.
    pub shared: u64,
    /// What the kernel keeps for the group, [`Self::slab`] included.
    pub kernel: u64,
    /// Its objects, such as names and attributes of files; v1 does not say it apart.
    pub slab: Option<u64>,
    /// The part of it that the kernel gives back when it needs to.
    pub slab_reclaimable: u64,
    /// What was swapped out.
    pub swap: u64,
    /// Seconds in which some, and in which all, processes of the group waited for memory (PSI; v2 only).
    pub pressure: Option<(f64, f64)>,
}

impl Usage {
    /// What the kernel cannot take back before it kills.
    pub fn held(&self) -> u64 {
        (self.anon + self.shared + self.kernel).saturating_sub(self.slab_reclaimable)
    }

    /// A part of the limit, from 0 to 1; nothing without a limit.
    #[allow(clippy::cast_precision_loss, reason = "no machine has 2^53 bytes")]
    pub fn share(&self, part: u64) -> Option<f64> {
        self.limit.filter(|limit| *limit > 0).map(|limit| part as f64 / limit as f64)
    }
}

impl Group {
    /// The group of this process, if it has one whose files are there.
    pub fn own() -> Option<Self> {
        Self::find(Path::new(ROOT), &read("/proc/self/cgroup"))
    }

    /// With v1 and v2 side by side, memory belongs to one of them.
    fn find(root: &Path, groups: &str) -> Option<Self> {
        let v1 = path_of(groups, "memory").map(|path| (Kind::V1, root.join("memory"), path, "memory.oom_control"));
        let v2 = path_of(groups, "").map(|path| (Kind::V2, root.to_owned(), path, "memory.events"));
        v1.into_iter().chain(v2).find_map(|(kind, top, path, file)| {
            // Without a namespace of its own a container sees the path of the machine, and its own group at the top.
            let folder = Path::new(path.trim_start_matches('/')).ancestors().map(|part| top.join(part));
            let folder = folder.into_iter().find(|folder| folder.join(file).is_file())?;
            Some(Self { kind, folder, top })
        })
    }

    /// The file that a poll waits for; v1 has none that a container may use.
    pub fn notifies(&self) -> Option<PathBuf> {
        (self.kind == Kind::V2).then(|| self.folder.join("memory.events"))
    }

    /// The counters, from [`Self::notifies`] where it is open.
    pub fn events(&self, open: Option<&File>) -> Events {
        let text = open.map(read_again).unwrap_or_default();
        match self.kind {
            Kind::V2 if open.is_some() => events(&text),
            Kind::V2 => events(&read(self.folder.join("memory.events"))),
            Kind::V1 => Events {
                kills: field(&read(self.folder.join("memory.oom_control")), "oom_kill").unwrap_or_default(),
                at_limit: number(&read(self.folder.join("memory.failcnt"))).unwrap_or_default(),
            },
        }
    }

    /// The numbers of its processes, as far as they have one here. Other containers of a pod may share its processes.
    pub fn members(&self) -> Vec<i32> {
        read(self.folder.join("cgroup.procs"))
            .lines()
            .filter_map(|line| line.parse().ok())
            .filter(|pid| *pid > 0)
            .collect()
    }

    /// Whether the kernel kills every process of the group when it kills one (`memory.oom.group`): what the kubelet
    /// asks for from Kubernetes 1.28 on, unless it is told `singleProcessOOMKill`.
    pub fn dies_as_one(&self) -> bool {
        self.kind == Kind::V2 && number(&read(self.folder.join("memory.oom.group"))) == Some(1)
    }

    /// The lowest limit of this group and of those above it, if there is one below what any machine has.
    pub fn limit(&self) -> Option<u64> {
        let name = if self.kind == Kind::V2 { "memory.max" } else { "memory.limit_in_bytes" };
        let folders = self.folder.ancestors().take_while(|folder| folder.starts_with(&self.top));
        // v1 has a huge number for "none", v2 the word `max`.
        folders.filter_map(|folder| number(&read(folder.join(name)))).filter(|limit| *limit < 1 << 60).min()
    }

    /// What it holds now.
    pub fn usage(&self) -> Usage {
        let file = |name: &str| read(self.folder.join(name));
        let stat = file("memory.stat");
        let of = |name: &str| field(&stat, name).unwrap_or_default();
        let limit = self.limit();
        match self.kind {
            Kind::V2 => Usage {
                used: number(&file("memory.current")).unwrap_or_default(),
                peak: number(&file("memory.peak")),
                limit,
                anon: of("anon"),
                file: of("file"),
                shared: of("shmem"),
                // One number from 5.18 on.
                kernel: field(&stat, "kernel")
                    .unwrap_or_else(|| of("slab") + of("kernel_stack") + of("pagetables") + of("percpu")),
                slab: Some(of("slab")),
                slab_reclaimable: of("slab_reclaimable"),
                swap: number(&file("memory.swap.current")).unwrap_or_default(),
                pressure: pressure(&file("memory.pressure")),
            },
            Kind::V1 => Usage {
                used: number(&file("memory.usage_in_bytes")).unwrap_or_default(),
                peak: number(&file("memory.max_usage_in_bytes")),
                limit,
                anon: of("total_rss"),
                // Which counts shared memory, too.
                file: of("total_cache"),
                shared: of("total_shmem"),
                kernel: number(&file("memory.kmem.usage_in_bytes")).unwrap_or_default(),
                slab: None,
                slab_reclaimable: 0,
                swap: of("total_swap"),
                pressure: None,
            },
        }
    }
}

/// The path of the group with this controller; v2 has none named.
fn path_of<'a>(groups: &'a str, wanted: &str) -> Option<&'a str> {
    let mut lines = groups.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    lines.find(|(names, _)| names.split(',').any(|name| name == wanted)).map(|(_, path)| path)
}

fn events(text: &str) -> Events {
    let of = |name: &str| field(text, name).unwrap_or_default();
    Events { kills: of("oom_kill"), at_limit: of("max") }
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0` and the same of `full`; the totals are microseconds.
#[allow(clippy::cast_precision_loss, reason = "no machine waits for 2^53 microseconds")]
fn pressure(text: &str) -> Option<(f64, f64)> {
    let total = |kind: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
        let total: u64 = line.rsplit_once("total=")?.1.trim().parse().ok()?;
        Some(total as f64 / 1e6)
    };
    Some((total("some ")?, total("full ")?))
}

/// `NAME NUMBER` on a line of its own.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The text of an open file from its beginning: the kernel takes a read as the answer to what it has notified.
fn read_again(file: &File) -> String {
    let mut bytes = [0; SMALL];
    let length = file.read_at(&mut bytes, 0).unwrap_or_default();
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn put(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Recorded on Linux 6.18, a group with a limit of 600 MiB in which a process was killed.
    #[test]
    fn a_group_of_v1_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let group = "memory/pod/container";
        put(root, "memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n");
        put(root, "memory/memory.limit_in_bytes", "9223372036854771712\n");
        put(root, &format!("{group}/memory.oom_control"), "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n");
        put(root, &format!("{group}/memory.failcnt"), "17\n");
        put(root, &format!("{group}/memory.limit_in_bytes"), "629145600\n");
        put(root, &format!("{group}/memory.usage_in_bytes"), "104857600\n");
        put(root, &format!("{group}/memory.max_usage_in_bytes"), "629145600\n");
        put(root, &format!("{group}/memory.kmem.usage_in_bytes"), "4194304\n");
        let stat = "cache 1\nrss 2\nhierarchical_memory_limit 629145600\ntotal_cache 52428800\ntotal_rss 41943040\n\
                    total_shmem 1048576\ntotal_swap 0\n";
        put(root, &format!("{group}/memory.stat"), stat);
        let found = Group::find(root, "9:name=systemd:/\n4:memory:/pod/container\n0::/\n").unwrap();
        assert_eq!(found.events(None), Events { kills: 3, at_limit: 17 });
        let usage = found.usage();
        assert_eq!((usage.limit, usage.peak), (Some(600 * MIB), Some(600 * MIB)));
        assert_eq!((usage.anon, usage.file, usage.kernel), (40 * MIB, 50 * MIB, 4 * MIB));
        assert_eq!((usage.held(), usage.slab, usage.pressure), (45 * MIB, None, None));
        assert!(found.notifies().is_none() && !found.dies_as_one());
        // A container without a namespace of its own for groups sees its own at the top.
        let top = Group::find(root, "4:memory:/docker/0123\n").unwrap();
        assert_eq!((top.events(None).kills, top.limit()), (0, None));
    }

    /// Recorded in a container of containerd on Linux 6.1.
    #[test]
    fn a_group_of_v2_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        put(root, "memory.events", "low 0\nhigh 0\nmax 250\noom 4\noom_kill 2\noom_group_kill 0\n");
        put(root, "memory.max", "629145600\n");
        put(root, "memory.current", "524288000\n");
        put(root, "memory.peak", "629145600\n");
        put(root, "memory.oom.group", "1\n");
        put(root, "cgroup.procs", "1\n0\n17\n");
        put(root, "memory.swap.current", "0\n");
        let psi = "some avg10=0.00 avg60=0.10 avg300=0.02 total=1500000\n\
                   full avg10=0.00 avg60=0.00 avg300=0.00 total=250000\n";
        put(root, "memory.pressure", psi);
        let stat = "anon 104857600\nfile 314572800\nkernel 73400320\nkernel_stack 1048576\npagetables 1048576\nshmem \
                    10485760\nslab_reclaimable 52428800\nslab_unreclaimable 10485760\nslab 62914560\n";
        put(root, "memory.stat", stat);
        let found = Group::find(root, "0::/\n").unwrap();
        assert_eq!(found.events(None), Events { kills: 2, at_limit: 250 });
        let open = File::open(found.notifies().unwrap()).unwrap();
        assert_eq!(found.events(Some(&open)).kills, 2);
        put(root, "memory.events", "max 251\noom_kill 3\n");
        assert_eq!(found.events(Some(&open)), Events { kills: 3, at_limit: 251 }, "an open file is read anew");
        let usage = found.usage();
        assert_eq!((usage.used, usage.limit, usage.peak), (500 * MIB, Some(600 * MIB), Some(600 * MIB)));
        assert_eq!((usage.slab, usage.held()), (Some(60 * MIB), 130 * MIB));
        assert_eq!(usage.pressure, Some((1.5, 0.25)));
        assert!(found.dies_as_one());
        assert_eq!(found.members(), [1, 17], "one has no number here");
        assert_eq!(Group::find(root, "4:memory:/x\n"), None, "its files are not there");
    }

    #[test]
    fn the_lowest_limit_on_the_way_up_counts() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        put(root, "memory.max", "max\n");
        put(root, "a/memory.max", &format!("{}\n", 512 * MIB));
        put(root, "a/b/memory.max", "max\n");
        put(root, "a/b/memory.events", "oom_kill 0\n");
        let found = Group::find(root, "0::/a/b\n").unwrap();
        assert_eq!(found.limit(), Some(512 * MIB));
        put(root, "a/memory.max", "max\n");
        assert_eq!(found.limit(), None);
    }
}
