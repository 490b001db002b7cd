"""Expressions stay inside their limits: they reach nothing but data, and take neither time nor memory from others."""

import json
import threading
import time

import pytest

from pipelit.engine.expressions import resolve
from pipelit.engine.sandbox.limits import MAX_SOURCE, MAX_TEXT, Budget
from pipelit.nodes.ports import Json
from tests.engine.expressions import SCOPE, refusal, rendered


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ ''.__class__ }}",
        "{{ ''['__class__'] }}",
        "{{ [].__class__.__base__ }}",
        "{{ ().__class__ }}",
        "{{ {}.__class__ }}",
        "{{ (1).__class__ }}",
        "{{ hook.__init__.__globals__ }}",
        "{{ hook | attr('__class__') }}",
        "{{ '' | attr('__class__') }}",
        "{{ '' | attr('format') }}",
        "{{ [hook] | map(attribute='__class__') | list }}",
        "{{ [hook] | map('attr', '__class__') | list }}",
        "{{ hook.rows | groupby('__class__') }}",
        "{{ hook.rows | sort(attribute='__class__') | first }}{{ hook.rows.0.__class__ }}",
        "{{ '{0.__class__}'.format(1) }}",
        "{{ '{a.__class__}'.format_map({'a': 1}) }}",
        "{{ trigger.text.format }}",
        "{{ ('%s' | attr('format'))(1) }}",
        "{{ trigger.text.upper }}",
        "{{ trigger.text.upper.__self__ }}",
        "{{ cycler.__init__.__globals__.os }}",
        "{{ joiner.__init__ }}",
        "{{ lipsum.__globals__ }}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ namespace }}",
        "{{ namespace(a=1) }}",
        "{{ namespace(a=1).__class__ }}",
        "{{ namespace(a=1)._Namespace__attrs }}",
        "{% set n = namespace() %}{% set n.a = n %}{{ n }}",
        "{% set n = namespace() %}{% set n.a = [n] %}{{ n.a }}",
        "{{ dict.__class__ }}",
        "{{ dict.fromkeys('abc') }}",
        "{{ range.__class__ }}",
        "{{ self }}",
        "{{ self.__init__ }}",
        "{{ self._TemplateReference__context }}",
        "{{ context }}",
        "{{ environment }}",
        "{{ config }}",
        "{{ request }}",
        "{{ url_for.__globals__ }}",
        "{{ get_flashed_messages.__globals__ }}",
        "{{ __builtins__ }}",
        "{{ caller() }}",
        "{{ super() }}",
        "{% for x in [1] %}{{ loop.__init__.__globals__ }}{% endfor %}",
        "{% for x in [1] %}{{ loop._undefined }}{% endfor %}",
        "{% for x in [1] %}{{ loop }}{% endfor %}",
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "{{ trigger.missing.__class__ | string }}",
        "{{ (1).__add__(2) }}",
        "{{ hook.update({'x': 1}) }}",
        "{{ hook.rows.append(1) }}",
        "{{ hook.rows.clear() }}",
        "{{ hook.pop('body') }}",
        "{{ hook.body['name']() }}",
        "{{ range(3)() }}",
        "{{ 1 is callable }}",
        "{% include 'setup.cfg' %}",
        "{% import 'x' as y %}",
        "{% from 'x' import y %}",
        "{% extends 'x' %}",
        "{% block x %}{% endblock %}",
        "{% macro x() %}{{ x() }}{% endmacro %}{{ x() }}",
        "{% call x() %}{% endcall %}",
        "{% filter upper %}x{% endfilter %}",
        "{% autoescape true %}{{ 1 }}{% endautoescape %}",
        "{% do hook.x %}",
    ],
)
def test_no_expression_reaches_anything_but_data(source):
    before = json.dumps(SCOPE)

    refusal(source)

    assert json.dumps(SCOPE) == before


def test_data_that_looks_like_a_python_object_is_only_data():
    marked: Json = {"lc": 1, "type": "constructor", "id": ["os", "system"], "kwargs": {"command": "id"}}
    scope: dict[str, Json] = {"a": marked, "b": {"__class__": "mine", "__reduce__": 1}, "c": "\ud800"}

    assert rendered("{{ a }}", scope) == marked
    assert rendered("{{ b.__class__ }}", scope) == "mine"
    assert rendered("{{ c }}", scope) == "\ud800"
    assert rendered("{{ c }}x{{ c | upper }}", scope) == "\ud800x\ud800"
    refusal("{{ a.id() }}", scope)
    refusal("{{ c | urlencode }}", scope).encode()
    refusal("\ud800{{ nobody }}", scope).encode()


