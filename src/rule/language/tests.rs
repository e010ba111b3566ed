//! What is taken comes out as MiniJinja would have it; what could fill a stack or the memory does not.

use std::sync::OnceLock;

use minijinja::{Environment, Value, context, value::Serde};
use rstest::rstest;
use serde_json::json;

use super::super::{compiled::reason, vocabulary};

fn data() -> Value {
    static DATA: OnceLock<Value> = OnceLock::new();
    let make = || {
        let data = json!({
            "none": null, "yes": true, "text": "ab", "word": "many", "n": 7, "price": 12.5, "list": [3, 1, 2], "map": { "k": "v" },
            "items": [{ "name": "苹果", "price": 2 }, { "name": "梨", "price": 3 }],
            "big": "x".repeat(1 << 20), "long": vec![1; 40_000],
        });
        Value::from(Serde(&data))
    };
    DATA.get_or_init(make).clone()
}

/// A text computed by the language, from an event with some data.
fn compute(source: &str) -> Result<String, String> {
    let mut env = vocabulary::environment();
    env.add_template_owned("t", super::text(source)?).map_err(|error| reason(&error))?;
    let template = env.get_template("t").map_err(|error| reason(&error))?;
    let mut output = super::super::output::Output::of("t");
    let scope = context! { data => data() };
    match template.render_captured_to(scope, &mut output) {
        Ok(_) => output.into_text(),
        Err(error) => output.overflow().map_or_else(|| Err(reason(&error)), Err),
    }
}

#[rstest]
#[case("plain", "plain")]
#[case("a {# note #}{{ data.text }}{% raw %}{{ x }}{% endraw %}\nb\n", "a ab{{ x }}\nb")]
#[case(r#"\ "quoted" {"#, r#"\ "quoted" {"#)]
#[case("{{ 'it''s' }}{{ \"a\\n\" }}{{ 1.50 }}{{ none is none }}", "itsa\n1.5true")]
#[case(
    "{{ data.n + 2 * 3 - 4 }} {{ (data.n + 2) * 3 }} {{ 10 - (3 - 2) - 1 }} {{ 2 ** 3 ** 2 }} {{ -data.n + 1 }}",
    "9 27 8 64 -6"
)]
#[case("{{ 7 // 2 }} {{ 7 % 4 }} {{ 6 / 4 }} {{ 100 // 7 % 5 }}", "3 3 1.5 4")]
#[case("{{ 'a' ~ data.n ~ 'b' ~ data.yes }} {{ 'a' ~ ('b' ~ 'c')|upper }} {{ ('a' ~ 'b')|upper }}", "a7btrue aBC AB")]
#[case("{{ 'yes' if data.n > 5 and not data.n >= 8 else 'no' }}", "yes")]
#[case("{{ 'a' if false else 'b' if false else 'c' }}{{ ('a' if true else 'b') ~ 'd' }}{{ 'x' if false }}", "cad")]
#[case(
    "{{ 1 < 2 or 2 < 1 and false }} {{ data.n in data.list }} {{ 1 not in data.list }} {{ 'a' in data.text }}",
    "true false false true"
)]
#[case("{{ data.items|map(attribute='name')|join('、') }} {{ data.items|sum(attribute='price') }}", "苹果、梨 5")]
#[case(
    "{{ data.items|join('、', attribute='name') }} {{ data.list|sort|join(',') }} {{ (data.items|first).name }}",
    "苹果、梨 1,2,3 苹果"
)]
#[case(
    "{% for item in data.items if item.price > 2 %}{{ loop.index }}{{ item.name }}{% else %}none{% endfor %}",
    "1梨"
)]
#[case(
    "{% for k, v in data.map|items %}{{ k }}={{ v }}{% endfor %}{% for x in range(3) %}{{ x }}{% endfor %}",
    "k=v012"
)]
#[case("{% if data.n == 1 %}1{% elif data.n == 7 %}7{% else %}?{% endif %}{% if not data.list %}no{% endif %}", "7")]
#[case(
    "{{ data.list[0] }}{{ data['text'] }}{{ data.text[1:] }}{{ data.list[1:]|join }}{{ data.list[::-1]|join }}",
    "3abb12213"
)]
#[case(
    "{{ data.x|default('-') }}{{ data.none|default('-', true) }}{{ data.none is none }}{{ data.x is defined }}",
    "--truefalse"
)]
#[case("{{ '50'|float > 100 }} {{ '12'|int + 1 }} {{ data.word|float(0) }} {{ data.price|round }}", "false 13 0 12.0")]
#[case(
    "{{ 'a-b'|split('-')|last }} {{ 'a-b'|replace('-', '+') }} {{ ' a '|trim }} {{ data.text is startingwith 'a' }}",
    "b a+b a true"
)]
#[case(
    "{{ {'a': '甲'}[data.text[:1]] }}{{ [1, 2,]|length }}{{ (1, 2)|join }}{{ data.n is divisibleby(7) }}",
    "甲212true"
)]
fn what_is_taken_means_what_it_says(#[case] source: &str, #[case] text: &str) {
    assert_eq!(compute(source), Ok(text.to_owned()), "{:?}", super::text(source));
}

