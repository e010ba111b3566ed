//! Just enough of Rust's lexical rules to tell code from comments and literals.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An identifier, keyword or number.
    Word,
    /// The inside of a string literal.
    Text,
    /// `::` or a single sign.
    Mark,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    pub kind: Kind,
    pub text: &'a str,
    pub line: usize,
}

impl Token<'_> {
    pub fn is(&self, text: &str) -> bool {
        self.kind != Kind::Text && self.text == text
    }
}

/// The tokens of a file; comments, character literals and lifetimes are left out.
pub fn tokens(source: &str) -> Vec<Token<'_>> {
    let (mut tokens, mut at, mut line) = (Vec::new(), 0, 1);
    while let Some(first) = source[at..].chars().next() {
        let rest = &source[at..];
        let (kind, inner, length) = if rest.starts_with("//") {
            (None, 0..0, rest.find('\n').unwrap_or(rest.len()))
        } else if rest.starts_with("/*") {
            (None, 0..0, block_comment(rest))
        } else if let Some((opening, inner)) = string(rest) {
            (Some(Kind::Text), opening..opening + inner, (2 * opening + inner - prefix(rest)).min(rest.len()))
        } else if first == '\'' {
            (None, 0..0, quote(rest))
        } else if is_word(first) {
            let length = rest.find(|sign| !is_word(sign)).unwrap_or(rest.len());
            (Some(Kind::Word), 0..length, length)
        } else if rest.starts_with("::") {
            (Some(Kind::Mark), 0..2, 2)
        } else {
            let kind = (!first.is_whitespace()).then_some(Kind::Mark);
            (kind, 0..first.len_utf8(), first.len_utf8())
        };
        if let Some(kind) = kind {
            tokens.push(Token { kind, text: &rest[inner], line });
        }
        line += rest[..length].matches('\n').count();
        at += length;
    }
    tokens
}

fn is_word(sign: char) -> bool {
    sign.is_alphanumeric() || sign == '_'
}

/// The length of a comment that may hold others.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The letters before a string's opening: `b`, `c`, `r` and their unions.
fn prefix(rest: &str) -> usize {
    rest.find(|sign| !matches!(sign, 'b' | 'c' | 'r')).unwrap_or(rest.len())
}

/// If a string literal starts here: the length of its opening, quote included, and of its inside.
fn string(rest: &str) -> Option<(usize, usize)> {
    let letters = prefix(rest);
    let raw = rest[..letters].ends_with('r');
    let hashes = if raw { rest[letters..].bytes().take_while(|byte| *byte == b'#').count() } else { 0 };
    let opening = letters + hashes + 1;
    if letters > 2 || !rest[letters + hashes..].starts_with('"') {
        return None;
    }
    let inside = &rest[opening..];
    if raw {
        let closing = format!("\"{}", "#".repeat(hashes));
        return Some((opening, inside.find(&closing).unwrap_or(inside.len())));
    }
    let mut escaped = false;
    let end = inside.find(|sign| {
        let ends = sign == '"' && !escaped;
        escaped = sign == '\\' && !escaped;
        ends
    });
    Some((opening, end.unwrap_or(inside.len())))
}

/// The length of a character literal, or of the quote alone when it starts a lifetime.
fn quote(rest: &str) -> usize {
    let mut signs = rest.char_indices().skip(1);
    match (signs.next(), signs.next()) {
        (Some((_, '\\')), Some((at, escaped))) => {
            let from = at + escaped.len_utf8();
            rest[from..].find('\'').map_or(rest.len(), |end| from + end + 1)
        }
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 1,
    }
}

#[test]
fn code_is_told_from_comments_and_literals() {
    let source = r##"
        use crate::a; // crate::b
        /* crate::c /* crate::d */ crate::e */
        let text = "crate::f \" crate::g"; let raw = br#"crate::h " crate::i"#;
        let sign = '"'; let other = '\''; fn life<'a>(x: &'a str) { crate::j }
    "##;
    let found: Vec<(&str, usize)> = tokens(source)
        .windows(3)
        .filter(|three| three[0].is("crate"))
        .map(|three| (three[2].text, three[2].line))
        .collect();
    assert_eq!(found, [("a", 2), ("j", 5)]);
    let texts: Vec<&str> =
        tokens(source).into_iter().filter(|token| token.kind == Kind::Text).map(|token| token.text).collect();
    assert_eq!(texts, [r#"crate::f \" crate::g"#, r#"crate::h " crate::i"#]);
}
