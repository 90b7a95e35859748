/**
 * All errors of this client. The message says what was expected and what was received; `hint` says what to do.
 * No message contains a byte of a key, an order or a token.
 */

/** Base of all errors below. */
export class LcveError extends Error {
  /**
   * @param {string} message what was expected and what was received
   * @param {{hint?: string}} [options] what to do
   */
  constructor(message, { hint = "" } = {}) {
    super(message);
    this.name = new.target.name;
    this.hint = hint;
  }
}

/** What a caller passes is of another type than expected, or out of range. */
export class ArgumentError extends LcveError {}
/** A key file is damaged, or another kind of file. */
export class KeyFileError extends LcveError {}
/** The content of `client.json` is invalid. */
export class ArtifactError extends LcveError {}
/** An encrypted clip file is damaged, or another kind of file. */
export class EncryptedClipError extends LcveError {}
/** Key, clip and artifact do not belong together. */
export class MismatchError extends LcveError {}
/** The server does not have the key of the clips. */
export class UnknownKeyError extends MismatchError {}
/** Sealed data was changed, or is for another key or purpose; or this platform cannot seal. */
export class SealingError extends LcveError {}
/** An answer is not the logits of the clips that were sent, or a server failed. */
export class SessionError extends LcveError {}
/** A server refuses a request as invalid; sending it again does not help. */
export class RequestError extends LcveError {}
/** The server does not have the requested model or version. */
export class UnknownModelError extends RequestError {}
/** The request exceeds the size limit of the server. */
export class TooLargeError extends RequestError {}
/** A token is missing or refused. */
export class DeniedError extends LcveError {}
/** A server is unreachable, overloaded or not ready. */
export class UnavailableError extends LcveError {}
/** The client has exceeded its rate limit. */
export class RateError extends UnavailableError {}
/** There was no answer in time. */
export class DeadlineError extends LcveError {}
/** A video cannot be read, or this browser cannot decode it. */
export class VideoError extends LcveError {}
