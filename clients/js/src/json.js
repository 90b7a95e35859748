/**
 * JSON from outside, within limits. `JSON.parse` has no limit of depth, and reads 2.0 as the integer 2.
 *
 * Source: format of scheme `lcve-1`, section 4; RFC 8259.
 */

/** Maximum size of a JSON file or of the header of a clip file, bytes. */
export const MAX_JSON_BYTES = 8 * 2 ** 20;
/** Maximum nesting depth of objects and lists. */
export const MAX_JSON_DEPTH = 64;

const SPACE = /[ \t\n\r]*/y;
const STRING = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
const NUMBER = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/y;
const WORDS = /** @type {const} */ ([["true", true], ["false", false], ["null", null]]);
const SURROGATE = /\p{Surrogate}/u;

/** A number that is written with a fraction or an exponent: no integer, even if its value is one. */
export class Real {
  /** @param {number} value */
  constructor(value) {
    this.value = value;
  }

  toJSON() {
    return this.value;
  }
}

/**
 * Value of a JSON number.
 *
 * @param {unknown} number
 * @returns {number | undefined} undefined if it is no number
 */
export function toNumber(number) {
  if (number instanceof Real) return number.value;
  return typeof number === "number" ? number : undefined;
}

/**
 * Parse JSON. Objects have no prototype.
 *
 * @param {Uint8Array} bytes UTF-8, without a byte order mark
 * @param {{strict?: boolean}} [options] strict: refuse a name that is there twice, and numbers beyond binary64; else,
 *   the last member of a name counts
 * @returns {unknown} numbers are `number` if they are written as integers, else `Real`
 * @throws {SyntaxError} not JSON, not UTF-8, a lone surrogate, or nested too deep; it quotes nothing of the bytes
 */
export function parseJson(bytes, { strict = false } = {}) {
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new SyntaxError("not UTF-8 text");
  }
  const parser = new Parser(text, strict);
  const value = parser.value(0);
  parser.finish();
  return value;
}

class Parser {
  /**
   * @param {string} text
   * @param {boolean} strict
   */
  constructor(text, strict) {
    this.text = text;
    this.strict = strict;
    this.place = 0;
    this.skipSpace();
  }

  /**
   * @param {number} depth of the value
   * @returns {unknown}
   */
  value(depth) {
    if (depth > MAX_JSON_DEPTH) throw new SyntaxError(`nested deeper than ${MAX_JSON_DEPTH}`);
    const first = this.text[this.place];
    if (first === "{") return this.object(depth);
    if (first === "[") return this.list(depth);
    if (first === '"') return this.string();
    const word = WORDS.find(([name]) => this.text.startsWith(name, this.place));
    if (word === undefined) return this.number();
    this.place += word[0].length;
    this.skipSpace();
    return word[1];
  }

  /** @param {number} depth */
  object(depth) {
    const members = Object.create(null);
    this.members("}", () => {
      const name = this.string();
      if (this.strict && name in members) throw new SyntaxError("a name that is there twice");
      this.expect(":");
      members[name] = this.value(depth + 1);
    });
    return members;
  }

  /** @param {number} depth */
  list(depth) {
    /** @type {unknown[]} */
    const items = [];
    this.members("]", () => items.push(this.value(depth + 1)));
    return items;
  }

  /**
   * @param {string} closing
   * @param {() => void} member reads one
   */
  members(closing, member) {
    this.place++;
    this.skipSpace();
    if (this.text[this.place] !== closing) {
      member();
      while (this.text[this.place] === ",") {
        this.expect(",");
        member();
      }
    }
    this.expect(closing);
  }

  string() {
    const text = /** @type {string} */ (JSON.parse(this.match(STRING)[0]));
    if (SURROGATE.test(text)) throw new SyntaxError("text with a lone surrogate");
    return text;
  }

  number() {
    const [text, fraction, exponent] = this.match(NUMBER);
    const value = Number(text);
    if (this.strict && !Number.isFinite(value)) throw new SyntaxError("a number beyond binary64");
    const isInteger = fraction === undefined && exponent === undefined && !Object.is(value, -0);
    return isInteger ? value : new Real(value);
  }

  /** @param {RegExp} pattern sticky */
  match(pattern) {
    pattern.lastIndex = this.place;
    const match = pattern.exec(this.text);
    if (match === null) throw new SyntaxError(`unexpected text at character ${this.place}`);
    this.place = pattern.lastIndex;
    this.skipSpace();
    return match;
  }

  /** @param {string} mark */
  expect(mark) {
    if (this.text[this.place] !== mark) throw new SyntaxError(`expected ${mark} at character ${this.place}`);
    this.place++;
    this.skipSpace();
  }

  skipSpace() {
    SPACE.lastIndex = this.place;
    SPACE.exec(this.text);
    this.place = SPACE.lastIndex;
  }

  finish() {
    if (this.place !== this.text.length) throw new SyntaxError(`unexpected text at character ${this.place}`);
  }
}
