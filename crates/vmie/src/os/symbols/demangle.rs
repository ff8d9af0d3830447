//! The names that sources gave to what linkers call by mangled ones: C++ (the Itanium ABI) and Rust (both manglings).
//!
//! | begins with | is |
//! |---|---|
//! | `_R` | Rust's mangling since 1.97, and before with `-Csymbol-mangling-version=v0` |
//! | `_ZN...17h` and 16 hexadecimal digits, `E` | Rust's older mangling, which looks like C++; the hash is left out |
//! | `_Z` | C++ |
//!
//! A leading underscore more, as on macOS, is no part of it. What stands behind an `@` (a version, `@plt`) is kept as it is.
//!
//! Names come from the guest, and mangled ones can stand for exponentially longer ones: the length of what is read, the depth to
//! which it may nest, and the length of what comes out are bounded. What goes beyond a bound stays mangled.

use std::fmt::{self, Write};

use cpp_demangle::{DemangleOptions, ParseOptions, Symbol};

/// The longest mangled name that is read. Instances of templates have thousands of characters.
const MAX_MANGLED: usize = 4096;
/// The longest name that comes out.
const MAX_PLAIN: usize = 4096;
/// How deep a name may nest.
const MAX_DEPTH: u32 = 64;

/// How much of a name is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Detail {
    /// All of it: `Player::update(int)`.
    Whole,
    /// Without parameters and type: `Player::update`.
    Base,
}

/// Whether a name may be a mangled one. Cheap; says yes of some that are none.
#[inline]
pub fn may_be_mangled(name: &str) -> bool {
    let name = name.as_bytes();
    let name = match name {
        [b'_', b'_', ..] => &name[1..],
        _ => name,
    };
    matches!(name, [b'_', b'Z' | b'R', _, ..])
}

/// The name that a mangled one stands for, such as `Player::update(int)`; `None` where it is not mangled, or not well.
///
/// Cost: some microseconds.
pub fn demangle(name: &str) -> Option<String> {
    plain(name, Detail::Whole)
}

/// The same without parameters and type, such as `Player::update`: what people type.
///
/// Cost: as [`demangle`].
pub fn demangle_base(name: &str) -> Option<String> {
    plain(name, Detail::Base)
}

fn plain(name: &str, detail: Detail) -> Option<String> {
    if !may_be_mangled(name) || name.len() > MAX_MANGLED {
        return None;
    }
    let end = name.find('@').unwrap_or(name.len());
    let (mangled, behind) = name.split_at(end);
    let mangled = mangled
        .strip_prefix('_')
        .filter(|rest| rest.starts_with('_'))
        .unwrap_or(mangled);
    let mut out = Bounded(String::new());
    match mangled.starts_with("_R") || is_old_rust(mangled) {
        true => {
            let symbol = rustc_demangle::try_demangle(mangled).ok()?;
            write!(out, "{symbol:#}").ok()?;
        }
        false => {
            let options = ParseOptions::default().recursion_limit(MAX_DEPTH);
            let symbol = Symbol::new_with_options(mangled.as_bytes(), &options).ok()?;
            let options = DemangleOptions::new().recursion_limit(MAX_DEPTH);
            let options = match detail {
                Detail::Whole => options,
                Detail::Base => options.no_params().no_return_type(),
            };
            symbol.structured_demangle(&mut out, &options).ok()?;
            out = Bounded(usual(out.0));
        }
    }
    // What does not end as it should says nothing.
    let whole = !out.0.is_empty() && out.0 != mangled;
    whole.then(|| out.0 + behind)
}

/// What the crate writes of tables in its own way, as everybody else does.
fn usual(name: String) -> String {
    let table = |opening: &str| name.strip_prefix(opening)?.strip_suffix(")}");
    match (table("{vtable("), table("{vtt(")) {
        (Some(class), _) => format!("vtable for {class}"),
        (_, Some(class)) => format!("VTT for {class}"),
        _ => name,
    }
}

