//! The guest's processes, from its own `/proc`.

use std::fs;
use std::ops::Range;
use std::path::Path;

use crate::{Error, read_text};

/// One process (thread group), kernel threads and zombies included.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Process {
    /// Process number in the first pid namespace.
    pub pid: u32,
    /// The parent's, 0 for those without.
    pub ppid: u32,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// The name of its first thread (`comm`), at most 15 bytes, escapes as they are.
    pub name: Vec<u8>,
    /// State letter at the time of the last look, which changes all the time except for `Z`.
    pub state: char,
    /// Start time in clock ticks (10 ms) after boot.
    pub start_time: u64,
    /// Whether it is a kernel thread (`PF_KTHREAD`).
    pub kernel_thread: bool,
    /// Arguments.
    pub cmdline: Vec<Vec<u8>>,
    /// Path of the executable, empty for kernel threads and zombies.
    pub exe: String,
    /// Threads by number.
    pub threads: Vec<Thread>,
    /// `/proc/PID/maps`, empty where there is no address space.
    pub vmas: Vec<Vma>,
    /// Pages that are present or swapped out.
    pub pages: Vec<PageRun>,
}

/// One thread.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Thread {
    /// Thread number.
    pub tid: u32,
    /// Its name. The kernel shows a worker's as `kworker/0:1-events`: what is behind the `-` or `+`
    /// is what it did last and not part of the name in memory.
    pub name: Vec<u8>,
}

/// One line of `/proc/PID/maps`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vma {
    /// Virtual addresses.
    pub range: Range<u64>,
    /// Four letters: `r-xp`.
    pub prot: String,
    /// Offset in the file.
    pub offset: u64,
    /// Device, `00:02`.
    pub device: String,
    /// Inode, 0 when there is no file.
    pub inode: u64,
    /// Path or `[name]`, may be empty.
    pub path: String,
}

/// A run of pages with consecutive frames (or swap offsets).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageRun {
    /// First virtual address.
    pub va: u64,
    /// Number of 4 KiB pages.
    pub count: u64,
    /// Where they are.
    pub page: Page,
}

/// Where a page is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Page {
    /// In memory.
    Present {
        /// Physical address of the run's first frame.
        gpa: u64,
        /// Whether it is a page of a file or of shared memory.
        file: bool,
    },
    /// In swap.
    Swapped {
        /// Number of the swap area.
        area: u32,
        /// Page number in it, of the run's first page.
        offset: u64,
    },
}

impl Process {
    /// `PF_KTHREAD`, from the kernel's `include/linux/sched.h`.
    const PF_KTHREAD: u64 = 0x0020_0000;

    pub(crate) fn load_all(proc: &Path) -> Result<Vec<Self>, Error> {
        let mut pids: Vec<u32> = fs::read_dir(proc)
            .map_err(|error| Error::new(proc, error))?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        pids.sort_unstable();
        pids.into_iter()
            .map(|pid| Self::load(&proc.join(pid.to_string()), pid))
            .collect()
    }

    fn load(dir: &Path, pid: u32) -> Result<Self, Error> {
        let bytes = |name: &str| {
            let path = dir.join(name);
            fs::read(&path).map_err(|error| Error::new(&path, error))
        };
        let stat_path = dir.join("stat");
        let stat = bytes("stat")?;
        let stat = Stat::parse(&stat)
            .ok_or_else(|| Error::new(&stat_path, "not the form of /proc/PID/stat"))?;
        let status = read_text(&dir.join("status"))?;
        let id = |key: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(key)?.split_whitespace().next())
                .and_then(|id| id.parse().ok())
                .ok_or_else(|| Error::new(&dir.join("status"), format!("no {key}")))
        };
        let cmdline = bytes("cmdline")?;
        let cmdline = cmdline.strip_suffix(&[0]).unwrap_or(&cmdline);
        let maps_path = dir.join("maps");
        let pages_path = dir.join("pages");
        Ok(Self {
            pid,
            ppid: stat.ppid,
            uid: id("Uid:")?,
            gid: id("Gid:")?,
            name: stat.name,
            state: stat.state,
            start_time: stat.start_time,
            kernel_thread: stat.flags & Self::PF_KTHREAD != 0,
            cmdline: if cmdline.is_empty() {
                Vec::new()
            } else {
                cmdline
                    .split(|&byte| byte == 0)
                    .map(<[u8]>::to_vec)
                    .collect()
            },
            exe: read_text(&dir.join("exe")).unwrap_or_default(),
            threads: Self::load_threads(&dir.join("task"))?,
            vmas: read_text(&maps_path)?
                .lines()
                .map(|line| {
                    Vma::parse(line).ok_or_else(|| Error::new(&maps_path, format!("line {line:?}")))
                })
                .collect::<Result<_, _>>()?,
            pages: read_text(&pages_path)?
                .lines()
                .map(|line| {
                    PageRun::parse(line)
                        .ok_or_else(|| Error::new(&pages_path, format!("line {line:?}")))
                })
                .collect::<Result<_, _>>()?,
        })
    }

    fn load_threads(task: &Path) -> Result<Vec<Thread>, Error> {
        let mut threads = Vec::new();
        for entry in fs::read_dir(task).map_err(|error| Error::new(task, error))? {
            let entry = entry.map_err(|error| Error::new(task, error))?;
            let path = entry.path().join("comm");
            let mut name = fs::read(&path).map_err(|error| Error::new(&path, error))?;
            name.pop_if(|last| *last == b'\n');
            let tid = entry
                .file_name()
                .to_str()
                .and_then(|tid| tid.parse().ok())
                .ok_or_else(|| Error::new(task, "an entry that is not a number"))?;
            threads.push(Thread { tid, name });
        }
        threads.sort_unstable_by_key(|thread| thread.tid);
        Ok(threads)
    }
}

