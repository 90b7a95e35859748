/**
 * Sealed requests and their answers. A request contains a public key that is made for its answer alone.
 *
 * Source: format `lcve-seal-1`, section 10.5.
 */

import { shown } from "../binding.js";
import { concatBytes, toHex } from "../bytes.js";
import { SealingError } from "../errors.js";
import { openSealed, readEnvelope, seal } from "./envelope.js";
import { SealingKey } from "./keys.js";

/** @typedef {import("../binding.js").Binding} Binding */
/** @typedef {import("./header.js").Header} Header */
/** @typedef {import("./hpke.js").Bytes} Bytes */
/** @typedef {import("./keys.js").SealingPublicKey} SealingPublicKey */

const ID_BYTES = 16;
const FLOAT_BYTES = 4;
/** Maximum bytes that sealing adds to an answer: header, encapsulated key, tag. */
const MAX_OVERHEAD = 8192;

/** Clips sealed for one server and one answer. A server accepts them once, within minutes. */
export class SealedRequest {
  #key;
  #header;

  /**
   * Use `SealedRequest.of`.
   *
   * @param {{data: Bytes, header: Header, key: SealingKey}} made
   */
  constructor({ data, header, key }) {
    this.data = data;
    this.#header = header;
    this.#key = key;
    Object.freeze(this);
  }

  /**
   * Seal clips.
   *
   * @param {Uint8Array} values of all clips
   * @param {{count: number, binding: Binding, model: string, version?: string}} about version: empty for any
   * @param {SealingPublicKey} to the server's key
   * @returns {Promise<SealedRequest>}
   * @throws {SealingError} nothing can be sealed to the key
   */
  static async of(values, { count, binding, model, version = "" }, to) {
    const key = await SealingKey.create();
    /** @type {Header} */
    const header = {
      ...{ kind: "request", suite: to.suite, recipient: to.fingerprint, binding, model, version, clips: count },
      ...{ id: toHex(crypto.getRandomValues(new Uint8Array(ID_BYTES))), time: Date.now(), size: values.length },
    };
    const data = await seal(header, concatBytes(key.publicKey.raw, values), to);
    return new SealedRequest({ data, header, key });
  }

  /**
   * Open the answer.
   *
   * @param {Bytes} data
   * @param {number} width values of each clip
   * @returns {Promise<{model: string, version: string, numbers: Float32Array}>}
   * @throws {SealingError} it is not the answer of this server to this request
   * @throws {import("../errors.js").MismatchError} it is for clips of another artifact
   */
  async open(data, width) {
    const asked = this.#header;
    const sealed = readEnvelope(data, "answer");
    const { id, clips, classes, model, version } = sealed.header;
    if (id !== asked.id) throw new SealingError("the answer belongs to another request", { hint: "ask again" });
    if (clips !== asked.clips || classes !== width || model !== asked.model) {
      throw new SealingError(
        `expected the answer of ${shown(asked.model)} for ${asked.clips} clips and ${width} classes, received one of ` +
          `${shown(model)} for ${clips} and ${classes}`,
      );
    }
    const count = Number(clips) * width;
    const opened = await openSealed(sealed, this.#key, { binding: asked.binding, size: count * FLOAT_BYTES });
    const view = new DataView(opened.buffer);
    const numbers = Float32Array.from({ length: count }, (_, index) => view.getFloat32(FLOAT_BYTES * index, true));
    return { model: String(model), version: String(version), numbers };
  }
}

/**
 * Maximum bytes of a sealed answer.
 *
 * @param {number} numbers of all clips
 */
export const answerBytes = (numbers) => numbers * FLOAT_BYTES + MAX_OVERHEAD;
