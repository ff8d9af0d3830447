//! Types in C: declarations, and the expressions in which users name types.
//!
//! C writes a declaration around the name that it declares, from the inside out: what is pointed to or
//! returned stands on the left, bounds and parameters on the right. [`Types::declare`] goes from the
//! type towards what it is made of and wraps the text at each step.

use super::{Field, Type, TypeError, TypeId, Types};

/// How many steps a declaration takes at most. Real ones take a dozen; a hostile source can nest
/// function types without end.
const MAX_STEPS: usize = 200;

impl Types {
    /// `name` declared in C with this type: `struct list_head *next`, `char comm[16]`,
    /// `int (*open)(struct inode *, struct file *)`. With an empty name, the type alone. Records and
    /// enums without a name show as `struct {...}`.
    pub fn declare(&self, ty: TypeId, name: &str) -> String {
        let mut steps = MAX_STEPS;
        self.wrap(ty, name.to_owned(), &mut steps)
    }

    fn wrap(&self, ty: TypeId, inner: String, steps: &mut usize) -> String {
        let Some(left) = steps.checked_sub(1) else {
            return spaced("...", &inner);
        };
        *steps = left;
        let Ok(found) = self.get(ty) else {
            return spaced("<damaged>", &inner);
        };
        let named = |keyword: &str, name: &str| match (keyword, name) {
            ("", "") => "<no name>".to_owned(),
            ("", name) => name.to_owned(),
            (keyword, "") => format!("{keyword} {{...}}"),
            _ => format!("{keyword} {name}"),
        };
        let base = match &found {
            Type::Pointer { target, .. } => {
                return self.wrap_pointer(*target, format!("*{inner}"), steps);
            }
            Type::Array { element, count } => {
                // An array of pointers needs no parentheses, a pointer to an array does.
                let bound = match count {
                    0 => String::new(),
                    count => count.to_string(),
                };
                return self.wrap(*element, format!("{inner}[{bound}]"), steps);
            }
            Type::Prototype {
                result,
                params,
                variadic,
            } => {
                let mut all: Vec<String> = params
                    .iter()
                    .map(|&(name, ty)| self.wrap(ty, name.to_owned(), steps))
                    .collect();
                if *variadic {
                    all.push("...".into());
                }
                if all.is_empty() {
                    all.push("void".into());
                }
                return self.wrap(*result, format!("{inner}({})", all.join(", ")), steps);
            }
            Type::Function { name, prototype } => {
                let inner = if inner.is_empty() {
                    name
                } else {
                    inner.as_str()
                };
                return self.wrap(*prototype, inner.to_owned(), steps);
            }
            Type::Variable { name, target } => {
                let inner = if inner.is_empty() {
                    name
                } else {
                    inner.as_str()
                };
                return self.wrap(*target, inner.to_owned(), steps);
            }
            Type::Qualified { qualifier, target } => {
                // A qualifier of a pointer stands behind its star, any other before the type.
                if let Ok(Type::Pointer { target, .. }) = self.get(*target) {
                    let star = match *qualifier {
                        "" => format!("*{inner}"),
                        _ => format!("*{}", spaced(qualifier, &inner)),
                    };
                    return self.wrap_pointer(target, star, steps);
                }
                let rest = self.wrap(*target, inner, steps);
                return match *qualifier {
                    "" => rest,
                    _ => spaced(qualifier, &rest),
                };
            }
            Type::Void => "void".into(),
            Type::Int { name, .. } | Type::Float { name, .. } => named("", name),
            Type::Alias { name, .. } | Type::Other { name } => named("", name),
            Type::Record(record) => named(record.keyword(), record.name),
            Type::Enum { name, .. } => named("enum", name),
            Type::Forward { name, keyword } => named(keyword, name),
        };
        spaced(&base, &inner)
    }

    fn wrap_pointer(&self, target: TypeId, star: String, steps: &mut usize) -> String {
        let star = match self.get(target) {
            Ok(Type::Array { .. } | Type::Prototype { .. }) => format!("({star})"),
            _ => star,
        };
        self.wrap(target, star, steps)
    }

    /// What a user means by a type with an optional member path: `task_struct`, `struct file`,
    /// `task_struct.tasks.next`, `mm_struct.pgd`. The offset is that of the member.
    ///
    /// # Errors
    ///
    /// As [`Types::find`] and [`Types::field`].
    pub fn expression(&self, text: &str) -> Result<Field, TypeError> {
        let at = text.find(['.', '[']).unwrap_or(text.len());
        let (name, path) = text.split_at(at);
        let path = path.strip_prefix('.').unwrap_or(path);
        self.field(self.find(name)?, path)
    }
}

/// Two words with a space between them, unless one is missing.
fn spaced(left: &str, right: &str) -> String {
    match (left, right) {
        (left, "") => left.to_owned(),
        ("", right) => right.to_owned(),
        // Bounds and parameters of a type without a name stick to it.
        _ if right.starts_with(['[', '(']) && !right.starts_with("(*") => format!("{left}{right}"),
        _ => format!("{left} {right}"),
    }
}