/// The same parts of the language as MiniJinja computes them when nothing is written anew.
#[rstest]
#[case("{{ 1 + 2 - 3 * 4 / 5 // 2 % 3 }} {{ 2 ** 2 ** 3 - -1 }} {{ not 1 == 2 and 3 != 4 or 5 < 4 }}")]
#[case("{{ (1 - (2 - 3)) * (4 - 1) ~ 'a' ~ (1 + 1) }}")]
#[case("{{ -5|abs }} {{ (not true)|string }} {{ 1 if 2 > 1 else 3 }} {{ [1, [2, 3]][1][0] }} {{ 'abc'[1] }}")]
#[case(" a\n {%- if true -%} b {%- endif %} c\n\n")]
#[case("{{ 'a\\'\\\\b' }}\\{{ \"\\u4e2d\" }}{{ 1e3 }}{{ 1_000 }}{{ 0x10 }}{{ true }}")]
#[case(
    "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{{ loop.last }}{{ loop.cycle('x', 'y') }}{% endfor %}"
)]
fn it_is_computed_as_minijinja_does(#[case] source: &str) {
    let plain = Environment::new().render_str(source, ()).map_err(|error| reason(&error));
    let plain = plain.map(|text| text.replace("True", "true").replace("False", "false"));
    assert_eq!(compute(source), plain, "{:?}", super::text(source));
}

#[rstest]
#[case("{{ data.none }}", "default(\"…\", true)")]
#[case("{{ data.x }}", "undefined")]
#[case("{{ 'a' ~ data.none }}", "default(\"…\", true)")]
#[case("{{ 'a' ~ data.x }}", "undefined")]
#[case("{{ data.none|upper }}", "default(\"…\", true)")]
#[case("{{ data.list }}", "join")]
#[case("{{ data.map }}", "value.name")]
#[case("{{ data.list ~ '' }}", "join")]
#[case("{{ data.list|string }}", "join")]
#[case("{{ [data.none]|join(',') }}", "default(\"…\", true)")]
#[case("{{ data.text > 100 }}", "value|float")]
#[case("{{ data.none >= 100 }}", "value|float")]
#[case("{{ data.word|float > 100 }}", "many is no number")]
#[case("{{ data.word|int }}", "many is no number")]
#[case("{{ data.none|float }}", "is no number")]
#[case("{{ 'nan'|float > 1 }}", "nan is no number")]
#[case("{{ data.text + data.text }}", "joined by ~")]
#[case("{{ [1] + [2] }}", "takes numbers")]
fn a_value_that_nobody_meant_is_refused(#[case] source: &str, #[case] says: &str) {
    let refusal = compute(source).expect_err("refused");
    assert!(refusal.contains(says), "{refusal}");
}

