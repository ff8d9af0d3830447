//! A large instance on a page: what is zero is named and not shown, what is nested is summed up.

use vmie::os::{ShowRow, Value, show_text};

/// So many lines are a page: what has no more is shown as it is.
const PAGE: usize = 60;
/// How wide lines are made that could be longer.
const WIDTH: usize = 110;

/// A value, and what is in it.
struct Node<'r> {
    row: &'r ShowRow,
    within: Vec<Node<'r>>,
}

/// The rows of an instance of the type expression `ty` as text, nested records down to `depth`; whether any is summed up or
/// left out.
pub(super) fn text(rows: &[ShowRow], ty: &str, depth: usize) -> (String, bool) {
    let whole = show_text(rows);
    if whole.lines().count() <= PAGE {
        return (whole, false);
    }
    let mut page = Page {
        text: String::new(),
        cut: false,
    };
    for node in &nodes(&mut rows.iter()) {
        page.record(node, ty, 0, depth);
    }
    (page.text, page.cut)
}

/// The values up to the end of what they are in. As deep as types nest, which the engine bounds.
fn nodes<'r>(rows: &mut dyn Iterator<Item = &'r ShowRow>) -> Vec<Node<'r>> {
    let mut all = Vec::new();
    while let Some(row) = rows.next() {
        let within = match row.value {
            Value::End => break,
            Value::Begin => nodes(rows),
            _ => Vec::new(),
        };
        all.push(Node { row, within });
    }
    all
}

impl Node<'_> {
    fn is_record(&self) -> bool {
        self.row.value == Value::Begin
    }

    /// Whether all of it was read and is zero.
    fn is_zero(&self) -> bool {
        match self.is_record() {
            true => self.within.iter().all(Node::is_zero),
            false => is_zero(&self.row.value),
        }
    }

    /// The members, with those of records without a name in the place of these.
    fn members(&self) -> Vec<&Node<'_>> {
        let each = self.within.iter();
        each.flat_map(|node| match node.is_record() && node.row.name.is_empty() {
            true => node.members(),
            false => vec![node],
        })
        .collect()
    }

    /// How C names it where it is.
    fn designator(&self) -> String {
        match self.row.name.as_str() {
            name if name.starts_with('[') || name == "*" || name.is_empty() => name.to_owned(),
            name => format!(".{name}"),
        }
    }

    /// On one line, with what is nested in it; for a record only as long as that is no longer than a line may be.
    fn line(&self) -> Option<String> {
        if !self.is_record() {
            return Some(match self.row.value {
                Value::More(_) => self.row.value.to_string(),
                _ => format!("{} = {}", self.designator(), self.row.value),
            });
        }
        let mut line = format!("{} = {{", self.designator());
        for (index, member) in self.members().iter().enumerate() {
            line.push_str(if index == 0 { " " } else { ", " });
            line.push_str(&member.line()?);
            if line.len() > WIDTH {
                return None;
            }
        }
        line.push_str(" }");
        Some(line)
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Integer(number) => *number == 0,
        Value::Bool(value) => !value,
        Value::Float(number) => *number == 0.0,
        Value::Enum(number, name) => *number == 0 && name.is_none(),
        Value::Text(bytes, more) => bytes.is_empty() && !more,
        Value::List(values, more) => *more == 0 && values.iter().all(is_zero),
        Value::Pointer(va, ..) => va.0 == 0,
        Value::None => true,
        _ => false,
    }
}

/// A page while it is written.
struct Page {
    text: String,
    cut: bool,
}

impl Page {
    /// A record at `indent`, the records in it down to `depth`. `path` is the expression that it is.
    fn record(&mut self, node: &Node<'_>, path: &str, indent: usize, depth: usize) {
        let name = match indent {
            0 => format!("({}) ", node.row.ty),
            _ => format!("{} = ", node.designator()),
        };
        self.put(indent, &format!("{name}{{"));
        let mut zero = Vec::new();
        for member in node.members() {
            if member.is_zero() {
                zero.push(member.row.name.as_str());
                continue;
            }
            let line = member.line();
            let path = format!("{path}.{}", member.row.name);
            match line {
                Some(line) => self.put(indent + 1, &format!("{line},")),
                None if depth > 1 => self.record(member, &path, indent + 1, depth - 1),
                None => self.sum_up(member, &path, indent + 1),
            }
        }
        self.zeros(&zero, indent + 1);
        self.put(indent, if indent == 0 { "}" } else { "}," });
    }

