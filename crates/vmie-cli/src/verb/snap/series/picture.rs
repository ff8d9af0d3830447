//! `--html`: a picture of a series, region by snapshot, as a page that needs nothing else: no script, no font, no
//! other file.

use std::fmt::Write as _;
use std::time::Duration;

use vmie::Address;
use vmie::snapshot::series::{History, RegionHistory, Step};

use super::super::args::Groups;
use super::{Looking, total};
use crate::saved;
use crate::size;

/// Regions drawn, those that changed most.
const ROWS: usize = 200;
/// Columns drawn: of more steps, several are summed up in one.
const COLUMNS: usize = 360;

// Pixels.
const LABEL: usize = 440;
const ROW: usize = 18;
const HEAD: usize = 112;
const BAR: usize = 56;
const WIDE: usize = 900;
const SHADE: usize = 68;
// Where the length of a region ends, and its protection and name begin.
const LEN: usize = 206;
const PROT: usize = 214;
const NAME: usize = 246;

/// Characters of a region's name: what has room before the cells.
const NAME_CHARS: usize = 28;

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1b1f24; --dim: #667; --paper: #fff; --none: #eef0f3;
  --m1: #d3e4f5; --m2: #a9cbec; --m3: #79aede; --m4: #4a8fcb; --m5: #2770b0; --m6: #12528c; --m7: #06335d;
  --a1: #fde3c8; --a2: #fbc894; --a3: #f5a65b; --a4: #e58428; --a5: #c4640e; --a6: #974806; --a7: #6a3002; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --dim: #98a1ad; --paper: #14171b; --none: #22272e;
  --m1: #17344f; --m2: #1b4a74; --m3: #22639b; --m4: #3280c2; --m5: #559fdb; --m6: #8bc0ec; --m7: #c9e2f8;
  --a1: #4a2b0d; --a2: #6e3d0c; --a3: #94520d; --a4: #bd6c17; --a5: #e08b34; --a6: #f2b06c; --a7: #fbd9b4; } }
body { margin: 24px; background: var(--paper); color: var(--ink); font: 14px/1.5 system-ui, sans-serif; }
h1 { font-size: 20px; margin: 0 0 4px; overflow-wrap: anywhere; }
p { margin: 4px 0 12px; color: var(--dim); max-width: 100ch; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
svg text { fill: var(--ink); font: 11px ui-monospace, monospace; }
svg .dim { fill: var(--dim); }
svg .end { text-anchor: end; }
svg .none { fill: var(--none); }
.m1 { fill: var(--m1); } .m2 { fill: var(--m2); } .m3 { fill: var(--m3); } .m4 { fill: var(--m4); }
.m5 { fill: var(--m5); } .m6 { fill: var(--m6); } .m7 { fill: var(--m7); }
.a1 { fill: var(--a1); } .a2 { fill: var(--a2); } .a3 { fill: var(--a3); } .a4 { fill: var(--a4); }
.a5 { fill: var(--a5); } .a6 { fill: var(--a6); } .a7 { fill: var(--a7); }
";

/// What the shades mean, by the number of hexadecimal digits.
const SHADES: [&str; 7] = ["1 B", "16 B", "256 B", "4 KiB", "64 KiB", "1 MiB", "16 MiB"];

/// The page.
pub(super) fn page<A: Address>(
    looking: &Looking<'_, A>,
    history: &History<A>,
    groups: Option<&Groups>,
) -> String {
    let of = escaped(&saved::of(looking.origin()));
    let changed: Vec<_> = history
        .regions
        .iter()
        .filter(|region| !region.steps.is_empty())
        .collect();
    let drawn = most_changed(&changed);
    let moments = looking.series.snapshots();
    let span = moments[moments.len() - 1]
        .taken()
        .duration_since(moments[0].taken())
        .unwrap_or(Duration::ZERO);
    let mut out = String::new();
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{of}: what changed when</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <h1>What changed when: {of}</h1>\n\
         <p>{} snapshots from {} on, over {}. Each row is a region, each column a step from one snapshot to the \
         next; the darker, the more bytes of the region are not what they were.</p>\n",
        moments.len(),
        saved::when(moments[0].taken()),
        seconds(span),
    );
    let picture = Picture {
        looking,
        groups,
        per: (moments.len() - 1).div_ceil(COLUMNS),
        steps: moments.len() - 1,
    };
    picture.draw(&drawn, &mut out);
    let _ = writeln!(
        out,
        "<p>{}</p>\n</body>\n</html>",
        picture.notes(history, changed.len(), drawn.len())
    );
    out
}