/// What is needed of `/proc/PID/stat`.
struct Stat {
    name: Vec<u8>,
    state: char,
    ppid: u32,
    flags: u64,
    start_time: u64,
}

impl Stat {
    /// `PID (NAME) STATE PPID ...`. The name may hold blanks, brackets and line ends, so it goes from
    /// the first opening to the last closing bracket.
    fn parse(text: &[u8]) -> Option<Self> {
        let open = text.iter().position(|&byte| byte == b'(')?;
        let close = text.iter().rposition(|&byte| byte == b')')?;
        let rest = std::str::from_utf8(text.get(close + 1..)?).ok()?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // Numbers of fields as in proc(5), less the three before.
        let field = |number: usize| fields.get(number - 3);
        Some(Self {
            name: text.get(open + 1..close)?.to_vec(),
            state: field(3)?.chars().next()?,
            ppid: field(4)?.parse().ok()?,
            flags: field(9)?.parse().ok()?,
            start_time: field(22)?.parse().ok()?,
        })
    }
}

impl Vma {
    fn parse(line: &str) -> Option<Self> {
        // The path is behind blanks that align it, and may itself hold blanks.
        let mut fields = line.splitn(6, ' ');
        let (start, end) = fields.next()?.split_once('-')?;
        let hex = |text| u64::from_str_radix(text, 16).ok();
        Some(Self {
            range: hex(start)?..hex(end)?,
            prot: fields.next()?.to_owned(),
            offset: hex(fields.next()?)?,
            device: fields.next()?.to_owned(),
            inode: fields.next()?.parse().ok()?,
            path: fields.next().unwrap_or_default().trim_start().to_owned(),
        })
    }
}

impl PageRun {
    /// A line as `witness.cpp` writes it: `VA COUNT P FRAME [f]` or `VA COUNT S AREA OFFSET`.
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split(' ').collect();
        let hex = |text| u64::from_str_radix(text, 16).ok();
        let page = match *fields.get(2..)? {
            ["P", frame] => Page::Present {
                gpa: hex(frame)? << 12,
                file: false,
            },
            ["P", frame, "f"] => Page::Present {
                gpa: hex(frame)? << 12,
                file: true,
            },
            ["S", area, offset] => Page::Swapped {
                area: u32::from_str_radix(area, 16).ok()?,
                offset: hex(offset)?,
            },
            _ => return None,
        };
        Some(Self {
            va: hex(fields[0])?,
            count: hex(fields[1])?,
            page,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_hold_anything() {
        let text = b"101 (x) R \x1b[31m\n() S 1 95 0 0 -1 4194560 40 0 0 0 1 2 0 0 20 0 1 0 388 \
                     802816 34 0\n";
        let stat = Stat::parse(text).expect("valid");
        assert_eq!(stat.name, b"x) R \x1b[31m\n(");
        assert_eq!((stat.state, stat.ppid, stat.start_time), ('S', 1, 388));
    }

    #[test]
    fn paths_may_hold_blanks() {
        let vma = Vma::parse(
            "7f650a8da000-7f650a8ea000 r--s 00000000 00:02 1234                       /lab/out/mapped file.bin (deleted)",
        )
        .expect("valid");
        assert_eq!(vma.path, "/lab/out/mapped file.bin (deleted)");
        assert_eq!(vma.range.end - vma.range.start, 0x10000);
        let vma = Vma::parse("0c4c9000-0c4eb000 rw-p 00000000 00:00 0 ").expect("valid");
        assert_eq!(vma.path, "");
    }

    #[test]
    fn page_runs() {
        assert_eq!(
            PageRun::parse("400000 1a P 690c f"),
            Some(PageRun {
                va: 0x40_0000,
                count: 0x1a,
                page: Page::Present {
                    gpa: 0x690_c000,
                    file: true
                }
            })
        );
        assert_eq!(
            PageRun::parse("7f158b66c000 100 S 0 200").map(|run| run.page),
            Some(Page::Swapped {
                area: 0,
                offset: 0x200
            })
        );
        assert_eq!(PageRun::parse("400000 1 X 1"), None);
    }
}