    /// One line for a record that is not shown.
    fn sum_up(&mut self, node: &Node<'_>, path: &str, indent: usize) {
        self.cut = true;
        let members = node.members();
        let zero = members.iter().filter(|member| member.is_zero()).count();
        let what = match members.first() {
            Some(first) if first.row.name.starts_with('[') => "element",
            _ => "member",
        };
        let many = if members.len() == 1 { "" } else { "s" };
        // Elements of arrays have no expression of their own.
        let how = match path.contains('[') {
            true => String::new(),
            false => format!("; show {path}"),
        };
        self.put(
            indent,
            &format!(
                "{} = {{ /* {} {what}{many}, {zero} of them zero{how} */ }},",
                node.designator(),
                members.len()
            ),
        );
    }

    /// The names of what is zero.
    fn zeros(&mut self, names: &[&str], indent: usize) {
        if names.is_empty() {
            return;
        }
        self.cut = true;
        let mut line = String::from("/* zero:");
        for (index, name) in names.iter().enumerate() {
            let end = if index + 1 == names.len() { " */" } else { "," };
            if line.len() + name.len() + end.len() > WIDTH {
                self.put(indent, &line);
                line = String::from("  ");
            }
            line.push(' ');
            line.push_str(name);
            line.push_str(end);
        }
        self.put(indent, &line);
    }

    fn put(&mut self, indent: usize, line: &str) {
        self.text.push_str(&"    ".repeat(indent));
        self.text.push_str(line);
        self.text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use vmie::Gva;

    use super::*;

    fn row(depth: usize, name: &str, value: Value) -> ShowRow {
        ShowRow {
            depth,
            name: name.to_owned(),
            va: Gva(0),
            ty: "struct task".to_owned(),
            value,
        }
    }

    /// A record with more members than a page has lines.
    fn large() -> Vec<ShowRow> {
        let mut rows = vec![row(0, "", Value::Begin)];
        for index in 0..70 {
            rows.push(row(1, &format!("m{index}"), Value::Integer(index % 10)));
        }
        rows.push(row(1, "link", Value::Begin));
        rows.push(row(2, "next", Value::Integer(1)));
        rows.push(row(1, "link", Value::End));
        rows.push(row(1, "", Value::Begin));
        rows.push(row(2, "nested", Value::Begin));
        rows.push(row(3, "deep", Value::Begin));
        for index in 0..20 {
            rows.push(row(4, &format!("x{index}"), Value::Integer(5)));
        }
        rows.push(row(3, "deep", Value::End));
        rows.push(row(2, "nested", Value::End));
        rows.push(row(1, "", Value::End));
        rows.push(row(0, "", Value::End));
        rows
    }

    #[test]
    fn what_fits_on_a_page_is_shown_whole() {
        let small = [
            row(0, "", Value::Begin),
            row(1, "a", Value::Integer(0)),
            row(0, "", Value::End),
        ];
        assert_eq!(text(&small, "t", 1), (show_text(&small), false));
    }

    #[test]
    fn zeros_are_named_and_what_is_nested_is_summed_up() {
        let (page, cut) = text(&large(), "task_struct", 1);
        assert!(cut);
        assert!(
            page.contains("    /* zero: m0, m10, m20, m30, m40, m50, m60 */\n"),
            "{page}"
        );
        assert!(page.contains("    .link = { .next = 1 },\n"), "{page}");
        let nested = "    .nested = { /* 1 member, 0 of them zero; show task_struct.nested */ },\n";
        assert!(page.contains(nested), "{page}");
        let (deeper, _) = text(&large(), "task_struct", 2);
        let deep = "    .nested = {\n        .deep = { /* 20 members, 0 of them zero; \
                    show task_struct.nested.deep */ },\n    },\n";
        assert!(deeper.contains(deep), "{deeper}");
    }
}