/// Those that are drawn, in the order of their addresses.
fn most_changed<'h, A: Address>(changed: &[&'h RegionHistory<A>]) -> Vec<&'h RegionHistory<A>> {
    let mut drawn = changed.to_vec();
    let total = |region: &RegionHistory<A>| {
        let steps = region
            .steps
            .iter()
            .map(|step| step.changed().max(step.protection));
        steps.fold(0, u64::saturating_add)
    };
    drawn.sort_by_key(|region| std::cmp::Reverse(total(region)));
    drawn.truncate(ROWS);
    drawn.sort_by_key(|region| region.range.start());
    drawn
}

struct Picture<'a, A: Address> {
    looking: &'a Looking<'a, A>,
    groups: Option<&'a Groups>,
    /// Steps in a column.
    per: usize,
    steps: usize,
}

impl<A: Address> Picture<'_, A> {
    fn columns(&self) -> usize {
        self.steps.div_ceil(self.per)
    }

    /// How wide a column is.
    fn wide(&self) -> usize {
        (WIDE / self.columns()).clamp(4, 36)
    }

    fn x(&self, column: usize) -> usize {
        LABEL + column * self.wide()
    }

    fn draw(&self, drawn: &[&RegionHistory<A>], out: &mut String) {
        let width = (self.x(self.columns()) + 48).max(LABEL + SHADES.len() * SHADE);
        let height = HEAD + drawn.len() * ROW + 52;
        let _ = writeln!(
            out,
            "<div class=\"scroll\"><svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" \
             height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
             aria-label=\"Changed bytes by region and snapshot\">"
        );
        self.head(drawn, out);
        for (row, region) in drawn.iter().enumerate() {
            self.row(HEAD + row * ROW, region, out);
        }
        self.legend(HEAD + drawn.len() * ROW + 20, out);
        out.push_str("</svg></div>\n");
    }

    /// Numbers of snapshots, and all regions together.
    fn head(&self, drawn: &[&RegionHistory<A>], out: &mut String) {
        let columns = self.columns();
        let sums: Vec<Step> = (0..columns)
            .map(|column| {
                let mut sum = Step::default();
                drawn
                    .iter()
                    .for_each(|region| sum.merge(&self.sum(region, column)));
                sum
            })
            .collect();
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" class=\"dim end\">all of these</text>",
            LABEL - 8,
            HEAD - 12
        );
        // A label needs so much room.
        let stride = 44usize.div_ceil(self.wide());
        for (column, sum) in sums.iter().enumerate() {
            let x = self.x(column);
            if let Some(level) = level(sum.changed()) {
                let tall = BAR * level / SHADES.len();
                let _ = writeln!(
                    out,
                    "<rect x=\"{x}\" y=\"{}\" width=\"{}\" height=\"{tall}\" class=\"{}\"><title>{}</title></rect>",
                    HEAD - 8 - tall,
                    self.wide() - 1,
                    class(sum, level),
                    self.title(column, sum),
                );
            }
            if column.is_multiple_of(stride) {
                let (number, since) = self.moment((column + 1) * self.per);
                let _ = writeln!(
                    out,
                    "<text x=\"{x}\" y=\"12\">{number}</text><text x=\"{x}\" y=\"26\" class=\"dim\">{since}</text>"
                );
            }
            let letter = self.groups.filter(|_| self.per == 1);
            let letter = letter.and_then(|groups| groups.0.get(column + 1).copied().flatten());
            if let Some(letter) = letter.filter(|_| self.wide() >= 7) {
                let _ = writeln!(
                    out,
                    "<text x=\"{}\" y=\"40\">{letter}</text>",
                    x + self.wide() / 2 - 3
                );
            }
        }
    }

    fn row(&self, y: usize, region: &RegionHistory<A>, out: &mut String) {
        let name = self.looking.name(region.range).unwrap_or_default();
        let (start, len) = (region.range.start().raw(), region.range.len());
        let _ = writeln!(
            out,
            "<text x=\"0\" y=\"{y}\">{start:#x}</text><text x=\"{LEN}\" y=\"{y}\" class=\"end\">{}</text>\
             <text x=\"{PROT}\" y=\"{y}\">{}</text><text x=\"{NAME}\" y=\"{y}\">{}<title>{}</title></text>",
            size::approx(len),
            region.prot,
            escaped(&ending(&name, NAME_CHARS)),
            escaped(&name),
            y = y + 12,
        );
        let _ = writeln!(
            out,
            "<rect x=\"{LABEL}\" y=\"{y}\" width=\"{}\" height=\"{}\" class=\"none\"/>",
            self.columns() * self.wide() - 1,
            ROW - 2
        );
        for column in 0..self.columns() {
            let sum = self.sum(region, column);
            // A change of protection changes no byte, and is to be seen all the same.
            let shown = sum.changed().max(u64::from(sum.protection > 0));
            let Some(level) = level(shown) else {
                continue;
            };
            let _ = writeln!(
                out,
                "<rect x=\"{}\" y=\"{y}\" width=\"{}\" height=\"{}\" class=\"cell {}\"><title>{}</title></rect>",
                self.x(column),
                self.wide() - 1,
                ROW - 2,
                class(&sum, level),
                self.title(column, &sum),
            );
        }
    }

    /// What of a region changed in the steps of a column.
    fn sum(&self, region: &RegionHistory<A>, column: usize) -> Step {
        let first = 1 + column * self.per;
        let steps = &region.steps;
        let from = steps.partition_point(|step| step.snapshot < first);
        let inside = steps[from..]
            .iter()
            .take_while(|step| step.snapshot < first + self.per);
        total(inside)
    }

    /// The number of a snapshot, and how long after the first one it was.
    fn moment(&self, index: usize) -> (u32, String) {
        let series = self.looking.series;
        let index = index.min(series.len() - 1);
        let moments = series.snapshots();
        let since = moments[index].taken().duration_since(moments[0].taken());
        let number = series.number(index).unwrap_or_default();
        (number, format!("+{}", seconds(since.unwrap_or_default())))
    }

    fn title(&self, column: usize, sum: &Step) -> String {
        let (number, since) = self.moment((column + 1) * self.per);
        let mut text = format!("up to snapshot {number} ({since}):");
        for (bytes, what) in [
            (sum.modified, "modified"),
            (sum.appeared, "appeared"),
            (sum.disappeared, "disappeared"),
            (sum.protection, "under another protection"),
        ] {
            if bytes > 0 {
                let _ = write!(text, " {} {what}", size::exact(bytes));
            }
        }
        text
    }

    fn legend(&self, y: usize, out: &mut String) {
        for (line, (hue, what)) in [
            ("m", "bytes modified, from"),
            ("a", "mostly appeared or disappeared"),
        ]
        .into_iter()
        .enumerate()
        {
            let y = y + line * 16;
            let _ = writeln!(
                out,
                "<text x=\"{}\" y=\"{}\" class=\"dim end\">{what}</text>",
                LABEL - 8,
                y + 10
            );
            for (index, shade) in SHADES.iter().enumerate() {
                let x = LABEL + index * SHADE;
                let _ = writeln!(
                    out,
                    "<rect x=\"{x}\" y=\"{y}\" width=\"14\" height=\"12\" class=\"{hue}{}\"/>\
                     <text x=\"{}\" y=\"{}\" class=\"dim\">{shade}</text>",
                    index + 1,
                    x + 18,
                    y + 10
                );
            }
        }
    }

    /// What the picture does not show.
    fn notes(&self, history: &History<A>, changed: usize, drawn: usize) -> String {
        let still = history.regions.len() - changed;
        let mut notes = vec![match (changed, still) {
            (0, _) => "Nothing changed.".to_owned(),
            (_, still) => format!("{still} more regions did not change."),
        }];
        if drawn < changed {
            notes.push(format!(
                "{changed} regions changed; the {drawn} that changed most are drawn."
            ));
        }
        if self.per > 1 {
            notes.push(format!("Each column is {} steps.", self.per));
        }
        let coverage = &history.coverage;
        let compared = size::approx(coverage.read);
        notes.push(if coverage.is_complete() {
            format!("{compared} were compared, all steps together.")
        } else {
            format!(
                "{compared} were compared, all steps together; {} could not be compared, about which nothing is \
                 said here.",
                size::approx(coverage.absent.saturating_add(coverage.lost))
            )
        });
        if history.stopped {
            notes.push("It was stopped before all steps were compared.".to_owned());
        }
        notes.join(" ")
    }
}

