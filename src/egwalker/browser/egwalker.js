/**
 * Collaborative text in the browser: a peer of its own, without dependencies (docs/browser-api.md).
 *
 *     import { TextDocument, connect } from "./egwalker.js";
 *     const doc = new TextDocument();
 *     const link = connect("wss://example.org/letter", doc);
 */

export {
  AgentError, ConflictError, DecodeError, EgwalkerError, HistoryError, IdentityError, KindError, PendingError, PositionError,
  SyncError, VersionError,
} from "./errors.js";
export { TextDocument } from "./document.js";
export { Link, connect } from "./link.js";
export { Session } from "./session.js";
export { agentNamed, discardKept, keptDocuments, openKept } from "./store.js";
export { bindTextarea } from "./textarea.js";