#[rstest]
#[case("{{ 'a' * 1000000000 }}", "takes numbers")]
#[case("{{ 1000000000 * ['a'] }}", "takes numbers")]
#[case("{{ (1000000000 * data.text)|length }}", "takes numbers")]
#[case("{% set s = 'a' %}{{ s }}", "no others")]
#[case("{% set ns = namespace(s='a') %}", "no others")]
#[case("{% macro m() %}{% endmacro %}", "unknown statement")]
#[case("{% include 'page' %}", "unknown statement")]
#[case("{% with a = data.big %}{% endwith %}", "no others")]
#[case("{% filter upper %}a{% endfilter %}", "no others")]
#[case("{% for x in data.list recursive %}{{ loop(data.list) }}{% endfor %}", "recursive")]
#[case("{% for a in [1] %}{% for b in [a] %}{% for c in [b] %}{% endfor %}{% endfor %}{% endfor %}", "loops")]
#[case("{{ namespace() }}", "no function")]
#[case("{{ dict(a=1) }}", "no function")]
#[case("{{ range(100000)|length }}", "1000 numbers")]
#[case("{{ range(data.n * 1000)|length }}", "1000 numbers")]
#[case("{{ 'a'|indent(1000000000) }}", "no filter `indent`")]
#[case("{{ data.list|batch(1000000000) }}", "no filter `batch`")]
#[case("{{ data.list|slice(1000000000) }}", "no filter `slice`")]
#[case("{{ data.map|tojson(1000000000) }}", "no filter `tojson`")]
#[case("{{ '%1000000000d'|format(1) }}", "no filter `format`")]
#[case("{{ data.list|map('sort') }}", "attribute=")]
#[case("{{ data.list|sum(start='') }}", "attribute=")]
#[case("{{ data.list|map(**data.map) }}", "attribute=")]
#[case("{{ range(*data.list) }}", "not taken")]
#[case("{{ 1 < 2 < 3 }}", "two values at a time")]
#[case("{{ data.big|replace('x', data.big) }}", "KiB of texts")]
#[case("{{ data.long|join(data.big) }}", "KiB of texts")]
#[case("{{ data.big ~ data.big }}", "KiB of texts")]
#[case("{{ data.big[1:]|length }}", "KiB of texts")]
#[case("{{ data.long|sort|length }}", "KiB of texts")]
#[case("{{ data.big|split('x')|length }}", "KiB of texts")]
#[case("{{ data.big|reverse|length }}", "KiB of texts")]
#[case(
    "{% for x in range(1000) %}{{ (data.text ~ 'x'|upper)|replace('a', 'b' ~ data.n)|length }}{% for y in range(1000) %}{{ 'yyyyyyyyyy' ~ y }}{% endfor %}{% endfor %}",
    "fuel"
)]
#[case("{{ data.big }}", "64 KiB")]
#[case(
    "{% for x in range(900) %}{% for y in range(9) %}some text that is not of an expression {% endfor %}{% endfor %}",
    "64 KiB"
)]
fn what_could_fill_the_memory_is_refused(#[case] source: &str, #[case] says: &str) {
    let refusal = compute(source).expect_err("refused");
    assert!(refusal.contains(says), "{refusal}");
}

/// What comes out does not matter here, only that something does, and soon.
#[rstest]
#[case("{{ 5|round(-2000000000) }}{{ 5.5|round(-2000000000) }}")]
#[case("{{ 5.5|round(2000000000, 'ceil') }}{{ 1e300|round(1000) }}")]
#[case("{{ 5 is divisibleby(0) }}")]
#[case("{{ -170141183460469231731687303715884105728 is divisibleby(-1) }}")]
#[case("{{ range(-9223372036854775808, 9223372036854775807)|length }}")]
#[case("{{ range(9223372036854775807, -9223372036854775808, -1)|length }}")]
#[case("{{ range(9, 0, -9223372036854775808)|length }}")]
#[case("{{ 2 ** 2000000000 }}")]
#[case("{{ 2.5 ** 2000000000 }}")]
#[case("{{ -170141183460469231731687303715884105728 // -1 }}")]
#[case("{{ 'a'[-9223372036854775808:9223372036854775807:-9223372036854775808] }}")]
#[case("{{ data.list[9223372036854775807:-9223372036854775808:9223372036854775807]|join }}")]
#[case("{{ data.text|truncate(9223372036854775807) }}")]
#[case("{{ 1e308 * 10 }}{{ (1e308 * 10)|int }}{{ (1e308 * 10)|date }}")]
#[case("{{ 1e300|money }}")]
#[case("{{ data.list[-9223372036854775808] }}")]
#[case("{{ 'abc'[-9223372036854775808] }}")]
#[case("{{ data.list[9223372036854775808] }}")]
#[case("{% for x in [1] %}{{ loop.cycle() }}{% endfor %}")]
#[case("{{ -170141183460469231731687303715884105728|abs }}{{ -9223372036854775808|abs }}")]
#[case("{{ 340282366920938463463374607431768211455 is odd }}{{ 340282366920938463463374607431768211455|float|int }}")]
#[case("{{ 7 % 0 }}")]
#[case("{{ 7 // 0 }}")]
#[case("{{ 7.5 % 0 }}")]
#[case("{{ [9223372036854775807, 9223372036854775807]|sum }}")]
#[case("{{ -9223372036854775808|date }}")]
#[case("{{ data.items|selectattr('price', 'gt', 2)|map(attribute='name')|join }}")]
#[case("{{ [[1, 2], [3]]|map(attribute=0)|sort(reverse=true)|join(',') }}")]
fn numbers_at_their_ends_do_no_harm(#[case] source: &str) {
    drop(compute(source));
}

