//! The one parser for every way people write signatures.
//!
//! ```text
//! text      = hex | escaped
//! hex       = ( sequence | "{" sequence "}" ) [ mask ]
//! sequence  = token { token | jump } token | token
//! token     = byte | "~" byte | "(" sequence { "|" sequence } ")" | text
//! text      = [ "u" ] '"' { any character, `\"` and `\\` for these two } '"'
//! byte      = [ "0x" ] two of 0-9 A-F ? ., or a "?", "." or "*" that stands alone, or "**"
//! jump      = "[" number [ "-" number ] "]"
//! escaped   = [ "b" ] [ quote ] { "\x" two digits } [ quote ] [ mask ]
//! ```
//!
//! Spaces and comments may stand between any two of these; bytes need none. A comma may stand behind a token, and a
//! hyphen between two bytes. Masks, and what is refused by name, are the business of [`dialect`](super::dialect). What is read goes
//! straight into the normal form that [`Node`] describes, so a signature has one tree however it was
//! written. All limits are checked while reading, before anything grows: the work and the memory
//! are proportional to the text, jumps being numbers.

use crate::signature::error::{ParseError, is_visible};
use crate::signature::{ByteTest, MAX_DEPTH, MAX_JUMP, MAX_LEN, Node, len_bounds};

pub(super) type Result<T> = std::result::Result<T, ParseError>;

/// Reads a signature of any form into its tree, and remarks on what may have been meant otherwise.
pub(super) fn parse(text: &str) -> Result<(Vec<Node>, Vec<String>)> {
    let mut parser = Parser {
        text,
        at: 0,
        prefixed: 0,
        notes: Vec::new(),
    };
    parser.space()?;
    let start = parser.at;
    let quoted = text[start..].trim_start_matches('b');
    let quoted = quoted.strip_prefix(['"', '\'']).unwrap_or(quoted);
    let nodes = if quoted.starts_with("\\x")
        || quoted.starts_with("\\X")
        || text[start..].starts_with('\\')
    {
        parser.escaped()?
    } else {
        parser.hex()?
    };
    check(text, start, &nodes)?;
    Ok((nodes, parser.notes))
}

/// What can only be judged when the whole is known.
fn check(text: &str, start: usize, nodes: &[Node]) -> Result<()> {
    let (_, max_len) = len_bounds(nodes);
    if max_len > MAX_LEN {
        return Err(ParseError::new(
            text,
            start,
            format!("the signature can span {max_len} bytes, more than {MAX_LEN}"),
        ));
    }
    if !constrains(nodes) {
        return Err(ParseError::new(
            text,
            start,
            "this matches everywhere: at least one byte must be given, whichever alternative is taken",
        ));
    }
    Ok(())
}

/// Whether every choice of alternatives puts a condition on some byte.
fn constrains(nodes: &[Node]) -> bool {
    nodes.iter().any(|node| match node {
        Node::Byte(_) => true,
        Node::Skip { .. } => false,
        Node::Alt(branches) => branches.iter().all(|branch| constrains(branch)),
    })
}

/// Adds a node, joining bytes of any value.
pub(super) fn push(nodes: &mut Vec<Node>, node: Node) {
    match (nodes.last_mut(), node) {
        (_, Node::Skip { max: 0, .. }) => {}
        (Some(Node::Skip { min, max }), Node::Skip { min: a, max: b })
            if *min == *max && a == b =>
        {
            *min += a;
            *max += b;
        }
        (_, node) => nodes.push(node),
    }
}

pub(super) struct Parser<'t> {
    pub(super) text: &'t str,
    /// Offset in bytes, always at a character border.
    pub(super) at: usize,
    /// Bytes with `0x` before them.
    prefixed: usize,
    /// What may have been meant otherwise.
    pub(super) notes: Vec<String>,
}

