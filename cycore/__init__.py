"""The compiled core of egwalker: event graph, operation log, walks and text buffer.

It knows integers, bytes and code points only: no documents, no plugins, no input or output. What is public about it is
reached through `egwalker`; names here may change between versions.
"""
