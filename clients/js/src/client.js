/** The key holder's side: encrypt clips, and read predictions from logits. */

import { requireCount, requireKind, requireOptions } from "./arguments.js";
import { fromHex } from "./bytes.js";
import { Cipher } from "./cipher.js";
import { EncryptedClip, requireClip } from "./clip.js";
import { CoefficientCipher } from "./dct/cipher.js";
import { requireStep } from "./dct/steps.js";
import { ArtifactError, EncryptedClipError, MismatchError, SessionError } from "./errors.js";
import { SecurityKey } from "./key.js";
import { deriveOrder } from "./orders.js";
import { hasTokens, sizeOfOutput } from "./output.js";
import { predictions } from "./predictions.js";
import { readClientSettings } from "./settings.js";

/** @typedef {import("./binding.js").Views} Views */
/** @typedef {import("./bytes.js").Source} Source */
/** @typedef {import("./predictions.js").Prediction} Prediction */
/** @typedef {import("./settings.js").ClientSettings} ClientSettings */

/** A key and the settings of one artifact. The orders are private, and leave this object only as encrypted clips. */
export class Client {
  #cipher;
  #labelOrder;

  /**
   * Use `Client.open`.
   *
   * @param {{settings: Readonly<ClientSettings>, cipher: Cipher | CoefficientCipher, labelOrder: Uint32Array | undefined}} made
   */
  constructor({ settings, cipher, labelOrder }) {
    this.settings = settings;
    this.#cipher = cipher;
    this.#labelOrder = labelOrder;
    Object.freeze(this);
  }

  /**
   * Derive the orders of an artifact.
   *
   * @param {Source | Readonly<ClientSettings>} settings content of `client.json`, or the result of `readClientSettings`
   * @param {SecurityKey} key
   * @returns {Promise<Client>}
   * @throws {import("./errors.js").ArgumentError} the key is of another type
   * @throws {import("./errors.js").ArtifactError} the settings are invalid
   * @throws {MismatchError} the key does not belong to the artifact
   */
  static async open(settings, key) {
    requireKind(key, [SecurityKey], "the key as a SecurityKey", "read it with SecurityKey.read");
    const isRead = typeof settings === "object" && settings !== null && "binding" in settings;
    const read = isRead ? settings : await readClientSettings(settings);
    const { binding, classes, hiddenLabels } = read;
    const salt = fromHex(binding.salt);
    if (binding.keyId !== key.keyId) {
      throw new MismatchError(
        `the key does not belong to this artifact: key id ${binding.keyId} in the artifact, ${key.keyId} in the key`,
        { hint: "use the key and the client folder that were made with this artifact" },
      );
    }
    const cipher = await createCipher(key, salt, binding);
    const info = `${binding.scheme}/label-order/${classes.length}`;
    const labelOrder = hiddenLabels ? await deriveOrder(key, info, classes.length, salt) : undefined;
    return new Client({ settings: read, cipher, labelOrder });
  }

  /**
   * Encrypt clips for this artifact.
   *
   * @param {Uint8Array | Uint8ClampedArray} clips RGB `[views, T, H, W, C]`, at least one clip
   * @param {{views?: Views, step?: number}} [options] by default, every clip is a temporal view; `step`: quantisation step
   *   of the scheme `lcve-dct-1`, such as one of `QUALITIES`
   * @returns {EncryptedClip}
   * @throws {import("./errors.js").ArgumentError} clips, options or views are of another type
   * @throws {MismatchError} there is a step, and the scheme has none
   * @throws {EncryptedClipError} the step is out of range
   */
  encrypt(clips, options = {}) {
    requireOptions(options, ["views", "step"]);
    const { views, step } = options;
    const { binding } = this.settings;
    if (step !== undefined) checkStep(step, binding);
    const cipher = this.#cipher;
    const made = cipher instanceof Cipher ? { values: cipher.encrypt(clips, binding.layout) } : cipher.encrypt(clips, step);
    return new EncryptedClip({ ...made, binding, ...(views !== undefined && { views }) });
  }

