//! Filters and tests that make or compare texts, each bounded before it makes anything.
//!
//! What a text or a list takes is counted while an expression is computed: a few characters of an expression can
//! otherwise ask for all the memory there is.

use std::{borrow::Cow, cmp::Ordering};

use minijinja::{
    Environment, Error, ErrorKind, State, Value, filters, tests,
    value::{Kwargs, Rest, ValueKind},
};

use super::{
    compiled::RECIPIENTS,
    vocabulary::{CONCAT, COUNTED, NUMBER, PLACE},
};

/// Bytes of texts and lists that one expression may make on the way to its text.
const MOST_MADE: usize = 1 << 20;
/// The same where the text names recipients, of whom there may be many.
const MOST_MADE_OF_RECIPIENTS: usize = 32 << 20;
/// What an item of a list takes.
const ITEM: usize = 32;

pub(super) fn add_to(env: &mut Environment<'_>) {
    env.add_filter(CONCAT, concat);
    env.add_filter(COUNTED, counted);
    env.add_filter(NUMBER, number);
    env.add_filter(PLACE, place);
    env.add_filter("upper", |state: &mut State<'_, '_>, value: Value| copied(state, &value, str::to_uppercase));
    env.add_filter("lower", |state: &mut State<'_, '_>, value: Value| copied(state, &value, str::to_lowercase));
    env.add_filter("trim", |state: &mut State<'_, '_>, value: Value| {
        copied(state, &value, |text| text.trim().to_owned())
    });
    env.add_filter("string", |state: &mut State<'_, '_>, value: Value| copied(state, &value, str::to_owned));
    env.add_filter("replace", replace);
    env.add_filter("split", split);
    env.add_filter("join", join);
    env.add_filter("int", int);
    env.add_filter("float", float);
    env.add_test("lt", |a: Value, b: Value| ordered(&a, &b).map(Ordering::is_lt));
    env.add_test("le", |a: Value, b: Value| ordered(&a, &b).map(Ordering::is_le));
    env.add_test("gt", |a: Value, b: Value| ordered(&a, &b).map(Ordering::is_gt));
    env.add_test("ge", |a: Value, b: Value| ordered(&a, &b).map(Ordering::is_ge));
    env.add_test("in", contained);
    env.add_test("divisibleby", divisible);
    env.add_test("startingwith", |a: Value, b: Value| Ok::<_, Error>(scalar(&a)?.starts_with(&*scalar(&b)?)));
    env.add_test("endingwith", |a: Value, b: Value| Ok::<_, Error>(scalar(&a)?.ends_with(&*scalar(&b)?)));
}

/// The text of a value, which must be one: what nobody meant to send is refused with what to write instead.
pub(super) fn scalar(value: &Value) -> Result<Cow<'_, str>, Error> {
    if let Some(text) = value.as_str() {
        return Ok(Cow::Borrowed(text));
    }
    match value.kind() {
        ValueKind::Bool => Ok(Cow::Borrowed(if value.is_true() { "true" } else { "false" })),
        ValueKind::Number => Ok(Cow::Owned(value.to_string())),
        ValueKind::Undefined => Err(ErrorKind::UndefinedError.into()),
        ValueKind::None => Err(wrong("the value is null; say what is to stand there: value|default(\"…\", true)")),
        ValueKind::Seq | ValueKind::Iterable => {
            Err(wrong("the value is a list; take one of it, or write them all: value|join(\", \")"))
        }
        _ => Err(wrong("the value has several parts; name the one that is meant: value.name")),
    }
}

/// A few characters of what came, for a reason.
pub(super) fn shown(value: &Value) -> String {
    scalar(value).map_or_else(|_| value.kind().to_string(), |text| crate::keyword::cut(&text, 40))
}

pub(super) fn wrong(detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, detail.into())
}

#[derive(Default)]
struct Made(usize);

/// Counts what is about to be made.
fn spend(state: &mut State<'_, '_>, bytes: usize) -> Result<(), Error> {
    let most = if state.name() == RECIPIENTS { MOST_MADE_OF_RECIPIENTS } else { MOST_MADE };
    let made = state.get_or_insert_extension(Made::default());
    made.0 = made.0.saturating_add(bytes);
    if made.0 > most { Err(wrong(format!("makes more than {} KiB of texts and lists", most >> 10))) } else { Ok(()) }
}

/// A text that is made of another and about as long.
pub(super) fn copied(
    state: &mut State<'_, '_>,
    value: &Value,
    make: impl FnOnce(&str) -> String,
) -> Result<String, Error> {
    let text = scalar(value)?;
    spend(state, text.len())?;
    Ok(make(&text))
}

/// `a ~ b ~ c`.
fn concat(state: &mut State<'_, '_>, first: Value, others: Rest<Value>) -> Result<String, Error> {
    let mut texts = vec![scalar(&first)?];
    for other in others.iter() {
        texts.push(scalar(other)?);
    }
    spend(state, texts.iter().map(|text| text.len()).sum())?;
    Ok(texts.concat())
}

/// The value itself, after what a copy of it takes was counted.
fn counted(state: &mut State<'_, '_>, value: Value) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        // As a list it is one of letters.
        spend(state, ITEM.saturating_mul(text.len()))?;
    } else if matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable | ValueKind::Map) {
        for item in value.try_iter()? {
            spend(state, 2 * ITEM + item.as_str().map_or(0, str::len))?;
        }
    }
    Ok(value)
}

