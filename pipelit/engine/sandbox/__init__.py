"""The template language of expressions, made safe: plain data in, plain data out, within limits of time and size.

Jinja2 compiles a template to Python. Four things make that safe here, each on its own:

- `grammar` refuses every construct that is not on its list before anything is compiled;
- `values` looks attributes up in data only, so that no Python object is ever reached, and nothing callable either;
- `environment` generates code in which each loop, call, filter, operator and output passes through one of our methods;
- `limits` are checked there: processor time, the size of each value, and what all values together come to.
"""
