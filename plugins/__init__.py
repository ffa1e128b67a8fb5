"""The document types that come with egwalker, each an ordinary plugin as another package could provide it."""