/// A node's threads have 2 MiB; half of it must be enough, for a request stands on it too.
#[test]
fn no_chain_fills_a_stack() {
    let chains = [
        ("{{ data", ".a", "", " }}"),
        ("{{ 1", "~1", "", " }}"),
        ("{{ 1", "+1", "", " }}"),
        ("{{ 1", "**1", "", " }}"),
        ("{{ 1", "|abs", "", " }}"),
        ("{{ 1", " is odd", "", " }}"),
        ("{{ 1", "[0]", "", " }}"),
        ("{{ 1", "<1", "", " }}"),
        ("{{ 1", "==1", "", " }}"),
        ("{{ 1", " in 1", "", " }}"),
        ("{{ 1", " and 1", "", " }}"),
        ("{{ 1", " or not 1", "", " }}"),
        ("{{ 1", " if 1", "", " }}"),
        ("{{ 1", " if 1 else 1", "", " }}"),
        ("{{ ", "(", "", " }}"),
        ("{{ ", "(", "1", " }}"),
        ("{{ ", "[", "", " }}"),
        ("{{ ", "{1:", "", " }}"),
        ("{{ ", "-", "1", " }}"),
        ("{{ ", "- ", "(", " }}"),
        ("{{ ", "not ", "1", " }}"),
        ("{{ ", "a(", "", " }}"),
        ("{{ ", "1|d(", "", " }}"),
        ("{{ ", "1 is in(", "", " }}"),
        ("{{ ", "1 is in ", "1", " }}"),
        ("{{ ", "a[", "", " }}"),
        ("", "{%if 1%}", "", ""),
        ("{%if 1%}", "{%elif 1%}", "", "{%endif%}"),
        ("", "{%if 1%}{%else%}", "", ""),
        ("", "{%for a in b%}", "", ""),
        ("{%for ", "(", "a", " in b%}"),
        ("{%for a in ", "(", "b", "%}{%endfor%}"),
        ("{%if ", "(", "b", "%}{%endif%}"),
        ("{{ ", "1 if (", "1", " }}"),
        ("{{ ", "not(", "1", " }}"),
        ("{{ ", "-(", "1", " }}"),
    ];
    let small = std::thread::Builder::new().stack_size(1 << 20);
    let all = small.spawn(move || {
        for (before, link, inner, after) in chains {
            let links = (super::LONGEST - before.len() - inner.len() - after.len()) / link.len();
            for closing in [")", "]", "}", "{%endif%}", "{%endfor%}", ""] {
                for length in [links, links / 2, 50, 20, 10, 9, 5] {
                    let source = [before, &link.repeat(length), inner, &closing.repeat(length), after].concat();
                    drop(compute(&source));
                    drop(super::condition(source.trim_start_matches("{{ ").trim_end_matches(" }}")));
                }
            }
        }
    });
    all.expect("a thread").join().expect("no chain is too long");
    assert!(super::text(&"x".repeat(1_001)).expect_err("refused").contains("at most 1000"));
    assert!(super::text(&"信".repeat(1_000)).is_ok(), "characters are counted, not bytes");
}
