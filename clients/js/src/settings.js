/**
 * Read `client.json`: what the key holder needs in addition to the key.
 *
 * Source: format of scheme `lcve-1`, sections 4.4 and 5.
 */

import { Binding, parseLayout, SCHEMES, shown } from "./binding.js";
import { bytesOf, sizeOf } from "./bytes.js";
import { ArtifactError } from "./errors.js";
import { Fields, isInteger } from "./fields.js";
import { Geometry } from "./geometry.js";
import { MAX_JSON_BYTES, parseJson } from "./json.js";
import { hasLabels, logitsOf, readOutput } from "./output.js";
import { PROBLEM_TYPES } from "./predictions.js";

/** @typedef {import("./bytes.js").Source} Source */
/** @typedef {import("./output.js").Output} Output */
/** @typedef {import("./predictions.js").ProblemType} ProblemType */

/** Maximum short side, and maximum side of a fixed size, pixels. */
export const MAX_SHORT_SIDE = 2 ** 13;

/**
 * How clips are made from a video.
 *
 * @typedef {object} Preprocess
 * @property {number} frames
 * @property {number} stride
 * @property {string} sampling `kinetics` or `uniform`
 * @property {number | null} shortSide
 * @property {readonly number[] | null} size height, width
 * @property {string} resample
 * @property {readonly number[]} crop height, width
 * @property {string} cropRounding
 */

/**
 * Content of `client.json`.
 *
 * @typedef {object} ClientSettings
 * @property {Binding} binding
 * @property {readonly string[]} classes names in the plain order of the logits; empty for features and tokens
 * @property {ProblemType} problemType
 * @property {boolean} hiddenLabels whether the server's logits are in the order K3
 * @property {Output} output what the model answers
 * @property {Preprocess} preprocess
 * @property {string} manifestSha256
 * @property {string | null} source
 */

const FORMAT = 2;
const NAME = "client.json";
const SAMPLING = ["kinetics", "uniform"];
const RESAMPLE = ["nearest", "bilinear", "bicubic", "lanczos"];
const ROUNDING = ["nearest", "down"];
const FACTS = [
  ...["family", "weights", "positions", "readout", "heads", "frames", "size", "normalisation", "sampling"],
  ...["resizing", "problem type", "class names", "quantisation"],
];
const FORMS = ["file", "folder"];
const SOURCE = /^[A-Za-z0-9_.-]{1,96}\/[A-Za-z0-9_.-]{1,96}@[0-9a-f]{40}$/;
const BOM = [0xef, 0xbb, 0xbf];

/**
 * Read and check `client.json`.
 *
 * @param {Source} source bytes, or the chosen `File`; at most 8 MiB
 * @returns {Promise<Readonly<ClientSettings>>}
 * @throws {ArtifactError} it is too large, is not JSON, or has invalid fields; all problems are listed
 */
export async function readClientSettings(source) {
  if (sizeOf(source) > MAX_JSON_BYTES) {
    throw new ArtifactError(`expected ${NAME} of at most ${MAX_JSON_BYTES} bytes, received ${sizeOf(source)}`);
  }
  const fields = new Fields(parsed(await bytesOf(source)));
  const binding = readBinding(fields);
  const preprocess = readPreprocess(fields.nested("preprocess"));
  const stated = fields.has("output") ? readOutput(fields, binding?.geometry) : undefined;
  const labelled = stated === undefined || hasLabels(stated);
  const classes = readClasses(fields, labelled);
  const output = stated ?? logitsOf(classes.length);
  if (labelled && output.shape.at(-1) !== classes.length) fields.note("output", `${classes.length} classes`, output.shape);
  const problemType = readProblemType(fields, labelled ? classes.length : undefined);
  const labels = fields.text("labels", labelled ? /^(?:hidden|shown)$/ : /^shown$/);
  const manifestSha256 = fields.text("manifest_sha256", /^[0-9a-f]{64}$/);
  const origin = fields.has("source") ? fields.text("source", SOURCE) : null;
  checkAssumptions(fields);
  if (fields.has("checkpoint")) checkCheckpoint(fields.nested("checkpoint"));
  checkClipSize(fields, binding, preprocess);
  fields.finish(NAME);
  if (!binding || !preprocess || !problemType) throw new ArtifactError(`${NAME} is invalid`);
  const hiddenLabels = labels === "hidden";
  return Object.freeze({ binding, classes, problemType, hiddenLabels, output, preprocess, manifestSha256, source: origin });
}

/** @param {Uint8Array} bytes */
function parsed(bytes) {
  const marked = BOM.every((byte, index) => bytes[index] === byte);
  try {
    return parseJson(marked ? bytes.subarray(BOM.length) : bytes);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new ArtifactError(`${NAME} is not JSON: ${error.message}`);
  }
}

