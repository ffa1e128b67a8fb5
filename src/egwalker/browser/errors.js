/** What can go wrong. The names are those of the Python side; the other end of a link reads them in ERROR. */

export class EgwalkerError extends Error {
  /** @param {string} message @param {ErrorOptions} [options] */
  constructor(message, options) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** Bytes that are no such data, or say what cannot be. */
export class DecodeError extends EgwalkerError {}

/** An event from elsewhere is at a position that the text at its parents' version does not have. */
export class PositionError extends EgwalkerError {}

/** An event with an id that is here already, with something else in it. */
export class ConflictError extends EgwalkerError {}

/** The link: what came is out of order, too large or not allowed. */
export class SyncError extends EgwalkerError {}

/** Two documents that are not the same one. */
export class IdentityError extends EgwalkerError {}

/** A document of another kind than text. */
export class KindError extends EgwalkerError {}

/** An agent's name that cannot be one. */
export class AgentError extends EgwalkerError {}

/** It needs history from before what a shallow document begins with, or content that was not kept. */
export class HistoryError extends EgwalkerError {}

/** A version that names events that are not here. */
export class VersionError extends EgwalkerError {}

/** Too much would wait for its parents. */
export class PendingError extends EgwalkerError {}

/** Tell the console of an error in a page's own function, which must stop neither others nor a link. @param {unknown} error */
export function report(error) {
  if (typeof globalThis.reportError === "function") globalThis.reportError(error);
  else {
    queueMicrotask(() => {
      throw error;
    });
  }
}