/// Whether a name ends with the hash that Rust's older mangling puts there.
fn is_old_rust(mangled: &str) -> bool {
    // Behind it may stand what LLVM adds, `.llvm.123`.
    let name = mangled.split('.').next().unwrap_or(mangled);
    let hash = name
        .strip_suffix('E')
        .and_then(|name| name.len().checked_sub(19).and_then(|at| name.get(at..)));
    let hash = hash.and_then(|hash| hash.strip_prefix("17h"));
    mangled.starts_with("_ZN")
        && hash.is_some_and(|hash| hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Text that does not grow beyond [`MAX_PLAIN`].
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > MAX_PLAIN {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// Mangled by GCC 12, Clang 14 and rustc; what `c++filt` and `rustfilt` make of it.
    const NAMES: &[(&str, &str, &str)] = &[
        (
            "_ZN6Player6updateEi",
            "Player::update(int)",
            "Player::update",
        ),
        ("_ZNK6Player4nameEv", "Player::name() const", "Player::name"),
        ("_ZN6PlayerC2Ev", "Player::Player()", "Player::Player"),
        ("_ZTV6Player", "vtable for Player", "vtable for Player"),
        (
            "_ZN6Player6updateEi@plt",
            "Player::update(int)@plt",
            "Player::update@plt",
        ),
        (
            "__ZN6Player6updateEi",
            "Player::update(int)",
            "Player::update",
        ),
        (
            "_ZN12_GLOBAL__N_14tickEPKcz",
            "(anonymous namespace)::tick(char const*, ...)",
            "(anonymous namespace)::tick",
        ),
        (
            "_ZN4core3fmt9Formatter3pad17h0123456789abcdefE",
            "core::fmt::Formatter::pad",
            "core::fmt::Formatter::pad",
        ),
        (
            "_ZN4core3fmt9Formatter3pad17h0123456789abcdefE.llvm.99",
            "core::fmt::Formatter::pad",
            "core::fmt::Formatter::pad",
        ),
        (
            "_RNvCskwGfYPst2Cb_3foo16example_function",
            "foo::example_function",
            "foo::example_function",
        ),
        (
            "_RNvMsr_NtCs3ssYzQotkvD_3std4pathNtB5_7PathBuf3newCs15kBYyAo9fc_7mycrate",
            "<std::path::PathBuf>::new",
            "<std::path::PathBuf>::new",
        ),
    ];

    #[test]
    fn names_are_those_of_the_source() {
        for &(mangled, whole, base) in NAMES {
            assert!(may_be_mangled(mangled));
            assert_eq!(demangle(mangled).as_deref(), Some(whole));
            assert_eq!(demangle_base(mangled).as_deref(), Some(base), "{mangled}");
        }
        for name in [
            "",
            "_",
            "_Z",
            "_R",
            "main",
            "_start",
            "Zoo",
            "_Z_",
            "_Rabc",
            "__init_rwsem",
            "_ZN6Player",
            "_ZN6Playér6updateEi",
        ] {
            assert_eq!(demangle(name), None, "{name}");
        }
    }

    /// Names that stand for very much more, or are made to keep whoever reads them busy.
    #[test]
    fn hostile_names_end_soon_and_short() {
        let mut hostile: Vec<String> = vec![
            // Every substitution doubles.
            format!(
                "_Z1f{}",
                (0..60).fold("1AIiE".to_owned(), |name, i| {
                    let number = if i == 0 {
                        "_".to_owned()
                    } else {
                        format!("{}_", i - 1)
                    };
                    format!("{name}1AIS{number}S{number}E")
                })
            ),
            format!("_ZN{}E", "1a".repeat(2000)),
            format!("_Z1f{}i", "P".repeat(4000)),
            format!("_Z{}", "N".repeat(4000)),
            format!("_Z1fI{}", "J".repeat(4000)),
            format!("_ZZ{}", "Z".repeat(4000)),
            format!("_Z1fDT{}", "cl".repeat(2000)),
            format!("_RNvC1a{}", "_".repeat(4000)),
            format!("_R{}", "INvC1a1b".repeat(500)),
            format!("_RINvC1a1b{}E", "TB".repeat(500)),
            format!("_R{}", "Y".repeat(4000)),
            format!("_ZN4{}", "9".repeat(4000)),
        ];
        // Each tuple names the one before it twice.
        let mut tuple = "_RINvC1a1bTuuE".to_owned();
        for _ in 0..200 {
            let at = tuple.len() - 12;
            tuple += &format!("TB{at}_B{at}_E");
        }
        hostile.push(tuple + "E");
        for (i, name) in hostile.iter().enumerate() {
            let begin = Instant::now();
            for text in [demangle(name), demangle_base(name)].into_iter().flatten() {
                assert!(text.len() <= MAX_PLAIN);
            }
            let took = begin.elapsed();
            assert!(took < Duration::from_millis(500), "{i}: {took:?}");
        }
    }

    #[test]
    fn cut_and_garbled_names_do_no_harm() {
        for &(mangled, ..) in NAMES {
            for end in 0..mangled.len() {
                let _ = demangle(&mangled[..end]);
                let mut garbled = mangled.as_bytes().to_vec();
                for byte in [b'S', b'_', b'9', b'E', b'I', 0x7f] {
                    garbled[end] = byte;
                    let name = String::from_utf8_lossy(&garbled);
                    let _ = demangle(&name);
                    let _ = demangle_base(&name);
                }
            }
        }
    }
}
