//! The words of a rule's expressions: filters, tests, `range`, and how a value becomes a text.

use std::sync::OnceLock;

use minijinja::{
    AutoEscape, Environment, Error, Output, State, UndefinedBehavior, Value, filters, functions, tests,
    value::ValueKind,
};

use super::{
    filter,
    text::{self, scalar},
};

/// Enough for any sensible expression, and an end for a loop that has none.
const FUEL: u64 = 20_000;
const LONGEST_RANGE: usize = 1_000;

/// What `language.rs` writes into expressions.
pub(super) const CONCAT: &str = "concat";
pub(super) const COUNTED: &str = "counted";
pub(super) const NUMBER: &str = "number";
pub(super) const PLACE: &str = "place";

/// Each filter, and whether it may copy a list: then the list is counted first.
pub(super) const FILTERS: [(&str, bool); 32] = [
    ("date", false),
    ("money", false),
    ("truncate", false),
    ("default", false),
    ("d", false),
    ("upper", false),
    ("lower", false),
    ("trim", false),
    ("replace", false),
    ("split", false),
    ("join", false),
    ("string", false),
    ("int", false),
    ("float", false),
    ("round", false),
    ("abs", false),
    ("length", false),
    ("count", false),
    ("first", false),
    ("last", true),
    ("min", true),
    ("max", true),
    ("sum", true),
    ("map", true),
    ("sort", true),
    ("unique", true),
    ("reverse", true),
    ("list", true),
    ("items", true),
    ("dictsort", true),
    ("selectattr", true),
    ("rejectattr", true),
];

pub(super) const TESTS: [&str; 23] = [
    "defined",
    "undefined",
    "none",
    "string",
    "number",
    "integer",
    "float",
    "boolean",
    "sequence",
    "iterable",
    "mapping",
    "odd",
    "even",
    "divisibleby",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "in",
    "startingwith",
    "endingwith",
];

/// An environment with these words and no others, and no templates yet.
pub(super) fn environment() -> Environment<'static> {
    static WORDS: OnceLock<Environment<'static>> = OnceLock::new();
    WORDS.get_or_init(words).clone()
}

fn words() -> Environment<'static> {
    let mut env = Environment::empty();
    env.set_auto_escape_callback(|_| AutoEscape::None);
    // A missing field must not silently become an empty text in somebody's message.
    env.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    env.set_fuel(Some(FUEL));
    env.set_formatter(print);
    env.add_function("range", range);
    filter::add_to(&mut env);
    text::add_to(&mut env);
    env.add_filter("default", filters::default);
    env.add_filter("d", filters::default);
    env.add_filter("round", filters::round);
    env.add_filter("abs", filters::abs);
    env.add_filter("length", filters::length);
    env.add_filter("count", filters::length);
    env.add_filter("first", filters::first);
    env.add_filter("last", filters::last);
    env.add_filter("min", filters::min);
    env.add_filter("max", filters::max);
    env.add_filter("sum", filters::sum);
    env.add_filter("map", filters::map);
    env.add_filter("sort", filters::sort);
    env.add_filter("unique", filters::unique);
    env.add_filter("reverse", filters::reverse);
    env.add_filter("list", filters::list);
    env.add_filter("items", filters::items);
    env.add_filter("dictsort", filters::dictsort);
    env.add_filter("selectattr", filters::selectattr);
    env.add_filter("rejectattr", filters::rejectattr);
    env.add_test("defined", tests::is_defined);
    env.add_test("undefined", tests::is_undefined);
    env.add_test("none", tests::is_none);
    env.add_test("string", tests::is_string);
    env.add_test("number", tests::is_number);
    env.add_test("integer", tests::is_integer);
    env.add_test("float", tests::is_float);
    env.add_test("boolean", tests::is_boolean);
    env.add_test("sequence", tests::is_sequence);
    env.add_test("iterable", tests::is_iterable);
    env.add_test("mapping", tests::is_mapping);
    env.add_test("odd", tests::is_odd);
    env.add_test("even", tests::is_even);
    env.add_test("eq", tests::is_eq);
    env.add_test("ne", tests::is_ne);
    env
}

/// What `{{ … }}` writes.
fn print(out: &mut Output<'_>, _: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    // What is missing was refused before; this is an `if` without `else`, which says nothing.
    if value.kind() == ValueKind::Undefined {
        return Ok(());
    }
    Ok(out.write_str(&scalar(value)?)?)
}

fn range(lower: i32, upper: Option<i32>, step: Option<i32>) -> Result<Value, Error> {
    let wide = |number: i32| isize::try_from(number).unwrap_or_default();
    let (lower, upper, step) = (wide(lower), upper.map(wide), step.map(wide));
    let numbers = functions::range(lower, upper, step)?;
    match numbers.len() {
        Some(length) if length <= LONGEST_RANGE => Ok(numbers),
        _ => Err(text::wrong(format!("a range has at most {LONGEST_RANGE} numbers"))),
    }
}
