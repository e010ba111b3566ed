//! The language of a rule's expressions: of MiniJinja what a message needs, and nothing that can grow without end.
//!
//! An expression is parsed, each part of it is allowed or refused, and what is allowed is written out again with
//! operators that are checked when they are computed: `a ~ b` as `a|concat(b)`, `a < b` as `a is lt(b)`,
//! `a * b` as `a|number * b|number`. Only what is written here reaches MiniJinja's compiler, which computes
//! constants at once: `"a" * 1000000000` must not get that far.

mod operator;
mod writer;

use minijinja::{
    machinery::{Token, parse, parse_expr, tokenize},
    syntax::SyntaxConfig,
};

use super::compiled::reason;
use writer::{Writer, Written};

/// The most characters of an expression.
pub const LONGEST: usize = 1_000;
/// Brackets and blocks in each other: a level of them takes a parser some 30 KiB of stack where nothing is optimised.
const MOST_NESTED: usize = 10;

/// What MiniJinja is to compile for a text with expressions, or why it is refused.
pub(super) fn text(source: &str) -> Result<String, String> {
    bounded(source, false)?;
    let parsed = parse(source, "", SyntaxConfig::default()).map_err(|error| reason(&error))?;
    let mut writer = Writer::new(source);
    writer.statement(&parsed)?;
    finish(writer)
}

/// The same for a condition; the text is `1` where it holds.
pub(super) fn condition(source: &str) -> Result<String, String> {
    bounded(source, true)?;
    let parsed = parse_expr(source).map_err(|error| reason(&error))?;
    let mut writer = Writer::new(source);
    writer.out.push_str("{% if (");
    writer.expression(&parsed)?;
    writer.out.push_str(") %}1{% endif %}");
    finish(writer)
}

fn bounded(source: &str, is_condition: bool) -> Written {
    let length = source.chars().count();
    if length > LONGEST {
        return Err(format!("is {length} characters long; an expression has at most {LONGEST}"));
    }
    nested(source, is_condition, MOST_NESTED)
}

/// Refuses brackets and blocks that are too many in each other, without a parser.
fn nested(source: &str, is_condition: bool, most: usize) -> Written {
    let (mut depth, mut prefixes, mut of_tag) = (0_usize, 0, false);
    for token in tokenize(source, is_condition, SyntaxConfig::default()) {
        let (token, _) = token.map_err(|error| reason(&error))?;
        match token {
            Token::ParenOpen | Token::BracketOpen | Token::BraceOpen => depth += 1,
            Token::ParenClose | Token::BracketClose | Token::BraceClose => depth = depth.saturating_sub(1),
            Token::Ident("if" | "for") if of_tag => depth += 1,
            Token::Ident("endif" | "endfor") if of_tag => depth = depth.saturating_sub(1),
            _ => {}
        }
        // `- - - 1`
        prefixes = if matches!(token, Token::Minus | Token::Ident("not")) { prefixes + 1 } else { 0 };
        if depth.max(prefixes) > most {
            return Err(format!("has more than {MOST_NESTED} brackets or blocks in each other"));
        }
        of_tag = matches!(token, Token::BlockStart);
    }
    Ok(())
}

/// What is written has brackets that the source did not have.
fn finish(writer: Writer<'_>) -> Result<String, String> {
    nested(&writer.out, false, 2 * MOST_NESTED)?;
    Ok(writer.out)
}

#[cfg(test)]
mod tests;
