/** Check a server's description of a model before any clip is sent. */

import { Binding, shown } from "./binding.js";
import { PREFIX } from "./bodies.js";
import { MismatchError } from "./errors.js";

/** @typedef {{largestBatch: number, versions: readonly string[]}} Description of a server's model, checked */

const ANY = -1;

/**
 * Compare a server's description of a model with the binding of the clips.
 *
 * @param {any} metadata
 * @param {any} config
 * @param {{binding: Binding, output: import("./output.js").Output, endpoint: string}} expected
 * @param {string} name
 * @returns {Description}
 * @throws {MismatchError} the model is another one, or is for clips of another artifact
 * @throws {TypeError | RangeError} it is no description
 */
export function describe(metadata, config, { binding, output, endpoint }, name) {
  checkBinding(config.parameters ?? {}, binding, endpoint);
  const largestBatch = config.max_batch_size ?? 0;
  if (!Number.isSafeInteger(largestBatch) || largestBatch < 0) throw new RangeError("no number of clips");
  const batch = largestBatch ? [] : [ANY];
  const given = {
    names: [metadata.name, config.name],
    inputs: metadata.inputs.map((/** @type {any} */ t) => [t.name, t.datatype, t.shape]),
    outputs: metadata.outputs.map((/** @type {any} */ t) => [t.name, t.datatype, t.shape]),
    "configured inputs": config.input.map((/** @type {any} */ t) => [t.name, t.data_type, t.dims]),
    "configured outputs": config.output.map((/** @type {any} */ t) => [t.name, t.data_type, t.dims]),
  };
  const wanted = {
    names: [name, name],
    inputs: [binding.packed ? ["packed", "UINT8", [ANY]] : ["clips", "UINT8", [ANY, ...binding.clipShape]]],
    outputs: [[output.name, "FP32", [ANY, ...output.shape]]],
    "configured inputs": [binding.packed ? ["packed", "TYPE_UINT8", [ANY]] : ["clips", "TYPE_UINT8", [...batch, ...binding.clipShape]]],
    "configured outputs": [[output.name, "TYPE_FP32", [...batch, ...output.shape]]],
  };
  const differing = /** @type {(keyof typeof wanted)[]} */ (Object.keys(wanted))
    .filter((what) => JSON.stringify(given[what]) !== JSON.stringify(wanted[what]))
    .map((what) => `${what} ${shown(given[what])}, expected ${JSON.stringify(wanted[what])}`);
  if (differing.length) {
    throw new MismatchError(`the model on ${endpoint} is not for these clips: ${differing.join("; ")}`, {
      hint: "check the address, and that the server serves the server/ folder that belongs to this client/ folder",
    });
  }
  return { largestBatch, versions: (metadata.versions ?? []).map(String) };
}

/**
 * @param {Record<string, {string_value?: unknown}>} parameters
 * @param {Binding} binding
 * @param {string} endpoint
 */
function checkBinding(parameters, binding, endpoint) {
  const stated = Binding.names.filter((name) => PREFIX + name in parameters);
  if (!stated.length) return; // a server that does not know the parameters: only shapes are compared
  const fields = Object.fromEntries(stated.map((name) => [name, String(parameters[PREFIX + name]?.string_value ?? "")]));
  const anyKey = !("key_id" in fields) && !("salt" in fields); // it reads the key of each request
  const absent = anyKey ? { key_id: binding.keyId, salt: binding.salt } : {};
  let theirs;
  try {
    theirs = Binding.parse({ ...Object.fromEntries(Binding.names.map((name) => [name, ""])), ...absent, ...fields });
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new MismatchError(`${endpoint} states an invalid binding: ${error.message}`);
  }
  theirs.require(binding, "model on the server", "encrypted clip");
}
