"""The compiled core of egwalker: event graph, operation log, walks and text buffer.

It knows integers, bytes and code points only: no documents, no plugins, no input or output. Use `egwalker`;
names here may change between versions.
"""
