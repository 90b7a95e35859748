/** Read untrusted JSON and report all problems at once, each with the path of its field. */

import { ArtifactError } from "./errors.js";
import { shown } from "./binding.js";

const SHOWN_PROBLEMS = 20;
const SHOWN_CHARACTERS = 300;

/** A JSON object whose fields are checked as they are read. Call `finish` before any value is used. */
export class Fields {
  #fields;

  /**
   * @param {unknown} value anything but an object is a problem
   * @param {string} place path of the object in its file; empty at the top level
   * @param {string[]} problems to which problems are added; nested objects share it
   */
  constructor(value, place = "", problems = []) {
    this.place = place;
    this.problems = problems;
    const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
    this.#fields = isObject ? /** @type {Record<string, unknown>} */ (value) : {};
    if (!isObject) this.note("", "an object", value);
  }

  /**
   * Add a problem.
   *
   * @param {string} name of the field; empty for the object itself
   * @param {string} expected
   * @param {unknown} received
   */
  note(name, expected, received) {
    this.problems.push(`${this.#path(name) || "the top level"}: expected ${expected}, received ${shown(received)}`);
  }

  /**
   * Whether a field is present and not null.
   *
   * @param {string} name
   */
  has(name) {
    return (this.#fields[name] ?? null) !== null;
  }

  /** Names of the fields. */
  get names() {
    return Object.keys(this.#fields);
  }

  /**
   * Read a text that matches a pattern.
   *
   * @param {string} name
   * @param {RegExp} [pattern]
   * @returns {string}
   */
  text(name, pattern) {
    const value = this.#read(name, (value) => typeof value === "string", "text");
    if (typeof value !== "string") return "";
    if (pattern !== undefined && !pattern.test(value)) this.note(name, `text like ${pattern.source}`, value);
    return value;
  }

  /**
   * Read an integer of at least 1.
   *
   * @param {string} name
   * @returns {number}
   */
  integer(name) {
    const value = this.#read(name, isInteger, "a whole number");
    if (typeof value !== "number") return 1;
    if (value < 1) this.note(name, "at least 1", value);
    return value;
  }

  /**
   * Read a list.
   *
   * @param {string} name
   * @returns {unknown[]}
   */
  items(name) {
    const value = this.#read(name, Array.isArray, "a list");
    return Array.isArray(value) ? value : [];
  }

  /**
   * Read a text and convert it.
   *
   * @template Value
   * @param {string} name
   * @param {(text: string) => Value} parse throws a RangeError if the text is invalid
   * @returns {Value | undefined}
   */
  parsed(name, parse) {
    const value = this.#read(name, (value) => typeof value === "string", "text");
    if (typeof value !== "string") return undefined;
    try {
      return parse(value);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      this.problems.push(`${this.#path(name)}: ${error.message}`);
      return undefined;
    }
  }

  /**
   * Read a nested object.
   *
   * @param {string} name
   * @returns {Fields}
   */
  nested(name) {
    const isObject = (/** @type {unknown} */ value) => typeof value === "object" && value !== null && !Array.isArray(value);
    return new Fields(this.#read(name, isObject, "an object") ?? {}, this.#path(name), this.problems);
  }

  /**
   * Throw one error with all problems, if there are any.
   *
   * @param {string} what name of the file
   */
  finish(what) {
    if (!this.problems.length) return;
    const problems = this.problems.slice(0, SHOWN_PROBLEMS).map((problem) => problem.slice(0, SHOWN_CHARACTERS));
    const more = this.problems.length - problems.length;
    throw new ArtifactError(`${what} is invalid: ${[...problems, ...(more ? [`and ${more} more`] : [])].join("; ")}`, {
      hint: "export the artifact again",
    });
  }

  /**
   * @param {string} name
   * @param {(value: unknown) => boolean} fits
   * @param {string} expected
   * @returns {unknown} undefined if it does not fit
   */
  #read(name, fits, expected) {
    if (!(name in this.#fields)) {
      this.problems.push(`${this.#path(name)}: missing`);
      return undefined;
    }
    const value = this.#fields[name];
    if (fits(value)) return value;
    this.note(name, expected, value);
    return undefined;
  }

  /** @param {string} name */
  #path(name) {
    return [this.place, name].filter(Boolean).join(".");
  }
}

/**
 * Whether a parsed JSON value was written as an integer that a `number` can hold exactly.
 *
 * @param {unknown} value
 */
export function isInteger(value) {
  return Number.isSafeInteger(value);
}