/// What colours a cell: of mappings that change rather than bytes, another hue.
fn class(sum: &Step, level: usize) -> String {
    let mapping = sum.appeared.saturating_add(sum.disappeared);
    let hue = if mapping.max(sum.protection) > sum.modified {
        'a'
    } else {
        'm'
    };
    format!("{hue}{level}")
}

/// Which shade so many bytes have, from 1.
fn level(bytes: u64) -> Option<usize> {
    let digits = bytes.checked_ilog2()? as usize / 4 + 1;
    Some(digits.min(SHADES.len()))
}

/// The end of a name says more than its beginning.
fn ending(name: &str, room: usize) -> String {
    let count = name.chars().count();
    if count <= room {
        return name.to_owned();
    }
    let kept: String = name.chars().skip(count - room.saturating_sub(3)).collect();
    format!("...{kept}")
}

fn seconds(time: Duration) -> String {
    let millis = time.as_millis();
    match (millis, time.as_secs()) {
        (0..10_000, seconds) => format!("{seconds}.{:01}s", millis % 1000 / 100),
        (_, seconds @ ..600) => format!("{seconds}s"),
        (_, seconds @ ..36_000) => format!("{}m", seconds / 60),
        (_, seconds) => format!("{}h", seconds / 3600),
    }
}

