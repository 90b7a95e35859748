/**
 * Sealed requests over HTTP: one input and one output, both named `sealed`.
 *
 * Source: format `lcve-seal-1`, section 10.5.
 */

import { shown } from "../binding.js";
import { MAX_HEAD_BYTES } from "../bodies.js";
import { concatBytes } from "../bytes.js";
import { MismatchError, SealingError, SessionError } from "../errors.js";
import { answerBytes, SealedRequest } from "./messages.js";

/** @typedef {import("../bodies.js").Answer} Answer */
/** @typedef {import("../bodies.js").Limits} Limits */
/** @typedef {import("./hpke.js").Bytes} Bytes */

const NAME = "sealed";
const OFFER = "lcve_sealing";
const OFFERS = Object.freeze(["accepted", "required"]);

/**
 * Body of a sealed request, and the value of its header.
 *
 * @param {SealedRequest} request
 * @returns {{head: string, body: Bytes}}
 */
export function sealedBody({ data }) {
  const input = { name: NAME, shape: [data.length], datatype: "UINT8", parameters: { binary_data_size: data.length } };
  const outputs = [{ name: NAME, parameters: { binary_data: true } }];
  const head = new TextEncoder().encode(JSON.stringify({ inputs: [input], outputs }));
  return { head: String(head.length), body: concatBytes(head, data) };
}

/**
 * Limits of the body of the answer.
 *
 * @param {number} numbers of all clips
 * @returns {Limits}
 */
export const sealedLimits = (numbers) => ({ json: MAX_HEAD_BYTES, binary: answerBytes(numbers) });

/**
 * The sealed answer in a body.
 *
 * @param {Answer} answer
 * @param {string} endpoint
 * @returns {Bytes}
 * @throws {TypeError | SessionError} it is not sealed
 */
export function sealedIn({ head, binary }, endpoint) {
  const described = head.outputs.map((/** @type {any} */ output) => [output.name, output.datatype, output.shape]);
  if (JSON.stringify(described) !== JSON.stringify([[NAME, "UINT8", [binary.length]]])) {
    throw new SessionError(`${endpoint} did not seal its answer: it returned ${shown(described)}`);
  }
  return binary.slice();
}

/**
 * Open an answer.
 *
 * @param {SealedRequest} request
 * @param {Bytes} data
 * @param {{width: number, endpoint: string}} expected values of each clip
 * @throws {SealingError} it belongs to another request, was changed, or was not made by the server
 */
export async function openAnswer(request, data, { width, endpoint }) {
  try {
    return await request.open(data, width);
  } catch (error) {
    if (!(error instanceof SealingError || error instanceof MismatchError)) throw error;
    throw new SealingError(`the answer of ${endpoint} is refused: ${error.message}`, { hint: error.hint });
  }
}

/**
 * Check that a server does with sealed requests what the client wants, before a clip is sent.
 *
 * @param {any} config of the model
 * @param {string} endpoint
 * @param {boolean} isSealed whether requests are sealed
 * @throws {MismatchError} the server opens no sealed requests, or accepts no others
 */
export function requireOffer(config, endpoint, isSealed) {
  const offer = config.parameters?.[OFFER]?.string_value ?? "";
  if (isSealed && !OFFERS.includes(offer)) {
    throw new MismatchError(`${endpoint} opens no sealed requests, and nothing has been sent`, {
      hint: "the operator starts the server with --open-with",
    });
  }
  if (!isSealed && offer === "required") {
    throw new MismatchError(`${endpoint} accepts only sealed requests, and nothing has been sent`, {
      hint: "seal to the operator's public key: sealTo of RemoteModel",
    });
  }
}