/** @param {Fields} fields */
function readBinding(fields) {
  const format = fields.integer("format");
  if (format !== FORMAT) {
    const hint = format < FORMAT ? "convert the artifact with lcve convert" : "a newer version of this client may read this";
    fields.problems.push(`format: expected ${FORMAT}, received ${format}; ${hint}`);
  }
  const [scheme, keyId, salt] = [fields.text("scheme", new RegExp(`^(?:${SCHEMES.join("|")})$`)), fields.text("key_id"), fields.text("salt")];
  const geometry = fields.parsed("geometry", Geometry.parse);
  const layout = fields.parsed("layout", parseLayout);
  if (fields.problems.length || !geometry || !layout) return undefined;
  return checked(fields, "", () => new Binding({ scheme, keyId, salt, geometry, layout }));
}

/**
 * @param {Fields} fields
 * @param {boolean} labelled whether the output has classes
 */
function readClasses(fields, labelled) {
  const classes = fields.items("classes");
  const fits = Boolean(classes.length) === labelled && classes.every((name) => typeof name === "string");
  if (!fits) fields.note("classes", labelled ? "a list of names" : "no names", classes);
  return Object.freeze(/** @type {string[]} */ (classes));
}

/**
 * @param {Fields} fields
 * @param {number | undefined} outputs undefined without classes
 * @returns {ProblemType | undefined}
 */
function readProblemType(fields, outputs) {
  const problemType = fields.parsed("problem_type", (text) => /** @type {ProblemType} */ (oneOf(PROBLEM_TYPES)(text)));
  if (problemType === "single_label_classification" && outputs !== undefined && outputs < 2) {
    fields.problems.push(`problem_type: ${problemType} needs at least 2 classes, but the model has ${outputs}`);
  }
  return problemType;
}

/** @param {Fields} fields */
function checkAssumptions(fields) {
  fields.items("assumptions").forEach((value, index) => {
    const entry = new Fields(value, `assumptions[${index}]`, fields.problems);
    entry.parsed("fact", oneOf(FACTS));
    entry.text("value");
    entry.text("option");
  });
}

/** @param {Fields} record how the export read its checkpoint, which only the owner uses */
function checkCheckpoint(record) {
  record.parsed("form", oneOf(FORMS));
  const options = record.nested("options");
  for (const name of options.names) options.text(name);
}

/**
 * @param {Fields} fields
 * @param {Binding | undefined} binding
 * @param {Preprocess | undefined} preprocess
 */
function checkClipSize(fields, binding, preprocess) {
  if (!binding || !preprocess) return;
  const made = [preprocess.frames, ...preprocess.crop];
  if (made.some((size, axis) => size !== binding.geometry.clipShape[axis])) {
    fields.problems.push(`preprocess: does not produce clips of ${binding.geometry}`);
  }
}

/**
 * @param {Fields} fields
 * @returns {Preprocess | undefined}
 */
function readPreprocess(fields) {
  const preprocess = {
    frames: fields.integer("frames"),
    stride: fields.integer("stride"),
    sampling: fields.parsed("sampling", oneOf(SAMPLING)),
    resample: fields.parsed("resample", oneOf(RESAMPLE)),
    cropRounding: fields.parsed("crop_rounding", oneOf(ROUNDING)),
    shortSide: fields.has("short_side") ? fields.integer("short_side") : null,
    size: fields.has("size") ? readSides(fields, "size") : null,
    crop: readSides(fields, "crop"),
  };
  fields.text("channel_order", /^rgb$/);
  if (fields.problems.length) return undefined;
  const read = /** @type {Preprocess} */ (preprocess);
  return checked(fields, "preprocess: ", () => checkSides(read));
}

/**
 * @param {Preprocess} preprocess
 * @returns {Preprocess}
 */
function checkSides(preprocess) {
  const { shortSide, size, crop } = preprocess;
  if (shortSide !== null && size !== null) throw new RangeError("expected a short side or a size, received both");
  const sides = shortSide !== null ? [shortSide, shortSide] : (size ?? crop);
  if (Math.min(...sides, ...crop) < 1) throw new RangeError("sides and crop must be at least 1");
  if (Math.max(...sides) > MAX_SHORT_SIDE) throw new RangeError(`a short side or size is at most ${MAX_SHORT_SIDE} pixels`);
  if (crop[0] > sides[0] || crop[1] > sides[1]) throw new RangeError("the crop does not fit the resized frames");
  return Object.freeze(preprocess);
}

/**
 * @param {Fields} fields
 * @param {string} name
 * @returns {readonly number[] | undefined}
 */
function readSides(fields, name) {
  const sides = fields.items(name);
  if (sides.length === 2 && sides.every(isInteger)) return Object.freeze(/** @type {number[]} */ (sides));
  fields.note(name, "[height, width]", sides);
  return undefined;
}

/**
 * @template Value
 * @param {Fields} fields
 * @param {string} prefix of the problem
 * @param {() => Value} make throws a RangeError if the fields contradict each other
 * @returns {Value | undefined}
 */
function checked(fields, prefix, make) {
  try {
    return make();
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    fields.problems.push(prefix + error.message);
    return undefined;
  }
}

/**
 * @param {readonly string[]} names
 * @returns {(text: string) => string}
 */
function oneOf(names) {
  return (text) => {
    if (!names.includes(text)) throw new RangeError(`expected one of ${names.join(", ")}, received ${shown(text)}`);
    return text;
  };
}