/// Text that a guest may have made up, for HTML.
fn escaped(text: &str) -> String {
    let plain = crate::escape::plain(text);
    let mut out = String::with_capacity(plain.len());
    for c in plain.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_makes_up_stays_text() {
        assert_eq!(
            escaped("<b a=\"&\">\u{1b}[31m\u{202e}"),
            "&lt;b a=&quot;&amp;&quot;&gt;\\x1b[31m\\u{202e}"
        );
    }

    #[test]
    fn shades_are_by_hexadecimal_digits() {
        let levels = [0, 1, 15, 16, 0xfff, 0x1000, 1 << 24, u64::MAX].map(level);
        let expected = [
            None,
            Some(1),
            Some(1),
            Some(2),
            Some(3),
            Some(4),
            Some(7),
            Some(7),
        ];
        assert_eq!(levels, expected);
    }

    #[test]
    fn long_names_keep_their_ends() {
        assert_eq!(ending("/usr/lib/libc.so.6", 12), "...libc.so.6");
        assert_eq!(ending("[heap]", 12), "[heap]");
        assert_eq!(seconds(Duration::from_millis(1550)), "1.5s");
        assert_eq!(seconds(Duration::from_secs(601)), "10m");
        assert_eq!(seconds(Duration::from_secs(59)), "59s");
    }
}
