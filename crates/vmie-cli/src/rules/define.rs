//! External variables of rules: `-d NAME=VALUE`, with the types that yara gives them.

use boreal::Compiler;
use boreal::compiler::ExternalValue;

use crate::exit::Failure;

/// Defines variables as they were typed.
///
/// # Errors
///
/// For what is no `NAME=VALUE`, a name that is given twice, and a number that does not fit.
pub(super) fn define(compiler: &mut Compiler, typed: &[String]) -> Result<(), Failure> {
    for text in typed {
        let failure = |what: &str| {
            Failure::new(format!("-d {text}: {what}"))
                .hint("-d NAME=VALUE, such as -d filename=a.exe, -d size=10 or -d packed=true")
        };
        let (name, value) = text
            .split_once('=')
            .filter(|(name, _)| is_name(name))
            .ok_or_else(|| failure("not a name, `=` and a value"))?;
        let value = value_of(value).ok_or_else(|| failure("the number does not fit in 64 bits"))?;
        if !compiler.define_symbol(name, value) {
            return Err(failure("this variable is defined twice"));
        }
    }
    Ok(())
}

fn is_name(name: &str) -> bool {
    let mut chars = name.chars();
    let first = chars.next();
    first.is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Digits are an integer, with one point behind the first of them a float; `true` and `false` are what they say;
/// everything else is text. As in yara, also where somebody may have meant something else: `0x10` is text.
fn value_of(text: &str) -> Option<ExternalValue> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if let Some((whole, part)) = digits.split_once('.')
        && !whole.is_empty()
        && all_digits(whole)
        && all_digits(part)
    {
        return text.parse().ok().map(ExternalValue::Float);
    }
    if !digits.is_empty() && all_digits(digits) {
        return text.parse().ok().map(ExternalValue::Integer);
    }
    Some(match text {
        "true" => ExternalValue::Boolean(true),
        "false" => ExternalValue::Boolean(false),
        _ => ExternalValue::Bytes(text.as_bytes().to_vec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `define_external_variables` in yara's `cli/common.c` makes of them.
    #[test]
    fn types_are_those_of_yara() {
        let text = |text: &str| ExternalValue::Bytes(text.as_bytes().to_vec());
        for (typed, value) in [
            ("7", ExternalValue::Integer(7)),
            ("-7", ExternalValue::Integer(-7)),
            ("007", ExternalValue::Integer(7)),
            ("1.5", ExternalValue::Float(1.5)),
            ("-1.", ExternalValue::Float(-1.0)),
            ("true", ExternalValue::Boolean(true)),
            ("false", ExternalValue::Boolean(false)),
            ("", text("")),
            ("-", text("-")),
            (".5", text(".5")),
            ("1.2.3", text("1.2.3")),
            ("0x10", text("0x10")),
            ("+1", text("+1")),
            ("1e3", text("1e3")),
            ("True", text("True")),
            ("a=b", text("a=b")),
        ] {
            assert_eq!(value_of(typed), Some(value), "{typed}");
        }
        assert_eq!(value_of("99999999999999999999"), None);
    }

    #[test]
    fn what_defines_nothing_is_refused() {
        for typed in [&["x"][..], &["=1"], &["1x=1"], &["a b=1"], &["x=1", "x=2"]] {
            let typed: Vec<String> = typed.iter().map(|&text| text.to_owned()).collect();
            define(&mut Compiler::new(), &typed).expect_err("nothing");
        }
    }
}
