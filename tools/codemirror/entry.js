// What egwalker's page and its CodeMirror binding use of CodeMirror; all else is left out of the bundle.
export { Annotation, ChangeSet, Compartment, EditorSelection, EditorState, RangeSetBuilder, StateEffect, StateField, Text,
  Transaction } from "@codemirror/state";
export { Decoration, EditorView, ViewPlugin, WidgetType, drawSelection, highlightSpecialChars, keymap,
  placeholder } from "@codemirror/view";
export { defaultKeymap, history, historyKeymap, redo, undo } from "@codemirror/commands";
export { openSearchPanel, search, searchKeymap } from "@codemirror/search";