/// What an operator such as `+` takes.
fn number(value: Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::Number => Ok(value),
        ValueKind::Undefined => Err(ErrorKind::UndefinedError.into()),
        ValueKind::String => Err(wrong(format!(
            "{} is a text, and this takes numbers: value|float; texts are joined by ~",
            shown(&value)
        ))),
        kind => Err(wrong(format!("this takes numbers; the value is {kind}"))),
    }
}

/// Where a part of a text or a list begins or ends, and its step.
fn place(value: Value) -> Result<Value, Error> {
    let is_place = value.is_none() || i32::try_from(value.clone()).is_ok();
    if is_place { Ok(value) } else { Err(wrong(format!("{} is no place in a text or a list", shown(&value)))) }
}

fn divisible(value: Value, by: Value) -> Result<bool, Error> {
    let whole = |value: &Value| i128::try_from(value.clone()).map_err(|_| no_number(value));
    let rest = whole(&value)?.checked_rem(whole(&by)?);
    rest.map(|rest| rest == 0).ok_or_else(|| wrong(format!("nothing is divisible by {}", shown(&by))))
}

/// A text and a number have no order, also if the text looks like a number.
fn ordered(a: &Value, b: &Value) -> Result<Ordering, Error> {
    match (a.kind(), b.kind()) {
        (ValueKind::Number, ValueKind::Number) | (ValueKind::String, ValueKind::String) => Ok(a.cmp(b)),
        (ValueKind::Undefined, _) | (_, ValueKind::Undefined) => Err(ErrorKind::UndefinedError.into()),
        (of, with) => Err(wrong(format!("{of} and {with} have no order; make numbers of both: value|float"))),
    }
}

/// `part in whole`.
fn contained(state: &State<'_, '_>, part: Value, whole: Value) -> Result<bool, Error> {
    match (part.kind(), whole.kind()) {
        (ValueKind::Undefined, _) | (_, ValueKind::Undefined) => Err(ErrorKind::UndefinedError.into()),
        // Else a list would be written out.
        (_, ValueKind::String) => {
            Ok(whole.as_str().is_some_and(|text| scalar(&part).is_ok_and(|part| text.contains(&*part))))
        }
        _ => tests::is_in(state, &part, &whole),
    }
}

fn replace(state: &mut State<'_, '_>, value: Value, from: Value, to: Value) -> Result<String, Error> {
    let (text, from, to) = (scalar(&value)?, scalar(&from)?, scalar(&to)?);
    if from.is_empty() {
        return Err(wrong("replace takes a text that is not empty"));
    }
    spend(state, text.len().saturating_add(text.matches(&*from).count().saturating_mul(to.len())))?;
    Ok(text.replace(&*from, &to))
}

fn split(state: &mut State<'_, '_>, value: Value, by: Option<Value>) -> Result<Vec<Value>, Error> {
    let text = scalar(&value)?;
    let Some(by) = by else {
        spend(state, text.len() + ITEM * text.split_whitespace().count())?;
        return Ok(text.split_whitespace().map(Value::from).collect());
    };
    let by = scalar(&by)?;
    spend(state, text.len() + ITEM * text.split(&*by).count())?;
    Ok(text.split(&*by).map(Value::from).collect())
}

/// The items of a list, or one part of each, with a text between them.
fn join(state: &mut State<'_, '_>, value: Value, by: Option<Value>, named: Kwargs) -> Result<String, Error> {
    if !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) {
        return Err(wrong(format!("join takes a list; the value is {}", value.kind())));
    }
    let attribute = named.get::<Option<Value>>("attribute")?;
    named.assert_all_used()?;
    let by = by.as_ref().map_or(Ok(Cow::Borrowed("")), scalar)?;
    let mut joined = String::new();
    for (index, item) in value.try_iter()?.enumerate() {
        let item = match &attribute {
            Some(attribute) => item.get_item(attribute)?,
            None => item,
        };
        let item = scalar(&item)?;
        spend(state, by.len() + item.len() + 1)?;
        if index > 0 {
            joined.push_str(&by);
        }
        joined.push_str(&item);
    }
    Ok(joined)
}

fn int(state: &State<'_, '_>, value: Value, default: Option<Value>) -> Result<Value, Error> {
    numeral(&value, default.is_some())?;
    filters::int(state, &value, default, None, Kwargs::from_iter([] as [(&str, Value); 0]))
        .map_err(|_| no_number(&value))
}

fn float(state: &State<'_, '_>, value: Value, default: Option<Value>) -> Result<Value, Error> {
    numeral(&value, default.is_some())?;
    let number = filters::float(state, &value, default, Kwargs::from_iter([] as [(&str, Value); 0]))
        .map_err(|_| no_number(&value))?;
    // `inf` and `nan` are read as numbers too.
    if f64::try_from(number.clone()).is_ok_and(|number| !number.is_finite()) {
        Err(no_number(&value))
    } else {
        Ok(number)
    }
}

/// Nothing is no number: not even 0.
fn numeral(value: &Value, has_default: bool) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Undefined => Err(ErrorKind::UndefinedError.into()),
        ValueKind::None if !has_default => Err(no_number(value)),
        _ => Ok(()),
    }
}

fn no_number(value: &Value) -> Error {
    wrong(format!("{} is no number", shown(value)))
}
