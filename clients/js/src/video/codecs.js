/** Names of codecs as WebCodecs expects them, from the records of MP4 and Matroska. */

/** @typedef {{codec: string, description?: Uint8Array}} Codec what a decoder is configured with */

/** @param {number} byte @param {number} [digits] */
const hex = (byte, digits = 2) => byte.toString(16).padStart(digits, "0");
/** @param {number} number */
const twoDigits = (number) => String(number).padStart(2, "0");

/**
 * H.264, from an AVCDecoderConfigurationRecord.
 *
 * @param {Uint8Array} record
 * @returns {Codec}
 */
export function avc(record) {
  requireBytes(record, 7);
  return { codec: `avc1.${hex(record[1])}${hex(record[2])}${hex(record[3])}`, description: record };
}

/**
 * H.265, from an HEVCDecoderConfigurationRecord.
 *
 * @param {Uint8Array} record
 * @returns {Codec}
 */
export function hevc(record) {
  requireBytes(record, 13);
  const view = new DataView(record.buffer, record.byteOffset, record.byteLength);
  const profile = ["", "A", "B", "C"][record[1] >> 6] + (record[1] & 31);
  let compatible = 0;
  for (let bit = 0; bit < 32; bit++) compatible = (compatible * 2 + ((view.getUint32(2) >>> bit) & 1)) >>> 0;
  const tier = record[1] & 32 ? "H" : "L";
  const constraints = [...record.subarray(6, 12)];
  while (constraints.length && constraints[constraints.length - 1] === 0) constraints.pop();
  const last = constraints.map((byte) => `.${byte.toString(16)}`).join("");
  return { codec: `hvc1.${profile}.${compatible.toString(16)}.${tier}${record[12]}${last}`, description: record };
}

/**
 * VP9, from the content of a `vpcC` box without its version.
 *
 * @param {Uint8Array} record
 * @returns {Codec}
 */
export function vp9(record) {
  requireBytes(record, 3);
  return { codec: `vp09.${twoDigits(record[0])}.${twoDigits(record[1])}.${twoDigits(record[2] >> 4)}` };
}

/**
 * AV1, from an AV1CodecConfigurationRecord.
 *
 * @param {Uint8Array} record
 * @returns {Codec}
 */
export function av1(record) {
  requireBytes(record, 4);
  const tier = record[2] & 128 ? "H" : "M";
  const bits = record[2] & 64 ? (record[2] & 32 ? 12 : 10) : 8;
  return { codec: `av01.${record[1] >> 5}.${twoDigits(record[1] & 31)}${tier}.${twoDigits(bits)}` };
}

/** Matrix coefficients of ITU-T H.273, as WebCodecs names them. @type {Record<number, string>} */
export const MATRIX_NAMES = { 1: "bt709", 5: "bt470bg", 6: "smpte170m", 9: "bt2020-ncl" };

/**
 * @param {Uint8Array} record
 * @param {number} bytes
 * @throws {RangeError} it is shorter, as a DataView throws it
 */
function requireBytes(record, bytes) {
  if (record.length < bytes) throw new RangeError("a codec record is too short");
}
