/**
 * Public facts that key, artifact and encrypted clips must share, and the views of a video.
 *
 * Source: format of scheme `lcve-1`, sections 3.3, 6 and 9.
 */

import { requireKind } from "./arguments.js";
import { MismatchError } from "./errors.js";
import { Geometry } from "./geometry.js";

export const SCHEME = "lcve-1";
/** Scheme of quantised coefficients, which travel packed. */
export const DCT_SCHEME = "lcve-dct-1";
export const SCHEMES = Object.freeze([SCHEME, DCT_SCHEME]);
export const SALT_BYTES = 16;

/** @typedef {"cubes" | "video"} Layout layout of the values of an encrypted clip */
/** @type {readonly Layout[]} */
export const LAYOUTS = Object.freeze(["cubes", "video"]);

/** Names of the fields in files and on the wire, and in messages. */
const FIELDS = /** @type {const} */ ([
  ["scheme", "scheme", "scheme"],
  ["key_id", "keyId", "key id"],
  ["salt", "salt", "salt"],
  ["geometry", "geometry", "geometry"],
  ["layout", "layout", "layout"],
]);
const HEX = /^[0-9a-f]{32}$/;
const VIEWS = /^([1-9][0-9]{0,3})x([1-9][0-9]{0,3})$/;

/**
 * Check the name of a layout.
 *
 * @param {string} text
 * @returns {Layout}
 */
export function parseLayout(text) {
  const layout = LAYOUTS.find((name) => name === text);
  if (layout === undefined) throw new RangeError(`expected a layout of ${LAYOUTS.join(" or ")}, received ${shown(text)}`);
  return layout;
}

/** Scheme, key id, salt, geometry and layout. */
export class Binding {
  /**
   * @param {{scheme: string, keyId: string, salt: string, geometry: Geometry, layout: Layout}} fields
   * @throws {import("./errors.js").ArgumentError} the geometry is of another type
   * @throws {RangeError} the scheme or layout is unknown, or the key id or the salt is not 32 lower-case hex digits
   */
  constructor({ scheme, keyId, salt, geometry, layout }) {
    requireKind(geometry, [Geometry], "the geometry as a Geometry", 'pass Geometry.parse("16x224x224x3/2x16x16")');
    parseLayout(layout);
    for (const [name, value] of [["key id", keyId], ["salt", salt]]) {
      if (!HEX.test(value)) throw new RangeError(`expected a ${name} of 32 lower-case hex digits, received ${shown(value)}`);
    }
    if (scheme === DCT_SCHEME && layout !== "cubes") throw new RangeError(`the scheme ${scheme} has the layout cubes, received ${layout}`);
    this.scheme = scheme;
    this.keyId = keyId;
    this.salt = salt;
    this.geometry = geometry;
    this.layout = layout;
    Object.freeze(this);
  }

  /**
   * Parse the five fields as text.
   *
   * @param {Record<string, string>} fields by their names in files
   * @returns {Binding}
   * @throws {RangeError} a field is invalid
   */
  static parse(fields) {
    return new Binding({
      scheme: fields.scheme,
      keyId: fields.key_id,
      salt: fields.salt,
      geometry: Geometry.parse(fields.geometry),
      layout: parseLayout(fields.layout),
    });
  }

  /** Names of the fields in files. */
  static get names() {
    return FIELDS.map(([name]) => name);
  }

  /** Whether clips are coefficients, and travel packed. */
  get packed() {
    return this.scheme === DCT_SCHEME;
  }

  /** Shape of one encrypted clip: `[N, L]` or `[T, H, W, C]`. */
  get clipShape() {
    const { geometry } = this;
    return this.layout === "cubes" ? [geometry.cubes, geometry.values] : [...geometry.clipShape];
  }

  /**
   * The five fields as text, by their names in files, in the order of the format.
   *
   * @param {string} [prefix] of the names
   * @returns {Record<string, string>}
   */
  toFields(prefix = "") {
    return Object.fromEntries(FIELDS.map(([name, property]) => [prefix + name, String(this[property])]));
  }

  /**
   * Check that two bindings agree.
   *
   * @param {Binding} other
   * @param {string} here what has this binding, for the message
   * @param {string} there what has the other, for the message
   * @throws {MismatchError} the bindings differ; the message lists all differences
   */
  require(other, here, there) {
    const differing = FIELDS.filter(([, property]) => String(this[property]) !== String(other[property])).map(
      ([, property, name]) => `${name} ${this[property]} in the ${here}, ${shown(String(other[property]))} in the ${there}`,
    );
    if (differing.length) {
      throw new MismatchError(`the ${there} does not belong to this ${here}: ${differing.join("; ")}`, {
        hint: "use the key and the client folder that were made with this artifact",
      });
    }
  }
}

/** Numbers of temporal and spatial views of a video. */
export class Views {
  /**
   * @param {number} [temporal]
   * @param {number} [spatial]
   * @throws {RangeError} a number is not an integer of 1 to 9999
   */
  constructor(temporal = 1, spatial = 1) {
    if (![temporal, spatial].every((count) => Number.isInteger(count) && count >= 1 && count <= 9999)) {
      throw new RangeError(`expected 1x1 to 9999x9999 views, received ${shown(temporal)} and ${shown(spatial)}`);
    }
    this.temporal = temporal;
    this.spatial = spatial;
    Object.freeze(this);
  }

  /**
   * Parse `TxS`, for example `5x3`.
   *
   * @param {string} text
   * @returns {Views}
   */
  static parse(text) {
    const match = VIEWS.exec(text);
    if (match === null) throw new RangeError(`expected views such as 5x3 (temporal x spatial), received ${shown(text)}`);
    return new Views(Number(match[1]), Number(match[2]));
  }

  /** Number of all views. */
  get count() {
    return this.temporal * this.spatial;
  }

  /** @returns {string} */
  toString() {
    return `${this.temporal}x${this.spatial}`;
  }
}

/**
 * The start of a text from outside, quoted.
 *
 * @param {unknown} text
 * @returns {string}
 */
export function shown(text) {
  return (JSON.stringify(text) ?? String(text)).slice(0, 100);
}
