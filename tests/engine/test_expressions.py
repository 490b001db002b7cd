"""Expressions: what they come to, and what is said when they fail."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipelit.engine.expressions import names, resolve, syntax_problems
from pipelit.engine.sandbox.filters import FILTERS
from pipelit.engine.sandbox.limits import MAX_TEXT
from pipelit.errors import ExpressionError
from pipelit.nodes.ports import Json
from tests.engine.expressions import SCOPE, refusal, rendered
from tests.support.examples import examples


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("{{ trigger.text }}", "hi"),
        ("{{ hook.body }}", {"vip": True, "name": "Ada", "price": 1.5}),
        ("{{ hook.rows[1].n }}", 2),
        ("{{ hook['rows'][-1]['kind'] }}", "x"),
        ("{{ trigger.payload.none }}", None),
        ("{{ hook.body.price * 2 }}", 3.0),
        ("{{ hook.rows | map(attribute='n') }}", [1, 2, 5]),
        ("{{ hook.rows | selectattr('n', 'gt', 1) | map(attribute='kind') | join(', ') }}", "y, x"),
        ("{{ hook.rows | groupby('kind') | map('first') }}", ["x", "y"]),
        ("{{ {'a': [1, trigger.text], 'b': none} }}", {"a": [1, "hi"], "b": None}),
        ("{{ hook.body.vip and hook.body.price > 1 }}", True),
        ("{{ trigger.text }}\n", "hi"),
        ("{{- trigger.text -}}", "hi"),
        ("{{ loop.item }}", "q"),
        ("{{ result }}", "mine"),
        ("{{ range.end + range(3) | length }}", 7),
        ("{{ '%s-%05.1f' | format(hook.body, 3) }}", '{"vip":true,"name":"Ada","price":1.5}-003.0'),
        ("{{ dict(hook.body, **{'vip': false, 'name': 'Bo'}) }}", {"vip": False, "name": "Bo", "price": 1.5}),
        ("{{ '%s/%s' | format(*trigger['items']) }}", "a/b"),
    ],
)
def test_a_text_that_is_one_expression_keeps_the_type_of_its_value(source, value):
    assert rendered(source) == value
    assert type(rendered(source)) is type(value)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("Hello {{ hook.body.name }}!", "Hello Ada!"),
        (" {{ hook.body.price }}", " 1.5"),
        ("{{ hook.body.vip }} {{ trigger.payload.none }}|", "true |"),
        ("rows: {{ hook.rows }}", 'rows: [{"kind":"x","n":1},{"kind":"y","n":2},{"kind":"x","n":5}]'),
        ("{% if hook.body.vip %}VIP{% else %}guest{% endif %}", "VIP"),
        ("{% for r in hook.rows %}{{ loop.index }}/{{ loop.length }}{{ r.kind }} {% endfor %}", "1/3x 2/3y 3/3x "),
        ("{% set t = namespace(n=0) %}{% for r in hook.rows %}{% set t.n = t.n + r.n %}{% endfor %}{{ t.n }}", "8"),
        ("{% set x %}<{{ hook.body.name }}>{% endset %}{{ x }}{{ x | e }}", "<Ada>&lt;Ada&gt;"),
        ("{% for k, v in hook.body.items() %}{{ k }}={{ v }};{% endfor %}", "vip=true;name=Ada;price=1.5;"),
        ("{{ 1 }}{{ 'a' ~ none ~ true ~ [1] }}", "1atrue[1]"),
        ("{# a note #}{{ 1 }}{{ 2 }}", "12"),
    ],
)
def test_anything_else_becomes_text_with_objects_as_json_and_null_as_nothing(source, text):
    assert rendered(source) == text


def test_fields_called_like_methods_are_data():
    assert rendered("{{ trigger.items }}") == ["a", "b"]
    assert rendered("{{ trigger.values }}") == 7
    assert rendered("{{ hook.body.keys() }}") == ["vip", "name", "price"]
    assert refusal("{{ hook.body.keys }}").startswith("config.f: hook.body.keys: 'keys' is not there")


def test_a_config_is_resolved_wherever_it_holds_templates_and_the_rest_of_it_is_left_as_it_is():
    untouched: Json = {"list": [1, "two", {"three": None}]}
    config: Json = {"url": "http://x/{{ hook.body.name }}", "deep": [{"n": "{{ loop.index }}"}], "same": untouched}

    resolved = resolve(config, SCOPE, field="config")

    assert resolved == {"url": "http://x/Ada", "deep": [{"n": 3}], "same": untouched}
    assert isinstance(resolved, dict)
    assert resolved["same"] is untouched
    assert resolve(untouched, SCOPE, field="config") is untouched


def test_data_is_never_a_template():
    assert rendered("{{ a }}", {"a": "{{ b }}"}) == "{{ b }}"
    assert rendered("{{ a }}.", {"a": "{{ b }}"}) == "{{ b }}."


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ hook.bdy }}", "config.f: hook.bdy: 'bdy' is not there; did you mean 'body'?"),
        ("to {{ hook.body.nam }}", "config.f: hook.body.nam: 'nam' is not there; did you mean 'name'?"),
        ("{{ hok.body }}", "config.f: 'hok' is not there; did you mean 'hook'?"),
        ("{{ hok | upper }}", "config.f: 'hok' is not there; did you mean 'hook'?"),
        ("{{ hook.rows[7].n }}", "config.f: hook.rows[7]: there is no item 7 in a list of 3"),
        ("{{ trigger.payload.none.x }}", "config.f: trigger.payload.none.x: there is no 'x' in null"),
        ("{{ trigger.text.x | upper }}", "config.f: trigger.text.x: there is no 'x' in a text"),
        (
            "{% for r in hook.rows %}{{ r.kin }}{% endfor %}",
            "config.f: r.kin: 'kin' is not there; did you mean 'kind'?",
        ),
        ("{{ 'x' if false }}", "config.f: the inline if-expression on line 1 evaluated to false and no else section"),
        ("{{ trigger.text | uper }}", "config.f: there is no filter 'uper'; did you mean 'upper'?"),
        ("{{ trigger.text.length() }}", "config.f: there is no method 'length'; write it as a filter: value | length"),
        ("{{ 1 / 0 }}", "config.f: division by zero"),
        ("{{ trigger.text", "config.f: unexpected end of template"),
        ("a\n{{ b c }}\n", "config.f: line 2: expected token 'end of print statement', got 'c'"),
    ],
)
def test_a_failure_names_the_field_the_node_and_the_closest_name(source, message):
    assert refusal(source).startswith(message)


def test_the_path_of_a_field_begins_below_the_config_when_that_has_no_name():
    with pytest.raises(ExpressionError, match=r"^rows\.1\.url: 'nobody' is not there"):
        resolve({"rows": ["a", {"url": "{{ nobody }}"}]}, SCOPE, field="")


def test_what_is_missing_can_be_asked_about_and_replaced_however_deep_it_is():
    assert rendered("{{ hook.a.b.c | default('x') }}") == "x"
    assert rendered("{{ nobody.a[0].c | d(hook.body.name) }}") == "Ada"
    assert rendered("{{ hook.a.b is defined }}") is False
    assert rendered("{{ hook.rows | map(attribute='zz', default=0) }}") == [0, 0, 0]
    assert "'a' is not there" in refusal("{{ hook.a or 1 }}")
    assert "'a' is not there" in refusal("{% if hook.a %}1{% endif %}")
    assert "'a' is not there" in refusal("{{ [hook.a] }}")
    assert "'a' is not there" in refusal("{{ hook.a == 1 }}")
    assert "'a' is not there" in refusal("{{ hook.a ~ 'x' }}")


def test_only_the_names_that_templates_read_are_needed():
    config: Json = {
        "a": ["{{ x.y + z }}", "plain", "{{ range(2) }}{{ dict(a=1) }}"],
        "b": {"c": "{% for i in w.q %}{{ i }}{{ loop.index }}{% set s = i %}{% endfor %}{{ v | default(u) }}"},
        "broken": "{{ ",
    }

    assert names(config) == {"x", "z", "w", "v", "u"}
    assert names("{{ loop.item }}{{ range.end }}") == {"loop", "range"}
    assert names({"a": [1, None, "text"]}) == frozenset()


def test_names_that_no_template_mentions_are_not_read():
    class Scope(dict[str, Json]):
        def __getitem__(self, key: str) -> Json:
            assert key == "a"
            return super().__getitem__(key)

    scope = Scope(a={"b": 1}, c=2)

    assert rendered("{{ a.b }}{{ a.b + 1 }}", scope) == "12"


def test_every_broken_template_is_reported_with_its_field_and_nothing_is_rendered():
    config: Json = {"fine": "{{ nobody.there }}", "rows": [{"a": "{{ x"}, "{% include 'x' %}"], "b": "{{ x | foo }}"}

    problems = syntax_problems(config, "config")

    assert [path for path, _ in problems] == ["config.rows.0.a", "config.rows.1", "config.b"]
    assert "there is no filter 'foo'" in dict(problems)["config.b"]


FRAGMENTS = st.sampled_from(
    [
        "{{", "}}", "{%", "%}", "{#", "#}", "-", "+", "*", "**", "/", "//", "%", "~", "|", ".", ",", "(", ")", "[", "]",
        "{", "}", ":", "=", "==", "<", " ", "\n", "'", '"', "\\", "a", "b", "rows", "loop", "self", "x", "1", "0", "99",
        "1e9", "none", "true", "not", "in", "is", "and", "or", "if", "else", "endif", "for", "endfor", "set", "endset",
        "with", "endwith", "raw", "endraw", "range", "dict", "namespace", "upper", "default", "map", "select", "join",
        "batch", "format", "attr", "tojson", "list", "sum", "sort", "groupby", "items", "get", "split", "replace",
        "center", "indent", "round", "__class__", "_", "%s", "é", "\ud800", "\x00",
    ]
)  # fmt: skip
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)


@given(st.lists(FRAGMENTS, max_size=24).map("".join) | st.text(max_size=30), st.booleans(), PLAIN)
@example("{% for a in b %}{{ loop.cycle(a, b) }}{% endfor %}", False, [1])
@examples(400)
def test_arbitrary_text_comes_to_data_or_to_an_expression_error(text, is_wrapped, value):
    source = f"{{{{ {text} }}}}" if is_wrapped else text
    scope: dict[str, Json] = {"a": value, "b": {"x": value}, "rows": [value, value]}

    try:
        result = resolve(source, scope, field="f")
    except ExpressionError as error:
        error.detail.encode()
    else:
        assert len(json.dumps(result, allow_nan=False)) < 12 * MAX_TEXT
    assert names(source) is not None
    assert syntax_problems(source, "f") is not None


OPERATORS = [*"+-*/%~<", "//", "**", "==", "in", "and", "or"]
EXPRESSIONS = st.recursive(
    st.sampled_from(["a", "b.x", "rows", "rows[0]", "1", "'t'", "none", "true", "[]", "{}", "nobody", "range(3)"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(OPERATORS), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        st.tuples(
            inner,
            st.sampled_from(sorted(FILTERS)),
            st.lists(inner, max_size=2),
        ).map(lambda t: f"({t[0]} | {t[1]}({', '.join(t[2])}))"),
        st.tuples(inner, inner).map(lambda t: f"[{t[0]}, {t[1]}]"),
        st.tuples(inner, inner, inner).map(lambda t: f"({t[0]} if {t[1]} else {t[2]})"),
        st.tuples(inner, st.sampled_from(["upper", "split", "get", "items", "values", "strip", "replace"]), inner).map(
            lambda t: f"{t[0]}.{t[1]}({t[2]})"
        ),
    ),
    max_leaves=8,
)


@given(EXPRESSIONS, PLAIN)
@examples(400)
def test_any_expression_comes_to_data_or_to_an_expression_error(expression, value):
    scope: dict[str, Json] = {"a": value, "b": {"x": value}, "rows": [value, value]}

    for source in (f"{{{{ {expression} }}}}", f"{{% for i in {expression} %}}{{{{ i }}}}{{% endfor %}}."):
        try:
            result = resolve(source, scope, field="f")
        except ExpressionError as error:
            error.detail.encode()
        else:
            json.dumps(result, allow_nan=False)