impl Parser<'_> {
    pub(super) fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    pub(super) fn bump(&mut self) {
        self.at += self.peek().map_or(0, char::len_utf8);
    }

    fn eat(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        if found {
            self.bump();
        }
        found
    }

    pub(super) fn error<T>(&self, at: usize, message: impl Into<String>) -> Result<T> {
        Err(ParseError::new(self.text, at, message))
    }

    /// `expected ..., found ...` at the current place.
    fn expected<T>(&self, what: &str) -> Result<T> {
        let found = match self.peek() {
            None => "the end".to_owned(),
            Some(c) if is_visible(c) => format!("`{c}`"),
            Some(c) => format!("the character U+{:04X}", u32::from(c)),
        };
        self.error(self.at, format!("expected {what}, found {found}"))
    }

    /// The same where a token of another tool may stand.
    fn expected_token<T>(&self, what: &str) -> Result<T> {
        match self.foreign() {
            Some(instead) => self.error(self.at, instead),
            None => self.expected(what),
        }
    }

    /// Skips white space and comments.
    pub(super) fn space(&mut self) -> Result<()> {
        loop {
            let rest = &self.text[self.at..];
            if rest.starts_with("//") {
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else if let Some(comment) = rest.strip_prefix("/*") {
                match comment.find("*/") {
                    Some(end) => self.at += end + 4,
                    None => return self.error(self.at, "this comment has no end: expected `*/`"),
                }
            } else if rest.starts_with(char::is_whitespace) {
                self.bump();
            } else {
                return Ok(());
            }
        }
    }

    fn hex(&mut self) -> Result<Vec<Node>> {
        let open = self.at;
        let braced = self.eat('{');
        let nodes = self.sequence(0)?;
        if braced && !self.eat('}') {
            return match self.peek() {
                None => self.error(open, "this `{` is never closed: expected `}` at the end"),
                Some(_) => self.expected_token("a byte, a jump, `(` or `}`"),
            };
        }
        if braced {
            self.eat(',');
            self.space()?;
        }
        let start = self.at;
        let nodes = self.masked(nodes)?;
        let has_mask = self.at != start;
        self.space()?;
        if self.prefixed > 0 && !has_mask {
            let literal = |node: &Node| match node {
                Node::Byte(test) => test.literal(),
                _ => None,
            };
            let plain: Option<Vec<u8>> = nodes.iter().map(literal).collect();
            plain
                .into_iter()
                .for_each(|plain| self.without_mask(&plain));
        }
        match self.peek() {
            None => Ok(nodes),
            Some('}') => self.error(self.at, "this `}` has no `{` before it"),
            Some(')') => self.error(self.at, "this `)` has no `(` before it"),
            Some('|') if self.foreign().is_none() => self.error(
                self.at,
                "alternatives need parentheses around them: `(E8 | E9)`",
            ),
            Some(_) if braced => self.expected("nothing after `}`"),
            Some(_) => {
                self.expected_token("a byte such as `48`, `4?`, `??`, a jump `[2-4]` or `(`")
            }
        }
    }

    /// Reads tokens and jumps up to something else.
    fn sequence(&mut self, depth: usize) -> Result<Vec<Node>> {
        let mut nodes = Vec::new();
        let mut any = false;
        let mut last_jump = None;
        loop {
            self.space()?;
            let start = self.at;
            match self.peek() {
                Some('[') => {
                    let jump = self.jump()?;
                    if !any {
                        return self.error(start, jump_at_end("begin"));
                    }
                    push(&mut nodes, jump);
                    last_jump = Some(start);
                    continue;
                }
                Some('(') => {
                    for node in self.alternatives(depth)? {
                        push(&mut nodes, node);
                    }
                }
                Some('~') => {
                    self.bump();
                    self.space()?;
                    let byte = self.at;
                    match self.byte()? {
                        Some(test) => push(
                            &mut nodes,
                            Node::Byte(ByteTest {
                                negated: true,
                                ..test
                            }),
                        ),
                        None => {
                            return self.error(byte, "`~` of any byte never matches: expected a byte such as `~00` or `~4?`");
                        }
                    }
                }
                Some('"' | 'u') => {
                    let text = self.quoted()?;
                    self.refuse_quoted_mask(start, &nodes, &text)?;
                    nodes.extend(text.into_iter().map(literal));
                }
                Some(',') if any && !self.text[..start].trim_end().ends_with(',') => {
                    self.bump();
                    continue;
                }
                Some('-') if any && self.between_bytes() => {
                    self.bump();
                    continue;
                }
                Some('*') => {
                    self.star()?;
                    push(&mut nodes, Node::Skip { min: 1, max: 1 });
                }
                Some('0') if depth == 0 && any && self.is_binary() => {
                    let bits = self.text[start + 2..]
                        .chars()
                        .filter(char::is_ascii_digit)
                        .count();
                    if self.prefixed > 0 {
                        break;
                    }
                    if bits == nodes.len() {
                        return self.error(
                            start,
                            "this could be a mask, which goes with bytes that have `0x` before them, or the bytes \
                             themselves: write these with spaces",
                        );
                    }
                    let byte = self.byte()?;
                    push(
                        &mut nodes,
                        byte.map_or(Node::Skip { min: 1, max: 1 }, Node::Byte),
                    );
                }
                Some('0') if self.text[start + 1..].starts_with(['x', 'X']) => {
                    let byte = self.prefixed()?;
                    push(
                        &mut nodes,
                        byte.map_or(Node::Skip { min: 1, max: 1 }, Node::Byte),
                    );
                }
                Some(_) if self.is_bit_pattern() => {
                    return self.error(
                        start,
                        "this could be the bits of one byte, which are written as a byte and its mask (`40 : C0`), or \
                         four bytes: write these with spaces",
                    );
                }
                Some(c) if matches!(c, '?' | '.') || c.is_ascii_hexdigit() => {
                    let node = self
                        .byte()?
                        .map_or(Node::Skip { min: 1, max: 1 }, Node::Byte);
                    push(&mut nodes, node);
                }
                _ => break,
            }
            any = true;
            last_jump = None;
        }
        if let Some(start) = last_jump {
            return self.error(start, jump_at_end("end"));
        }
        if !any {
            return self.expected_token("a byte such as `48`, `4?` or `??`");
        }
        Ok(nodes)
    }

    /// Reads `"text"`, or `u"text"` as UTF-16 in little-endian order.
    fn quoted(&mut self) -> Result<Vec<u8>> {
        let wide = self.eat('u');
        let open = self.at;
        if !self.eat('"') {
            return self.expected("`\"` after `u`");
        }
        let mut text = String::new();
        loop {
            let at = self.at;
            match self.peek() {
                None => return self.error(open, "this text has no end: expected `\"`"),
                Some('"') => break,
                Some('\\') => {
                    self.bump();
                    match self.peek() {
                        Some(c @ ('"' | '\\')) => text.push(c),
                        _ => {
                            return self.error(
                                at,
                                "expected `\\\"` or `\\\\`; other characters stand for themselves",
                            );
                        }
                    }
                }
                Some(c) => text.push(c),
            }
            self.bump();
        }
        self.bump();
        if text.is_empty() {
            return self.error(open, "this text is empty: expected a character");
        }
        Ok(if wide {
            text.encode_utf16().flat_map(u16::to_le_bytes).collect()
        } else {
            text.into_bytes()
        })
    }

    /// Reads `48`, `4?`, `?8`, `??`, or a `?` that stands alone; `None` for any byte.
    fn byte(&mut self) -> Result<Option<ByteTest>> {
        let start = self.at;
        let mut value = 0;
        let mut mask = 0;
        for half in 0..2 {
            let digit = match self.peek() {
                Some('?' | '.') => None,
                Some(c) if c.is_ascii_hexdigit() => Some(digit(c)),
                _ if half == 1
                    && self.text[..self.at].ends_with(['?', '.'])
                    && self.stands_alone(start) =>
                {
                    return Ok(None);
                }
                _ if half == 1 => {
                    return self.error(start, self.half_a_byte(start));
                }
                _ => return self.expected("a byte such as `48`, `4?` or `??`"),
            };
            self.bump();
            value = value << 4 | digit.unwrap_or(0);
            mask = mask << 4 | if digit.is_some() { 0xf } else { 0 };
        }
        Ok((mask != 0).then_some(ByteTest {
            value,
            mask,
            negated: false,
        }))
    }

    /// Reads `0x48`, `0x4?`, `0x??` or `0x5`.
    fn prefixed(&mut self) -> Result<Option<ByteTest>> {
        let start = self.at;
        self.at += 2;
        let rest = &self.text[self.at..];
        let belongs = |c: char| c.is_ascii_hexdigit() || matches!(c, '?' | '.' | '*');
        let digits = &rest[..rest.find(|c| !belongs(c)).unwrap_or(rest.len())];
        let test = match digits.len() {
            1 if digits.starts_with(|c: char| c.is_ascii_hexdigit()) => {
                let value = digits.chars().next().map_or(0, digit);
                self.bump();
                Some(ByteTest {
                    value,
                    mask: 0xff,
                    negated: false,
                })
            }
            2 if digits == "**" => {
                self.at += 2;
                None
            }
            2 => self.byte()?,
            0 => return self.expected("two hexadecimal digits after `0x`"),
            _ => {
                return self.error(
                    start,
                    "one byte for each `0x`: a number of several bytes is written `48 8B 05`, as it stands in memory",
                );
            }
        };
        self.prefixed += 1;
        Ok(test)
    }

    /// Reads `*` or `**` that stand alone.
    fn star(&mut self) -> Result<()> {
        let start = self.at;
        let touches = |c: char| c.is_ascii_hexdigit() || matches!(c, '?' | '.' | '*' | '~');
        self.bump();
        self.eat('*');
        if self.text[..start].ends_with(touches) || self.peek().is_some_and(touches) {
            return self.error(
                start,
                "`*` is any byte where it stands alone; elsewhere it is half a byte, which is written `4?`, or any \
                 number of bytes, which is written `[0-100]`",
            );
        }
        Ok(())
    }

    /// Whether the hyphen here stands between two bytes, as in `48-8B`.
    fn between_bytes(&self) -> bool {
        let half = |c: char| c.is_ascii_hexdigit() || c == '?';
        let mut behind = self.text[self.at + 1..].chars();
        self.text[..self.at].ends_with(half)
            && behind.next().is_some_and(half)
            && behind.next().is_some_and(half)
    }

    /// Refuses what may be a mask in quotes behind bytes.
    fn refuse_quoted_mask(&self, start: usize, nodes: &[Node], text: &[u8]) -> Result<()> {
        let literal = |node: &Node| matches!(node, Node::Byte(test) if test.literal().is_some());
        let mask =
            text.contains(&b'?') && text.iter().all(|byte| matches!(byte, b'x' | b'X' | b'?'));
        if mask && nodes.len() == text.len() && nodes.iter().all(literal) {
            return self.error(
                start,
                "this could be a mask or text: a mask behind bytes such as these has no quotes",
            );
        }
        Ok(())
    }

    /// What to say of the one digit or `?` at `start`.
    fn half_a_byte(&self, start: usize) -> String {
        let instead = self
            .foreign()
            .filter(|_| matches!(self.peek(), Some('h' | 'H')));
        if let Some(instead) = instead {
            return instead.to_owned();
        }
        match &self.text[start..self.at] {
            "." => "half a byte: expected `..`, or a digit beside it, such as `.8`".to_owned(),
            "?" => {
                "half a byte: expected `??`, or `?` with a digit beside it, such as `?8`".to_owned()
            }
            digit => format!("half a byte: expected two digits, such as `0{digit}` or `{digit}?`"),
        }
    }

    /// Whether nothing that belongs to a byte touches what starts at `start`.
    fn stands_alone(&self, start: usize) -> bool {
        !self.text[..start]
            .ends_with(|c: char| matches!(c, '?' | '.' | '~') || c.is_ascii_hexdigit())
    }

    fn jump(&mut self) -> Result<Node> {
        let open = self.at;
        self.bump();
        self.space()?;
        let min = self.number();
        if min.is_none() && self.peek() != Some('-') {
            return self.expected("the length of the jump, such as `[4]` or `[2-6]`");
        }
        self.space()?;
        let max = if self.eat('-') {
            self.space()?;
            let max = self.number();
            self.space()?;
            if max.is_none() && self.peek() != Some(']') {
                return self.expected("a number");
            }
            max
        } else {
            min
        };
        if self.peek() != Some(']') {
            return self.expected("`]` after the length of the jump");
        }
        self.bump();
        let (min, max) = match (min, max) {
            (Some(min), Some(max)) => (min, max),
            (None, Some(max)) => {
                return self.error(open, format!("a jump has two bounds: expected `[0-{max}]`"));
            }
            (min, None) => {
                let min = min.unwrap_or(0).min(MAX_JUMP);
                return self.error(
                    open,
                    format!(
                        "a jump without an upper bound could reach across all of memory: \
                         give one of at most {MAX_JUMP}, as in `[{min}-{MAX_JUMP}]`"
                    ),
                );
            }
        };
        if max > MAX_JUMP || min > MAX_JUMP {
            return self.error(open, format!("a jump can have at most {MAX_JUMP} bytes"));
        }
        if min > max {
            return self.error(
                open,
                format!("the jump ends before it begins: expected `[{max}-{min}]`"),
            );
        }
        Ok(Node::Skip { min, max })
    }

    /// A decimal number, if there is one; more than fits becomes the most that fits.
    fn number(&mut self) -> Option<usize> {
        let mut value = None;
        while let Some(digit) = self.peek().and_then(|c| c.to_digit(10)) {
            self.bump();
            value = Some(
                value
                    .unwrap_or(0usize)
                    .saturating_mul(10)
                    .saturating_add(digit as usize),
            );
        }
        value
    }

    /// Reads `( ... | ... )`; one branch alone is no choice and becomes what it holds.
    fn alternatives(&mut self, depth: usize) -> Result<Vec<Node>> {
        let open = self.at;
        if depth == MAX_DEPTH {
            return self.error(open, format!("alternatives can be nested {MAX_DEPTH} deep"));
        }
        self.bump();
        let mut branches = Vec::new();
        loop {
            self.space()?;
            if let Some('|' | ')') = self.peek() {
                return self.error(
                    self.at,
                    "an alternative is empty: expected a byte before this",
                );
            }
            branches.push(self.sequence(depth + 1)?);
            if self.eat(')') {
                break;
            }
            if !self.eat('|') {
                return match self.peek() {
                    None => self.error(open, "this `(` is never closed: expected `)`"),
                    Some(_) => self.expected_token("a byte, a jump, `|` or `)`"),
                };
            }
        }
        if branches.len() == 1 {
            return Ok(branches.swap_remove(0));
        }
        Ok(vec![Node::Alt(branches)])
    }

    /// Reads `\x48\x8B` and its mask; either may stand in quotes.
    fn escaped(&mut self) -> Result<Vec<Node>> {
        self.eat('b');
        let quote = self.quote();
        let mut bytes = Vec::new();
        while self.eat('\\') {
            if !self.eat('x') && !self.eat('X') {
                return self.expected("`x` after `\\`");
            }
            let mut value = 0;
            for _ in 0..2 {
                match self.peek() {
                    Some(c) if c.is_ascii_hexdigit() => value = value << 4 | digit(c),
                    _ => return self.expected("two hexadecimal digits after `\\x`"),
                }
                self.bump();
            }
            bytes.push(value);
            if quote.is_none() {
                self.space()?;
            }
        }
        self.close(quote)?;
        self.space()?;
        self.eat(',');
        self.eat(';');
        self.space()?;
        let start = self.at;
        let quote = self.quote();
        let nodes = match self.peek() {
            Some('x' | 'X' | '?') => self.letters(&bytes)?,
            Some(':') if quote.is_none() => {
                let nodes = bytes.iter().copied().map(literal).collect();
                self.masked(nodes)?
            }
            None if quote.is_none() => {
                self.without_mask(&bytes);
                return Ok(bytes.into_iter().map(literal).collect());
            }
            _ => {
                self.at = start;
                return self.expected_token(
                    "`\\x48`, or a mask of `x` (this byte counts) and `?` (any byte)",
                );
            }
        };
        self.close(quote)?;
        self.eat(';');
        self.space()?;
        match self.peek() {
            None => Ok(nodes),
            Some(_) => self.expected("`x` or `?`"),
        }
    }

    /// An opening quote, if there is one.
    fn quote(&mut self) -> Option<char> {
        let quote = self.peek().filter(|c| matches!(c, '"' | '\''))?;
        self.bump();
        Some(quote)
    }

    /// Reads the closing quote.
    fn close(&mut self, quote: Option<char>) -> Result<()> {
        match quote {
            Some(quote) if !self.eat(quote) => self.expected(&format!("`{quote}`")),
            _ => Ok(()),
        }
    }
}

pub(super) fn literal(value: u8) -> Node {
    Node::Byte(ByteTest {
        value,
        mask: 0xff,
        negated: false,
    })
}

/// The value of a hexadecimal digit.
pub(super) fn digit(c: char) -> u8 {
    c.to_digit(16)
        .and_then(|d| u8::try_from(d).ok())
        .unwrap_or(0)
}

fn jump_at_end(which: &str) -> String {
    format!(
        "a signature or an alternative cannot {which} with a jump: it would say nothing about where the match {which}s; use `??` for bytes that must be there"
    )
}
