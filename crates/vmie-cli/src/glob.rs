//! Patterns for names: `*` stands for any characters, `?` for one.
//!
//! A crate for file-name patterns would give a meaning to `/`, `[` and `{`, which names of symbols
//! contain.

use std::convert::Infallible;
use std::str::FromStr;

/// A pattern. The whole name has to match; upper and lower case differ.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Glob(Vec<char>);

impl FromStr for Glob {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.chars().collect()))
    }
}

impl Glob {
    /// As it was typed.
    pub(crate) fn text(&self) -> String {
        self.0.iter().collect()
    }

    /// Whether a name matches.
    ///
    /// On a mismatch the last `*` takes one character more; earlier ones never need to, so the work is
    /// at most the product of both lengths.
    pub(crate) fn matches(&self, name: &str) -> bool {
        let mut rest = name.chars();
        let mut at = 0;
        let mut retry: Option<(usize, std::str::Chars<'_>)> = None;
        loop {
            match (self.0.get(at), rest.clone().next()) {
                (Some('*'), _) => {
                    at += 1;
                    retry = Some((at, rest.clone()));
                }
                (Some(&wanted), Some(c)) if wanted == '?' || wanted == c => {
                    at += 1;
                    rest.next();
                }
                (None, None) => return true,
                _ => {
                    let Some((behind_star, from)) = &mut retry else {
                        return false;
                    };
                    if from.next().is_none() {
                        return false;
                    }
                    at = *behind_star;
                    rest = from.clone();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition.
    fn naive(pattern: &[char], name: &[char]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            (['*', more @ ..], _) => (0..=name.len()).any(|taken| naive(more, &name[taken..])),
            ([p, more @ ..], [c, rest @ ..]) if *p == '?' || p == c => naive(more, rest),
            _ => false,
        }
    }

    #[test]
    fn matches_as_defined() {
        let words = |letters: &[char], longest: usize| {
            let mut all = vec![String::new()];
            let mut from = 0;
            for _ in 0..longest {
                let until = all.len();
                for index in from..until {
                    for letter in letters {
                        all.push(format!("{}{letter}", all[index]));
                    }
                }
                from = until;
            }
            all
        };
        let names = words(&['a', 'b'], 5);
        for pattern in words(&['a', 'b', '*', '?'], 5) {
            let glob: Glob = pattern.parse().expect("any text");
            let chars: Vec<char> = pattern.chars().collect();
            for name in &names {
                let expected = naive(&chars, &name.chars().collect::<Vec<_>>());
                assert_eq!(glob.matches(name), expected, "{pattern} {name}");
            }
        }
    }

    #[test]
    fn names_are_not_file_names() {
        let matches = |pattern: &str, name| {
            let glob: Glob = pattern.parse().expect("any text");
            glob.matches(name)
        };
        assert!(matches("a[0]", "a[0]"));
        assert!(matches("*", "a/b"));
        assert!(!matches("Sys*", "sys_read"));
        assert!(matches("gr?ße", "größe"));
    }
}