  /**
   * Decrypt clips; the inverse of `encrypt`.
   *
   * @param {EncryptedClip} clip
   * @returns {Uint8Array<ArrayBuffer> | Float32Array<ArrayBuffer>} RGB `[views, T, H, W, C]`; of the scheme `lcve-dct-1`,
   *   float32 as the model sees it, neither rounded nor limited to 0 to 255
   * @throws {import("./errors.js").ArgumentError} it is not an encrypted clip
   * @throws {MismatchError} the clips were encrypted for another artifact
   */
  decrypt(clip) {
    requireClip(clip);
    const { layout } = clip.binding;
    const cipher = this.#cipher;
    cipher.binding(layout).require(clip.binding, "key", "encrypted clip");
    return cipher instanceof Cipher ? cipher.decrypt(clip.values, layout) : cipher.decrypt(clip.coefficients);
  }

  /**
   * Put logits, or another output, into the plain order: its classes, and its rows of tokens.
   *
   * @param {Float32Array | Float64Array} logits `[views, classes]`, `[views, width]` or `[views, tokens, width]`, in the
   *   artifact's own order
   * @returns {Float64Array[]} values of each view; rows of tokens follow one another, prefix tokens first
   * @throws {MismatchError} the number of values is not the artifact's
   * @throws {SessionError} there is no view, or a logit is NaN or infinity
   */
  plainOrder(logits) {
    const { output } = this.settings;
    const size = sizeOfOutput(output);
    requireKind(logits, [Float32Array, Float64Array], "logits as Float32Array or Float64Array", "pass what RemoteModel.run returns");
    if (logits.length % size) {
      throw new MismatchError(`expected ${output.name} [${output.shape}], received ${logits.length} numbers`, {
        hint: "check that the server serves the server/ folder that belongs to this client/ folder",
      });
    }
    if (!logits.length || !logits.every(Number.isFinite)) {
      throw new SessionError("expected finite values of at least one view, received none or NaN or infinity");
    }
    return Array.from({ length: logits.length / size }, (_, view) =>
      this.#plainView(Float64Array.from(logits.subarray(view * size, (view + 1) * size))),
    );
  }

  /**
   * Convert the logits of one video to predictions, by the artifact's problem type.
   *
   * @param {Float32Array | Float64Array} logits `[views, classes]`, in the artifact's own label order
   * @param {{top?: number}} [options] number of classes to return; a regression returns every output
   * @returns {Prediction[]} most probable first
   * @throws {MismatchError} the number of classes is not the artifact's
   * @throws {SessionError} there is no view, or a logit is NaN or infinity
   */
  read(logits, options = {}) {
    requireOptions(options, ["top"]);
    const { top = 5 } = options;
    requireCount(top, "top", "leave it out for the five most probable classes");
    const { classes, problemType, output } = this.settings;
    if (output.name !== "logits") {
      throw new MismatchError(`expected an artifact that answers logits of clips, this one answers ${output.name}`, {
        hint: "use plainOrder",
      });
    }
    return predictions(this.plainOrder(logits), classes, problemType, top);
  }

  /** Overwrite the orders. After this, the client can neither encrypt, decrypt nor read. */
  forget() {
    this.#cipher.forget();
    this.#labelOrder?.fill(0);
  }

  /** @param {Float64Array} received */
  #plainView(received) {
    const { output } = this.settings;
    const order = this.#labelOrder;
    if (this.#cipher.forgotten) throw new Error("the orders were forgotten; open the client again");
    const width = output.shape[output.shape.length - 1];
    const rows = hasTokens(output) ? this.#cipher.plainRows(received, width) : received;
    if (order === undefined) return rows;
    const plain = new Float64Array(rows.length);
    rows.forEach((logit, index) => {
      plain[index - (index % width) + order[index % width]] = logit;
    });
    return plain;
  }
}

/**
 * @param {SecurityKey} key
 * @param {Uint8Array<ArrayBuffer>} salt
 * @param {import("./binding.js").Binding} binding
 */
async function createCipher(key, salt, { packed, geometry }) {
  if (!packed) return await Cipher.create(key, { salt, geometry });
  try {
    return await CoefficientCipher.create(key, { salt, geometry });
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new ArtifactError(error.message);
  }
}

/**
 * @param {number} step
 * @param {import("./binding.js").Binding} binding
 */
function checkStep(step, binding) {
  if (!binding.packed) {
    throw new MismatchError(`clips of this artifact have no quality: its scheme is ${binding.scheme}`, {
      hint: "leave the step out, or export an artifact with --wire dct",
    });
  }
  try {
    requireStep(step, binding.geometry);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new EncryptedClipError(error.message);
  }
}