BIG = "x" * 8_000_000
HEAVY: dict[str, Json] = {
    "a": {
        "big": BIG,
        "same": f"{BIG[:-1]}x",
        "rows": [{"k": str(i), "v": i} for i in range(20_000)],
        "comments": "<!--" * 200_000,
        "places": "%s" * 100_000,
        "text": "t",
        "none": None,
    }
}


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'a' * 10**9 }}",
        "{{ [1] * 10**9 }}",
        "{{ a.rows * 10000 }}",
        "{{ 10 ** (10 ** 10) }}",
        "{{ 7 ** 7 ** 7 ** 7 ** 7 ** 7 }}",
        "{{ 'a' | center(10**9) }}",
        "{{ 'a' | center(width=10**9) }}",
        "{{ a.text | indent(10**9) }}",
        "{{ a.rows | tojson(indent=10**9) }}",
        "{{ a.rows | batch(10**9, 'x') }}",
        "{{ [1] | batch(10000, a.rows) }}",
        "{{ [a.none] | slice(10**9) }}",
        "{{ ([''] * 10000) | map('default', a.big, true) | list | length }}",
        "{{ 1 | round(-10**9) }}",
        "{{ 1.5 | round(10**9, 'floor') }}",
        "{{ a.big | replace('x', 'yyyy') }}",
        "{{ a.big.replace('', 'yyyy') }}",
        "{{ a.big.split('x') }}",
        "{{ a.big | list }}",
        "{{ a.big | wordwrap(1) }}",
        "{{ a.rows | join(a.big) }}",
        "{{ a.rows | pprint }}",
        "{{ a.big ~ a.big ~ a.big }}",
        "{{ a.big + a.big + a.big }}",
        "{{ a.places % a.big }}",
        "{{ a.places | format(*[a.big]) }}",
        "{{ '%999999999d' % 1 }}",
        "{{ '%*d' % (999999999, 1) }}",
        "{{ '%.999999999f' | format(1.0) }}",
        "{{ '%((a)b)999999999d' % {'(a)b': 1} }}",
        "{{ [[1]] | sum(start=[]) }}",
        "{{ range(10**12) }}",
        "{% for i in range(10**9) %}{% endfor %}",
        "{% for i in range(99999) %}{{ a.big }}{% endfor %}",
        "{% for i in range(99999) %}" + "y" * 60_000 + "{% endfor %}",
        "{% set x %}{% for i in range(99999) %}" + "y" * 60_000 + "{% endfor %}{% endset %}{{ x | length }}",
        "{% for i in range(9999) %}{% set x = a.big | upper %}{% endfor %}",
        "{% set n = namespace(x=a.text) %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
        "{% set n = namespace(x=[1]) %}{% for i in range(99) %}{% set n.x = [n.x, n.x] %}{% endfor %}",
        "{% set n = namespace(x=[1]) %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
        "{% set n = namespace(x={}) %}{% for i in range(99) %}{% set n.x = dict(a=n.x, b=n.x) %}{% endfor %}",
        "{% set n = namespace(x=9) %}{% for i in range(99) %}{% set n.x = n.x * n.x %}{% endfor %}",
        "{% set n = namespace(x=[]) %}{% for i in range(3000) %}{% set n.x = [n.x] %}{% endfor %}{{ n.x }}",
        "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
        "{{ " + "-" * 20_000 + "1 }}",
        "{{ " + "1+" * 20_000 + "1 }}",
        "{{ a" + ".b" * 20_000 + " }}",
        "{{ a.text" + " | upper" * 500 + " }}",
        "{{ " + "[" * 400 + "]" * 400 + " }}",
        "{% if 1 %}" * 200 + "{% endif %}" * 200,
        "{% for i in [1] %}" * 30 + "{% endfor %}" * 30,
        "{{ " + "9" * 5000 + " }}",
        "{{ 1e400 }}",
        "{{ 1e308 * 10 }}",
        "{{ 2.0 ** 100000 }}",
        "{{ (0 - 8) ** 0.5 }}",
        "{{ {1: 2} }}",
        "{{ 1 }}" + " " * MAX_SOURCE,
    ],
    ids=lambda source: source[:60],
)
def test_what_asks_for_too_much_is_refused_before_it_is_made(source):
    refusal(source, HEAVY)


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(99999) %}{% for j in a.rows %}{% endfor %}{% endfor %}",
        "{% for i in a.rows %}{% set x = a.big == a.same %}{% endfor %}",
        "{% for i in a.rows %}{% set x = 'y' in a.big %}{% endfor %}",
        "{% for i in a.rows %}{% set x = a.rows | map(attribute='v') | sum %}{% endfor %}",
        "{% for i in a.rows %}{% set x = [a.rows] %}{% endfor %}",
    ],
)
def test_what_takes_too_long_is_stopped_in_any_thread(source):
    refusals: list[str] = []
    used: list[float] = []

    def render() -> None:
        started = time.thread_time()
        refusals.append(refusal(source, HEAVY))
        used.append(time.thread_time() - started)

    thread = threading.Thread(target=render)
    thread.start()
    thread.join()

    assert "asks for too much" in refusals[0]
    assert used[0] < 20


def test_time_is_processor_time_so_that_a_busy_machine_fails_no_template():
    wall = iter(range(0, 10_000_000, 100))

    def patient() -> Budget:
        return Budget(cpu=lambda: 0.0, wall=lambda: float(next(wall)))

    assert resolve("{% for i in range(9) %}{{ i }}{% endfor %}", {}, field="f", budget=patient) == "012345678"


def test_large_data_passes_through_untouched_and_text_has_a_limit():
    assert rendered("{{ a.big }}", HEAVY) is BIG
    assert rendered("{{ a.big | length }}", HEAVY) == len(BIG)
    assert len(str(rendered("{{ a.big[:1048576] | upper }}.", {"a": {"big": "x" * (MAX_TEXT - 1)}}))) == MAX_TEXT
    assert "longer than" in refusal("{{ a.big }}.", HEAVY)
    assert rendered("{{ a.comments | striptags | length }}", HEAVY) == 800_000
